"""What tasks can be grouped by that is no weight: how fast their losses fall, or what their gradients are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .random import RandomStream
from .stats import Reads, TaskStats

FROM_GRADIENTS = ("grad_norm", "cosine")
INDICATORS = ("rate", *FROM_GRADIENTS, "random")


class Indicator(nn.Module):
    """One number for each task, to group the tasks by; tasks with alike numbers go together.

    "rate": the loss relative to the first one seen of the task, the inverse training rate of GradNorm, 1 for a task
    never seen. "grad_norm": the norm of the task gradient. "cosine": its cosine to the mean gradient of the present
    tasks, 0 where either is zero. "random": uniform draws.

    Reference: Z. Chen et al., "GradNorm", ICML 2018, https://arxiv.org/abs/1711.02257, for the rate.

    Args:
        n_tasks: the number of tasks m.
        kind: one of `INDICATORS`.
        stream: where random numbers come from; its owner saves it.
    """

    first_losses: Tensor

    def __init__(self, n_tasks: int, kind: str, stream: RandomStream) -> None:
        super().__init__()
        self.kind = kind
        self._draw = stream.uniform
        if kind == "rate":
            self.register_buffer("first_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """The Gramian where the number comes from gradients."""
        return Reads.GRAMIAN if self.kind in FROM_GRADIENTS else Reads.LOSSES

    def __call__(self, stats: TaskStats, losses: Tensor) -> Tensor:
        """As `forward`, typed where `nn.Module` is not."""
        numbers: Tensor = super().__call__(stats, losses)
        return numbers

    def forward(self, stats: TaskStats, losses: Tensor) -> Tensor:
        """The numbers (m,) of a step, whose losses (m,) are completed where tasks are absent."""
        match self.kind:
            case "rate":
                unseen = self.first_losses.isnan()
                self.first_losses.copy_(torch.where(unseen & stats.present, losses, self.first_losses))
                return torch.where(self.first_losses.isnan(), 1.0, losses / self.first_losses)
            case "grad_norm":
                return stats.gramian.diagonal().sqrt()
            case "cosine":
                lengths = stats.gramian.diagonal().sqrt() * stats.gramian.sum().clamp(min=0.0).sqrt()
                return torch.where(lengths > 0.0, stats.gramian.sum(1) / lengths, 0.0)
            case _:
                return self._draw(len(losses)).to(losses.device, non_blocking=True)
