"""Any weighting, on the logarithms of the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import MissingStatisticError, Reads, TaskStats, Weighting, Wrapper


class LogLosses(Wrapper):
    """Shows the base the logarithms of the losses, so that the units of a loss no longer matter.

    The base sees log L_i and the rows g_i / L_i, so the Gramian G_ij / (L_i L_j) (m, m); its weights v (m,) are for
    the logarithms: total sum_i v_i log L_i, so w_i = v_i / L_i (m,). Over `LS` it is `SI`.

    Reads: what the base reads, and losses.
    State: that of the base.
    Scale: w_i L_i is the base's weight. Heads that the base leaves alone get 1 / L_i, the gradient of the logarithm.
    Reference: B. Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, https://arxiv.org/abs/2308.12029,
        Section 3.1 (the logarithm of the losses before a gradient balancing method).
    Departures: the logarithm is exact, where authors' codes add 1e-8 to the loss. A base that itself divides by the
        losses or takes their logarithm is refused, since logarithms can be negative; so is one whose weights learn
        (UW, IMTL).

    Args:
        base: the weighting that sees the logarithms.

    Raises:
        TypeError: if the base is no `Weighting`.
        ValueError: if the base has weights that learn or needs positive losses; from the `Balancer`, for a loss
            that is not positive.
    """

    def __init__(self, base: Weighting) -> None:
        super().__init__(base)
        self.refuse_learned_weights()
        if base.needs_positive_losses:
            raise ValueError(
                f"`base` should not need positive losses, since their logarithms can be negative. Found "
                f"{type(base).__name__}, which does."
            )
        self.needs_positive_losses = True
        if base.head_weights == "unit":
            self.head_weights = "log"

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        weights = self.base(_logarithms(stats, self.base.reads))
        self.diagnostics = self.base.diagnostics
        return weights / torch.where(stats.present, stats.losses, 1.0)

    def after_step(self, losses: Tensor) -> None:
        """Pass the logarithms of the losses on to the base."""
        self.base.after_step(losses.log())


def _logarithms(stats: TaskStats, reads: Reads) -> TaskStats:
    """What a step looks like to a method that balances the logarithms."""
    losses = torch.where(stats.present, stats.losses, 1.0)
    gramian = stats.gramian / losses / losses[:, None] if reads >= Reads.GRAMIAN else None
    jacobian = stats.jacobian / losses[:, None].to(stats.jacobian) if reads >= Reads.JACOBIAN else None
    try:
        other = _logarithms(stats.other, reads)
    except MissingStatisticError:
        other = None
    return TaskStats(
        losses.log(),
        present=None if stats.all_present else stats.present,
        gramian=gramian,
        jacobian=jacobian,
        epoch=stats.epoch,
        blocks=None if jacobian is None else stats.blocks,
        other=other,
    )
