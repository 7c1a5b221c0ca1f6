"""Training batches of several domains or tasks, each with a loader of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.names import check_known

from .problem import TrainLoader
from .sampling import SampleBatches
from .setup import stream_seed


@dataclass(frozen=True)
class Domain:
    """The training part of one domain, or of the samples that one task has labels for.

    Args:
        loader: its batches, shuffled by a seed of its own.
        samples: how many it has.
        batch_size: samples in a batch; the last one of an epoch may be smaller, or be left out.
    """

    loader: TrainLoader
    samples: int
    batch_size: int


class Domains:
    """One loader out of several: batches of a domain drawn at random, or of all domains in each step.

    A batch is a mapping from the names of the domains in it to their batches. A problem's `losses` returns the
    losses of those domains only:

        def losses(self, model, batch):
            return {name: self.loss_of(model, name, part) for name, part in batch.items()}

    Every domain goes through its loader from end to end, then again in the order of the loader's next epoch,
    wherever the epochs of the whole begin and end. So all of its samples are seen once before any is seen twice,
    and a short domain is seen more often than a long one where it is drawn as often.

    An epoch is a fixed number of batches: as many as show `samples` samples, where domains are drawn in expectation and
    for weights in proportion to their batches. It does not depend on the weights.
    Which domain comes when is a function of the seed and the epoch alone. A run that trains some of the domains only,
    such as a single-task run, gets `only` these: the same batches in the same order, and none of the others is read.

    Args:
        domains: by name.
        seed: of the draws.
        weights: how likely each domain is to be drawn, above 0, in any unit; by default in proportion to its number of
            batches, so that each sample of any domain is seen as often as any other.
        together: a batch of every domain in each step, in place of draws.
        samples: of an epoch; by default those of all domains.

    Raises:
        ValueError: if there is no domain, one has no batch or another number of batches than its samples make, if the
            weights are not of the domains or are given with `together`, or if `samples` is below 1.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        *,
        seed: int,
        weights: Mapping[str, float] | None = None,
        together: bool = False,
        samples: int | None = None,
    ) -> None:
        _check_domains(domains)
        _check_weights(domains, weights, together)
        if samples is not None and samples < 1:
            raise ValueError(f"`samples` should be at least 1. Found {samples}.")
        self.names = list(domains)
        self._own = list(range(len(self.names)))
        self._domains = domains
        self.samples = samples or sum(domain.samples for domain in domains.values())
        self._loaders = [domain.loader for domain in domains.values()]
        self._seed = seed
        self._together = together
        self._given = weights
        sizes = torch.tensor([len(loader) for loader in self._loaders], dtype=torch.float64)
        chosen = sizes.tolist() if weights is None else [float(weights[name]) for name in self.names]
        given = torch.tensor(chosen, dtype=torch.float64)
        self.weights = given / given.sum()
        shown = torch.tensor([_shown(domain) for domain in domains.values()], dtype=torch.float64)
        self._shown: list[float] = (shown / sizes).tolist()  # samples of a batch, on average
        # Samples of a step, whatever the weights: runs with other weights have epochs as long.
        expected = float((shown / sizes).sum() if together else shown.sum() / sizes.sum())
        self._length = max(math.ceil(self.samples / expected - 1e-9), 1)
        self._before = [
            torch.zeros(len(self.names), dtype=torch.int64)
        ]  # batches of each domain before each epoch

    @property
    def draws(self) -> bool:
        """Whether it is left to chance which domains an epoch shows."""
        return not self._together

    @property
    def share(self) -> float:
        """Samples of a batch that is not empty, relative to those of a batch of all domains; 1 if none is left out.

        With the samples s_i of a batch of domain i, on average, and the domains D that are not left out:
            together: sum over D of s_i / sum of s_i,
            drawn with probabilities p_i: (sum over D of p_i s_i / sum over D of p_i) / sum of p_i s_i.
        """
        if len(self._own) == len(self.names):
            return 1
        weights: list[float] = [1.0] * len(self.names) if self._together else self.weights.tolist()
        parts = [weight * shown for weight, shown in zip(weights, self._shown, strict=True)]
        chance = 1.0 if self._together else sum(weights[i] for i in self._own)
        return sum(parts[i] for i in self._own) / chance / sum(parts)

    def only(self, names: Collection[str]) -> Domains:
        """The same epochs with the batches of these domains alone, in the same order.

        With `together`, a batch has these domains only. Where domains are drawn, it is empty, `{}`, when it is the turn
        of another one. Epochs have as many batches as before, so that schedules that count them stay the same.

        Raises:
            ValueError: on a name that is not of a domain.
        """
        for name in names:
            check_known("`names`, each of them,", name, self.names)
        found = copy.copy(self)
        found._own = [i for i, name in enumerate(self.names) if name in names]
        return found

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self._length

    def epoch(self, number: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of epoch `number` (from 1) from the `start`-th on, without computing those before it."""
        used = self._used(number)
        if self._together:
            streams = {self.names[i]: self._stream(i, int(used[i]) + start) for i in self._own}
            for _ in range(start, self._length):
                yield {name: next(stream) for name, stream in streams.items()}
            return
        draws = self._draws(number)
        used = used + torch.bincount(draws[:start], minlength=len(self.names))
        drawn = {i: self._stream(i, int(used[i])) for i in self._own}
        for i in draws[start:].tolist():
            yield {self.names[i]: next(drawn[i])} if i in drawn else {}

    def first(self, count: int) -> list[dict[str, Any]]:
        """Each with a batch of every domain: their first `count` batches, whatever their weights."""
        streams = {self.names[i]: self._stream(i, 0) for i in self._own}
        return [{name: next(stream) for name, stream in streams.items()} for _ in range(count)]

    def split(self, fraction: float, seed: int) -> tuple[Domains, OneByOne]:
        """The same with this fraction of each domain's samples, and the rest, one domain after the other.

        Sampling weights that were left out stay in proportion to the domains' sizes. An epoch has this fraction of its
        samples too.

        Raises:
            ValueError: if the loader of a domain is not `SampleBatches`, or cannot be split.
        """
        kept, rest = {}, {}
        for name, domain in self._domains.items():
            loader = domain.loader
            if not isinstance(loader, SampleBatches):
                raise ValueError(
                    f"The loader of {name!r} should be SampleBatches to be split. Found {type(loader).__name__}."
                )
            try:
                first, rest[name] = loader.split(fraction, stream_seed(seed, f"split of {name}"))
            except ValueError as error:
                raise ValueError(f"The samples of {name!r} cannot be split. {error}") from error
            kept[name] = Domain(first, len(first.part), domain.batch_size)
        samples = max(round(fraction * self.samples), 1)
        mixed = Domains(kept, seed=self._seed, weights=self._given, together=self._together, samples=samples)
        own = [self.names[i] for i in self._own]
        return mixed.only(own), OneByOne(rest).only(own)

    def _draws(self, number: int) -> Tensor:
        """Which domain each batch of an epoch is of."""
        generator = torch.Generator().manual_seed(stream_seed(self._seed, f"domains of epoch {number}"))
        return torch.multinomial(self.weights, self._length, replacement=True, generator=generator)

    def _used(self, number: int) -> Tensor:
        """Batches of each domain before an epoch."""
        if self._together:
            return torch.full((len(self.names),), (number - 1) * self._length)
        while len(self._before) < number:
            draws = self._draws(len(self._before))
            self._before.append(self._before[-1] + torch.bincount(draws, minlength=len(self.names)))
        return self._before[number - 1]

    def _stream(self, domain: int, used: int) -> Iterator[Any]:
        """The batches of one domain without end, from the `used`-th on."""
        loader = self._loaders[domain]
        epoch, start = used // len(loader) + 1, used % len(loader)
        while True:
            yield from loader.epoch(epoch, start)
            epoch, start = epoch + 1, 0


class OneByOne:
    """All batches of one domain after the other, each as a mapping from the domain to the batch.

    Args:
        domains: the batches of each, by name.
    """

    def __init__(self, domains: Mapping[str, Iterable[Any]]) -> None:
        self._domains = domains

    @property
    def names(self) -> list[str]:
        """Of the domains."""
        return list(self._domains)

    def only(self, names: Collection[str]) -> OneByOne:
        """The batches of these domains alone."""
        return OneByOne({name: batches for name, batches in self._domains.items() if name in names})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One pass over all of them."""
        for name, batches in self._domains.items():
            yield from ({name: batch} for batch in batches)


def _shown(domain: Domain) -> int:
    """Samples that an epoch of a domain's loader shows."""
    return min(len(domain.loader) * domain.batch_size, domain.samples)


def _check_domains(domains: Mapping[str, Domain]) -> None:
    if not domains:
        raise ValueError("`domains` should hold at least one domain. Found none.")
    for name, domain in domains.items():
        whole = domain.samples // domain.batch_size if domain.batch_size > 0 else 0
        rest = whole * domain.batch_size < domain.samples
        if len(domain.loader) < 1 or len(domain.loader) not in (whole, whole + rest):
            raise ValueError(
                f"The loader of {name!r} should have {max(whole, 1)} batch(es), or one more for the rest, for "
                f"{domain.samples} samples in batches of {domain.batch_size}. Found {len(domain.loader)}."
            )


def _check_weights(
    domains: Mapping[str, Domain], weights: Mapping[str, float] | None, together: bool
) -> None:
    if weights is None:
        return
    if together:
        raise ValueError(
            "`weights` should be left out with together=True, which draws nothing. Found weights for "
            f"{', '.join(weights)}."
        )
    if set(weights) != set(domains) or not all(0 < weight < math.inf for weight in weights.values()):
        raise ValueError(
            f"`weights` should give a finite number above 0 for each of {', '.join(domains)}. Found {dict(weights)}."
        )
