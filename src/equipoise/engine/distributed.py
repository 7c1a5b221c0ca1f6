"""What the ranks of a distributed run tell each other: m numbers a step, and rows where gradients are read."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Shares:
    """Who has how many labels in one step.

    Args:
        counts: labelled samples per rank and task (R, m) float64, 0 where the task is absent.
        losses: of each rank (R, m) float64, 0 where absent.
        rank: this one.
    """

    counts: Tensor
    losses: Tensor
    rank: int

    @property
    def totals(self) -> Tensor:
        """Labelled samples of each task over all ranks (m,)."""
        return self.counts.sum(0)

    @property
    def means(self) -> Tensor:
        """The losses averaged over the labelled samples of all ranks (m,), 0 where nobody has any."""
        sums = torch.where(self.counts > 0, self.counts * self.losses, 0.0).sum(0)
        return sums / torch.where(self.totals > 0, self.totals, 1.0)

    @property
    def own(self) -> Tensor:
        """What share of each task's labelled samples this rank has (m,)."""
        return self.counts[self.rank] / torch.where(self.totals > 0, self.totals, 1.0)

    @property
    def uneven(self) -> bool:
        """Whether the ranks differ in how many labels they have; waits for the device."""
        return bool((self.counts != self.counts[0]).any())


class Ranks:
    """The ranks of a run, and collectives in which all of them join in the same order.

    Args:
        group: the process group; None for the default one, if there is any.
    """

    def __init__(self, group: Any = None) -> None:
        self._group = group

    @property
    def number(self) -> int:
        """How many ranks there are; 1 without a process group."""
        if not (dist.is_available() and dist.is_initialized()):
            return 1
        return dist.get_world_size(self._group)

    @property
    def own(self) -> int:
        """Which rank this is, from 0."""
        return dist.get_rank(self._group)

    def gather(self, vector: Tensor) -> Tensor:
        """The vectors (k,) of all ranks (R, k)."""
        everyone = [torch.empty_like(vector) for _ in range(self.number)]
        _joined(lambda: dist.all_gather(everyone, vector, group=self._group))
        return torch.stack(everyone)

    def share(self, losses: Tensor, counts: Tensor) -> Shares:
        """Tell each other the losses (m,) and the labelled samples (m,)."""
        both = self.gather(torch.cat([counts.double(), losses.double()]))
        counts, losses = both.chunk(2, dim=1)
        return Shares(counts, losses, self.own)

    def start_sum(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to add up a tensor over the ranks, in place; returns what waits for the end."""
        work: list[Any] = []
        _joined(lambda: work.append(dist.all_reduce(tensor, group=self._group, async_op=True)))
        return lambda: _joined(work[0].wait)

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place."""
        self.start_sum(tensor)()
        return tensor

    def lay_together(self, samples: Tensor) -> Tensor:
        """The samples (b, ...) of all ranks end to end; b may differ."""
        sizes = self.gather(torch.tensor([len(samples)], dtype=torch.int64, device=samples.device))[
            :, 0
        ].tolist()
        padded = samples.new_zeros(max(sizes), *samples.shape[1:])
        padded[: len(samples)] = samples
        return torch.cat([part[:size] for part, size in zip(self.gather(padded), sizes, strict=True)])

    def check_alike(self, what: str, thing: Any, device: torch.device, advice: str) -> None:
        """Refuse to go on, on every rank, where the ranks hold different things.

        Raises:
            ValueError: on all ranks alike.
        """
        digest = hashlib.sha256(pickle.dumps(thing)).digest()
        own = torch.frombuffer(bytearray(digest[:32]), dtype=torch.int64).to(device)
        same = (self.gather(own) == own).all(dim=1)
        if not bool(same.all()):
            others = [rank for rank, alike in enumerate(same.tolist()) if not alike]
            raise ValueError(
                f"{what} should be the same on every rank. Found another one on rank(s) {others}: {advice}"
            )


def plain(state: Any) -> Any:
    """A state as numbers and texts, so that equal states have equal bytes."""
    if isinstance(state, Tensor):
        return (
            state.detach().cpu().double().reshape(-1).tolist()
            if state.is_floating_point()
            else state.tolist()
        )
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return (
        [plain(value) for value in state]
        if isinstance(state, Sequence) and not isinstance(state, str)
        else state
    )


def _joined(collective: Callable[[], Any]) -> None:
    """Run a collective, and say what it means if it fails."""
    try:
        collective()
    except RuntimeError as error:
        raise RuntimeError(
            "Every rank should join the reduction of losses and gradients. Found that one did not: it has died, or is "
            "stuck elsewhere; its own log tells why. This rank stops, so that it does not wait for ever."
        ) from error
