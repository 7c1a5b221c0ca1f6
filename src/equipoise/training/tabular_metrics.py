"""Metrics of a task with one number per sample, over a whole part of the data, computed in float64."""

from __future__ import annotations

import math

from torch import Tensor


def roc_auc(scores: Tensor, labels: Tensor) -> float:
    """How often a positive sample has a higher score than a negative one; ties count as half.

    `AUC = (R - p (p + 1) / 2) / (p q)` with p positive and q negative samples, and R the sum of the ranks of the
    positive ones among all scores, where equal scores share the mean of their ranks.

    Reference: J. A. Hanley and B. J. McNeil, Radiology 143 (1982), https://doi.org/10.1148/radiology.143.1.7063747.

    Args:
        scores: of any monotonic scale (n,), such as logits.
        labels: 0 or 1 (n,).

    Returns:
        From 0 to 1; NaN if a score is NaN.

    Raises:
        ValueError: if the shapes differ, a label is neither 0 nor 1, or only one class occurs.
    """
    values, truth = _checked("scores", scores, "labels", labels)
    positive = _positive(truth)
    number, other = int(positive.sum()), int((~positive).sum())
    if number == 0 or other == 0:
        raise ValueError(
            f"`labels` should hold both classes, 0 and 1. Found {number} ones and {other} zeros: leave this task out, "
            "or split the samples otherwise."
        )
    if bool(values.isnan().any()):
        return math.nan
    _, group, size = values.unique(return_inverse=True, return_counts=True)
    rank = size.cumsum(0).double() - (size.double() - 1) / 2
    total = float(rank[group][positive].sum())
    return (total - number * (number + 1) / 2) / (number * other)


def f1(scores: Tensor, labels: Tensor, *, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall of calling the samples with at least this score positive.

    `F1 = 2 TP / (2 TP + FP + FN)`; 0 where no positive sample is found.

    Args:
        scores: probabilities, or anything else that the threshold fits (n,).
        labels: 0 or 1 (n,).
        threshold: from which score on a sample is called positive.

    Returns:
        From 0 to 1; NaN if a score is NaN.

    Raises:
        ValueError: if the shapes differ, a label is neither 0 nor 1, or no sample is positive.
    """
    values, truth = _checked("scores", scores, "labels", labels)
    positive = _positive(truth)
    if not bool(positive.any()):
        raise ValueError(
            f"`labels` should hold at least one 1. Found {len(labels)} zeros: F1 has no meaning there."
        )
    if bool(values.isnan().any()):
        return math.nan
    called = values >= threshold
    hits = int((called & positive).sum())
    return 2 * hits / (int(called.sum()) + int(positive.sum()))


def r2(predictions: Tensor, targets: Tensor) -> float:
    """The share of the variance that is predicted, `1 - sum (y - p)^2 / sum (y - mean y)^2`.

    0 for guessing the mean of these targets, below 0 for worse.

    Args:
        predictions: (n,).
        targets: (n,).

    Returns:
        At most 1; NaN if a prediction is NaN.

    Raises:
        ValueError: if the shapes differ, or all targets are equal.
    """
    values, truth = _checked("predictions", predictions, "targets", targets)
    if bool((truth == truth[0]).all()):
        raise ValueError(
            f"`targets` should not all be equal, since R2 is relative to their variance. Found {len(truth)} times "
            f"{float(truth[0]):g}: leave this task out, or split the samples otherwise."
        )
    spread = (truth - truth.mean()).square().sum()
    return float(1 - (values - truth).square().sum() / spread)


def mae(predictions: Tensor, targets: Tensor) -> float:
    """The mean absolute error, in the units of the targets.

    Args:
        predictions: (n,).
        targets: (n,).

    Raises:
        ValueError: if the shapes differ.
    """
    values, truth = _checked("predictions", predictions, "targets", targets)
    return float((values - truth).abs().mean())


def _checked(first: str, values: Tensor, second: str, truth: Tensor) -> tuple[Tensor, Tensor]:
    if values.ndim != 1 or values.shape != truth.shape or len(values) == 0:
        raise ValueError(
            f"`{first}` and `{second}` should have the same shape (n,) with n at least 1. "
            f"Found {tuple(values.shape)} and {tuple(truth.shape)}."
        )
    return values.detach().double(), truth.detach().double()


def _positive(labels: Tensor) -> Tensor:
    strange = labels[(labels != 0) & (labels != 1)]
    if len(strange):
        raise ValueError(f"`labels` should be 0 or 1. Found {float(strange[0]):g} among them.")
    return labels == 1
