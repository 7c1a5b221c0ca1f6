"""Tasks with a target at every pixel: their batches, losses, metrics, pictures, and the best constant guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .dense_losses import depth_loss, normal_loss, segmentation_loss
from .dense_metrics import Average, DepthErrors, MapErrors, NormalAngles, Segmentation
from .labels import LabelledLosses
from .pictures import Kind, Picture
from .task import Metric, Task

DenseKind = Literal["classes", "depth", "normal", "map"]

_PICTURED: dict[DenseKind, Kind] = {
    "classes": "classes",
    "depth": "scalar",
    "normal": "normal",
    "map": "scalar",
}
_STRIDE = 4  # every fourth row and column of an image says enough about its depths


@dataclass(frozen=True)
class DenseTask:
    """One quantity that is predicted at every pixel.

    Args:
        name: of the task.
        kind: "classes": targets (b, H, W) int64, -1 unlabelled, outputs logits (b, classes, H, W). "depth": both
            (b, 1, H, W), 0 unlabelled, any quantity on a ratio scale. "normal": both (b, 3, H, W), unit vectors,
            0 unlabelled. "map": both (b, 1, H, W), any quantity, every pixel labelled.
        metrics: what to report: name in `equipoise.training.dense_metrics` -> metric. Fractions are given times 100
            where the unit is "%".
        classes: of "classes", their number.
        class_names: for pictures.
        unit: of "depth" and "map", for pictures.
    """

    name: str
    kind: DenseKind
    metrics: Mapping[str, Metric]
    classes: int = 0
    class_names: tuple[str, ...] = ()
    unit: str = ""

    @property
    def task(self) -> Task:
        """As a problem lists it."""
        return Task(self.name, tuple(self.metrics.values()))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The published loss () of this kind over labelled pixels."""
        if self.kind == "classes":
            return segmentation_loss(output, target)
        if self.kind == "normal":
            return normal_loss(output, target)
        return depth_loss(
            output, target, None if self.kind == "depth" else torch.ones_like(target, dtype=torch.bool)
        )

    def labelled(self, target: Tensor) -> Tensor:
        """Which pixels (b, H, W) have a label."""
        if self.kind == "map":
            return torch.ones_like(target[:, 0], dtype=torch.bool)
        return target != -1 if self.kind == "classes" else (target != 0).any(1)


class DenseBatch(NamedTuple):
    """b images.

    Args:
        image: (b, channels, H, W).
        targets: of each task, as its kind says.
        labelled: of each task, the number of labelled pixels; plain numbers, so that a GPU need not be asked.
    """

    image: Tensor
    targets: dict[str, Tensor]
    labelled: dict[str, int]


def dense_batch(tasks: Sequence[DenseTask], image: Tensor, targets: Mapping[str, Tensor]) -> DenseBatch:
    """A batch of images and targets in host memory, with its labelled pixels counted."""
    chosen = {task.name: targets[task.name] for task in tasks}
    return DenseBatch(
        image, chosen, {task.name: int(task.labelled(chosen[task.name]).sum()) for task in tasks}
    )


def dense_losses(tasks: Sequence[DenseTask], outputs: Sequence[Tensor], batch: DenseBatch) -> LabelledLosses:
    """The loss of each task that has a labelled pixel in this batch.

    Args:
        tasks: in the order of the outputs.
        outputs: a map of each task.
        batch: with the targets.
    """
    present = [
        (task, output) for task, output in zip(tasks, outputs, strict=True) if batch.labelled[task.name]
    ]
    return LabelledLosses(
        {task.name: task.loss(output, batch.targets[task.name]) for task, output in present},
        {task.name: batch.labelled[task.name] for task, _ in present},
    )


class DenseEvaluation:
    """All metrics of all tasks, gathered batch by batch in constant memory.

    Args:
        tasks: in the order of the outputs.
        average: of depth and normals, over "pixels" or "batches"; see `equipoise.training.dense_metrics`.
    """

    def __init__(self, tasks: Sequence[DenseTask], average: Average = "pixels") -> None:
        self._tasks = tuple(tasks)
        self._meters = [_meter(task, average) for task in tasks]

    def add(self, outputs: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Take in one batch: a map of each task, and the targets by task, all on one device."""
        for task, meter, output in zip(self._tasks, self._meters, outputs, strict=True):
            prediction = output.argmax(1) if task.kind == "classes" else output
            meter.add(prediction, targets[task.name])

    def values(self) -> dict[str, float]:
        """Every metric by its reported name.

        Raises:
            ValueError: if a task had no labelled pixel at all, or a class was out of range; the task is named.
        """
        found: dict[str, float] = {}
        for task, meter in zip(self._tasks, self._meters, strict=True):
            try:
                values = meter.values()
            except ValueError as error:
                raise ValueError(f"The task {task.name!r} cannot be measured. {error}") from error
            for key, metric in task.metrics.items():
                found[metric.name] = values[key] * (100 if metric.unit == "%" else 1)
        return found


def evaluate_dense(
    tasks: Sequence[DenseTask], model: nn.Module, loader: Iterable[DenseBatch], average: Average = "pixels"
) -> dict[str, float]:
    """Every metric of a model, which gives a map of each task, over all batches of a loader."""
    evaluation = DenseEvaluation(tasks, average)
    for batch in loader:
        evaluation.add(model(batch.image), batch.targets)
    return evaluation.values()


class ConstantMaps(nn.Module):
    """A model that predicts the same at every pixel of every image.

    Args:
        values: of each task (channels,).
    """

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__()
        self._values = list(values)

    def forward(self, images: Tensor) -> list[Tensor]:
        """A map (b, channels, H, W) of each task for images (b, c, H, W)."""
        samples, _, height, width = images.shape
        return [
            value.to(images.device)[:, None, None].expand(samples, -1, height, width)
            for value in self._values
        ]


def constant_guess(tasks: Sequence[DenseTask], batches: Iterable[DenseBatch]) -> ConstantMaps:
    """The best constants for some training batches, from every fourth row and column.

    The class that is most frequent; the median of a depth or map, which has the least mean absolute error; and the mean
    normal, scaled to length 1, which has the greatest mean dot product.

    Args:
        tasks: of the problem.
        batches: a sample of the training part.

    Raises:
        ValueError: if these have no label of a task.
    """
    seen: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    for batch in batches:
        for task in tasks:
            target = batch.targets[task.name][..., ::_STRIDE, ::_STRIDE]
            values = target[:, None] if task.kind == "classes" else target
            seen[task.name].append(values.movedim(1, -1)[task.labelled(target)])
    return ConstantMaps([_constant(task, torch.cat(seen[task.name])) for task in tasks])


def dense_pictures(tasks: Sequence[DenseTask], batch: DenseBatch, outputs: Sequence[Tensor]) -> list[Picture]:
    """The input and each task's truth and prediction, as the report draws them.

    Args:
        tasks: in the order of the outputs.
        batch: of k images with values from 0 to 1.
        outputs: a map of each task.
    """
    pictures = [Picture("input", "colour", batch.image)]
    for task, output in zip(tasks, outputs, strict=True):
        truth, prediction = batch.targets[task.name], output
        if task.kind == "classes":
            prediction = output.argmax(1)
        elif task.kind in ("depth", "map"):
            truth, prediction = torch.where(task.labelled(truth), truth[:, 0], torch.nan), output[:, 0]
        pictures.append(
            Picture(task.name, _PICTURED[task.kind], truth, prediction, task.class_names, task.unit)
        )
    return pictures


def _meter(task: DenseTask, average: Average) -> Segmentation | DepthErrors | MapErrors | NormalAngles:
    if task.kind == "classes":
        return Segmentation(task.classes)
    if task.kind == "normal":
        return NormalAngles(average=average)
    return DepthErrors(average=average) if task.kind == "depth" else MapErrors(average=average)


def _constant(task: DenseTask, values: Tensor) -> Tensor:
    """The guess (channels,) from labelled values (n, channels), classes as logits."""
    if len(values) == 0:
        raise ValueError(f"The task {task.name!r} should have a label in the training part. Found none.")
    if task.kind == "classes":
        frequent = values.flatten().bincount(minlength=task.classes).argmax()
        return functional.one_hot(frequent, task.classes).float()
    if task.kind in ("depth", "map"):
        return values.median(0).values
    return functional.normalize(values.double().mean(0), dim=0).float()
