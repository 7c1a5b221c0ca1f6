"""What a training step tells about its balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The balance of one step: detached, on the device of the losses, read without waiting for it.

    Args:
        weights: d(total) / d(losses) (m,), before any clipping of the shared gradient; where an aggregator
            answered, the weights of the heads.
        losses: the task losses (m,), 0 for absent tasks.
        gramian: the inner products of the task gradients (m, m), where they were measured.
        fallback: () bool, whether the method's solver fell back on its documented answer; None for
            methods that have no solver, and in steps that did not solve.
        diagnostics: what the method tells beside its answer, for example "indicators" (m,), "assignment" (m,)
            and "group_weights" (k,) of GO4Align.
        complete: whether the step is over; False within a window of micro-batches whose weights are not known yet,
            where `weights` are NaN.
    """

    weights: Tensor
    losses: Tensor
    gramian: Tensor | None = None
    fallback: Tensor | None = None
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    complete: bool = True

    @property
    def conflict(self) -> Tensor | None:
        """The share of task pairs whose gradients have a negative inner product, (); None if not measured."""
        if self.gramian is None:
            return None
        m = len(self.gramian)
        if m == 1:
            return torch.zeros((), dtype=self.gramian.dtype, device=self.gramian.device)
        negative = (self.gramian < 0).sum() - (self.gramian.diagonal() < 0).sum()
        return negative / (m * (m - 1))
