"""Loss scaling for float16: scaled backward passes, unscaled rows, and steps that the scaler has skipped."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from equipoise.core import Method

from .window import Window


class LossScale:
    """What a `torch.amp.GradScaler` means for a balancer: `.grad` holds scaled gradients, as the scaler expects.

    Args:
        scaler: the scaler, or None for a scale of 1.
        method: whose state goes back where a step was skipped.
    """

    def __init__(self, scaler: Any, method: Method) -> None:
        self.window: Window | None = None  # whose held weights go back too
        self._scaler = scaler
        self._method = method
        self._before: dict[str, Any] | None = None
        self._held: Tensor | None = None
        self._last: float | None = None
        self.skipped = 0

    @property
    def active(self) -> bool:
        """Whether there is a scaler that scales."""
        return self._scaler is not None and bool(self._scaler.is_enabled())

    def factor(self, device: torch.device) -> Tensor | None:
        """What losses are multiplied with before a backward pass, (); None for 1."""
        if not self.active:
            return None
        scale: Tensor = self._scaler.scale(torch.ones((), device=device))
        return scale

    def begin(self) -> None:
        """Call before the method is asked."""
        if not self.active:
            return
        self.settle()
        self._last = float(self._scaler.get_scale())
        self._before = copy.deepcopy(self._method.state_dict())
        self._held = None if self.window is None else self.window.weights

    def settle(self) -> None:
        """Take back the method's last change if the scaler has skipped that step.

        A scaler that has found a gradient that is not finite lowers its scale; reading that costs no more waiting than
        its own `step` did.
        """
        if self._before is None or self._last is None:
            return
        if float(self._scaler.get_scale()) < self._last:
            self._method.load_state_dict(self._before)
            if self.window is not None and self._held is not None:
                self.window.weights = self._held
            self.skipped += 1
            self._before = None

    def forget(self) -> None:
        """Call where the method's state has been replaced: there is nothing to take back."""
        self._before = None

    def skip(self) -> None:
        """Count a step whose gradients the method was not shown; it has nothing to take back."""
        self._before = None
        self.skipped += 1
