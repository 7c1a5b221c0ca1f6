"""How near an update from an estimated or surrogate Gramian is to the exact one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from equipoise.core import Method, Reads, TaskStats

from .checks import check_comparable
from .gradients import Split
from .layerwise import layerwise_gramian
from .losses import StepLosses
from .memory import EXACT, Memory
from .sources import Sources


def fidelity(
    method: Method, memory: Memory, sources: Sources, split: Split, step: StepLosses, *, at: int
) -> Tensor:
    """The cosine () of the shared gradients that a method makes of the memory mode's Gramian and of the exact one.

    With weights a and b, and the exact Gramian G, it is a' G b / sqrt(a' G a b' G b); 1 where both updates are 0,
    and 0 where one is. 1, without measuring, for exact modes; NaN where a gradient is not finite, and at steps at which
    the method does not ask. Neither the method nor the mode is changed.

    Args:
        method: which is asked twice.
        memory: the mode.
        sources: where the graph of each present task starts.
        split: the parameters of the step.
        step: the losses.
        at: how many steps have been made.

    Raises:
        ValueError: if the method never asks for a Gramian, or for more.
    """
    check_comparable(method)
    if memory.choose(sources, split) in EXACT:
        return torch.ones((), dtype=torch.float64, device=step.values.device)
    nothing = torch.full((), torch.nan, dtype=torch.float64, device=step.values.device)
    if method.reads == Reads.LOSSES:
        return nothing
    before = memory.state_dict()
    estimated = memory.measure(sources, split, at).gramian
    memory.load_state_dict(before)
    exact = layerwise_gramian(sources, split).gramian
    if not bool(exact.isfinite().all() & estimated.isfinite().all()):
        return nothing
    a, b = (
        copy.deepcopy(method)(TaskStats(step.values, present=step.mask, gramian=gramian)).detach()
        for gramian in (estimated, exact)
    )
    squares = torch.stack([a @ exact @ a, b @ exact @ b]).clamp(min=0)
    lengths = squares.prod().sqrt()
    both = (squares == 0).all().to(lengths)
    return torch.where(lengths > 0, (a @ exact @ b) / lengths, both).clamp(-1.0, 1.0)
