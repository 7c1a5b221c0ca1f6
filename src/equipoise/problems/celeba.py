"""CelebA: forty binary attributes of a face, by one convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.core.names import check_known
from equipoise.data.cache import data_root
from equipoise.data.celeba import (
    ATTRIBUTES,
    CACHE,
    CITATION,
    FOLDER,
    LABELS,
    LICENCE,
    PARTITION,
    PUBLISHED,
    load_celeba,
)
from equipoise.data.images import MEND, can_read
from equipoise.models.celeba_cnn import CelebACNN, Form
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .celeba_presets import PRESETS

_EVALUATION_BATCH = 512
_WORKERS = 2


class Batch(NamedTuple):
    """b faces: images uint8 (b, 3, 64, 64), and labels bool (b, m) in the order of the tasks."""

    images: Tensor
    labels: Tensor


class CelebA:
    """The CelebA benchmark of FAMO and GO4Align, on all attributes or some of them.

    Binary cross-entropy of each attribute; metric: its F1 at a probability of 0.5, as a fraction as published,
    `F1 = 2 TP / (2 TP + FP + FN)`, and 0 where nothing is positive, neither predicted nor labelled. The official
    partition, so that the seed changes parameters and order alone; images of 64 x 64 from 0 to 1. Epochs and learning
    rates are selected by the mean F1 of the validation part, as published: the reference value of each metric is 1.
    Reference: B. Liu et al., NeurIPS 2023, https://arxiv.org/abs/2306.03792, and J. Shen et al., NeurIPS 2024,
    https://arxiv.org/abs/2404.06486, appendix B.3.
    Departures: logits in place of probabilities, see `CelebACNN`; a last training batch of one image is left out,
    since batch normalisation cannot take it. The learning rate of the `paper` preset is that of the paper, 1e-3; the
    code of FAMO has 3e-4 (`--lr 3e-4`).

    Args:
        data: the folder that holds `img_align_celeba`, `list_attr_celeba.txt` and `list_eval_partition.txt`, or None
            for the default one, where the cache is too.
        attributes: names of the tasks, in the order wanted, a list or separated by commas; None for all 40.
        images: how many to sample, in proportion from the three parts, or None for all 202,599. The sample does not
            depend on the seed of a run.
        batch_size: images per training step.
        width: channels of the first convolution, 64 as published.
        form: "code" for the 7 convolutions of the published code, "text" for the 5 of the paper.
        skip_bad: leave out images whose file is missing or damaged.
        root: the folder of the cache, or None for the default one.
        workers: threads that read ahead.
        progress: called with (done, total) while the images are decoded for the first time.

    Raises:
        FileNotFoundError: if the folder or a part of its layout is missing.
        ValueError: if a file is not as expected, an attribute has one class only in some part, or an option is out of
            its range.
    """

    name: ClassVar[str] = "celeba"
    tasks: tuple[Task, ...] = tuple(
        Task(name, (Metric(name, higher_is_better=True, unit="F1"),)) for name in ATTRIBUTES
    )
    reference: Mapping[str, float] = dict.fromkeys(ATTRIBUTES, 1.0)
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "famo": {"weight_decay": 1e-3}  # FAMO, appendix; how many groups GO4Align took is not told
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        data: str | None = None,
        attributes: Sequence[str] | None = None,
        images: int | None = None,
        batch_size: int = 256,
        width: int = 64,
        form: Form = "code",
        skip_bad: bool = False,
        root: str | None = None,
        workers: int = _WORKERS,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"`batch_size` should be at least 2. Found {batch_size}.")
        self.tasks, self.reference = _tasks(attributes)
        self._names = [task.name for task in self.tasks]
        self._shape: dict[str, Any] = {"width": width, "form": form}
        self._batch_size = batch_size
        self._workers = workers
        self.faces = load_celeba(
            data_root("celeba", data), root, images=images, skip_bad=skip_bad, progress=progress
        )
        self._labels = self.faces.labels[:, [ATTRIBUTES.index(name) for name in self._names]].contiguous()
        self._check_classes()

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that the option `attributes` gives.

        Raises:
            ValueError: on an unknown attribute, one that comes twice, or none at all.
        """
        return Description(*_tasks(options.get("attributes")))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """How to get CelebA, and where its cache is."""
        folder = data_root("celeba")
        missing = [name for name in (FOLDER, LABELS, PARTITION) if not (folder / name).exists()]
        facts: dict[str, Any] = {"available": not missing, "folder": str(folder)}
        if missing:
            facts["problem"] = f"`{folder}` has no {', '.join(missing)}. Give another folder with --data."
        if not can_read():
            facts |= {"available": False, "problem": MEND}
        facts["source"] = (
            "Researchers get it from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: img_align_celeba.zip of "
            f"Align&Cropped Images, Anno/{LABELS}, Eval/{PARTITION}."
        )
        facts["layout"] = (
            f"{FOLDER}/NUMBER.jpg, from 000001 to 202599, of 218 x 178 pixels; {LABELS}: the number of images, the "
            f"{len(ATTRIBUTES)} names, then a file and {len(ATTRIBUTES)} times -1 or 1 a line; {PARTITION}: a file "
            "and 0, 1 or 2 a line"
        )
        facts["parts"] = dict(PUBLISHED)
        facts["cache"] = f"{folder / CACHE}, of 2.5 GB" + (
            "" if (folder / CACHE).exists() else ", not made yet"
        )
        facts["check"] = "equipoise data celeba --data DIR"
        return {**facts, "licence": LICENCE, "citation": CITATION}

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Look through a folder: see `check_celeba`."""
        from equipoise.data.celeba_check import check_celeba

        return check_celeba(folder, progress)

    def preview(self) -> Preview:
        """The parts, and how many images of each show each attribute."""
        shares = {part: self._labels[rows].double().mean(0) for part, rows in self.faces.parts.items()}
        head = [("images", *(f"{len(rows)}" for rows in self.faces.parts.values()))]
        rows = [
            (name, *(f"{100 * float(share[task]):.1f} %" for share in shares.values()))
            for task, name in enumerate(self._names)
        ]
        left_out = len(self.faces.bad)
        notes = (f"{left_out} image(s) left out, whose files are missing or damaged",) if left_out else ()
        return Preview(("attribute", *shares), (*head, *rows), notes)

    def model(self, seed: int) -> nn.Module:
        """The published network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CelebACNN(tasks=len(self.tasks), **self._shape)

    def loaders(self, seed: int) -> Loaders:
        """The official partition, with training batches in the order of this seed."""
        train, *held_out = self.faces.parts.values()
        validation, test = (
            SampleBatches(self._read, part, size=_EVALUATION_BATCH, workers=self._workers)
            for part in held_out
        )
        batches = SampleBatches(
            self._read,
            train,
            size=self._batch_size,
            seed=seed,
            drop_last=len(train) % self._batch_size == 1,
            workers=self._workers,
        )
        return Loaders(batches, validation, test)

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Binary cross-entropy of each attribute."""
        targets = batch.labels.float().unbind(dim=1)
        found = zip(self._names, model(_scaled(batch.images)), targets, strict=True)
        return {name: binary_cross_entropy_with_logits(logits, target) for name, logits, target in found}

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, CelebACNN)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """F1 of each attribute, as a fraction."""
        counts = torch.zeros(2, len(self._names), dtype=torch.int64)
        for batch in loader:
            positive = torch.stack(model(_scaled(batch.images)), dim=1) > 0  # a probability above 0.5
            counts += _counts(positive, batch.labels).cpu()
        return dict(zip(self._names, _f1(counts).tolist(), strict=True))

    def trivial(self, seed: int) -> dict[str, float]:
        """Test F1 of guessing that all images have an attribute, or none, whichever is better in training."""
        always = [torch.ones_like(self._labels[rows]) for rows in self.faces.parts.values()]
        train, _, test = (self._labels[rows] for rows in self.faces.parts.values())
        better = _f1(_counts(always[0], train)) > _f1(_counts(~always[0], train))
        found = _f1(_counts(always[2] & better, test))
        return dict(zip(self._names, found.tolist(), strict=True))

    def _read(self, index: Tensor) -> Batch:
        return Batch(self.faces.pixels[index], self._labels[index])

    def _check_classes(self) -> None:
        """Refuse attributes that cannot be learnt or measured.

        Raises:
            ValueError: naming them with the part.
        """
        for part, rows in self.faces.parts.items():
            labels = self._labels[rows]
            constant = [
                name
                for name, column in zip(self._names, labels.unbind(1), strict=True)
                if column.all() or not column.any()
            ]
            if constant:
                raise ValueError(
                    f"`attributes` should be ones that some images of the {part} part have, and some have not. Found "
                    f"only one kind of {', '.join(constant)} in {len(rows)} images: take more images, or leave these "
                    "attributes out."
                )


def _tasks(attributes: Sequence[str] | None) -> tuple[tuple[Task, ...], dict[str, float]]:
    """The tasks of some attributes, and the reference values of their metrics."""
    if attributes is None:
        return CelebA.tasks, dict(CelebA.reference)
    names = (
        [name.strip() for name in attributes.split(",")] if isinstance(attributes, str) else list(attributes)
    )
    for name in names:
        check_known("`attributes`, each of them,", name, ATTRIBUTES)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`attributes` should be different names, at least 1. Found {names}.")
    known = {task.name: task for task in CelebA.tasks}
    return tuple(known[name] for name in names), dict.fromkeys(names, 1.0)


def _scaled(images: Tensor) -> Tensor:
    """From 0 to 1, on the device of the images: a byte a value is a quarter of the transfer."""
    return images.float() / 255


def _counts(positive: Tensor, labels: Tensor) -> Tensor:
    """Twice the true positives, and all predicted and labelled positives (2, m), of bool (b, m)."""
    return torch.stack([2 * (positive & labels).sum(0), positive.sum(0) + labels.sum(0)])


def _f1(counts: Tensor) -> Tensor:
    """F1 (m,) of counts (2, m), 0 where there is nothing to divide by."""
    return counts[0].double() / counts[1].clamp(min=1)
