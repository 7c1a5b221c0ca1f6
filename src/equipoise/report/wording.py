"""How names and numbers are written in tables, figures and sentences, and the order that methods come in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from equipoise.benchmark.evidence import Estimate
from equipoise.benchmark.summary import MethodSummary, Spread, Summary
from equipoise.training.task import Metric

NOT_LEARNT = "†"
NOT_LEARNT_MEANS = (
    "less than 20 % better than the best constant guess, or, if that is less, than a fifth of the room between it and "
    "the perfect value; where the guess is worth 0 or less, as for R2, a fifth of the scale"
)


def ranked(summary: Summary) -> tuple[MethodSummary, ...]:
    """The methods by `delta_m`, or by mean rank where there is no `delta_m`; the best first."""
    return tuple(sorted(summary.methods, key=_place))


def short_labels(labels: Iterable[str]) -> dict[str, str]:
    """Labels without hyper-parameters, except where two would then be the same."""
    full = list(labels)
    short = ["+".join(part.split(":")[0] for part in label.split("+")) for label in full]
    return {label: name if short.count(name) == 1 else label for label, name in zip(full, short, strict=True)}


def metric_title(metric: Metric) -> str:
    """Name, unit and direction: "mu (D) ↓"."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit} {'↑' if metric.higher_is_better else '↓'}"


def number(value: float | None, decimals: int = 0, *, sign: bool = False) -> str:
    """A number with a true minus sign; "–" for None, "not finite" for NaN and infinities."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return text.replace("-", "−")


def with_spread(spread: Spread | None, decimals: int, *, sign: bool = False) -> str:
    """Mean ± standard deviation; the spread of a single seed is unknown and written as "–"."""
    if spread is None:
        return "–"
    if not math.isfinite(spread.mean):
        return number(spread.mean)
    return f"{number(spread.mean, decimals, sign=sign)} ± {number(spread.std, decimals)}"


def with_interval(estimate: Estimate | None, decimals: int, *, sign: bool = False) -> str:
    """Mean [low, high]; the mean alone where there is no interval."""
    if estimate is None:
        return "–"
    mean = number(estimate.mean, decimals, sign=sign)
    if estimate.low is None or estimate.high is None or not math.isfinite(estimate.mean):
        return mean
    low, high = (number(end, decimals, sign=sign) for end in (estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"


def small(p: float) -> str:
    """A p-value: two digits, and a bound where it is very small."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def points(value: float) -> str:
    """A difference of delta_m that could be seen: two digits, or whole points."""
    return f"{value:.0f} points" if value >= 10 else f"{value:.2g} points"


def first_line(text: str, most: int = 200) -> str:
    """The first line of an error, cut where it is long."""
    line = (text.strip() or "no message").splitlines()[0]
    return line if len(line) <= most else f"{line[:most]} ..."


def decimals_for(means: Iterable[float], spreads: Iterable[float | None] = ()) -> int:
    """Decimals, 0 to 4, that show three significant digits of the smallest mean; one more if a spread needs it."""
    sizes = [abs(mean) for mean in means if math.isfinite(mean) and mean != 0]
    needed = max(2 - math.floor(math.log10(min(sizes))), 0) if sizes else 0
    smallest = min((spread for spread in spreads if spread), default=1.0)
    return min(needed + (round(smallest, needed) == 0), 4)


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Names as a phrase: "a, b and c", or "none"; the rest beyond the limit is counted."""
    if not names:
        return "none"
    shown = list(names[:limit])
    if len(names) > limit:
        shown.append(f"{len(names) - limit} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def counted(count: int, name: str) -> str:
    """A number of things: "1 seed", "3 seeds"."""
    return f"{count} {name}{'s' * (count != 1)}"


def left_out(summary: Summary) -> list[str]:
    """What Δm leaves out, in a sentence; nothing where it leaves out nothing."""
    names = summary.baseline.left_out
    if not names:
        return []
    metrics = f"{len(names)} of {len(summary.plan.metrics)} metrics"
    return [
        f"Δm leaves out {metrics}, whose single-task value is not above 0 on every seed: {listed(names)}."
    ]


def selection(summary: Summary) -> str:
    """Which epochs the test metrics are of."""
    train = summary.plan.config.get("train", {})
    if train.get("report", "best") == "last":
        return f"as the mean of the last {train['last_epochs']} epochs"
    return "at the selected epoch"


def _place(row: MethodSummary) -> tuple[float, float]:
    score = math.inf if row.delta_m is None or not math.isfinite(row.delta_m.mean) else row.delta_m.mean
    return score, row.mean_rank
