"""What a search was worth, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.training.comparison import ONE_SEED, SAME, Comparison, Judged, judged, paired, verdict_on

from .generations import Result, best_of
from .plan import SearchPlan
from .ranking import WORDS
from .retrain import Retrained, Schedule
from .run import Found, epochs_of
from .weights import uniform


@dataclass(frozen=True)
class Gain:
    """One variant against another over the same seeds.

    Args:
        variant: that is compared, such as "constant".
        other: what it is compared with: "uniform", or "uniform with restarts".
        judged: the difference of their test scores, below 0 if the variant is better, among all gains of the search;
            over the seeds of which both networks ended well.
    """

    variant: str
    other: str
    judged: Judged[Comparison]

    @property
    def difference(self) -> Comparison:
        """Of their test scores, by itself."""
        return self.judged.test


def gains(found: Found) -> list[Gain]:
    """Each variant against uniform weights of the same seed, and against the best of those and all restarts."""
    scores = _scores(found.retrained)
    plain = scores.get("uniform", {})
    others: dict[str, dict[int, float]] = {"uniform": plain}
    restarts = [one for one in found.retrained if one.variant == "restart"]
    if restarts:
        own = [one for one in found.retrained if one.variant == "uniform"]
        selected = {one.seed: _selected([one, *restarts]) for one in own}
        others["uniform with restarts"] = {s: score for s, score in selected.items() if score is not None}
    pairs = [
        (variant, other, paired(scores.get(variant, {}), given))
        for variant in found.variants
        for other, given in (others.items() if variant != "uniform" else ())
    ]
    pairs = [pair for pair in pairs if pair[2].n]
    family = judged([comparison for _, _, comparison in pairs])
    return [Gain(variant, other, one) for (variant, other, _), one in zip(pairs, family, strict=True)]


def _scores(retrained: Sequence[Retrained]) -> dict[str, dict[int, float]]:
    """Variant -> seed -> score, of the networks that ended well."""
    found: dict[str, dict[int, float]] = {}
    for one in retrained:
        if one.score is not None:
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
    what, difference = f"{gain.variant} weights against {gain.other}", gain.difference
    if difference.why == ONE_SEED:
        return f"{what}: {difference.mean:+.2f} with one seed, which tells nothing."
    what = f"{what}, {difference.n} seeds"
    if difference.why:
        said = "" if difference.why == SAME else f"{difference.mean:+.2f}, but "
        return f"{what}: {said}{difference.why}."
    verdict: str = verdict_on(gain.judged)
    if not gain.judged.clear:
        verdict = f"no clear difference; an observed one of {gain.judged.visible:.2f} would have been"
    return (
        f"{what}: {difference.mean:+.2f} ± {difference.half:.2f} of {WORDS[plan.rank]} on the test part (paired 95 % "
        f"interval; lower is better; p = {gain.judged.p:.2g} after Holm's correction): {verdict}."
    )


def schedule_rows(plan: SearchPlan, schedule: Schedule) -> tuple[list[str], list[list[str]]]:
    """A schedule as a table: header and rows, one for each change."""
    settings = list(schedule[0][1].settings)
    rows = []
    for begin, point in schedule:
        others = (f"{point.settings[setting]:.3g}" for setting in settings)
        rows.append([str(begin), *(f"{weight:.3f}" for weight in point.weights), *others])
    return ["from epoch", *plan.names, *settings], rows
