"""From weights or a shared gradient to `.grad`, where no ordinary backward pass does it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core import HeadWeights

from .distributed import Ranks
from .gradients import Split, accumulate, accumulate_flat, gradients_of, views
from .losses import StepLosses
from .rows import HeadGradients
from .window import Window

_CLIP_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_ divides by the norm plus this


@dataclass(frozen=True, slots=True)
class Rules:
    """How an answer becomes gradients.

    Args:
        head_weights: what the gradients of heads are scaled by.
        max_norm: what the norm of the shared gradient is clipped to, 0 for no clipping.
        scale: what the loss scaler multiplies gradients with, or None.
        ranks: of a distributed run whose gradients are averaged here, or None.
    """

    head_weights: HeadWeights
    max_norm: float
    scale: Tensor | None
    ranks: Ranks | None

    def head_scales(self, weights: Tensor, losses: Tensor) -> Tensor:
        """What the gradients of each task's head are multiplied by (m,)."""
        if self.head_weights == "same":
            return weights
        if self.head_weights == "log":
            return torch.where(losses > 0, 1.0 / losses, 0.0)
        return torch.ones_like(losses)

    def clip(self, norm: Tensor) -> Tensor:
        """What a shared gradient of this norm is multiplied by to respect `max_norm`."""
        if self.max_norm == 0:
            return torch.ones_like(norm)
        return (self.max_norm / (norm + _CLIP_EPSILON)).clamp(max=1.0)

    def scaled(self, gradient: Tensor) -> Tensor:
        """A gradient as the loss scaler expects it."""
        return gradient if self.scale is None else gradient * self.scale.to(gradient.dtype)


def seeds_of(seeds: Tensor, step: StepLosses) -> Tensor:
    """The entries of seeds (m,) that belong to the losses in `step.whole`, in its order."""
    return (
        seeds if len(step.roots) == len(seeds) else seeds[torch.tensor(list(step.roots), device=seeds.device)]
    )


def write_by_hand(
    step: StepLosses, split: Split, rules: Rules, seeds: tuple[Tensor, Tensor], window: Window
) -> None:
    """Add the gradients of two weighted sums of the losses to `.grad`: one for shared parameters, one for heads.

    Args:
        step: the losses.
        split: the parameters.
        rules: how.
        seeds: the weights (m,) of the losses for the shared parameters and for the heads, scaled.
        window: the shared gradient is clipped when it ends.
    """
    roots, dtype = list(step.roots.values()) if step.whole is None else [step.whole], step.values.dtype
    for_shared, for_heads = (
        [seed[i].to(dtype) for i in step.roots] if step.whole is None else [seeds_of(seed, step).to(dtype)]
        for seed in seeds
    )
    alike = rules.head_weights == "same"
    shared = gradients_of(
        roots, for_shared, [*split.shared, *(split.heads if alike else [])], retain_graph=not alike
    )
    heads = shared[len(split.shared) :] if alike else []
    shared = shared[: len(split.shared)]
    if not alike:
        heads = gradients_of(roots, for_heads, split.heads, retain_graph=False)
    if rules.ranks is not None:
        both = [*shared, *heads]
        flat = rules.ranks.sum(torch.cat([g.reshape(-1) for g in both]))
        both = views(flat, both)
        shared, heads = both[: len(shared)], both[len(shared) :]
    if rules.max_norm > 0:
        shared = window.hold(shared)
        if window.last:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(shared)))
            factor = rules.clip(norm if rules.scale is None else norm / rules.scale.to(norm.dtype))
            accumulate(split.shared, [g * factor for g in shared])
    else:
        accumulate(split.shared, shared)
    accumulate(split.heads, heads)


def write_by_rows(
    direction: Tensor, norm: Tensor, scales: Tensor, split: Split, heads: HeadGradients, rules: Rules
) -> None:
    """Add a shared gradient and the gradients of the heads to `.grad`.

    Args:
        direction: the shared gradient (n,).
        norm: its length ().
        scales: what the gradients of each task's head are multiplied by (m,).
        split: the parameters.
        heads: their gradients.
        rules: how.
    """
    if rules.max_norm > 0:
        direction = direction * rules.clip(norm).to(direction.dtype)
    accumulate_flat(split.shared, rules.scaled(direction))
    write_heads(scales, heads, rules)


def write_heads(scales: Tensor, heads: HeadGradients, rules: Rules) -> None:
    """Add the gradients of the heads, times the scale (m,) of each task, to `.grad`."""
    for i, parameter, gradient in heads:
        accumulate([parameter], [rules.scaled(gradient * scales[i].to(gradient.dtype))])
