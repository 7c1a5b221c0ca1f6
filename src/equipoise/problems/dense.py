"""What NYUv2 and CityScapes have in common: published folders, SegNet or MTAN, and the two protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from equipoise.data.cache import data_root
from equipoise.data.dense_augment import DepthKind, zoom_and_flip
from equipoise.data.dense_check import check_folder
from equipoise.data.dense_folder import PARTS, DenseFolder, Layout
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import DenseOutput, SegNet
from equipoise.training.dense_evaluation import (
    DenseBatch,
    DenseTask,
    constant_guess,
    dense_batch,
    dense_losses,
    dense_pictures,
    evaluate_dense,
)
from equipoise.training.dense_metrics import Average
from equipoise.training.labels import LabelledLosses
from equipoise.training.pictures import Picture
from equipoise.training.problem import Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Task

Protocol = Literal["paper", "clean"]

MODELS: Mapping[str, type[MTAN] | type[SegNet]] = {"mtan": MTAN, "segnet": SegNet}
QUANTITY = {"segmentation": "label", "depth": "depth", "normal": "normal"}  # of a folder, by task
SPLIT_SEED = 0  # of the clean validation part: the same in all runs
GUESSED_FROM = 100  # training images
PICTURED = 4  # images


class DenseBenchmark:
    """A benchmark of dense prediction on a published folder.

    Protocols: "paper" tests on the published test part after every epoch, has no validation part, and takes metrics of
    depth and normals as means over batches. "clean" splits a validation part off the training part, the same in every
    run, selects on it, reads the test part once, and takes metrics over all pixels. `docs/protocols.md` lists what the
    published code does otherwise.

    Samples are read from the files whenever they are needed: they are memory-mapped, and the system keeps what fits.

    Args:
        data: the folder that holds `train` and `val`, or None for the default place, which `data` names.
        skip_bad: leave samples with a bad file out; all files are then read beforehand.
        model: "mtan" (published) or "segnet".
        width: channels of the first level of the network, 64 in the papers.
        batch_size: images per training step and per batch of the evaluation, or None for the published number.
        workers: threads that read ahead.
        protocol: "paper" or "clean".
        validation: share of the training part that the clean protocol validates on.
        augment: zoom and flip training images.
        images: use no more of each part, evenly spread over it; None for all.
        progress: called with (done, total) while the files are looked at.

    Raises:
        FileNotFoundError: if there is no such folder; the message says where the data come from.
        ValueError: if an option is out of its range, or files are bad (unless `skip_bad`).
    """

    name: ClassVar[str]
    layout: ClassVar[Layout]
    dense: ClassVar[tuple[DenseTask, ...]]
    outputs: ClassVar[tuple[DenseOutput, ...]]
    zoomed: ClassVar[Mapping[Protocol, DepthKind]]
    published_batch: ClassVar[int]
    source: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    reference: ClassVar[Mapping[str, float]]
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(
        self,
        *,
        data: str | None = None,
        skip_bad: bool = False,
        model: str = "mtan",
        width: int = 64,
        batch_size: int | None = None,
        workers: int = 2,
        protocol: str = "paper",
        validation: float = 0.1,
        augment: bool = True,
        images: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._size = self.published_batch if batch_size is None else batch_size
        _check(model, width, self._size, protocol, validation, images)
        self._model, self._width, self._workers, self._augment = MODELS[model], width, workers, augment
        self._protocol: Protocol = "paper" if protocol == "paper" else "clean"
        self._average: Average = "batches" if protocol == "paper" else "pixels"
        folder = self._folder(data)
        self.train_files, self.test_files = (
            DenseFolder(folder, self.layout, part, skip_bad=skip_bad, progress=progress) for part in PARTS
        )
        self.test = _spread(len(self.test_files), images)
        self.train = _spread(len(self.train_files), images)
        self.validation = self.test
        if self._protocol == "clean":
            self.train, self.validation = _split(self.train, validation)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Where the data come from, what the folder has to look like, and whether it is in the default place."""
        folder = data_root(cls.name)
        found = all((folder / part).is_dir() for part in PARTS)
        facts: dict[str, Any] = {"available": found, "folder": str(folder)}
        if not found:
            facts["problem"] = f"`{folder}` has no {' and '.join(PARTS)}. Give another folder with --data."
        height, width = cls.layout.size
        facts["source"] = cls.source
        facts["layout"] = (
            f"{'|'.join(PARTS)}/{'|'.join(cls.layout.folders.values())}/NUMBER.npy, numbered from 0; "
            f"{cls.layout.samples['train']} and {cls.layout.samples['val']} samples of {height} x {width} pixels, "
            "channels last"
        )
        facts["values"] = cls._values()
        facts["check"] = f"equipoise data {cls.name} --data DIR"
        return {**facts, "licence": cls.licence, "citation": cls.citation}

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Read a whole folder: counts, shapes, value ranges, what is missing or bad. See `check_folder`."""
        return check_folder(folder, cls.layout, progress=progress)

    def preview(self) -> Preview:
        """How many images each part has, and what was left out."""
        files = {"train": self.train_files, "val": self.test_files}
        parts = {"training": ("train", self.train), "validation": ("train", self.validation)}
        if self._protocol == "paper":
            parts["validation"] = ("val", self.validation)
        parts["test"] = ("val", self.test)
        notes = [
            f"{part}: {len(found) + found.skipped} samples; published are {self.layout.samples[part]}."
            for part, found in files.items()
            if len(found) + found.skipped != self.layout.samples[part]
        ]
        notes += [
            f"{part}: {found.skipped} samples with a bad file are left out ({', '.join(found.bad)})."
            for part, found in files.items()
            if found.skipped
        ]
        if self._protocol == "paper":
            notes.append("No validation part, as published: the test part is looked at after every epoch.")
        rows = tuple((name, folder, str(len(index))) for name, (folder, index) in parts.items())
        return Preview(("part", "folder", "images"), rows, tuple(notes))

    def model(self, seed: int) -> nn.Module:
        """The network with a head for each task."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._model(self.outputs, self._width)

    def loaders(self, seed: int) -> Loaders:
        """The parts of the protocol, which do not depend on the seed; the order of the training batches does.

        The last batch of an epoch may be smaller, as published: batch normalisation is over pixels too.
        """
        train = SampleBatches(
            lambda index: self._read(self.train_files, index),
            self.train,
            size=self._size,
            seed=seed,
            augment=self._augmented if self._augment else None,
            workers=self._workers,
        )
        test = self._batches(self.test_files, self.test)
        if self._protocol == "paper":
            return Loaders(train, test, test)
        return Loaders(train, self._batches(self.train_files, self.validation), test)

    def losses(self, model: nn.Module, batch: DenseBatch) -> LabelledLosses:
        """Cross-entropy, absolute error and one minus dot product, of the tasks with a labelled pixel in this batch."""
        return dense_losses(self.dense, model(batch.image), batch)

    def shared(self, model: nn.Module) -> nn.Module:
        """Everything but the heads, attention included, as published."""
        assert isinstance(model, (MTAN, SegNet))
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[DenseBatch]) -> dict[str, float]:
        """All metrics of all tasks."""
        return evaluate_dense(self.dense, model, loader, self._average)

    def trivial(self, seed: int) -> dict[str, float]:
        """Test metrics of the best constants of at most 100 training images: class, depth and normal.

        See `equipoise.training.dense_evaluation.constant_guess`. They do not depend on the seed.
        """
        some = self.train[_spread(len(self.train), GUESSED_FROM)]
        guess = constant_guess(self.dense, self._batches(self.train_files, some))
        return self.evaluate(guess, self._batches(self.test_files, self.test))

    def pictures(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        """Four images of the validation part, evenly spread over it."""
        files = self.test_files if self._protocol == "paper" else self.train_files
        batch = self._read(files, self.validation[_spread(len(self.validation), PICTURED)])
        with torch.no_grad():
            outputs = [output.cpu() for output in model(batch.image.to(device))]
        return dense_pictures(self.dense, batch, outputs)

    @classmethod
    def _values(cls) -> str:
        depth = "inverse depth" if cls.layout.inverse_depth else "depth"
        normal = "; unit normals, 0 where there is none" if "normal" in cls.layout.folders else ""
        return (
            f"images from 0 to 1; labels from 0 to {cls.layout.classes - 1}, -1 unlabelled; {depth} above 0, "
            f"0 where there is none{normal}"
        )

    @classmethod
    def _folder(cls, data: str | None) -> Path:
        folder = data_root(cls.name, data)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"`data` should be the folder of {cls.layout.name} that holds {' and '.join(PARTS)}. Found no folder "
                f"`{folder}`. {cls.source} Then give the folder with --data; `equipoise data {cls.name}` says what "
                "it has to look like."
            )
        return folder

    def _batches(self, files: DenseFolder, part: Tensor) -> SampleBatches[DenseBatch]:
        return SampleBatches(
            lambda index: self._read(files, index), part, size=self._size, workers=self._workers
        )

    def _read(self, files: DenseFolder, index: Tensor) -> DenseBatch:
        samples = [files[i] for i in index.tolist()]
        return self._batch({name: torch.stack([sample[name] for sample in samples]) for name in samples[0]})

    def _batch(self, quantities: Mapping[str, Tensor]) -> DenseBatch:
        targets = {task.name: quantities[QUANTITY[task.name]] for task in self.dense}
        return dense_batch(self.dense, quantities["image"], targets)

    def _augmented(self, batch: DenseBatch, generator: torch.Generator) -> DenseBatch:
        quantities = {"image": batch.image}
        quantities |= {QUANTITY[name]: target for name, target in batch.targets.items()}
        zoomed = zoom_and_flip(quantities, generator=generator, depth=self.zoomed[self._protocol])
        return self._batch(zoomed)


def _spread(total: int, most: int | None) -> Tensor:
    """At most so many of `total` numbers from 0, evenly spread."""
    if most is None or most >= total:
        return torch.arange(total)
    return torch.arange(most) * total // most


def _split(part: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Training and validation part, each in ascending order."""
    count = max(1, round(share * len(part)))
    if count >= len(part):
        raise ValueError(
            f"`train` should hold more samples than the {count} of the validation part. Found {len(part)}."
        )
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return part[order[count:].sort().values], part[order[:count].sort().values]


def _check(
    model: str, width: int, batch_size: int, protocol: str, validation: float, images: int | None
) -> None:
    for name, word, words in (("model", model, MODELS), ("protocol", protocol, get_args(Protocol))):
        if word not in words:
            raise ValueError(f"`{name}` should be one of {', '.join(words)}. Found {word!r}.")
    if not 0 < validation < 1:
        raise ValueError(f"`validation` should be between 0 and 1. Found {validation:g}.")
    for name, number in (("width", width), ("batch_size", batch_size), ("images", images)):
        if number is not None and number < 1:
            raise ValueError(f"`{name}` should be at least 1. Found {number}.")
