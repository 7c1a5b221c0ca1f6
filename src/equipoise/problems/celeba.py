"""CelebA: forty binary attributes of a face, by one network: convolutional as published, or a transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

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
from equipoise.models.celeba_cnn import CelebACNN
from equipoise.models.resnet import HardSharing
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Task

from .celeba_metrics import attribute_tasks, counts, values
from .celeba_network import FaceNetwork
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

    With model="vit" and metric="accuracy" it is the CelebA of A. Royer et al., NeurIPS 2023,
    https://arxiv.org/abs/2310.08910, as far as that is known to us; see the preset `vit` and `docs/protocols.md`.

    Args:
        data: the folder that holds `img_align_celeba`, `list_attr_celeba.txt` and `list_eval_partition.txt`, or None
            for the default one, where the cache is too.
        attributes: names of the tasks, in the order wanted, a list or separated by commas; None for all 40.
        images: how many to sample, in proportion from the three parts, or None for all 202,599. The sample does not
            depend on the seed of a run.
        batch_size: images per training step.
        model: "cnn" as published, "vit" or "resnet".
        width: channels of the first convolution, 64 by default as published (cnn) and in a full network (resnet); of
            all tokens, 384 as in ViT-S (vit).
        depth: blocks, 12 by default as in ViT-S (vit); 26 (resnet), see `ResNet`.
        patch: H = W of the patches, 4 (vit).
        form: of the cnn: "code" for the 7 convolutions of the published code, which is the default, "text" for the 5 of
            the paper.
        metric: "f1", or "accuracy" in percent.
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
    tasks: tuple[Task, ...] = attribute_tasks(None, "f1").tasks
    reference: Mapping[str, float] = attribute_tasks(None, "f1").reference
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
        model: str = "cnn",
        width: int | None = None,
        depth: int | None = None,
        patch: int | None = None,
        form: str | None = None,
        metric: str = "f1",
        skip_bad: bool = False,
        root: str | None = None,
        workers: int = _WORKERS,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"`batch_size` should be at least 2. Found {batch_size}.")
        described = attribute_tasks(attributes, metric)
        self.tasks, self.reference, self._metric = described.tasks, described.reference, metric
        self._names = [task.name for task in self.tasks]
        self._network = FaceNetwork(model, {"width": width, "depth": depth, "patch": patch}, form)
        with torch.device("meta"):
            self._network.build(1)  # says at once what is wrong with these sizes
        self._batch_size = batch_size
        self._workers = workers
        self.faces = load_celeba(
            data_root("celeba", data), root, images=images, skip_bad=skip_bad, progress=progress
        )
        self._labels = self.faces.labels[:, [ATTRIBUTES.index(name) for name in self._names]].contiguous()
        self._check_classes()

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that the options `attributes` and `metric` give.

        Raises:
            ValueError: on an unknown attribute or metric, one that comes twice, or none at all.
        """
        return attribute_tasks(options.get("attributes"), options.get("metric", "f1"))

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
        """The network that the option `model` names."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network.build(len(self.tasks))

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
        return {
            name: binary_cross_entropy_with_logits(logits.flatten(), target) for name, logits, target in found
        }

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, CelebACNN | HardSharing)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """The metric of each attribute."""
        total = torch.zeros(2, len(self._names), dtype=torch.int64)
        for batch in loader:
            logits = [one.flatten() for one in model(_scaled(batch.images))]
            positive = torch.stack(logits, dim=1) > 0  # a probability above 0.5
            total += counts(self._metric, positive, batch.labels).cpu()
        return self._named(total)

    def trivial(self, seed: int) -> dict[str, float]:
        """The test metric of guessing that all images have an attribute, or none, whichever is better in training."""
        always = [torch.ones_like(self._labels[rows]) for rows in self.faces.parts.values()]
        train, _, test = (self._labels[rows] for rows in self.faces.parts.values())
        all_of_them, none = (
            values(self._metric, counts(self._metric, guess, train)) for guess in (always[0], ~always[0])
        )
        return self._named(counts(self._metric, always[2] & (all_of_them > none), test))

    def _named(self, total: Tensor) -> dict[str, float]:
        """The metric of each attribute by its name, of counts (2, m)."""
        return dict(zip(self.reference, values(self._metric, total).tolist(), strict=True))

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


def _scaled(images: Tensor) -> Tensor:
    """From 0 to 1, on the device of the images: a byte a value is a quarter of the transfer."""
    return images.float() / 255
