"""What a search costs beyond the training of its members.

    python benchmarks/search_overhead.py [--workers 2] [--seconds 20]

First: seconds on the clock over (sum of the members' training seconds / workers), for PBT on digits with 4,000 images,
on workers of Ray on this machine, with intervals of about `--seconds`. Counted once Ray has started and every worker
has read its data and trained for an epoch, twice, from which the number of epochs of an interval is taken. The clock
covers what a search does: checkpoints written and copied, lines of the genealogy, tasks sent and results fetched, and
workers that wait for the last member of their generation; so the population is a multiple of the workers, or some
would have nothing to do in each generation. The same ratio with that waiting taken out shows what is left. Other work
on the machine lengthens the waiting, since it slows one member more than another. Goal: 1.10.

Second: configurations that are tried, without training, against N (1 + Q E_total / E).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from equipoise import actions, search_actions
from equipoise.cluster.connection import Place
from equipoise.problems.registry import problem_class
from equipoise.search.driver import run_search
from equipoise.search.generations import Assignment, Result
from equipoise.search.member import Setting
from equipoise.search.pbt import PopulationBased
from equipoise.search.space import Space
from equipoise.search.work import Work
from equipoise.search.workers import Job, workers

LIMIT = 1.10
WARM = 9999  # the generation of the epochs before the clock starts


def setting(images: int, epochs: int) -> Setting:
    """Sampling weights of the three domains of digits; the network of the quick preset."""
    changes = {"images": images, "mixing": "sampled", "epochs": epochs}
    config, _ = search_actions.base(
        "digits", "quick", actions.one_run("ls", 0, None, changes), "cpu", elsewhere=False
    )
    return Setting(config, "sampling")


def warmed(train: Work, count: int) -> float:
    """Seconds of an epoch with all workers at work, once they have read their data."""
    found = 0.0
    for k in range(2):
        tasks: list[Any] = [Assignment(WARM, k * count + i, (1 / 3,) * 3, 0, 1) for i in range(count)]
        found = max(one.seconds for one in train(tasks))
    return found


def measured(arguments: argparse.Namespace, directory: Path) -> None:
    """Run a search and print its ratio."""
    place = Place(workers=arguments.workers)
    population = 2 * arguments.workers
    # The problem is a function of its options, so the number of epochs may be set later.
    job = Job(problem_class("digits"), setting(arguments.images, 1000), directory)
    began = time.perf_counter()
    with workers(job, place, print) as train:
        seconds = warmed(train, arguments.workers)
        interval = max(1, round(arguments.seconds / seconds))
        print(
            f"Ray, data and first epochs: {time.perf_counter() - began:.1f} s. An epoch takes {seconds:.2f} s, so an "
            f"interval has {interval} epoch(s)."
        )
        epochs = interval * arguments.generations
        algorithm = PopulationBased(Space(3), population, epochs, interval, seed=0)
        ended: list[tuple[float, Result]] = []
        began = time.perf_counter()
        history = run_search(
            algorithm, train, directory, lambda one: ended.append((time.perf_counter() - began, one))
        )
        wall = time.perf_counter() - began
    told(history, wall, waited(ended, arguments), arguments)


def waited(ended: Sequence[tuple[float, Result]], arguments: argparse.Namespace) -> float:
    """Seconds for which workers had nothing to do at the ends of generations, summed over workers."""
    found = 0.0
    for generation in range(arguments.generations):
        times = sorted(at for at, one in ended if one.assignment.generation == generation)
        found += sum(times[-1] - at for at in times[-arguments.workers :])
    return found


def told(
    history: Sequence[Sequence[Result]], wall: float, idle: float, arguments: argparse.Namespace
) -> None:
    """Print the ratio and where the rest goes."""
    each = [one.seconds for row in history for one in row]
    share = sum(each) / arguments.workers
    ratio, without = wall / share, (wall - idle / arguments.workers) / share
    print(
        f"\n| members | generations | s a member and interval | wall s | sum / {arguments.workers} | ratio | limit |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {len(history[0])} | {len(history)} | {min(each):.1f} to {max(each):.1f} | {wall:.1f} | {share:.1f} | "
        f"{ratio:.3f} | {LIMIT:.2f} |"
    )
    per = (wall - idle / arguments.workers - share) * arguments.workers / len(each)
    print(
        f"\nWorkers waited for the last of their generation for {idle:.1f} s in all. Without that the ratio is "
        f"{without:.3f}: {per:.2f} s a member and interval. The limit is {'kept' if ratio <= LIMIT else 'BROKEN'}."
    )


def explored(population: int, quantile: float, epochs: int, interval: int, seeds: int) -> tuple[float, float]:
    """Configurations that PBT tries, a mean over seeds, and how many N (1 + Q E_total / E) are."""
    total = 0
    for seed in range(seeds):
        algorithm = PopulationBased(Space(3), population, epochs, interval, seed, quantile)
        draws = torch.Generator().manual_seed(seed)
        history: list[list[Result]] = []
        while proposed := algorithm.propose(history):
            scores = torch.rand(len(proposed), generator=draws, dtype=torch.float64).tolist()
            history.append([Result(one, score) for one, score in zip(proposed, scores, strict=True)])
        points = (one.assignment.weights for row in history for one in row)
        total += len({tuple(round(weight, 9) for weight in weights) for weights in points})
    return total / seeds, population * (1 + quantile * epochs / interval)


def print_explored() -> None:
    """Print the second table."""
    print(
        "\n| N | Q | E_total | E | tried, mean of 20 seeds | N (1 + Q E_total / E) | N (1 + Q (E_total / E - 1)) |"
    )
    print("|---|---|---|---|---|---|---|")
    for population, quantile, epochs, interval in (
        (8, 0.25, 40, 4),
        (8, 0.25, 40, 1),
        (12, 0.25, 100, 5),
        (16, 0.5, 60, 6),
        (32, 0.125, 200, 10),
    ):
        found, formula = explored(population, quantile, epochs, interval, 20)
        less = population * (1 + quantile * (epochs / interval - 1))
        print(
            f"| {population} | {quantile:g} | {epochs} | {interval} | {found:.1f} | {formula:.0f} | {less:.0f} |"
        )
    print(
        "\nNothing is replaced after the last interval, which the formula counts. A replaced member 0 keeps the "
        "uniform weights: in a part Q of the intervals, with scores drawn at random as here. And moves lead to "
        "weights that were tried before: with two factors three weights have six moves, which undo each other."
    )


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a member in an interval")
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--explored", action="store_true", help="the second table alone")
    arguments = parser.parse_args()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, ray {ray.__version__}, "
        f"{os.cpu_count()} cores, {arguments.workers} workers of one thread. Load before: {load}."
    )
    if not arguments.explored:
        with tempfile.TemporaryDirectory() as directory:
            measured(arguments, Path(directory))
    print_explored()


if __name__ == "__main__":
    main()
