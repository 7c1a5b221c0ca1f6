"""How many seeds it takes to see a difference, before they are run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev

import torch

from equipoise.training.comparison import LEVEL, critical

from .evidence import REFERENCE
from .plan import PlanError
from .records import Plan, RunDirectoryError
from .samples import Samples
from .statistics import summarise

POWER = 0.8
_MOST_SEEDS = 10_000
_POINTS = 4001  # of the integral over the estimated spread


@dataclass(frozen=True)
class PairedNoise:
    """How much the difference of a method and `ls` varies from seed to seed.

    Args:
        std: standard deviation of the paired differences, in points of delta_m.
        source: whose it is, in words.
    """

    std: float
    source: str


def noises_of(directory: Path, problem: str) -> list[PairedNoise]:
    """The noise of the differences to `ls` in a run directory: of the median method, and of the noisiest.

    Args:
        directory: of runs.
        problem: that they should be of.

    Raises:
        RunDirectoryError: where there is nothing to learn it from; says what is missing.
    """
    summary = summarise(directory)
    if summary.plan.problem != problem:
        raise RunDirectoryError(
            f"`like` should hold runs of {problem}: the noise of another problem says nothing about it. Found runs of "
            f"{summary.plan.problem} in {directory}; give the standard deviation of the differences by --noise."
        )
    samples = Samples(summary)
    reference = next((row for row in summary.methods if row.method == REFERENCE), None)
    theirs = samples.scores(reference) if reference else {}
    found: dict[str, float] = {}
    for row in summary.methods:
        mine = samples.scores(row) if row is not reference else {}
        differences = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
        if len(differences) > 1 and all(map(math.isfinite, differences)):
            found[row.method] = stdev(differences)
    if not found:
        raise RunDirectoryError(
            f"`like` should hold `{REFERENCE}` and another method with a delta_m on two common seeds or more. "
            f"Found none in {directory}; give the standard deviation of the differences by --noise."
        )
    top = max(found, key=lambda method: found[method])
    if len(found) == 1:
        return [PairedNoise(found[top], f"{top} in {directory}")]
    return [
        PairedNoise(median(found.values()), f"the median of {len(found)} methods in {directory}"),
        PairedNoise(found[top], f"{top}, the noisiest method in {directory}"),
    ]


def seeds_needed(difference: float, std: float, tests: int) -> int | None:
    """The fewest seeds with which a paired t test finds a true difference in 80 % of all cases.

    The level is 0.05 / tests: the first step of Holm's procedure, which is the hardest.

    Args:
        difference: the true mean difference, not 0.
        std: standard deviation of the paired differences, above 0, in the same unit.
        tests: number of comparisons that are corrected for, at least 1.

    Returns:
        The number of seeds; None above 10,000.

    Raises:
        ValueError: on a value out of range.
    """
    if not (math.isfinite(difference) and difference):
        raise ValueError(f"`difference` should be a number other than 0. Found {difference:g}.")
    if not (math.isfinite(std) and std > 0):
        raise ValueError(f"`noise` should be a number above 0. Found {std:g}.")
    if tests < 1:
        raise ValueError(f"`tests` should be at least 1. Found {tests}.")
    low, high = 1, 2
    while power(difference, std, high, LEVEL / tests) < POWER:
        low, high = high, 2 * high
        if low > _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(difference, std, middle, LEVEL / tests) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high if high <= _MOST_SEEDS else None


def power(difference: float, std: float, seeds: int, level: float) -> float:
    """The probability that a two-sided paired t test finds a true difference.

    P(|T| > c) of the noncentral t with nu = seeds - 1 and noncentrality d = sqrt(seeds) difference / std, with c the
    critical value: the integral over u, the estimated over the true standard deviation, of its density
    f(u) = 2 nu u chi2_nu(nu u^2) times Phi(d - c u) + Phi(-d - c u).

    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2.

    Args:
        difference: the true mean difference.
        std: standard deviation of the paired differences, above 0.
        seeds: at least 2.
        level: of the test, two-sided.
    """
    freedom, shift = seeds - 1, abs(difference) / std * math.sqrt(seeds)
    limit = critical(level, freedom)
    width = 12 / math.sqrt(2 * freedom)  # of u around 1, in which all of its density lies
    u = torch.linspace(max(0.0, 1 - width), 1 + width, _POINTS, dtype=torch.float64)
    half = freedom / 2
    log_density = math.log(2) + half * math.log(half) - math.lgamma(half) - half * u**2
    density = torch.exp(log_density + torch.xlogy(torch.tensor(freedom - 1.0), u))
    inside = torch.special.ndtr(shift - limit * u) + torch.special.ndtr(-shift - limit * u)
    return float(torch.trapezoid(density * inside, u))


def asked(
    plan: Plan, difference: float | None, noise: float | None, like: Path | None, *, shown: bool
) -> list[str]:
    """What `equipoise bench --plan --difference` says of a plan: sentences, none where no difference is given.

    Args:
        plan: whose methods are compared with `ls`.
        difference: in points of delta_m.
        noise: standard deviation of the paired differences; None takes it from `like`.
        like: a run directory to learn it from.
        shown: whether the plan is only printed.

    Raises:
        PlanError: on options that do not go together, a plan without `ls` or with it alone, and values out of range.
        RunDirectoryError: where `like` tells nothing.
    """
    if difference is None:
        if noise is not None or like is not None:
            raise PlanError(
                "`difference` should be given with --noise or --like. Found none; add --difference 2."
            )
        return []
    if not shown:
        raise PlanError("`difference` should come with --plan, which runs nothing. Found no --plan.")
    if (noise is None) == (like is None):
        found = "neither" if noise is None else "both"
        raise PlanError(
            f"`difference` should come with one of --noise STD and --like RUN_DIR. Found {found}."
        )
    others = len([method for method in plan.methods if method != REFERENCE])
    if others == len(plan.methods) or not others:
        raise PlanError(
            f"`methods` should hold {REFERENCE} and another one, to be compared. Found {', '.join(plan.methods)}."
        )
    noises = (
        [PairedNoise(noise, "as given")]
        if noise is not None
        else noises_of(like, plan.problem)
        if like
        else []
    )
    try:
        return power_lines(difference, others, noises, seeds=len(plan.seeds))
    except ValueError as error:
        raise PlanError(str(error)) from error


def difference_seen(std: float, seeds: int, tests: int) -> float:
    """The smallest true difference that so many seeds find in 80 % of all cases; infinite with one seed.

    Args:
        std: standard deviation of the paired differences, above 0.
        seeds: at least 1.
        tests: number of comparisons that are corrected for.
    """
    if seeds < 2:
        return math.inf
    low, high = 0.0, std
    while power(high, std, seeds, LEVEL / tests) < POWER:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        enough = power(middle, std, seeds, LEVEL / tests) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def power_lines(
    difference: float, methods: int, noises: list[PairedNoise], seeds: int | None = None
) -> list[str]:
    """How many seeds it takes to see a difference of delta_m to `ls`, a sentence for each noise.

    Args:
        difference: in points of delta_m.
        methods: that are compared with `ls`; Holm's correction is over so many.
        noises: of the paired differences.
        seeds: that are planned, to say what these would show; None says nothing of it.

    Raises:
        ValueError: on a value out of range.
    """
    lines = []
    for noise in noises:
        needed = seeds_needed(difference, noise.std, methods)
        number = f"more than {_MOST_SEEDS}" if needed is None else str(needed)
        lines.append(
            f"To see a difference of {abs(difference):g} points of delta_m to {REFERENCE} takes {number} seeds, where "
            f"paired differences have a standard deviation of {noise.std:.3g} points ({noise.source}): paired t test, "
            f"80 % power, 5 % level after Holm's correction for {methods} comparison{'s' * (methods != 1)}."
        )
        if seeds == 1:
            lines.append("The planned seed shows no difference whatever its size: an interval takes two.")
        elif seeds:
            seen = difference_seen(noise.std, seeds, methods)
            lines.append(f"The {seeds} planned seeds show differences from {seen:.3g} points on.")
    return lines
