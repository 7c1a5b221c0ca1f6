"""What a study found: curves over p, best p, gains over single-task references, transfer, and conflict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .cell import CellResult
from .estimates import Bounded, NetworkNoise, noise_of, pearson, slope, spearman
from .plan import Capacity, Pair, StudyPlan

Part = str  # "validation", "test" or "train"


@dataclass(frozen=True)
class Best:
    """The best p of a pair at a capacity.

    Args:
        p: with the highest validation merit, of equal ones the one nearest to 0.5.
        plausible: every p whose validation merit is not clearly below that; all of them where the noise is unknown.
        gain: test merit at p, less that of the single-task references; None without both references.
        uniform: the same at p = 0.5, or the p nearest to it.
    """

    p: float
    plausible: tuple[float, ...]
    gain: float | None
    uniform: float | None


@dataclass(frozen=True)
class Transfer:
    """What it costs to use the best p of the smallest capacity at the largest one.

    Args:
        small: the best p of the smallest.
        large: that of the largest.
        cost: test merit of the largest capacity at `large`, less that at `small`; above 0 is a loss.
        tuning: test merit of the largest capacity at `large`, less that at p = 0.5 or the p nearest to it.
    """

    small: float
    large: float
    cost: float
    tuning: float


@dataclass(frozen=True)
class Correlation:
    """Of a statistic of the gradients with the validation merit.

    Args:
        statistic: "conflict", "cosine" or "magnitude".
        epochs: "all" of every cell, or its "last" one.
        pearson: with its interval.
        spearman: likewise.
    """

    statistic: str
    epochs: str
    pearson: Bounded | None
    spearman: Bounded | None


@dataclass(frozen=True)
class Findings:
    """All that the cells of a study tell.

    Args:
        plan: of the study.
        results: the cells that count.
        hidden: names of the others with the reason.
        parameters: of the network at each capacity that has cells, the smallest network first.
        noise: of the validation and the test merit of one network.
        best: of each pair at each capacity.
        trend: of the mean gain of the pairs at their best p, for each doubling of the parameters.
        transfer: of each pair.
        transfer_mean: over pairs, of the cost.
        correlations: of the gradients with the validation merit.
    """

    plan: StudyPlan
    results: Sequence[CellResult]
    hidden: Mapping[str, str]
    parameters: Mapping[Capacity, int]
    noise: Mapping[Part, NetworkNoise | None]
    best: Mapping[tuple[Pair, Capacity], Best]
    trend: Bounded | None
    transfer: Mapping[Pair, Transfer]
    transfer_mean: Bounded | None
    correlations: Sequence[Correlation]


def analyse(plan: StudyPlan, results: Sequence[CellResult]) -> Findings:
    """Everything, from the cells that ran to their end with enough steps, as many as the others."""
    hidden = _hidden(plan, results)
    kept = [result for result in results if result.cell.name not in hidden]
    parameters = {result.cell.capacity: result.parameters for result in kept}
    parameters = dict(sorted(parameters.items(), key=lambda item: item[1]))
    noise = {part: _noise(plan, kept, part) for part in ("validation", "test")}
    best = {
        (pair, capacity): found
        for pair in plan.pairs
        for capacity in parameters
        if (found := _best(plan, kept, pair, capacity, noise["validation"])) is not None
    }
    transfer = _transfer(plan, kept, list(parameters), best)
    return Findings(
        plan, kept, hidden, parameters, noise, best,
        trend=_trend(plan, parameters, best),
        transfer=transfer,
        transfer_mean=_mean_cost(plan, transfer, noise["test"]),
        correlations=_correlations(plan, kept),
    )  # fmt: skip


def merit(plan: StudyPlan, result: CellResult, part: Part) -> float:
    """The mean merit of a cell's domains or tasks at its end."""
    values = result.metrics[part] if part != "train" else result.history[-1]["train"]
    return fmean(plan.measure(name).merit(values[name]) for name in result.cell.names)


def joint(results: Sequence[CellResult], pair: Pair, capacity: Capacity) -> dict[float, list[CellResult]]:
    """The cells of a pair at a capacity by p, rising, one for each seed."""
    found: dict[float, list[CellResult]] = {}
    for result in results:
        if result.cell.names == pair and result.cell.capacity == capacity and result.cell.p is not None:
            found.setdefault(result.cell.p, []).append(result)
    return dict(sorted(found.items()))


def alone(results: Sequence[CellResult], name: str, capacity: Capacity) -> list[CellResult]:
    """The single-task references of a name at a capacity, one for each seed."""
    return [r for r in results if r.cell.names == (name,) and r.cell.capacity == capacity]


def single(
    plan: StudyPlan, results: Sequence[CellResult], names: Sequence[str], capacity: Capacity, part: Part
) -> float | None:
    """The mean merit of the references of some names; None where one has none."""
    cells = [alone(results, name, capacity) for name in names]
    if not all(cells):
        return None
    return fmean(fmean(merit(plan, result, part) for result in found) for found in cells)


def generalisation_gap(plan: StudyPlan, result: CellResult) -> float:
    """Merit on the training samples of the probe, less that on the test part."""
    return merit(plan, result, "train") - merit(plan, result, "test")


def optimisation_gap(results: Sequence[CellResult], result: CellResult) -> float | None:
    """Loss on the training samples of the probe, less that of the references, the mean over both names."""
    gaps = []
    for name in result.cell.names:
        references = alone(results, name, result.cell.capacity)
        if not references:
            return None
        own = result.history[-1]["loss"][name]
        gaps.append(own - fmean(reference.history[-1]["loss"][name] for reference in references))
    return fmean(gaps)


def nearest_to_half(ps: Sequence[float]) -> float:
    """The p that is nearest to equal weights."""
    return min(ps, key=lambda p: abs(p - 0.5))


def _hidden(plan: StudyPlan, results: Sequence[CellResult]) -> dict[str, str]:
    counts = Counter(result.steps for result in results if result.error is None)
    usual = counts.most_common(1)[0][0] if counts else 0
    hidden = {}
    for result in results:
        if result.error is not None:
            hidden[result.cell.name] = f"failed: {result.error}"
        elif result.steps < plan.least_steps:
            hidden[result.cell.name] = f"{result.steps} steps, fewer than {plan.least_steps}"
        elif result.steps != usual:
            hidden[result.cell.name] = f"{result.steps} steps, where most cells have {usual}"
    return hidden


def _noise(plan: StudyPlan, results: Sequence[CellResult], part: Part) -> NetworkNoise | None:
    capacities = dict.fromkeys(result.cell.capacity for result in results)
    curves = [
        [(p, [merit(plan, r, part) for r in found]) for p, found in joint(results, pair, capacity).items()]
        for pair in plan.pairs
        for capacity in capacities
    ]
    return noise_of(curves)


def _best(
    plan: StudyPlan, results: Sequence[CellResult], pair: Pair, capacity: Capacity, noise: NetworkNoise | None
) -> Best | None:
    cells = joint(results, pair, capacity)
    if not cells:
        return None
    merits = {p: fmean(merit(plan, r, "validation") for r in found) for p, found in cells.items()}
    top = max(merits, key=lambda p: (merits[p], -abs(p - 0.5)))
    seeds = len(cells[top])
    halves = {p: math.inf if noise is None else noise.half(1 / seeds + 1 / len(cells[p])) for p in merits}
    plausible = tuple(p for p in merits if p == top or merits[top] - merits[p] <= halves[p])
    reference = single(plan, results, pair, capacity, "test")

    def gain(p: float) -> float | None:
        return None if reference is None else fmean(merit(plan, r, "test") for r in cells[p]) - reference

    return Best(top, plausible, gain(top), gain(nearest_to_half(list(cells))))


def _trend(
    plan: StudyPlan, parameters: Mapping[Capacity, int], best: Mapping[tuple[Pair, Capacity], Best]
) -> Bounded | None:
    """Over the means of all pairs: those of one capacity share references and test parts, so they are one point."""
    points = []
    for capacity, count in parameters.items():
        gains = [best[pair, capacity].gain for pair in plan.pairs if (pair, capacity) in best]
        known = [gain for gain in gains if gain is not None]
        if len(known) == len(plan.pairs):
            points.append((math.log2(count), fmean(known)))
    return slope(points)


def _transfer(
    plan: StudyPlan,
    results: Sequence[CellResult],
    capacities: Sequence[Capacity],
    best: Mapping[tuple[Pair, Capacity], Best],
) -> dict[Pair, Transfer]:
    if len(capacities) < 2:
        return {}
    smallest, largest = capacities[0], capacities[-1]
    found = {}
    for pair in plan.pairs:
        cells = joint(results, pair, largest)
        merits = {p: fmean(merit(plan, r, "test") for r in group) for p, group in cells.items()}
        if (pair, smallest) not in best or best[pair, smallest].p not in merits:
            continue
        small, large = best[pair, smallest].p, best[pair, largest].p
        even = merits[nearest_to_half(list(merits))]
        found[pair] = Transfer(small, large, merits[large] - merits[small], merits[large] - even)
    return found


def _mean_cost(
    plan: StudyPlan, transfer: Mapping[Pair, Transfer], noise: NetworkNoise | None
) -> Bounded | None:
    """With the noise of a difference for every pair, also where both p are the same by chance."""
    if not transfer:
        return None
    value = fmean(one.cost for one in transfer.values())
    if noise is None:
        return Bounded(value, -math.inf, math.inf)
    return Bounded.around(value, noise.half(2 / len(plan.seeds) / len(transfer)))


def _correlations(plan: StudyPlan, results: Sequence[CellResult]) -> list[Correlation]:
    pairs = [result for result in results if result.cell.joint]
    found = []
    for statistic in ("conflict", "cosine", "magnitude"):
        for epochs in ("all", "last"):
            clusters = [list(_points(plan, result, statistic, epochs)) for result in pairs]
            found.append(Correlation(statistic, epochs, pearson(clusters), spearman(clusters)))
    return found


def _points(
    plan: StudyPlan, result: CellResult, statistic: str, epochs: str
) -> Iterator[tuple[float, float]]:
    """(statistic, validation merit) of each epoch."""
    for row in result.history if epochs == "all" else result.history[-1:]:
        values = row["validation"]
        yield row[statistic], fmean(plan.measure(name).merit(values[name]) for name in result.cell.names)
