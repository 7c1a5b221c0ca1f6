"""Steps of equal scale: the gradient of a step brought to one length, whatever the scale of a method's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class UpdateScale:
    """Rescales the gradient of a step to a given length.

    g <- g norm / |g|, with g the gradient (n,) of the n parameters of the model, shared and heads together, and |g| its
    Euclidean length. The weights of some methods sum to 1, of others to the number of tasks, so that plain SGD at one
    learning rate takes steps that differ tenfold; Adam divides most of that out by itself. The direction is unchanged.
    A gradient of length 0 or one that is not finite is left as it is: a loss scaler then skips the step as ever.

    Args:
        parameters: of the model; weights that the method learns keep their gradients.
        norm: the length, above 0, or None to change nothing.
    """

    def __init__(self, parameters: Sequence[Tensor], norm: float | None) -> None:
        self._parameters = list(parameters)
        self._norm = norm

    def apply(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Rescale what is in `.grad`; call after the backward passes of a step, before `scaler.step`.

        Args:
            optimizer: of the parameters.
            scaler: whose scale is taken out first.
        """
        if self._norm is None:
            return
        scaler.unscale_(optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            return
        length = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients])
        )
        factor = torch.where(length.isfinite() & (length > 0), self._norm / length, 1.0)
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))
