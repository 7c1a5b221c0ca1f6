"""The mean losses of an epoch or a window, where some tasks have no label in some batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .labels import LabelledLosses


class Tally:
    """Sums the losses of batches, each weighted by its labelled samples where the problem tells them.

    Args:
        tasks: the task names in order.
        device: where the losses are.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self._tasks = list(tasks)
        self._sums = torch.zeros(len(tasks), dtype=torch.float64, device=device)
        self._counts = torch.zeros_like(self._sums)

    @property
    def means(self) -> Tensor:
        """The mean loss of each task (m,) over what was labelled, NaN where nothing was."""
        return self._sums / self._counts  # 0 / 0

    def add(self, losses: Mapping[str, Tensor], values: Tensor) -> None:
        """Count a batch in.

        Args:
            losses: those that are there.
            values: of all tasks (m,), 0 for absent ones.
        """
        if not isinstance(losses, LabelledLosses) and len(losses) == len(self._tasks):
            self._sums += values  # nothing travels to the device
            self._counts += 1
            return
        known = losses.counts if isinstance(losses, LabelledLosses) else dict.fromkeys(losses, 1)
        counts = torch.tensor([float(known.get(task, 0)) for task in self._tasks], dtype=torch.float64)
        counts = counts.to(self._sums.device, non_blocking=True)
        self._sums += torch.where(counts > 0, counts * values, 0.0)
        self._counts += counts

    def clear(self) -> None:
        """Begin again."""
        self._sums.zero_()
        self._counts.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        self._sums.copy_(state["sums"])
        self._counts.copy_(state["counts"])
