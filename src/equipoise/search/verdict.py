"""What a search was worth, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.training.comparison import Comparison, compared, holm

from .generations import Result, best_of
from .plan import SearchPlan
from .ranking import WORDS
from .retrain import Retrained, Schedule
from .run import Found, epochs_of
from .weights import uniform

_LEVEL = 0.05


@dataclass(frozen=True)
class Gain:
    """One variant against another over the same seeds.

    Args:
        variant: that is compared, such as "constant".
        other: what it is compared with: "uniform", or "uniform with restarts".
        difference: of their test scores, below 0 if the variant is better.
        p: of the difference, after Holm's correction for all gains of the search.
        left_out: seeds of which one of the two networks diverged.
        tests: gains that Holm's correction is over.
    """

    variant: str
    other: str
    difference: Comparison
    p: float
    left_out: int
    tests: int = 1

    @property
    def clear(self) -> bool:
        """Whether the difference is one at the level of 5 %."""
        return self.p < _LEVEL


def gains(found: Found) -> list[Gain]:
    """Each variant against uniform weights of the same seed, and against the best of those and all restarts."""
    scores = _scores(found.retrained)
    plain = scores.get("uniform", {})
    others: dict[str, dict[int, float | None]] = {"uniform": plain}
    restarts = [one for one in found.retrained if one.variant == "restart"]
    if restarts:
        own = [one for one in found.retrained if one.variant == "uniform"]
        others["uniform with restarts"] = {one.seed: _selected([one, *restarts]) for one in own}
    pairs = []
    for variant in found.variants:
        for other, given in others.items() if variant != "uniform" else ():
            seeds = [s for s in given if scores[variant].get(s) is not None and given[s] is not None]
            if seeds:
                a, b = ([table[s] for s in seeds] for table in (scores[variant], given))
                pairs.append((variant, other, compared(a, b), len(given) - len(seeds)))  # type: ignore[arg-type]
    corrected = holm([comparison.p for _, _, comparison, _ in pairs])
    return [Gain(*pair[:3], p, pair[3], len(pairs)) for pair, p in zip(pairs, corrected, strict=True)]


def _scores(retrained: Sequence[Retrained]) -> dict[str, dict[int, float | None]]:
    found: dict[str, dict[int, float | None]] = {}
    for one in retrained:
        found.setdefault(one.variant, {})[one.seed] = one.score
    return found


def _selected(networks: Sequence[Retrained]) -> float | None:
    """The test score of the network with the best validation score."""
    good = [one for one in networks if one.score is not None and one.validation is not None]
    return min(good, key=lambda one: one.validation or 0.0).score if good else None


def sentences(plan: SearchPlan, found: Found) -> list[str]:
    """The verdict in words."""
    told = []
    if found.history:
        told += _of_the_search(plan, found.history)
    if len(found.variants) == 1:
        told.append("The uniform member won: there are no other weights to compare.")
    for gain in gains(found):
        told.append(_of_a_gain(plan, gain))
    diverged = [one for one in found.retrained if one.score is None]
    if diverged:
        names = ", ".join(f"{one.variant} with seed {one.seed}" for one in diverged)
        told.append(f"Diverged when trained anew: {names}.")
    return told


def _of_the_search(plan: SearchPlan, history: Sequence[Sequence[Result]]) -> list[str]:
    best = best_of(history).assignment
    point: Mapping[str, float] = {**dict(zip(plan.names, best.weights, strict=True)), **best.settings}
    words = ", ".join(f"{name} {value:.3g}" for name, value in point.items())
    epochs, run = epochs_of(history), plan.config.train.epochs
    told = [
        f"Best member: {words}" + (" (uniform)." if best.weights == uniform(len(plan.names)) else "."),
        f"The search trained for {epochs} epochs on {100 * plan.fraction:g} % of the training part: as much as "
        f"{epochs * plan.fraction / run:.1f} runs of {run} epochs.",
    ]
    diverged = sum(one.score is None for row in history for one in row)
    return told + ([f"Members that diverged and were replaced or left: {diverged}."] if diverged else [])


def _of_a_gain(plan: SearchPlan, gain: Gain) -> str:
    what = f"{gain.variant} weights against {gain.other}"
    if math.isinf(gain.difference.half):
        return f"{what}: {gain.difference.mean:+.2f} with one seed, which tells nothing."
    seeds = plan.seeds - gain.left_out
    if gain.clear:
        verdict = "better" if gain.difference.mean < 0 else "worse"
    else:
        visible = gain.difference.visible(_LEVEL / gain.tests)
        verdict = f"no clear difference; an observed one of {visible:.2f} would have been"
    return (
        f"{what}, {seeds} seeds: {gain.difference.mean:+.2f} ± {gain.difference.half:.2f} of {WORDS[plan.rank]} on the "
        f"test part (paired 95 % interval; lower is better; p = {gain.p:.2g} after Holm's correction): {verdict}."
    )


def schedule_rows(plan: SearchPlan, schedule: Schedule) -> tuple[list[str], list[list[str]]]:
    """A schedule as a table: header and rows, one for each change."""
    settings = list(schedule[0][1].settings)
    rows = []
    for begin, point in schedule:
        others = (f"{point.settings[setting]:.3g}" for setting in settings)
        rows.append([str(begin), *(f"{weight:.3f}" for weight in point.weights), *others])
    return ["from epoch", *plan.names, *settings], rows
