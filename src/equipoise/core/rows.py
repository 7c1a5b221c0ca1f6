"""Gradients that are kept from step to step, and those of two batches against each other."""

from __future__ import annotations

import torch
from torch import Tensor

from .stats import TaskStats
from .tracked import Tracked


def tracked_like(tracked: Tracked, template: Tensor) -> Tensor:
    """The tensor of `tracked`, zeros at first, of the shape and type of `template` and where it lies.

    It is the state itself: what is written to it is kept.

    Raises:
        ValueError: if it had another shape before: the gradients of other parameters cannot be tracked on.
    """
    value = tracked.value
    if value is None:
        value = torch.zeros_like(template)
    if value.shape != template.shape:
        raise ValueError(
            "The shared parameters should stay the same for a method that keeps gradients from step to step. "
            f"Found {tuple(template.shape)} where it was {tuple(value.shape)}: pass `shared=` to the Balancer, and "
            "losses that reach all of them at every step."
        )
    tracked.value = value.to(template)
    return tracked.value


def cross_gramian(stats: TaskStats, block: int = 16_384) -> Tensor:
    """The inner products J1 J2' (m, m) of a batch's gradients with those of its second batch.

    They are summed in float64 by blocks of columns.

    Raises:
        MissingStatisticError: if the Jacobian or the second batch was not measured.
        ValueError: if the gradients are not of the same parameters.
    """
    first, second = stats.jacobian, stats.other.jacobian
    if stats.blocks != stats.other.blocks:
        sizes = [
            f"{len(blocks)} tensors of {sum(blocks)} entries" for blocks in (stats.blocks, stats.other.blocks)
        ]
        raise ValueError(
            f"Both batches should reach the same shared parameters. Found {sizes[0]} in the first and {sizes[1]} "
            "in the second: pass `shared=` to the Balancer, and losses that reach all of them."
        )
    total = torch.zeros(len(first), len(first), dtype=torch.float64, device=first.device)
    for left, right in zip(first.split(block, dim=1), second.split(block, dim=1), strict=True):
        total.addmm_(left.double(), right.double().T)
    return total
