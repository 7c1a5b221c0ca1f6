"""How the attributes of CelebA are measured: F1 as FAMO and GO4Align do, or accuracy as Royer et al. do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.names import check_known
from equipoise.data.celeba import ATTRIBUTES
from equipoise.training.problem import Description
from equipoise.training.task import Metric, Task

METRICS = ("f1", "accuracy")


def attribute_tasks(attributes: str | Sequence[str] | None, metric: str) -> Description:
    """The tasks of some attributes, and the reference values of their metrics.

    Args:
        attributes: names, a list or separated by commas; None for all 40.
        metric: one of `METRICS`. F1 is called as the attribute, a fraction as published; accuracy "NAME accuracy", in
            percent.

    Raises:
        ValueError: on an unknown attribute or metric, an attribute that comes twice, or none at all.
    """
    check_known("`metric`", metric, METRICS)
    if attributes is None:
        names = list(ATTRIBUTES)
    elif isinstance(attributes, str):
        names = [name.strip() for name in attributes.split(",")]
    else:
        names = list(attributes)
    for name in names:
        check_known("`attributes`, each of them,", name, ATTRIBUTES)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`attributes` should be different names, at least 1. Found {names}.")
    tasks = tuple(Task(name, (_metric(name, metric),)) for name in names)
    best = 1.0 if metric == "f1" else 100.0
    return Description(tasks, {task.metrics[0].name: best for task in tasks})


def counts(metric: str, positive: Tensor, labels: Tensor) -> Tensor:
    """What a metric adds up over images, its numerator and denominator (2, m), of bool (b, m).

    F1: twice the true positives, and all predicted and labelled positives. Accuracy: what is right, and all images.
    """
    if metric == "f1":
        return torch.stack([2 * (positive & labels).sum(0), positive.sum(0) + labels.sum(0)])
    right = (positive == labels).sum(0)
    return torch.stack([right, torch.full_like(right, len(labels))])


def values(metric: str, total: Tensor) -> Tensor:
    """The metric (m,) of counts (2, m), 0 where there is nothing to divide by."""
    found = total[0].double() / total[1].clamp(min=1)
    return found if metric == "f1" else 100 * found


def _metric(name: str, metric: str) -> Metric:
    if metric == "f1":
        return Metric(name, higher_is_better=True, unit="F1")
    return Metric(f"{name} accuracy", higher_is_better=True, unit="%")
