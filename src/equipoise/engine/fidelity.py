"""How near an update from an estimated or surrogate Gramian is to the exact one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from equipoise.core import Method, TaskStats

from .checks import check_mode_to_compare
from .gradients import Split
from .layerwise import layerwise_gramian
from .losses import StepLosses
from .memory import Memory
from .sources import Sources


def fidelity(
    method: Method, memory: Memory, sources: Sources, split: Split, step: StepLosses, *, at: int
) -> Tensor:
    """The cosine () of the shared gradients that a method makes of the memory mode's Gramian and of the exact one.

    With weights a and b, and the exact Gramian G, it is a' G b / sqrt(a' G a b' G b); 1 where both updates are 0,
    and 0 where one is. Neither the method nor the mode is changed.

    Args:
        method: which is asked twice.
        memory: the mode.
        sources: where the graph of each present task starts.
        split: the parameters of the step.
        step: the losses.
        at: how many steps have been made.

    Raises:
        ValueError: if the mode keeps rows, or the method asks for no Gramian.
    """
    check_mode_to_compare(memory.choose(split), method)
    before = memory.state_dict()
    estimated = memory.measure(sources, split, at).gramian
    memory.load_state_dict(before)
    exact = layerwise_gramian(sources, split).gramian
    a, b = (
        copy.deepcopy(method)(TaskStats(step.values, present=step.mask, gramian=gramian)).detach()
        for gramian in (estimated, exact)
    )
    squares = torch.stack([a @ exact @ a, b @ exact @ b]).clamp(min=0)
    lengths = squares.prod().sqrt()
    both = (squares == 0).all().to(lengths)
    return torch.where(lengths > 0, (a @ exact @ b) / lengths, both).clamp(-1.0, 1.0)
