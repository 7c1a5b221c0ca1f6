"""How far apart tasks converge, and how the shares of their risks move, from the logs of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

from equipoise.benchmark.logs import read_steps, validations
from equipoise.benchmark.summary import Summary
from equipoise.training.metrics import convergence_difference

_BINS = 60


@dataclass(frozen=True)
class Risks:
    """Shares of the risks of a run over its logged steps, as Fig. 8 of the GO4Align paper shows them.

    Args:
        steps: of the bins.
        before: (bins, m) L_i / sum_j L_j, mean over a bin.
        after: (bins, m) the same of w_i L_i.
    """

    steps: tuple[float, ...]
    before: tuple[tuple[float, ...], ...]
    after: tuple[tuple[float, ...], ...]

    @property
    def imbalance(self) -> tuple[float, float]:
        """Standard deviation over tasks of m times the share, mean over the bins: before and after; 0: all equal."""
        return _spread(self.before), _spread(self.after)

    @property
    def unrest(self) -> float:
        """Mean over the tasks of the standard deviation over the bins of m times the share after weighting."""
        m = len(self.after[0])
        return fmean(pstdev(m * share for share in task) for task in zip(*self.after, strict=True))


def _spread(rows: Sequence[Sequence[float]]) -> float:
    return fmean(pstdev(len(row) * share for share in row) for row in rows)


def risks_of_run(directory: Path, run_id: str, tasks: Sequence[str]) -> Risks | None:
    """The shares of the risks of a run; None where its log has no losses or weights, or some are not positive."""
    log = read_steps(directory, run_id)
    losses, weights = ([log.get(f"{kind}_{task}", []) for task in tasks] for kind in ("loss", "weight"))
    if not all(losses) or not all(weights):
        return None
    before = [_shares(row) for row in zip(*losses, strict=True)]
    weighed = (
        [loss * weight for loss, weight in zip(row, other, strict=True)]
        for row, other in zip(zip(*losses, strict=True), zip(*weights, strict=True), strict=True)
    )
    after = [_shares(row) for row in weighed]
    kept = [
        (step, a, b) for step, a, b in zip(log["step"], before, after, strict=True) if a is not None and b is not None
    ]  # fmt: skip
    if not kept:
        return None
    count = min(_BINS, len(kept))
    bins = [kept[len(kept) * k // count : len(kept) * (k + 1) // count] for k in range(count)]
    return Risks(
        tuple(fmean(step for step, _, _ in part) for part in bins),
        tuple(_mean([a for _, a, _ in part]) for part in bins),
        tuple(_mean([b for _, _, b in part]) for part in bins),
    )


def run_convergence(directory: Path, summary: Summary, run_id: str) -> float | None:
    """The convergence difference of a run over the first metrics of its tasks, in epochs; None without logs."""
    leading = [task.metrics[0] for task in summary.plan.tasks]
    epochs, curves = validations(directory, run_id, [metric.name for metric in leading])
    if not epochs:
        return None
    return convergence_difference(
        curves,
        higher_is_better=[metric.higher_is_better for metric in leading],
        tolerance=summary.tolerance,
        epochs=epochs,
    )


def _shares(values: Sequence[float]) -> tuple[float, ...] | None:
    total = sum(values)
    if not math.isfinite(total) or total <= 0 or min(values) < 0:
        return None
    return tuple(value / total for value in values)


def _mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(fmean(column) for column in zip(*rows, strict=True))
