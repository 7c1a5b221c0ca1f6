"""State whose size is known only when the first rows are measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tracked(nn.Module):
    """A tensor of the method's state as large as the Jacobian, made at the first step and saved with the rest.

    `value` is None until it is set. A state dict taken before that is empty, and one taken later loads into a method
    that has not seen a step yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def get_extra_state(self) -> Tensor:
        """The tensor, or an empty one."""
        return torch.empty(0) if self.value is None else self.value

    def set_extra_state(self, state: Tensor) -> None:
        """Take over a tensor."""
        self.value = state.clone() if state.numel() else None
