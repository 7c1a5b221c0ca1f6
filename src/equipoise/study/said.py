"""What is said to a comparison: its numbers, and a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from equipoise.training.comparison import NO_SEED, ONE_SEED, SAME, Comparison

from .correlation import PermutedCorrelation
from .question import Contrast

Said = Literal["yes", "no", "cannot be told"]


@dataclass(frozen=True)
class Answer:
    """The answer to one comparison.

    Args:
        contrast: what was compared.
        comparison: the difference of these and those over the common seeds, lower is better.
        p: after Holm's correction over all tests of the study; 1 where there is no test.
        visible: the smallest observed difference that would have been clear at its step of that correction; a true one
            of that size is missed half of the time.
        said: "yes" if these are better, "no" if those are.
    """

    contrast: Contrast
    comparison: Comparison
    p: float
    visible: float
    said: Said

    @property
    def sentence(self) -> str:
        """The answer in a sentence, with its numbers."""
        one = self.comparison
        seen = f"{one.mean:+.1f} points of delta_m"
        untested = {
            NO_SEED: "no seed on which all of these variants ended well",
            ONE_SEED: f"one seed ({seen}) says nothing about another one; add seeds",
            SAME: "both sides are the same runs, with equal scores on every seed",
        }
        if one.why:
            return f"Cannot be told: {untested.get(one.why, f'{seen}, but {one.why}')}."
        interval = f"{seen}, 95 % interval {one.mean - one.half:+.1f} to {one.mean + one.half:+.1f}"
        if self.said == "cannot be told":
            return f"Cannot be told ({interval}); an observed difference of {self.visible:.1f} would have been clear."
        return f"{self.said.capitalize()} ({interval}; p = {self.p:.2g} after Holm's correction)."


@dataclass(frozen=True)
class Together:
    """Whether methods whose tasks converge together have better scores.

    Args:
        correlation: of the mean convergence difference and the mean score of each method, over the same seeds for all.
        seeds: number of them.
        p: after Holm's correction over all tests of the study; 1 where there is no test.
        visible: the smallest observed correlation that would have been clear, in size.
        said: "yes" if it is clear and above 0, "no" if it is clear and below.
    """

    correlation: PermutedCorrelation
    seeds: int
    p: float
    visible: float
    said: Said

    @property
    def sentence(self) -> str:
        """The answer in a sentence, with its numbers."""
        one = self.correlation
        if one.why:
            return f"Cannot be told: {one.why}."
        interval = f"95 % interval {one.low:.2f} to {one.high:.2f}; p = {self.p:.2g} after Holm's correction"
        seen = (
            f"correlation of convergence difference and delta_m {one.r:.2f} over {one.n} methods, each the mean of "
            f"{self.seeds} seeds, {interval}"
        )
        if self.said != "cannot be told":
            return f"{'Yes' if self.said == 'yes' else 'No, the other way round'} ({seen})."
        clear = f"an observed one of {self.visible:.2f} would have been"
        few = "none of so few methods could have been"
        return f"Cannot be told ({seen}); {clear if math.isfinite(self.visible) else few} clear."


def said(clear: bool, yes: bool) -> Said:
    """The word for a test that is clear or not, and points to yes or to no."""
    return "cannot be told" if not clear else "yes" if yes else "no"
