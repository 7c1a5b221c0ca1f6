"""Gradient sign dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Aggregator, RandomStream, TaskStats
from equipoise.core.method import check_at_least

_BLOCK = 65_536  # columns


class GradDrop(Aggregator):
    """Keeps, in each coordinate, only the task gradients of one sign, drawn by how pure that sign is.

    Purity P_j = 0.5 (1 + sum_i J_ij / sum_i |J_ij|) (n,), with the Jacobian J (m, n); with U_j uniform on [0, 1):
    where P_j > U_j the positive entries of column j are kept, else the negative ones; the answer (n,) is the sum
    over tasks of what is kept.

    Reads: Jacobian.
    State: the position of the random stream.
    Scale: a sum over tasks; the shared gradient is then clipped to norm `max_norm`.
    Reference: Z. Chen et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
        NeurIPS 2020, https://arxiv.org/abs/2010.06808, Algorithm 1, with the identity for f and without leak.
    Departures: the paper works on the gradients of the features; as in the code that produced the published
        tables, this works on those of the shared parameters, and clips the sum. A coordinate in which
        all gradients are 0 stays 0.

    Args:
        n_tasks: the number of tasks m, at least 1.
        max_norm: what the shared gradient's norm is clipped to, at least 0; 0 for no clipping; 1 in the GO4Align code.
        seed: where the random stream starts.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    def __init__(self, n_tasks: int, max_norm: float = 1.0, seed: int = 0) -> None:
        super().__init__(n_tasks)
        check_at_least("max_norm", max_norm, 0.0)
        self.max_norm = max_norm
        self.stream = RandomStream(seed)

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        return drop_signs(stats.jacobian, self.stream.uniform_like(stats.jacobian[0]))


def drop_signs(jacobian: Tensor, uniform: Tensor) -> Tensor:
    """The sum (n,) of the entries of `jacobian` (m, n) that survive the draws `uniform` (n,) in [0, 1)."""
    # A CPU goes through blocks of columns that stay in its cache: several times quicker.
    block = _BLOCK if jacobian.device.type == "cpu" else max(1, len(uniform))
    kept = torch.empty_like(uniform)
    pieces = (tensor.split(block, dim=-1) for tensor in (jacobian, uniform, kept))
    for rows, draws, answer in zip(*pieces, strict=True):
        total, size = rows.sum(0), rows.abs().sum(0)
        short = (2 * draws).sub_(1).mul_(size).sub_(total)  # below 0 where P > U
        torch.sub(total, torch.copysign(size, short), out=answer)
    return kept.mul_(0.5)
