"""The architectures for several tasks, made of fully connected layers, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from .cgc import CGC, PLE
from .cross_stitch import CrossStitch
from .dselect_k import DSelectK
from .ltb import LearningToBranch
from .mlp import MLPEncoder
from .mmoe import MMoE
from .multitask import MultiTaskNet, Stage
from .resnet import HardSharing


def perceptrons(
    name: str, *, inputs: int, tasks: int, width: int, depth: int, experts: int, dropout: float = 0.0
) -> MultiTaskNet:
    """Build one of `ARCHITECTURES` on rows of numbers, with one linear output per task.

    Args:
        name: "hps" (hard parameter sharing), "mmoe", "cgc", "ple", "dselect_k", "cross_stitch" or "ltb".
        inputs: numbers in a row.
        tasks: outputs.
        width: of all layers.
        depth: layers of an encoder, an expert or a task's network; "ple" has an extraction layer for each.
        experts: in all for "mmoe" and "dselect_k", which selects two of them; for "cgc" and "ple" this many shared
            ones, and as many for each task.
        dropout: see `MLPEncoder`.

    Raises:
        ValueError: on an unknown name, or sizes out of range.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"`architecture` should be one of {', '.join(ARCHITECTURES)}. Found {name!r}.")
    stages = [
        Stage(partial(MLPEncoder, width if layer else inputs, width, 1, dropout), width)
        for layer in range(depth)
    ]
    make = partial(MLPEncoder, inputs, width, depth, dropout)
    return ARCHITECTURES[name](make, stages, inputs, [1] * tasks, experts)


Build = Callable[[Callable[[], nn.Module], list[Stage], int, list[int], int], MultiTaskNet]


def _hps(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return HardSharing(make(), stages[-1].channels, outputs)


def _mmoe(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return MMoE(make, stages[-1].channels, outputs, inputs=inputs, experts=experts)


def _cgc(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return CGC(make, stages[-1].channels, outputs, inputs=inputs, shared=experts, own=experts)


def _ple(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return PLE(stages, outputs, inputs=inputs, shared=experts, own=experts)


def _cross_stitch(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return CrossStitch(stages, outputs)


def _dselect_k(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return DSelectK(make, stages[-1].channels, outputs, inputs=inputs, experts=experts)


def _ltb(
    make: Callable[[], nn.Module], stages: list[Stage], inputs: int, outputs: list[int], experts: int
) -> MultiTaskNet:
    return LearningToBranch(stages, outputs)


ARCHITECTURES: dict[str, Build] = {
    "hps": _hps,
    "mmoe": _mmoe,
    "cgc": _cgc,
    "ple": _ple,
    "dselect_k": _dselect_k,
    "cross_stitch": _cross_stitch,
    "ltb": _ltb,
}
"""Name -> builder."""
