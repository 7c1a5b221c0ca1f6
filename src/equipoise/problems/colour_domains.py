"""What problems with colour images from several domains share: network, augmentation, and a look at the data."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equipoise.data.colour_domain import PARTS, ColourDomain
from equipoise.data.image_augment import crop_and_flip
from equipoise.training.problem import Preview
from equipoise.training.task import Task

from .domain_network import ImageShape, network, network_sizes
from .domain_options import check_least
from .image_domains import Batch, ImageDomains, Mixture, domain_tasks, full_marks

SIZES: Mapping[str, Mapping[str, int]] = {
    "resnet": {"width": 16, "depth": 26},
    "vit": {"width": 48, "depth": 3, "patch": 4},
}
"""Network -> the sizes that it has, with their defaults."""
_SMALL_SIDE = 64  # up to which a ResNet keeps the size of the image in its first layer


@dataclass(frozen=True)
class Setup:
    """What images of several domains go through.

    Args:
        shape: of the images.
        model: "resnet" or "vit".
        sizes: of the network.
        crop: pixels that training images are moved by at most; see `crop_and_flip`.
        flip: whether to mirror about half of the training images.
        workers: threads that read ahead.
    """

    shape: ImageShape
    model: str
    sizes: Mapping[str, int]
    crop: int
    flip: bool
    workers: int

    def network(self, classes: int) -> nn.Module:
        """A network with one head."""
        return network(self.model, self.sizes, self.shape, classes)


def read_setup(
    *, side: int, model: str, sizes: Mapping[str, int | None], crop: int, flip: bool, workers: int
) -> Setup:
    """The setup that the options of a problem ask for; see `Setup`.

    Args:
        side: H = W of the images.
        model: "resnet" or "vit".
        sizes: `width`, `depth` and `patch`, or None for the default.
        crop: see `Setup`.
        flip: see `Setup`.
        workers: see `Setup`.

    Raises:
        ValueError: if one is out of its range.
    """
    check_least({"side": side, "patch": sizes["patch"]})
    for name, number in {"crop": crop, "workers": workers}.items():
        if number < 0:
            raise ValueError(f"`{name}` should be at least 0. Found {number}.")
    chosen = network_sizes(model, sizes, SIZES)
    setup = Setup(ImageShape(side, 3, side <= _SMALL_SIDE), model, chosen, crop, flip, workers)
    with torch.device("meta"):
        setup.network(1)  # says at once what is wrong with these sizes
    return setup


class ColourDomains(ImageDomains, ABC):
    """Colour images of several domains, kept as bytes, augmented batch by batch, from -1 to 1 in the network.

    A value v from 0 to 255 becomes v / 127.5 - 1, in all domains alike. Augmentation is drawn from a stream of each
    batch of each epoch, so that neither workers nor a resume change it. On batch normalisation with one domain a batch,
    see `equipoise.problems.digits.Digits`: "vit" has none.

    Args:
        domains: by name, in the order wanted.
        known: names of all domains that there are; see `ImageDomains`.
        classes: names of the classes of all domains.
        mixture: how batches make steps.
        setup: network and augmentation.
    """

    def __init__(
        self,
        domains: Mapping[str, ColourDomain],
        known: Sequence[str],
        classes: Sequence[str],
        mixture: Mixture,
        setup: Setup,
    ) -> None:
        names = list(domains)
        super().__init__(names, known, mixture)
        self.tasks: tuple[Task, ...] = domain_tasks(names)
        self.reference: Mapping[str, float] = full_marks(names)
        self.domains, self.classes, self.workers = domains, tuple(classes), setup.workers
        self._setup = setup

    def model(self, seed: int) -> nn.Module:
        """The network that the option `model` names, with one head for the classes of all domains."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._setup.network(len(self.classes))

    def labels(self, domain: str, part: int) -> Tensor:
        """The classes of a part."""
        found = self.domains[domain]
        return found.labels[found.parts[PARTS[part]]]

    def read(self, domain: str, part: int, index: Tensor) -> Batch:
        """Images as bytes: a quarter of what has to be moved to a GPU."""
        found = self.domains[domain]
        rows = found.parts[PARTS[part]][index]
        return Batch(found.pixels[rows], found.labels[rows])

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A training batch, moved and mirrored at random as the options say."""
        if not (self._setup.crop or self._setup.flip):
            return batch
        images = crop_and_flip(batch.images, generator, crop=self._setup.crop, flip=self._setup.flip)
        return Batch(images, batch.labels)

    def inputs(self, images: Tensor) -> Tensor:
        """Values from -1 to 1."""
        return images.float() / 127.5 - 1

    def preview(self) -> Preview:
        """The images of each domain in each part, and how batches are made of them."""
        rows = []
        for name, domain in self.domains.items():
            counts = self.labels(name, 0).bincount(minlength=len(self.classes)).tolist()
            sizes = (f"{len(own):,}" for own in domain.parts.values())
            rows.append((name, *sizes, f"{min(counts):,} to {max(counts):,}"))
        side, _, _ = self._setup.shape
        notes = [
            f"{side} x {side} pixels, {len(self.classes)} classes.",
            f"A step has a batch of {self._mixture.batch_size} images of {self._mixture.told()}.",
        ]
        notes += [
            f"{name}: {len(domain.bad)} image(s) left out, whose files are missing or damaged."
            for name, domain in self.domains.items()
            if domain.bad
        ]
        header = ("domain", "training", "validation", "test", "training images of a class")
        return Preview(header, tuple(rows), tuple(notes))
