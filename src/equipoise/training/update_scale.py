"""Steps of equal length: what a step changes in the network brought to one length, whatever optimizer and method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class UpdateScale:
    """Makes steps of the optimizer, and of a given length if one is asked for.

    With the n parameters p of the model, shared and heads together, the gradient g (n,) that the backward passes of the
    step left, the learning rate lr of this step and the length c:
        g <- c g / |g|,   q = what the optimizer makes of p and g,   p <- p + lr c (q - p) / |q - p|,
    with Euclidean lengths. So every step has the length lr c, in units of the parameters, whatever the optimizer: its
    momentum and its weight decay are part of q - p. A method that multiplies its gradients by numbers, which may change
    from step to step, changes nothing: not the length, not what the optimizer remembers, and not how much weight decay
    there is for the gradient. For plain SGD without weight decay the second line does nothing that the first has not
    done. Why: the weights of some methods sum to 1, of others to the number of tasks, so that SGD at one learning rate
    takes steps that differ tenfold. Adam divides each entry by its usual size, so that a constant factor is gone; but
    its steps still differ severalfold, by how much the gradients of a method vary.

    Which length: plain SGD makes steps of lr |g|, and c = 1 is a start. The entries of a step of Adam are of about lr,
    or less where gradients vary, so that it has about the length lr sqrt(n) / 3: c = sqrt(n) / 3 keeps the learning
    rates of Adam what they are, where c = 1 would make its steps far too short.

    A gradient or a step of length 0, or one that is not finite, is left as it is; a step that a loss scaler skips stays
    skipped. While it steps, a copy of the parameters is held.

    Args:
        parameters: of the model; weights that the method learns keep their gradients and their steps.
        norm: the length c, above 0, or None to change nothing.
    """

    def __init__(self, parameters: Sequence[Tensor], norm: float | None) -> None:
        self._parameters = list(parameters)
        self._norm = norm

    def step(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """A step by what is in `.grad`, in place of `scaler.step(optimizer)`; `scaler.update` comes after it.

        Args:
            optimizer: of the parameters, which are its first group.
            scaler: whose scale is taken out first.
        """
        moved = [p for p in self._parameters if p.grad is not None]
        if self._norm is None or not moved:
            scaler.step(optimizer)
            return
        scaler.unscale_(optimizer)
        with torch.no_grad():
            gradients = [p.grad for p in moved if p.grad is not None]
            factor = self._norm / _length(gradients)
            for gradient in gradients:
                gradient.mul_(_or_one(factor, gradient))
            before = [p.clone() for p in moved]
            scaler.step(optimizer)
            steps = [p - old for p, old in zip(moved, before, strict=True)]
            factor = self._norm * optimizer.param_groups[0]["lr"] / _length(steps)
            for p, old, step in zip(moved, before, steps, strict=True):
                p.copy_(old + _or_one(factor, step) * step)


def _length(parts: Sequence[Tensor]) -> Tensor:
    """The Euclidean length () of all parts together, in float32."""
    lengths: list[Tensor] = [torch.linalg.vector_norm(part, dtype=torch.float32) for part in parts]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(lengths))
    return whole


def _or_one(factor: Tensor, like: Tensor) -> Tensor:
    """The factor in the precision of a tensor; 1 where the length was 0 or not finite."""
    return torch.where(factor.isfinite() & (factor > 0), factor, 1.0).to(like.dtype)
