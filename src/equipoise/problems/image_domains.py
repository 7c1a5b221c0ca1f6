"""What problems with one classifier of images from several domains have in common: batches, losses, metrics."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.names import check_known
from equipoise.training.domains import Domain, Domains, OneByOne
from equipoise.training.labels import LabelledLosses
from equipoise.training.problem import Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .domain_options import check_least, probabilities, texts

_EVALUATION_BATCH = 500
_MIXINGS = ("together", "sampled")


class Batch(NamedTuple):
    """b images (b, channels, side, side) of one domain, and their classes (b,), int64.

    The images are floats, or bytes where the problem turns them into floats on the device.
    """

    images: Tensor
    labels: Tensor


DomainBatches = Mapping[str, Batch]
"""Some images of some of the domains, by the name of the domain."""


@dataclass(frozen=True)
class Mixture:
    """How the batches of several domains make training steps.

    Args:
        batch_size: images of a domain in a training step.
        mixing: "together" for a batch of every domain in each step, or "sampled" for a batch of one domain.
        weights: how likely each domain is to be drawn (m,), or None for in proportion to their batches.
        samples: training images in an epoch, those of all domains added up; None for as many as there are.
    """

    batch_size: int
    mixing: str
    weights: Sequence[float] | None
    samples: int | None

    def told(self) -> str:
        """In words, as the end of a sentence on what a step has images of."""
        if self.mixing == "together":
            return "every domain"
        by = (
            "in proportion to their batches" if self.weights is None else f"with probabilities {self.weights}"
        )
        return f"one domain; domains are drawn {by}"


def read_mixture(
    names: Sequence[str],
    *,
    batch_size: int,
    mixing: str,
    weights: str | float | Sequence[float] | None,
    samples: int | None,
) -> Mixture:
    """The mixture of these domains that the options of a problem ask for.

    Args:
        names: of the m domains.
        batch_size: see `Mixture`.
        mixing: see `Mixture`.
        weights: as users write them, see `probabilities`.
        samples: see `Mixture`.

    Raises:
        ValueError: if one is out of its range.
    """
    check_least({"batch_size": batch_size, "samples": samples})
    check_known("`mixing`", mixing, _MIXINGS)
    return Mixture(batch_size, mixing, probabilities(weights, names, mixing), samples)


class ImageDomains(ABC):
    """One label space, several domains with batches of their own, one network with one head for all of them.

    The tasks of the balancing methods are the domains, and all parameters are shared. Loss: cross-entropy of each
    domain. Metric: its accuracy in percent. A single-task run reads and forwards the images of its own domain alone.

    Args:
        names: of the domains, in the order wanted.
        known: names of all domains that there are: the order of a domain's batches depends on its place among them.
        mixture: how batches make steps.

    Attributes:
        separate: each task has images of its own; see `Separate`.
        workers: threads that read ahead.
    """

    separate: ClassVar[bool] = True
    workers: int = 0

    def __init__(self, names: Sequence[str], known: Sequence[str], mixture: Mixture) -> None:
        self._names, self._known, self._mixture = list(names), list(known), mixture

    @abstractmethod
    def labels(self, domain: str, part: int) -> Tensor:
        """The classes (n,), int64, of a domain's training (0), validation (1) or test (2) part."""

    @abstractmethod
    def read(self, domain: str, part: int, index: Tensor) -> Batch:
        """Some images of a part, by their numbers in it (b,)."""

    def inputs(self, images: Tensor) -> Tensor:
        """What the network takes, of the images of a batch."""
        return images

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A training batch as it is trained on."""
        return batch

    def loaders(self, seed: int) -> Loaders:
        """The same images for every seed, in an order of its own for training."""
        mixture = self._mixture
        weights = None
        if mixture.weights is not None:
            weights = dict(zip(self._names, mixture.weights, strict=True))
        train = {
            name: Domain(
                self._batches(name, 0, seed * len(self._known) + self._known.index(name)),
                len(self.labels(name, 0)),
                mixture.batch_size,
            )
            for name in self._names
        }
        together = mixture.mixing == "together"
        mixed = Domains(train, seed=seed, weights=weights, together=together, samples=mixture.samples)
        held_out = (OneByOne({name: self._batches(name, part) for name in self._names}) for part in (1, 2))
        return Loaders(mixed, *held_out)

    def reweighted(self, weights: Sequence[float]) -> Self:
        """The same problem, with its images, whose domains are drawn with other probabilities.

        Raises:
            ValueError: if they are not one for each domain, or its batches have all domains together.
        """
        mixture = self._mixture
        found = copy.copy(self)
        chosen = probabilities(weights, self._names, mixture.mixing)
        found._mixture = replace(mixture, weights=chosen)
        return found

    def _batches(self, name: str, part: int, seed: int = 0) -> SampleBatches[Batch]:
        """The batches of one domain's training, validation or test part."""
        total, size = len(self.labels(name, part)), self._mixture.batch_size
        if not total:
            which = ("training", "validation", "test")[part]
            raise ValueError(f"The domain {name!r} should have at least 1 {which} image. Found none.")
        return SampleBatches(
            lambda index: self.read(name, part, index),
            torch.arange(total),
            size=_EVALUATION_BATCH if part else size,
            seed=seed,
            drop_last=part == 0 and total >= size,
            augment=self.augmented,
            workers=self.workers,
        )

    def losses(self, model: nn.Module, batch: DomainBatches) -> Mapping[str, Tensor]:
        """Cross-entropy of each domain that the batch has images of, from one forward pass over all of them."""
        counts = {name: len(part.labels) for name, part in batch.items()}
        images = torch.cat([part.images for part in batch.values()])
        logits = model(self.inputs(images)).split(list(counts.values()))
        found = zip(batch.items(), logits, strict=True)
        losses = {name: functional.cross_entropy(own, part.labels) for (name, part), own in found}
        return LabelledLosses(losses, counts)

    def shared(self, model: nn.Module) -> nn.Module:
        """The whole network, its head included: every domain reaches all of it."""
        return model

    def evaluate(self, model: nn.Module, loader: Iterable[DomainBatches]) -> dict[str, float]:
        """Accuracy in percent, of each domain that the loader has."""
        right, images = dict.fromkeys(self._names, 0), dict.fromkeys(self._names, 0)
        for batch in loader:
            for name, part in batch.items():
                found = model(self.inputs(part.images)).argmax(dim=1)
                right[name] += int((found == part.labels).sum())
                images[name] += len(part.labels)
        return {accuracy(name): 100 * right[name] / images[name] for name in images if images[name]}

    def trivial(self, seed: int) -> dict[str, float]:
        """Test accuracy of the class that is most frequent among the training images of the domain."""
        found = {}
        for name in self._names:
            guess = self.labels(name, 0).bincount().argmax()
            found[accuracy(name)] = 100 * float((self.labels(name, 2) == guess).double().mean())
        return found


def accuracy(domain: str) -> str:
    """The name of the metric of a domain."""
    return f"{domain} accuracy"


def domain_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    """A task for each domain."""
    return tuple(Task(name, (Metric(accuracy(name), higher_is_better=True, unit="%"),)) for name in names)


def full_marks(names: Sequence[str]) -> dict[str, float]:
    """The reference value of each domain's accuracy."""
    return {accuracy(name): 100.0 for name in names}


def chosen_domains(domains: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The domains that the option `domains` names, a list or separated by commas; None for all that are known.

    Raises:
        ValueError: on an unknown domain, one that comes twice, or none at all.
    """
    names = list(known) if domains is None else texts(domains)
    for name in names:
        check_known("`domains`, each of them,", name, known)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`domains` should be different names, at least 1. Found {names}.")
    return names
