"""The published scores again, from the published metrics: which of them follow, and which do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from equipoise.training.metrics import delta_m, mean_rank

from .published import PublishedBenchmark


@dataclass(frozen=True)
class Recomputed:
    """The scores of a published row, from its printed metrics.

    Args:
        delta_m: from the printed metrics and the single-task values in full precision, where there are such.
        mean_rank: among the printed methods, competition ranks of printed values, single-task not ranked.
        rounding: how far the printed delta_m may be from this one, since the metrics are rounded.
    """

    delta_m: float
    mean_rank: float
    rounding: float

    def explains(self, printed: float) -> bool:
        """Whether a printed delta_m can have come from the printed metrics."""
        return abs(self.delta_m - printed) <= self.rounding


def recomputed(known: PublishedBenchmark, *, corrected: bool = False) -> dict[str, Recomputed]:
    """The scores of every row whose metrics are published; empty where none are, as for CelebA.

    Args:
        known: the published table.
        corrected: whether rows that are printed wrong are replaced by what they should be.
    """
    rows = {name: dict(row.metrics) for name, row in known.methods.items() if row.metrics is not None}
    if corrected:
        rows |= {name: dict(fixed.metrics) for name, fixed in known.corrections.items()}
    if not rows:
        return {}
    names = [metric.name for metric in known.metrics]
    higher = [metric.higher_is_better for metric in known.metrics]
    table = {method: [row[name] for name in names] for method, row in rows.items()}
    ranks = mean_rank(table, higher)
    baseline = [known.single_task[name] for name in names]
    shares = [
        0.5 * 10.0 ** -max(_decimals(row[name]) for row in rows.values()) / known.single_task[name]
        for name in names
    ]
    rounding = 100 * sum(shares) / len(shares)
    last = 0.5 * 10.0 ** -max(_decimals(row.delta_m) for row in known.methods.values())
    return {
        name: Recomputed(delta_m(row, baseline, higher), ranks[name], rounding + last)
        for name, row in table.items()
    }


def printed_decimals(values: Iterable[float]) -> int:
    """The decimals that most numbers of a column are printed with; zeros at the end were lost."""
    counts = Counter(_decimals(value) for value in values)
    return max(counts, key=lambda decimals: (counts[decimals], decimals))


def ranks_among(known: PublishedBenchmark, names: Iterable[str]) -> Mapping[str, float]:
    """Mean ranks of the published rows among some of them; empty where their metrics are not published.

    Args:
        known: the published table.
        names: printed names.
    """
    metrics = {name: row for name in names if (row := known.methods[name].metrics) is not None}
    if not metrics:
        return {}
    order = [metric.name for metric in known.metrics]
    table = {name: [row[metric] for metric in order] for name, row in metrics.items()}
    return mean_rank(table, [metric.higher_is_better for metric in known.metrics])


def _decimals(value: float) -> int:
    return len(repr(value).partition(".")[2]) if value != round(value) else 0
