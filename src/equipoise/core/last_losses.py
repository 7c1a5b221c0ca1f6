"""The last loss seen of every task, for methods whose state moves at each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .stats import TaskStats


class LastLosses(nn.Module):
    """Fills the losses of absent tasks with the last ones seen of them.

    A cumulative state that stood still while its task is absent would drift away from the others: a task
    absent half of the time would end with other weights. So it moves by the last seen loss instead; a
    task never seen so far counts as the mean of the present ones, which moves it neither up nor down.

    Args:
        n_tasks: the number of tasks m.
    """

    seen: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.full((n_tasks,), torch.nan, dtype=torch.float64))

    def __call__(self, stats: TaskStats) -> Tensor:
        """As `forward`, typed where `nn.Module` is not."""
        losses: Tensor = super().__call__(stats)
        return losses

    def forward(self, stats: TaskStats) -> Tensor:
        """The losses (m,) of this step, completed."""
        if stats.all_present:
            self.seen.copy_(stats.losses)
            return stats.losses
        present = stats.present
        self.seen.copy_(torch.where(present, stats.losses, self.seen))
        zero = torch.zeros_like(stats.losses)
        mean = torch.where(present, stats.losses, zero).sum() / present.sum().clamp(min=1)
        return torch.where(self.seen.isnan(), mean, self.seen)
