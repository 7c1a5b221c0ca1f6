"""Whether the three insights of the paper hold here, each with its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from .analysis import Findings
from .estimates import Bounded

Answer = Literal["holds", "does not hold", "cannot be told here"]
WEAK = 0.3
"""A correlation below this in size counts as weak."""
SMALL = 1.0
"""Points of merit that the transfer of weights may cost."""


@dataclass(frozen=True)
class Verdict:
    """One insight.

    Args:
        insight: of the paper, in our words.
        answer: of this study.
        numbers: that it rests on, as a sentence.
    """

    insight: str
    answer: Answer
    numbers: str

    @property
    def sentence(self) -> str:
        """All in one."""
        return f"{self.insight}: {self.answer}. {self.numbers}"


def verdicts(found: Findings) -> list[Verdict]:
    """The three of them."""
    return [_capacity(found), _conflict(found), _transfer(found)]


def written(estimate: Bounded, decimals: int = 2) -> str:
    """A number with its interval."""
    if math.isinf(estimate.high):
        return f"{estimate.value:+.{decimals}f} (interval unknown)"
    value, low, high = (f"{one:+.{decimals}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} (95 % interval {low} to {high})"


def _capacity(found: Findings) -> Verdict:
    insight = "Joint training gains with capacity"
    gains = [best.gain for best in found.best.values() if best.gain is not None]
    if found.trend is None or not gains:
        return Verdict(
            insight, "cannot be told here", "It takes two capacities with single-task references and pairs."
        )
    answer: Answer = "cannot be told here"
    if found.trend.low > 0:
        answer = "holds"
    elif found.trend.high < 0:
        answer = "does not hold"
    return Verdict(
        insight,
        answer,
        f"The gain over single-task networks (test merit, at the p that is best on the validation part) changes by "
        f"{written(found.trend)} points for each doubling of the parameters; it is {fmean(gains):+.2f} on average, "
        f"from {min(gains):+.2f} to {max(gains):+.2f}.",
    )


def _conflict(found: Findings) -> Verdict:
    insight = "Conflict of gradients does not predict the metric"
    rows = {(one.statistic, one.epochs): one for one in found.correlations}
    row, last = rows["conflict", "all"], rows["conflict", "last"]
    if row.pearson is None or row.spearman is None:
        return Verdict(
            insight, "cannot be told here", "It takes three cells whose conflict and metric vary over epochs."
        )
    answer: Answer = "cannot be told here"
    if -row.pearson.low < WEAK and row.pearson.high < WEAK:
        answer = "holds"
    elif row.pearson.low > WEAK or row.pearson.high < -WEAK:
        answer = "does not hold"
    at_end = "" if last.pearson is None else f"; at the end of training alone, r = {written(last.pearson)}"
    return Verdict(
        insight,
        answer,
        f"Over all epochs of all pairs' cells Pearson's r = {written(row.pearson)} (the paper: 0.06), Spearman's "
        f"{written(row.spearman)}{at_end}. Below {WEAK} in size counts as weak.",
    )


def _transfer(found: Findings) -> Verdict:
    insight = "The best weights are robust to capacity"
    if found.transfer_mean is None:
        return Verdict(insight, "cannot be told here", "It takes two capacities with the same pairs.")
    cost = found.transfer_mean
    answer: Answer = "cannot be told here"
    if cost.high < SMALL:
        answer = "holds"
    elif cost.low > 0:
        answer = "does not hold"
    moves = "; ".join(
        f"{' + '.join(pair)}: {one.small:g} and {one.large:g}" for pair, one in found.transfer.items()
    )
    tuning = fmean(one.tuning for one in found.transfer.values())
    shared = _shared(found)
    return Verdict(
        insight,
        answer,
        f"The p that is best for the smallest network costs the largest one {written(cost)} points of test merit on "
        f"average (best p of both: {moves}). {shared} At the largest network the best p is worth {tuning:+.2f} points "
        f"over equal weights. Less than {SMALL:g} point counts as robust.",
    )


def _shared(found: Findings) -> str:
    """How often some p is plausible at every capacity."""
    common = 0
    for pair in found.plan.pairs:
        sets = [set(best.plausible) for (own, _), best in found.best.items() if own == pair]
        common += bool(sets and set.intersection(*sets))
    return f"For {common} of {len(found.plan.pairs)} pairs there is a p that no capacity clearly refuses."
