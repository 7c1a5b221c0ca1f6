"""Taskonomy: seven dense tasks on images of buildings, by one network with a path of its own for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.core.names import check_known
from equipoise.data.cache import data_root
from equipoise.data.colour_domain import PARTS, drawn
from equipoise.data.earth_tiles import flip_some
from equipoise.data.images import MEND, can_read, read_image
from equipoise.data.taskonomy import (
    CITATION,
    LAYOUTS,
    LICENCE,
    QUANTITIES,
    SOURCE,
    SPLITS,
    find_views,
    read_target,
    spread,
)
from equipoise.data.taskonomy_check import check_taskonomy
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import LEVELS, DenseOutput, SegNet
from equipoise.models.unet import UNet
from equipoise.training.dense_evaluation import (
    DenseBatch,
    DenseTask,
    constant_guess,
    dense_batch,
    dense_losses,
    dense_pictures,
    evaluate_dense,
)
from equipoise.training.pictures import Picture
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Task

from .domain_options import check_least, texts
from .taskonomy_tasks import PRESETS, SCALE, TASKS

_MODELS: Mapping[str, type[MTAN | SegNet | UNet]] = {"mtan": MTAN, "segnet": SegNet, "unet": UNet}
_CHANNELS = {"depth": 1, "map": 1, "normal": 3}
_GUESSED_FROM = 200  # training images
_PICTURED = 4  # images


class Taskonomy:
    """Semantic classes, two depths, surface normals, texture edges, key points and reshading of indoor images.

    Losses over the labelled pixels of a batch: cross-entropy; mean absolute error, of depth in metres and of maps from
    0 to 1; one minus the mean dot product of normals. Metrics: mean IoU and pixel accuracy; absolute and relative error
    of depth; angles of normals; mean absolute error of maps. Data: see `equipoise.data.taskonomy`.
    Reference: A. Royer, T. Blankevoort, B. Ehteshami Bejnordi, Scalarization for Multi-Task and Multi-Domain Learning
    at Scale, NeurIPS 2023, https://arxiv.org/abs/2310.08910, uses Taskonomy for dense prediction.
    Choices: which tasks, network, size of images, losses and metrics that paper takes is not known to us; these are
    common ones. Values are not clipped, depth is not brought to a log scale. Classes are pseudo-labels of a network.

    Args:
        data: the folder that holds the images and the split file, or None for the default place, which `data` names.
        split: "tiny", "medium", "full" or "fullplus", by buildings; those of it that are in the folder are used.
        tasks: some of the seven, separated by commas; the order does not count.
        images: at most this many training images, or None for all. No draw depends on the seed of a run.
        validation: at most this many validation images, or None for all.
        test: at most this many test images, or None for all.
        side: H = W that images and labels are brought to, 2^levels at least; the files have 512.
        batch_size: images per training step and per batch of the evaluation.
        model: "mtan", SegNet with attention of each task in encoder and decoder; "segnet" or "unet", one decoder with
            a head of each task.
        width: channels of the first level, 64 in the paper of MTAN.
        levels: how often the network halves the image.
        flip: mirror about half of the training images.
        skip_bad: leave out images that lack the file of a task. Damaged files are not looked for: one is an error when
            it is read.
        workers: threads that read ahead.

    Raises:
        FileNotFoundError: if the split file or all images are missing; the message says where the data come from.
        ValueError: if the split file is not as expected, an image lacks a file, or an option is out of its range.
    """

    name: ClassVar[str] = "taskonomy"
    tasks: tuple[Task, ...] = tuple(task.task for task in TASKS)
    reference: Mapping[str, float] = SCALE
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "tiny",
        tasks: str | Sequence[str] | None = None,
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        side: int = 256,
        batch_size: int = 16,
        model: str = "mtan",
        width: int = 16,
        levels: int = LEVELS,
        flip: bool = True,
        skip_bad: bool = False,
        workers: int = 2,
    ) -> None:
        check_known("`model`", model, _MODELS)
        check_known("`split`", split, SPLITS)
        caps = {"images": images, "validation": validation, "test": test}
        check_least({**caps, "width": width, "batch_size": batch_size})
        _check_side(side, levels)
        if workers < 0:
            raise ValueError(f"`workers` should be at least 0. Found {workers}.")
        self._dense = _chosen(tasks)
        self.tasks, self.reference = _described(self._dense)
        self._network = partial(_MODELS[model], width=width, levels=levels)
        self._side, self._size, self._flip, self._workers = side, batch_size, flip, workers
        names = [task.name for task in self._dense]
        self._views = find_views(data_root(self.name, data), split, names, skip_bad=skip_bad)
        found = zip(self._views.parts.items(), caps.values(), strict=True)
        self.parts = {part: drawn(rows, most) for (part, rows), most in found}

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The chosen tasks.

        Raises:
            ValueError: on a task that there is not, or none at all.
        """
        return Description(*_described(_chosen(options.get("tasks"))))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Where the data come from, what the folder has to look like, and whether it is in the default place."""
        folder = data_root(cls.name)
        splits = [*folder.glob("train_val_test_*.csv"), *folder.glob("splits_taskonomy/train_val_test_*.csv")]
        facts: dict[str, Any] = {"available": bool(splits), "folder": str(folder)}
        if not splits:
            facts["problem"] = f"`{folder}` has no split file. Give another folder with --data."
        if not can_read():
            facts |= {"available": False, "problem": MEND}
        layouts = [layout.format(task="TASK", building="BUILDING") for layout in LAYOUTS]
        return {
            **facts,
            "source": SOURCE,
            "layout": f"{' or '.join(layouts)}, in it point_P_view_V_domain_DOMAIN.png, with rgb as a TASK too; "
            "train_val_test_tiny.csv (or medium, full, fullplus) with the columns id, train, val, test",
            "tasks": {name: quantity.domain for name, quantity in QUANTITIES.items()},
            "buildings": {split: dict(zip(PARTS, counts, strict=True)) for split, counts in SPLITS.items()},
            "check": f"equipoise data {cls.name} --data DIR",
            "licence": LICENCE,
            "citation": CITATION,
        }

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Look through a folder: see `check_taskonomy`."""
        return check_taskonomy(folder, progress)

    def preview(self) -> Preview:
        """The parts with their buildings, and what is not there."""
        views = self._views
        rows = []
        for part, own in self.parts.items():
            buildings = {views.views[row].building for row in own.tolist()}
            rows.append((part, f"{len(own):,}", f"{len(buildings)}"))
        notes = [
            f"{part}: {len(absent)} building(s) of the split have no image in the folder, such as {absent[0]}."
            for part, absent in views.absent.items()
            if absent
        ]
        if views.bad:
            images = len({file.rpartition("_domain_")[0].rpartition("/")[2] for file in views.bad})
            notes.append(
                f"{len(views.bad)} file(s) missing, for which {images} image(s) or more are left out."
            )
        return Preview(("part", "images", "buildings"), tuple(rows), tuple(notes))

    def model(self, seed: int) -> nn.Module:
        """The network of the option `model`, with an output for each task."""
        outputs = [
            DenseOutput(task.classes or _CHANNELS[task.kind], unit=task.kind == "normal")
            for task in self._dense
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network(outputs)

    def loaders(self, seed: int) -> Loaders:
        """The official parts; the seed is that of the order and of the mirroring."""
        train = SampleBatches(
            self._read,
            self.parts["train"],
            size=self._size,
            seed=seed,
            drop_last=len(self.parts["train"]) >= self._size,
            augment=_mirrored if self._flip else None,
            workers=self._workers,
        )
        return Loaders(train, self._batches(self.parts["validation"]), self._batches(self.parts["test"]))

    def losses(self, model: nn.Module, batch: DenseBatch) -> Mapping[str, Tensor]:
        """The losses of the tasks with a labelled pixel in this batch."""
        return dense_losses(self._dense, model(batch.image), batch)

    def shared(self, model: nn.Module) -> nn.Module:
        """Everything but the heads, MTAN's attention modules included."""
        assert isinstance(model, MTAN | SegNet | UNet)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[DenseBatch]) -> dict[str, float]:
        """All metrics, over all labelled pixels."""
        return evaluate_dense(self._dense, model, loader)

    def trivial(self, seed: int) -> dict[str, float]:
        """Test metrics of the best constants of at most 200 training images: class, depth, normal and value."""
        guess = constant_guess(self._dense, self._batches(drawn(self.parts["train"], _GUESSED_FROM)))
        return self.evaluate(guess, self._batches(self.parts["test"]))

    def pictures(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        """Four images of the validation part, evenly spread over it."""
        rows = self.parts["validation"]
        batch = self._read(rows[spread(len(rows), _PICTURED)])
        with torch.no_grad():
            outputs = [output.cpu() for output in model(batch.image.to(device))]
        return dense_pictures(self._dense, batch, outputs)

    def _batches(self, rows: Tensor) -> SampleBatches[DenseBatch]:
        return SampleBatches(self._read, rows, size=self._size, workers=self._workers)

    def _read(self, index: Tensor) -> DenseBatch:
        views = [self._views.views[row] for row in index.tolist()]
        images = torch.stack([self._image(self._views.file(view, "rgb")) for view in views])
        targets = {
            task.name: torch.stack(
                [read_target(self._views.file(view, task.name), task.name, self._side) for view in views]
            )
            for task in self._dense
        }
        return dense_batch(self._dense, images, targets)

    def _image(self, path: Path) -> Tensor:
        return read_image(path, size=(self._side, self._side)).float() / 255


def _mirrored(batch: DenseBatch, generator: torch.Generator) -> DenseBatch:
    targets = {"normals" if name == "normal" else name: target for name, target in batch.targets.items()}
    layers = flip_some({"image": batch.image, **targets}, generator)
    image = layers.pop("image")
    return DenseBatch(
        image, {"normal" if name == "normals" else name: t for name, t in layers.items()}, batch.labelled
    )


def _chosen(tasks: str | Sequence[str] | None) -> tuple[DenseTask, ...]:
    known = [task.name for task in TASKS]
    names = known if tasks is None else texts(tasks)
    for name in names:
        check_known("`tasks`, each of them,", name, known)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`tasks` should be different names, at least 1. Found {names}.")
    return tuple(task for task in TASKS if task.name in names)


def _described(dense: Sequence[DenseTask]) -> tuple[tuple[Task, ...], dict[str, float]]:
    tasks = tuple(task.task for task in dense)
    return tasks, {metric.name: SCALE[metric.name] for task in tasks for metric in task.metrics}


def _check_side(side: int, levels: int) -> None:
    if not 1 <= levels <= LEVELS:
        raise ValueError(f"`levels` should be from 1 to {LEVELS}. Found {levels}.")
    if side < 2**levels:
        raise ValueError(
            f"`side` should be at least {2**levels}, since the network halves it {levels} times. Found {side}."
        )
