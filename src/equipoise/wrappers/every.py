"""Weights that are asked for now and then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.core import Reads, TaskStats, Weighting, Wrapper
from equipoise.core.method import check_at_least


class Every(Wrapper):
    """Asks the base at every n-th step and keeps its weights in between, which saves the gradients of the tasks.

    w(t) = w of the base at the last multiple of n up to t (m,).

    Reads: what the base reads at the steps that ask; losses at the others.
    State: that of the base; the held weights (m,); the number of steps.
    Scale: that of the base.
    Reference: the `update_weights_every` of A. Navon et al., "Multi-Task Learning as a Bargaining Game",
        ICML 2022, https://arxiv.org/abs/2202.01017, Section 5.
    Departures: a task absent at a step that asks keeps the weight that it had, 1 at first.

    Args:
        base: the weighting to ask.
        steps: n, at least 1.

    Raises:
        TypeError: if the base is no `Weighting`.
        ValueError: if `steps` is below 1, or the base has weights that learn.
    """

    held: Tensor

    def __init__(self, base: Weighting, steps: int = 10) -> None:
        super().__init__(base)
        self.refuse_learned_weights()
        check_at_least("steps", steps, 1)
        self.steps = steps
        self._step = 0
        self.register_buffer("held", torch.ones(base.n_tasks, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """What the base reads if this step asks it, else the losses only."""
        return self.base.reads if self._step % self.steps == 0 else Reads.LOSSES

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        self.diagnostics = {}  # of a step that did not ask there is nothing to tell
        if self._step % self.steps == 0:
            self.held.copy_(torch.where(stats.present, self.base(stats), self.held))
            self.diagnostics = self.base.diagnostics
        self._step += 1
        return torch.where(stats.present, self.held, 0.0)

    def get_extra_state(self) -> dict[str, Any]:
        """The number of steps so far."""
        return {"step": self._step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go to a number of steps."""
        self._step = state["step"]
