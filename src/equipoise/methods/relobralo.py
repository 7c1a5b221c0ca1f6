"""Relative loss balancing with random lookback."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import LastLosses, RandomStream, TaskStats, Weighting


class ReLoBRaLo(Weighting):
    """Gives more weight to tasks with little progress since the last step, and now and then since the first.

    With b(t, u) = m softmax(L(t) / (temperature L(u))) and rho(t) = 1 with probability rho, else 0:
    h = rho(t) w(t-1) + (1 - rho(t)) b(t, 0) and w(t) = alpha h + (1 - alpha) b(t, t-1), from w(0) = 1 and
    w(1) = b(1, 0). The losses L, b, h and w are (m,).

    Reads: losses.
    State: `weights` (m,); `first_losses` (m,), NaN before a task is seen; `steps` (); the last seen losses (m,); the
        position of the random stream.
    Scale: the weights sum to m when all tasks are present.
    Reference: R. Bischof, M. A. Kraus, "Multi-Objective Loss Balancing for Physics-Informed Deep Learning", Computer
        Methods in Applied Mechanics and Engineering 2025, https://arxiv.org/abs/2110.09813, ReLoBRaLo; the first two
        steps and the defaults as in the authors' tutorial, since their experiment code starts from losses of 1.
    Departures: no 1e-7 in the divisors; a loss that is not positive is refused instead. The stream is the method's own
        and is saved with it. An absent task stands still at its last loss, and one not seen so far has made no
        progress; its first loss is that of the step in which it appears.

    Args:
        n_tasks: the number of tasks m, at least 1.
        alpha: what is kept of the weights at each step, in [0, 1].
        temperature: above 0; large values make the weights equal.
        rho: how often the weights of the last step are kept and not those since the first loss, in [0, 1].
        seed: where the random stream starts.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True
    weights: Tensor
    first_losses: Tensor
    steps: Tensor

    def __init__(
        self, n_tasks: int, alpha: float = 0.999, temperature: float = 0.1, rho: float = 0.99, seed: int = 0
    ) -> None:
        super().__init__(n_tasks)
        for name, share in (("alpha", alpha), ("rho", rho)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"`{name}` should be from 0 to 1. Found {share:g}.")
        if not temperature > 0:
            raise ValueError(f"`temperature` should be above 0. Found {temperature:g}.")
        self.alpha = alpha
        self.temperature = temperature
        self.rho = rho
        self.stream = RandomStream(seed)
        self.last_losses = LastLosses(n_tasks)
        self.register_buffer("weights", torch.ones(n_tasks, dtype=torch.float64))
        self.register_buffer("first_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        before = self.last_losses.seen.clone()
        losses = self.last_losses(stats)
        self.first_losses.copy_(
            torch.where(self.first_losses.isnan(), self.last_losses.seen, self.first_losses)
        )
        keep = (self.stream.uniform(1) < self.rho).to(losses.device, non_blocking=True)
        history = torch.where(keep, self.weights, self._balance(losses, self.first_losses))
        recent = self._balance(losses, before)
        smoothed = self.alpha * history + (1.0 - self.alpha) * recent
        started = torch.where(self.steps == 1, recent, smoothed)
        self.weights.copy_(torch.where(self.steps == 0, 1.0, started))
        self.steps.add_(1)
        return torch.where(stats.present, self.weights, 0.0)

    def _balance(self, losses: Tensor, before: Tensor) -> Tensor:
        """The weights b (m,) for losses (m,) now and before; a task without a loss before has made no progress."""
        progress = torch.where(before.isnan(), 1.0, losses / before)
        return self.n_tasks * torch.softmax(progress / self.temperature, dim=0)
