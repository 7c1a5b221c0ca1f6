"""Run directories like those of the larger benchmarks: many tasks, several metrics a task, pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from equipoise.benchmark.records import Record, append_record, read_records
from equipoise.training.pictures import Picture, save_pictures
from equipoise.training.task import Metric, Task

LAND = ("water", "trees", "grass", "crops", "built", "bare", "snow")


def chemicals(count: int = 17) -> tuple[Task, ...]:
    """Properties with two metrics each, one of them relative."""
    return tuple(
        Task(f"property_{k}", (Metric(f"property_{k} r2", True, ""), Metric(f"property_{k} mae", False, "K")))
        for k in range(count)
    )


def assays(count: int = 617) -> tuple[Task, ...]:
    """Binary tasks with one metric each."""
    return tuple(Task(f"assay_{k}", (Metric(f"assay_{k} auc", True, ""),)) for k in range(count))


def dense() -> tuple[Task, ...]:
    """The tasks and metrics of NYUv2."""
    angles = ("within_11.25", "within_22.5", "within_30")
    normal = (Metric("normal_mean", False, "°"), Metric("normal_median", False, "°"))
    return (
        Task("seg", (Metric("mIoU", True, "%"), Metric("pix_acc", True, "%"))),
        Task("depth", (Metric("abs_err", False, "m"), Metric("rel_err", False, "m"))),
        Task("normal", (*normal, *(Metric(name, True, "%") for name in angles))),
    )


def change_tests(directory: Path, change: Callable[[Record, str, float], float]) -> None:
    """Write the records of a directory anew with other test metrics."""
    records = read_records(directory)
    (directory / "records.jsonl").unlink()
    for record in records:
        test = {name: change(record, name, value) for name, value in record.metrics["test"].items()}
        append_record(directory, dataclasses.replace(record, metrics={**record.metrics, "test": test}))


def count_passes(directory: Path, passes: Mapping[str, tuple[int, int]]) -> None:
    """Write the records anew with forwards and backwards a step, by label; one each for labels left out.

    A label that ends in @compute passes as its method does, and stops when the passes of one forwards and one
    backwards a step are used up.
    """
    records = read_records(directory)
    (directory / "records.jsonl").unlink()
    for record in records:
        forwards, backwards = passes.get(record.method.removesuffix("@compute"), (1, 1))
        share = 3 / (forwards + 2 * backwards) if record.method.endswith("@compute") else 1.0
        steps = round(record.steps * share)
        counted = dataclasses.replace(
            record,
            forwards=forwards * steps,
            backwards=backwards * steps,
            seconds=record.seconds * share,
            steps=steps,
        )
        append_record(directory, counted)


def write_pictures(
    directory: Path, *, tiles: int = 3, size: tuple[int, int] = (64, 80), classes: Sequence[str] = LAND
) -> None:
    """Pictures of every run that is not a single-task run."""
    for place, record in enumerate(record for record in read_records(directory) if record.task is None):
        save_pictures(directory / "runs" / record.run_id, made_up_pictures(place, tiles, size, classes))


def made_up_pictures(noise: int, tiles: int, size: tuple[int, int], classes: Sequence[str]) -> list[Picture]:
    """Smooth hills with land cover by height, and predictions that are the worse the more noise there is."""
    generator = torch.Generator().manual_seed(0)
    height, slope = _hills(tiles, size, generator)
    cover = (height * len(classes)).long().clamp(0, len(classes) - 1)
    cover[:, : size[0] // 5, : size[1] // 5] = -1
    metres = 1000 * height
    metres[:, -size[0] // 5 :, -size[1] // 5 :] = math.nan
    slope[:, :, : size[0] // 6, -size[1] // 6 :] = 0
    own = torch.Generator().manual_seed(noise)
    rough = 0.03 * (noise + 1) * torch.randn(height.shape, generator=own)
    image = torch.stack([height, 1 - height, 0.5 + 0.5 * torch.sin(9 * height)], 1)
    guess = ((height + rough) * len(classes)).long().clamp(0, len(classes) - 1)
    turned = torch.nn.functional.normalize(slope + 3 * rough[:, None], dim=1)
    return [
        Picture("input", "colour", image),
        Picture("land cover", "classes", cover, guess, tuple(classes)),
        Picture("elevation", "scalar", metres, 1000 * (height + rough), unit="m"),
        Picture("normals", "normal", slope, turned),
    ]


def _hills(tiles: int, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Heights from 0 to 1 (k, H, W) and the unit normals (k, 3, H, W) of that surface."""
    coarse = torch.rand((tiles, 1, 5, 6), generator=generator)
    height = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)[:, 0]
    height = (height - height.amin()) / (height.amax() - height.amin())
    down, across = torch.gradient(height, dim=(1, 2))
    normals = torch.stack([-20 * across, 20 * down, torch.ones_like(height)], 1)
    return height, torch.nn.functional.normalize(normals, dim=1)
