"""How long a training step waits for its batch: `python benchmarks/loading.py [--cores 2] [--workers 2]`.

NYUv2, CityScapes and CelebA are read from folders that are generated here in their published layouts and sizes (arrays
of float64, the larger of the two that copies hold, and jpgs of 178 x 218), Earth from its maps if they are there.
Waiting is the time from asking the loader for a batch to having it; a step is waiting, forward pass, backward pass of
the sum of the losses, and Adam. Each network trains without readers, with `--workers` of them, and, if it is narrow, on
one batch over and over, which needs no loader: what reading costs the model while it goes on beside it shows there. The
first step is left out, since nothing is read ahead of it. Medians over the steps; seconds depend on the machine, shares
less so.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from equipoise.data.celeba import ATTRIBUTES, load_celeba
from equipoise.data.dense_folder import CITYSCAPES, NYUV2, Layout
from equipoise.problems.registry import problem_class
from equipoise.training.sampling import SampleBatches

CELEBA_IMAGES = 202_599


class Case(NamedTuple):
    """A network on a problem.

    Args:
        problem: its name.
        network: as printed; "width 64" is the published one.
        options: of the problem, without `workers`.
        steps: timed ones.
    """

    problem: str
    network: str
    options: dict[str, Any]
    steps: int


class Steps(NamedTuple):
    """Seconds of each step: waiting, and all of it."""

    waits: list[float]
    totals: list[float]


def write_dense(root: Path, layout: Layout, samples: int) -> None:
    """Smooth fields, so that nothing is quicker than with real images."""
    random = np.random.default_rng(0)
    height, width = layout.size
    for part, number in itertools.product(("train", "val"), range(samples)):
        field = random.random((height, width, 3))
        arrays = {
            "image": field,
            "label": random.integers(-1, layout.classes, (height, width)).astype(np.float64),
            "depth": 0.1 + field[:, :, :1],
            "normal": field / np.linalg.norm(field, axis=2, keepdims=True),
        }
        for quantity, folder in layout.folders.items():
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / part / folder / f"{number}.npy", arrays[quantity])


def write_celeba(root: Path, images: int) -> None:
    """Images of about the published size in bytes, 8 kB."""
    random = np.random.default_rng(0)
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, images + 1)]
    for name in names:
        coarse = Image.fromarray(random.integers(0, 256, (22, 18, 3), dtype=np.uint8))
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(root / "img_align_celeba" / name, quality=85)
    rows = [
        f"{name} {' '.join(map(str, 2 * random.integers(0, 2, len(ATTRIBUTES)) - 1))}\n" for name in names
    ]
    (root / "list_attr_celeba.txt").write_text(f"{images}\n{' '.join(ATTRIBUTES)}\n" + "".join(rows))
    parts = [2 if number % 10 == 9 else 1 if number % 10 == 8 else 0 for number in range(images)]
    lines = [f"{name} {part}\n" for name, part in zip(names, parts, strict=True)]
    (root / "list_eval_partition.txt").write_text("".join(lines))


def trained(problem: Any, batches: Iterator[Any], steps: int) -> Steps:
    """Time so many steps after a first one, on an initial network."""
    model = problem.model(0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    found = Steps([], [])
    for _ in range(steps + 1):
        asked = time.perf_counter()
        batch = next(batches)
        had = time.perf_counter()
        optimizer.zero_grad()
        torch.stack(list(problem.losses(model, batch).values())).sum().backward()
        optimizer.step()
        found.waits.append(had - asked)
        found.totals.append(time.perf_counter() - asked)
    return Steps(found.waits[1:], found.totals[1:])


def endless(loader: SampleBatches[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    return (batch for number in itertools.count(1) for batch in loader.epoch(number))


def reading_seconds(loader: SampleBatches[Any], batches: int) -> float:
    """Median seconds to make one batch, with nothing beside it."""
    found, source = [], endless(loader)
    for _ in range(batches + 1):
        began = time.perf_counter()
        next(source)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def row(case: Case, workers: int) -> list[str]:
    """One line of the table: reading alone, then training without readers, with them, and on one batch."""
    make = problem_class(case.problem)
    alone, ahead = (make(**case.options, workers=count) for count in (0, workers))
    reading = reading_seconds(alone.loaders(0).train, max(case.steps, 5))
    without = trained(alone, endless(alone.loaders(0).train), case.steps)
    source = endless(ahead.loaders(0).train)
    with_them = trained(ahead, source, case.steps)
    source.close()  # type: ignore[attr-defined]
    fed = "-"
    if "64" not in case.network:
        same = itertools.repeat(next(alone.loaders(0).train.epoch(1)))
        fed = f"{statistics.median(trained(alone, same, case.steps).totals):.3f}"
    return [
        case.problem,
        case.network,
        f"{1000 * reading:.1f}",
        fed,
        *(f"{statistics.median(steps.totals):.3f}" for steps in (without, with_them)),
        *(f"{100 * share(steps):.2f}" for steps in (without, with_them)),
        f"{1000 * max(with_them.waits):.1f}",
    ]


def share(steps: Steps) -> float:
    """Of the time, that was spent waiting."""
    return sum(steps.waits) / sum(steps.totals)


HEADER = [
    "problem",
    "network",
    "ms to read a batch",
    "s a step, one batch",
    "s a step, no readers",
    "s a step, readers",
    "% waiting, no readers",
    "% waiting, readers",
    "longest wait with readers, ms",
]


def cases(root: Path, steps: int) -> list[Case]:
    """The published network and batch of each problem, and a narrow network that leaves less time to read."""
    dense = {name: {"data": str(root / name), "protocol": "paper"} for name in ("nyuv2", "cityscapes")}
    celeba = {"data": str(root / "celeba"), "root": str(root / "cache")}
    return [
        Case("nyuv2", "MTAN, width 64", dense["nyuv2"], steps),
        Case("nyuv2", "SegNet, width 4", {**dense["nyuv2"], "model": "segnet", "width": 4}, 3 * steps),
        Case("cityscapes", "MTAN, width 64", dense["cityscapes"], steps),
        Case(
            "cityscapes", "SegNet, width 4", {**dense["cityscapes"], "model": "segnet", "width": 4}, 3 * steps
        ),
        Case("celeba", "width 64", celeba, steps),
        Case("celeba", "width 4", {**celeba, "width": 4}, 3 * steps),
        Case("earth", "MTAN, width 64", {"width": 64}, steps),
        Case("earth", "MTAN, width 8", {}, 3 * steps),
    ]


def generated(root: Path, only: set[str], images: int) -> None:
    """Write the folders that are wanted."""
    for name, layout, samples in (("nyuv2", NYUV2, 24), ("cityscapes", CITYSCAPES, 64)):
        if name in only:
            write_dense(root / name, layout, samples)
    if "celeba" in only:
        write_celeba(root / "celeba", images)


def print_decoding(root: Path, images: int, threads: int) -> None:
    """Decoding CelebA for the first time, against its cache."""
    seconds = {}
    for name in ("decoded", "cached"):
        began = time.perf_counter()
        faces = load_celeba(root / "celeba", root / "cache", threads=threads)
        seconds[name] = time.perf_counter() - began
    loader = SampleBatches(lambda index: faces.pixels[index], torch.arange(images), size=256)
    began = time.perf_counter()
    for _ in loader.epoch(1):
        pass
    epoch = time.perf_counter() - began
    hours = CELEBA_IMAGES / images
    print(
        f"CelebA, {images} images, {threads} threads: {images / seconds['decoded']:.0f} images/s decoded for the first "
        f"time, lists and all; {images / seconds['cached']:.0f} images/s to open the cache again; "
        f"{images / epoch:.0f} images/s read from it in batches of 256 by one thread. For all {CELEBA_IMAGES}: "
        f"{hours * seconds['decoded']:.0f} s once, then {hours * seconds['cached']:.1f} s a start and "
        f"{hours * epoch:.1f} s an epoch.\n"
    )


def print_rows(rows: Iterator[list[str]]) -> None:
    """As a table of Markdown, line by line."""
    for line in itertools.chain([HEADER, ["---"] * len(HEADER)], rows):
        print(f"| {' | '.join(line)} |", flush=True)


def available(case: Case) -> bool:
    """Whether the data of a problem are there; those that are generated always are."""
    return case.problem != "earth" or bool(problem_class("earth").data()["available"])


def pinned(cores: int, threads: int) -> None:
    """Torch on so many threads, and all of this process on so many cores."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of torch; as many as cores by default")
    parser.add_argument("--workers", type=int, default=2, help="threads that read ahead")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of the wide networks")
    parser.add_argument("--problems", default="nyuv2,cityscapes,celeba,earth")
    parser.add_argument("--networks", default="", help="only those whose name holds this")
    parser.add_argument("--images", type=int, default=4096, help="generated faces")
    parser.add_argument("--folder", type=Path, help="where to generate; a temporary one by default")
    arguments = parser.parse_args()
    threads = arguments.threads or arguments.cores
    pinned(arguments.cores, threads)
    warnings.simplefilter("error")
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    cores = f"{arguments.cores} cores, {threads} threads of torch, {arguments.workers} readers"
    print(f"torch {torch.__version__}, {platform.machine()}, {cores}{load}\n")
    only = set(arguments.problems.split(","))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        root = Path(temporary)
        generated(root, only, arguments.images)
        if "celeba" in only:
            print_decoding(root, arguments.images, arguments.cores)
        wanted = [
            case
            for case in cases(root, arguments.steps)
            if case.problem in only and arguments.networks in case.network and available(case)
        ]
        print_rows(row(case, arguments.workers) for case in wanted)


if __name__ == "__main__":
    main()
