"""Weights scaled down where the update would be too long."""

from __future__ import annotations

from torch import Tensor

from equipoise.core import Reads, TaskStats, Weighting, Wrapper

_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_ divides by the norm plus this


class ClipNorm(Wrapper):
    """Bounds the norm of the shared gradient by scaling the weights of the base.

    w <- w min(1, max_norm / (|w J| + 1e-6)) with |w J|^2 = w' G w; w (m,), G (m, m).

    Reads: the Gramian at least.
    State: that of the base.
    Scale: |w J| is at most `max_norm`.
    Reference: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks",
        ICML 2013, https://arxiv.org/abs/1211.5063, Algorithm 1.
    Departures: heads that follow the weights of the base are scaled too; to clip the shared gradient alone, as
        Nash-MTL and GradDrop do, use their `max_norm`.

    Args:
        base: the weighting to scale.
        max_norm: the bound, above 0.

    Raises:
        TypeError: if the base is no `Weighting`.
        ValueError: if `max_norm` is not above 0.
    """

    def __init__(self, base: Weighting, max_norm: float = 1.0) -> None:
        super().__init__(base)
        if not max_norm > 0:
            raise ValueError(f"`max_norm` should be above 0. Found {max_norm:g}.")
        self.bound = max_norm

    @property
    def reads(self) -> Reads:
        """The Gramian, or what the base reads if that is more."""
        return max(Reads.GRAMIAN, self.base.reads)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        weights = self.base(stats)
        self.diagnostics = self.base.diagnostics
        norm = (weights @ stats.gramian @ weights).clamp(min=0).sqrt().detach()
        return weights * (self.bound / (norm + _EPSILON)).clamp(max=1.0)
