"""Our methods beside the same ones of TorchJD: time at what optimality gap, on the same Gramians, one thread.

Run `python benchmarks/solvers.py [--repeats 15] [--only cagrad] [--sizes 2,40] [--out FILE]`. Both are called
with the Gramian in hand. Where TorchJD's takes the Jacobian (m, 4 m + 8), ours gets it too and its time includes
G = JJ'; the column "takes" says so. The contestants take turns, so that a busy machine slows them alike; times are
medians over five draws and all turns. The gap, from `gaps.py`, is how far an answer is from solving the problem of
the method, relative to its own scale: median / worst over the draws. For PCGrad and GradVac there is no problem to
solve: what is shown for both is the largest difference between the two, relative to the largest weight, when they
meet the tasks in the same order. A failure is an exception, an answer that is not finite, or a gap above 1e-3.
A contestant runs no further draw after 4 s on a case, and not at all once a call takes 5 s. As in `timeit`, Python
collects no garbage while it is timed.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import os
import platform
import statistics
import time
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from contestants import KINDS, RACES, Call, Draw, Race, draw

SIZES = (2, 3, 11, 40, 100)
DRAWS = 5
LONGEST_CALL = 5.0  # seconds
LONGEST_CASE = 4.0
SOLVED = 1e-8  # of a gap: where both are below it, neither is nearer to the optimum
MOST_IN_A_ROW = 10  # calls on one draw in one turn


class Score(NamedTuple):
    """Median time in microseconds, median and largest gap (None without one), and the share of failures."""

    time: float
    gap: float | None
    worst: float | None
    failures: float


class Contestant:
    """One implementation on the draws of one case: its times and gaps."""

    def __init__(self, call: Call, audit: Call | None, race: Race) -> None:
        self.call = call
        self.audit = audit or call
        self.race = race
        self.times: list[float] = []
        self.gaps: dict[int, float] = {}
        self.spent = 0.0
        self.longest = 0.0

    def timed(self, case: Draw) -> float:
        start = time.perf_counter()
        with contextlib.suppress(Exception):
            self.call(case)
        return time.perf_counter() - start

    def warm_up(self, case: Draw) -> None:
        """The first call may compile; the second tells how long one takes."""
        self.timed(case)
        self.longest = self.timed(case)

    @property
    def too_slow(self) -> bool:
        return self.longest > LONGEST_CALL

    def turn(self, position: int, case: Draw) -> None:
        if self.too_slow or (self.times and self.spent + self.longest > LONGEST_CASE):
            return
        for _ in range(max(1, min(MOST_IN_A_ROW, int(2e-2 / max(self.longest, 1e-9))))):
            seconds = self.timed(case)
            self.times.append(1e6 * seconds)
            self.spent += seconds
        self.longest = max(self.longest, seconds) if self.longest > 1.0 else self.longest
        if position not in self.gaps:
            self.gaps[position] = self.gap(case)

    def gap(self, case: Draw) -> float:
        """0 where there is none to compute and the answer is finite."""
        try:
            answer = self.audit(case)
        except Exception:
            return float("inf")
        if not bool(answer.isfinite().all()):
            return float("inf")
        return self.race.gap(case.jacobian, answer) if self.race.gap else 0.0

    def score(self) -> Score | None:
        """None where a call takes too long to be raced."""
        if not self.times:
            return None
        gaps = list(self.gaps.values())
        failures = sum(not gap <= 1e-3 for gap in gaps) / len(gaps)
        solves = self.race.gap is not None
        median, worst = (statistics.median(gaps), max(gaps)) if solves else (None, None)
        return Score(statistics.median(self.times), median, worst, failures)


class Result(NamedTuple):
    """One row: a case of one method against one peer."""

    method: str
    m: int
    kind: str
    peer: str
    ours: Score
    theirs: Score | None
    difference: float | None

    @property
    def ratio(self) -> float | None:
        return self.theirs.time / self.ours.time if self.theirs else None


def run_case(method: str, m: int, kind: str, turns: int) -> list[Result]:
    gc.collect()
    race = RACES[method]
    draws = [draw(kind, m, seed) for seed in range(DRAWS)]
    entries = {"ours": race.ours, **race.theirs}
    contestants = {name: Contestant(entry.build(m), entry.audit, race) for name, entry in entries.items()}
    for contestant in contestants.values():
        contestant.warm_up(draws[0])
    for _ in range(turns):
        for position, case in enumerate(draws):
            for contestant in contestants.values():
                contestant.turn(position, case)
    ours = contestants.pop("ours").score()
    assert ours is not None
    difference = max(map(race.difference, draws)) if race.difference else None
    return [Result(method, m, kind, name, ours, c.score(), difference) for name, c in contestants.items()]


def gap_text(score: Score | None, difference: float | None) -> str:
    if difference is not None:
        return f"{difference:.0e} apart"
    if score is None or score.gap is None:
        return "-"
    return f"{score.gap:.0e} / {score.worst:.0e}"


def row(result: Result) -> str:
    ours, theirs = result.ours, result.theirs
    head = f"| {result.method} | {result.m} | {result.kind} | {result.peer} | {RACES[result.method].takes} "
    mine = gap_text(ours, result.difference)
    if theirs is None:
        skipped = f"over {LONGEST_CALL:.0f} s a call | -"
        return f"{head}| {ours.time:.0f} | {skipped} | {mine} | - | {ours.failures:.0%} | - |"
    other = gap_text(theirs, result.difference)
    times = f"| {ours.time:.0f} | {theirs.time:.0f} | {result.ratio:.1f}x "
    return f"{head}{times}| {mine} | {other} | {ours.failures:.0%} | {theirs.failures:.0%} |"


def summary(results: list[Result]) -> list[str]:
    """One row for each method, peer and m: the range over the kinds, and whether the goal was met."""
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.method, result.peer, result.m), []).append(result)
    rows = [summary_row(group) for group in groups.values()]
    return [
        "| method | against | m | ratio, least to largest | our worst gap | theirs "
        "| our failures | theirs | goal | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def summary_row(group: list[Result]) -> str:
    first, raced = group[0], [result for result in group if result.theirs]
    ratios = [result.ratio for result in raced if result.ratio is not None]
    span = f"{min(ratios):.1f}x to {max(ratios):.1f}x" if ratios else "-"
    mine, other = worst([r.ours for r in group]), worst([r.theirs for r in raced if r.theirs])
    failed = statistics.mean(result.ours.failures for result in group)
    theirs = f"{statistics.mean(r.theirs.failures for r in raced if r.theirs):.0%}" if raced else "-"
    goal, met = verdict(group)
    head = f"| {first.method} | {first.peer} | {first.m} | {span} | {mine} | {other} "
    return f"{head}| {failed:.0%} | {theirs} | {goal} | {met} |"


def worst(scores: list[Score]) -> str:
    gaps = [score.worst for score in scores if score.worst is not None]
    return f"{max(gaps):.0e}" if gaps else "-"


def verdict(group: list[Result]) -> tuple[str, str]:
    """The goal for this m, in words, and "yes", or the kinds of Gramians that miss it."""
    race, m = RACES[group[0].method], group[0].m
    wanted = {result.kind: race.goal(m, result.kind) for result in group}
    goals = sorted({goal for goal in wanted.values() if goal is not None}, reverse=True)
    words = ", ".join(
        f"{goal:g}x" + (f" on {', '.join(k for k in wanted if wanted[k] == goal)}" if len(goals) > 1 else "")
        for goal in goals
    )
    missed = [missed_ratio(r) for r in group if r.ratio is not None and r.ratio < (wanted[r.kind] or 0.0)]
    larger = [r.kind for r in group if not as_close(r.ours, r.theirs)]
    misses = [f"{what}: {', '.join(kinds)}" for what, kinds in (("ratio", missed), ("gap", larger)) if kinds]
    met = "-" if not goals and group[0].ours.gap is None else "yes"
    return words or "-", f"no ({'; '.join(misses)})" if misses else met


def missed_ratio(result: Result) -> str:
    """The kind and ratio, marked where theirs is no answer: it fails on most draws."""
    failing = result.theirs is not None and result.theirs.failures > 0.5
    return f"{result.kind} {result.ratio:.2f}x{' (theirs fails)' if failing else ''}"


def as_close(ours: Score, theirs: Score | None) -> bool:
    """Whether our worst gap is no larger than theirs, or small enough to be solved."""
    if theirs is None or ours.worst is None or theirs.worst is None:
        return True
    return ours.worst <= max(theirs.worst, SOLVED)


def report(results: list[Result], repeats: int) -> str:
    names = ("torch", "torchjd", "cvxpy", "qpsolvers", "quadprog")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    lines = [
        f"One thread, {platform.machine()}, {versions}; {repeats} runs a case at least.",
        "",
        *summary(results),
        "",
        "| method | m | Gramians | against | takes | ours, us | theirs, us | ratio "
        "| our gap, median / worst | their gap | our failures | theirs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *map(row, results),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="least number of timed calls a case")
    parser.add_argument("--only", choices=sorted(RACES), action="append", help="this method; may be repeated")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of tasks, as 2,40")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gc.disable()  # what cvxpy leaves makes a collection dear, and whoever allocates next pays for it
    warnings.simplefilter("ignore")
    results = []
    for method in options.only or RACES:
        for m in map(int, options.sizes.split(",")):
            if m >= RACES[method].least:
                for kind in KINDS:
                    results += run_case(method, m, kind, max(1, options.repeats // DRAWS))
    text = report(results, options.repeats)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
