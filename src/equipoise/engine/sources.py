"""Where the backward passes of a step start that measure a Gramian without rows, on all ranks alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from .distributed import Ranks, Shares
from .losses import StepLosses


@dataclass(frozen=True, slots=True)
class Measured:
    """What a memory mode measures in place of the rows.

    Args:
        gramian: the inner products of the task gradients (m, m) float64, zero for absent tasks.
        squares: for each shared parameter and task (parameters, m) float64, a number above 0 where the task moves it.
        passes: backward passes through the whole of the shared parameters that it took.
    """

    gramian: Tensor
    squares: Tensor
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the graph of each task starts, and what its backward pass starts from.

    Args:
        roots: by position, of every task that any rank has labels of.
        n_tasks: the number of tasks m.
        seeds: the scale of the losses times this rank's share of the labels, by position (); 1 where left out.
        lacking: tasks that only other ranks have labels of: gradients found here are replaced by 0.
        scale: what the losses are multiplied with (), part of the seeds; None for 1.
        ranks: over which gradients are summed; None for this one alone.
    """

    roots: Mapping[int, GradientEdge]
    n_tasks: int
    seeds: Mapping[int, Tensor] = field(default_factory=dict)
    lacking: frozenset[int] = frozenset()
    scale: Tensor | None = None
    ranks: Ranks | None = None

    def seed(self, task: int, like: Tensor) -> Tensor:
        """What a task's backward pass starts from, ()."""
        one = torch.ones((), dtype=like.dtype, device=like.device)
        return self.seeds[task].to(one) if task in self.seeds else one

    def own(self, task: int, gradient: Tensor) -> Tensor:
        """A gradient found on this rank: dense, and 0 where it has no labels, even if the loss was NaN."""
        if task in self.lacking:
            return torch.zeros_like(gradient)
        return gradient.to_dense() if gradient.is_sparse else gradient

    def unscaled(self, gramian: Tensor) -> Tensor:
        """The Gramian of the losses from that of the losses times the scale."""
        return gramian if self.scale is None else gramian / self.scale.double().square()

    def summed(self, gradients: dict[int, Tensor]) -> dict[int, Tensor]:
        """Tensors of the same tasks on all ranks, each added up over them."""
        if self.ranks is None:
            return gradients
        sums = {i: gradient.clone(memory_format=torch.contiguous_format) for i, gradient in gradients.items()}
        for wait in [self.ranks.start_sum(tensor) for tensor in sums.values()]:
            wait()
        return sums

    def check_alike(self, plan: object) -> None:
        """Refuse to sum gradients of different layers, where the ranks' networks differ in this step.

        Raises:
            ValueError: on all ranks alike.
        """
        if self.ranks is not None:
            device = self.seeds[next(iter(self.roots))].device
            self.ranks.check_alike(
                "The graph of the losses",
                plan,
                device,
                "with layers that are left out at random, use memory='rows' or 'sketch'.",
            )

    def total(self, tensor: Tensor) -> Tensor:
        """A tensor added up over the ranks, in place."""
        return tensor if self.ranks is None else self.ranks.sum(tensor)

    def total_counts(self, counts: list[int], device: torch.device) -> list[int]:
        """Whole numbers added up over the ranks, each place for itself, so that all ranks choose alike."""
        if self.ranks is None:
            return counts
        return [int(n) for n in self.total(torch.tensor(counts, dtype=torch.int64, device=device)).tolist()]

    def laid_together(self, samples: Tensor) -> Tensor:
        """Samples (b, ...) of this rank to those of all ranks, end to end."""
        return samples if self.ranks is None else self.ranks.lay_together(samples)


def sources_of(step: StepLosses, shares: Shares | None, scale: Tensor | None, ranks: Ranks) -> Sources:
    """The sources of a step.

    Args:
        step: the losses.
        shares: who has how many labels, or None where there is one rank.
        scale: what a loss scaler multiplies losses with (), or None.
        ranks: of the Balancer.

    Raises:
        ValueError: on all ranks alike, if one lacks the graph of a task that another has labels of.
    """
    m = len(step.values)
    if shares is None:
        seeds = {} if scale is None else dict.fromkeys(step.roots, scale)
        return Sources(step.roots, m, seeds, scale=scale)
    labelled = (shares.counts > 0).cpu()
    present = labelled.any(0).nonzero()[:, 0].tolist()
    given = {**step.spare, **step.roots}
    if not bool(labelled[:, present].all()):
        _agree(sum(i not in given for i in present), step.values.device, ranks)
    factors = shares.own if scale is None else shares.own * scale.double()
    own = labelled[shares.rank].tolist()
    lacking = frozenset(i for i in present if not own[i])
    # The seeds of tasks that are lacking matter to nothing but must not be 0, or nodes could be left out.
    seeds = {i: torch.ones_like(factors[i]) if i in lacking else factors[i] for i in present}
    return Sources({i: given[i] for i in present}, m, seeds, lacking, scale, ranks)


def _agree(missing: int, device: torch.device, ranks: Ranks) -> None:
    everyone = ranks.gather(torch.tensor([missing], dtype=torch.int64, device=device))[:, 0].tolist()
    lacking = [rank for rank, number in enumerate(everyone) if number]
    if lacking:
        raise ValueError(
            "With a memory mode other than rows, every rank should give the losses of all tasks that any rank has "
            f"labels of. Found that ranks {lacking} lack some: give an absent task's loss too, with `present=` to say "
            "that it does not count."
        )
