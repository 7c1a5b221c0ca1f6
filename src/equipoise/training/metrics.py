"""How a method is judged: change against single-task baselines, rank, and how evenly its tasks converge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev


def delta_m(values: Sequence[float], baseline: Sequence[float], higher_is_better: Sequence[bool]) -> float:
    """Mean relative change against single-task baselines, in percent; lower is better.

    `delta_m = 100 / S * sum_s (-1)^h_s * (M_s - B_s) / B_s` over S **metrics** (not tasks), with M the
    values, B the baseline and h_s = 1 where higher is better. Negative: better than the baselines.

    Reference: Maninis et al., Attentive Single-Tasking of Multiple Tasks, CVPR 2019,
    https://arxiv.org/abs/1904.08918; used as here by GO4Align (NeurIPS 2024,
    https://arxiv.org/abs/2404.06486), section 5.1.

    Args:
        values: one number per metric.
        baseline: the single-task values of the same metrics, in the same units.
        higher_is_better: the direction of each metric.

    Raises:
        ValueError: on different lengths, no metric, or a baseline of zero.
    """
    return fmean(relative_changes(values, baseline, higher_is_better))


def relative_changes(
    values: Sequence[float], baseline: Sequence[float], higher_is_better: Sequence[bool]
) -> list[float]:
    """The terms of `delta_m`: signed change of each metric in percent, lower is better.

    Args:
        values: one number per metric.
        baseline: the single-task values of the same metrics, in the same units.
        higher_is_better: the direction of each metric.

    Raises:
        ValueError: on different lengths, no metric, or a baseline of zero.
    """
    _check_lengths(len(higher_is_better), values=values, baseline=baseline)
    for index, reference in enumerate(baseline):
        if reference == 0:
            raise ValueError(
                f"`baseline` should not be zero, since changes are relative to it. Found 0 at index {index}."
            )
    signs = [-1.0 if higher else 1.0 for higher in higher_is_better]
    return [100 * s * (v - b) / b for s, v, b in zip(signs, values, baseline, strict=True)]


def mean_rank(table: Mapping[str, Sequence[float]], higher_is_better: Sequence[bool]) -> dict[str, float]:
    """Mean over metrics of each method's rank among the given methods; 1 is the best.

    Competition ranking: `rank = 1 + number of methods that are strictly better`, so that ties share the
    best rank. A value that is not a number ranks behind every number. The rank depends on which methods are
    compared: published ones leave the single-task baselines out and use the printed, rounded values.

    Reference: GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), tables 1, 7, 8; this rule
    reproduces all of their mean ranks.

    Args:
        table: method -> one number per metric.
        higher_is_better: the direction of each metric.

    Raises:
        ValueError: on an empty table or rows of another length than `higher_is_better`.
    """
    if not table:
        raise ValueError("`table` should hold at least one method. Found none.")
    for method, row in table.items():
        _check_lengths(len(higher_is_better), **{f"table[{method!r}]": row})
    costs = {
        method: [_cost(v, h) for v, h in zip(row, higher_is_better, strict=True)]
        for method, row in table.items()
    }
    columns = list(zip(*costs.values(), strict=True))
    return {
        method: fmean(
            1 + sum(other < own for other in column) for own, column in zip(row, columns, strict=True)
        )
        for method, row in costs.items()
    }


def convergence_epoch(
    curve: Sequence[float],
    *,
    higher_is_better: bool,
    tolerance: float = 0.05,
    epochs: Sequence[int] | None = None,
) -> int:
    """The epoch at which a validation curve has converged.

    Criterion: the first epoch from which the curve stays, up to its best epoch, within
    `tolerance * |best - first|` of its best value. What happens after the best epoch does not count, since
    the model is taken from there. A curve whose first value is its best has converged at its first epoch.

    The papers that report a convergence difference do not publish their criterion; this one is ours.

    Args:
        curve: one value of a metric per validation.
        higher_is_better: the direction of the metric.
        tolerance: share of the total improvement that may be missing, at least 0 and below 1.
        epochs: of the validations, rising; None means 1, 2, 3, ...

    Raises:
        ValueError: on an empty curve, a value that is not finite, a tolerance outside of [0, 1), or another
            number of epochs than values.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"`tolerance` should be at least 0 and below 1. Found {tolerance}.")
    if not curve:
        raise ValueError("`curve` should hold at least one epoch. Found none.")
    epochs = range(1, len(curve) + 1) if epochs is None else epochs
    if len(epochs) != len(curve):
        raise ValueError(f"`epochs` should have the length of `curve`, {len(curve)}. Found {len(epochs)}.")
    for epoch, value in zip(epochs, curve, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"`curve` should be finite. Found {value} at epoch {epoch}.")
    costs = [_cost(value, higher_is_better) for value in curve]
    best = min(costs)
    limit = best + tolerance * (costs[0] - best)
    outside = (index for index in range(costs.index(best)) if costs[index] > limit)
    return epochs[max(outside, default=-1) + 1]


def convergence_difference(
    curves: Sequence[Sequence[float]],
    *,
    higher_is_better: Sequence[bool],
    tolerance: float = 0.05,
    epochs: Sequence[int] | None = None,
) -> float:
    """How far apart the tasks converge: standard deviation over tasks of the epoch of convergence.

    Population standard deviation of `convergence_epoch` over the tasks, in epochs; 0 where all tasks converge
    at the same epoch.

    Reference: GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), section 3 and figure 2.
    Departures: the criterion of convergence is ours (see `convergence_epoch`), none is published.

    Args:
        curves: one validation curve per task.
        higher_is_better: the direction of each curve's metric.
        tolerance: as for `convergence_epoch`.
        epochs: as for `convergence_epoch`, of all curves.

    Raises:
        ValueError: on different lengths, no task, or what `convergence_epoch` refuses.
    """
    _check_lengths(len(higher_is_better), curves=curves)
    return pstdev(
        convergence_epoch(curve, higher_is_better=higher, tolerance=tolerance, epochs=epochs)
        for curve, higher in zip(curves, higher_is_better, strict=True)
    )


def _cost(value: float, higher_is_better: bool) -> float:
    if math.isnan(value):
        return math.inf
    return -value if higher_is_better else value


def _check_lengths(expected: int, **sequences: Sequence[object]) -> None:
    if expected == 0:
        raise ValueError("`higher_is_better` should hold at least one metric. Found none.")
    for name, sequence in sequences.items():
        if len(sequence) != expected:
            raise ValueError(
                f"`{name}` should have the length of `higher_is_better`, {expected}. Found {len(sequence)}."
            )
