"""Looks at a model: its metrics on a part of the data, and the one score that they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from .metrics import delta_m
from .outcome import DivergedError
from .problem import Problem
from .setup import all_moved
from .task import Metric


class Evaluation:
    """Evaluates one model on parts of its problem, in the precision of its parameters.

    Args:
        problem: which measures.
        model: what is measured.
        metrics: those of the run's tasks.
        device: where the model is.
    """

    def __init__(
        self, problem: Problem, model: nn.Module, metrics: Sequence[Metric], device: torch.device
    ) -> None:
        self._problem = problem
        self._model = model
        self._metrics = metrics
        self._device = device

    def measure(self, batches: Iterable[Any]) -> dict[str, float]:
        """The metrics on a part of the data."""
        self._model.eval()
        with torch.no_grad():
            metrics = self._problem.evaluate(self._model, all_moved(batches, self._device))
        return self.chosen(metrics)

    def chosen(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics of the run's tasks."""
        return {metric.name: metrics[metric.name] for metric in self._metrics}

    def validate(self, batches: Iterable[Any], epoch: int) -> dict[str, float]:
        """The metrics on the validation part, which have to be finite.

        Raises:
            DivergedError: naming the metric that is not.
        """
        metrics = self.measure(batches)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"The validation metric {name} should be finite. Found {value} after epoch {epoch}: "
                    "the training has diverged, so try a smaller learning rate."
                )
        return metrics

    def score(self, metrics: Mapping[str, float]) -> float:
        """What epochs are selected by: delta_m against the problem's reference values, in percent."""
        reference = [self._problem.reference[metric.name] for metric in self._metrics]
        values = [metrics[metric.name] for metric in self._metrics]
        return delta_m(values, reference, [metric.higher_is_better for metric in self._metrics])


class LastEpochs:
    """The metrics of the last epochs, for protocols that select none."""

    def __init__(self) -> None:
        self.validation: list[dict[str, float]] = []
        self.test: list[dict[str, float]] = []

    def add(self, validation: dict[str, float], test: dict[str, float]) -> None:
        """Take in one epoch."""
        self.validation.append(validation)
        self.test.append(test)

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Validation and test metrics, each the mean over these epochs."""
        return _means(self.validation), _means(self.test)

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"validation": self.validation, "test": self.test}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.validation, self.test = list(state["validation"]), list(state["test"])


class Best:
    """The model of the best epoch so far, and its metrics on the validation part."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.model: dict[str, Tensor] = {}

    def keep(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Keep a copy."""
        self.metrics = metrics
        self.model = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"metrics": self.metrics, "model": self.model}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.metrics, self.model = state["metrics"], state["model"]


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
