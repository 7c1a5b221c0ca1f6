"""Saves a run between two steps, and goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from .checkpoint import load_checkpoint, save_checkpoint
from .config import RunConfig
from .position import Position


class Stateful(Protocol):
    """A part of a run that changes from step to step."""

    def state_dict(self) -> Any:
        """All that changes."""

    def load_state_dict(self, state: Any) -> Any:
        """Continue where `state_dict` was taken."""


class Saver:
    """Writes and reads the checkpoint of one run: its position, its parts, and torch's random numbers.

    Args:
        path: of the checkpoint.
        config: of the run; another one's checkpoint is not used.
        device: of the run.
        say: told why a checkpoint is not used.
        adopt: whether another configuration's checkpoint is used too. The learning rate that it had fallen to is then
            multiplied with the ratio of the two configurations' rates.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        device: torch.device,
        say: Callable[[str], None],
        *,
        adopt: bool = False,
    ) -> None:
        self._path = path
        self._config = config
        self._device = device
        self._say = say
        self._adopt = adopt

    def save(self, at: Position, parts: Mapping[str, Stateful]) -> None:
        """Write a checkpoint.

        Raises:
            StorageError: if it cannot be written.
        """
        cuda = self._device.type == "cuda"
        state = {
            "config": self._config.model_dump(),
            "position": asdict(at),
            **{name: part.state_dict() for name, part in parts.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if cuda else None,
        }
        save_checkpoint(self._path, state)

    def resume(self, parts: Mapping[str, Stateful]) -> Position:
        """Put the parts where the last checkpoint was taken, and say how far that was: at the start without one."""
        state = load_checkpoint(self._path, self._say)
        if state is None:
            return Position()
        if not self._is_ours(state["config"]):
            self._say(f"The checkpoint {self._path} is of another run. The run starts again.")
            return Position()
        if not parts.keys() <= state.keys():
            self._say(f"The checkpoint {self._path} is of another version. The run starts again.")
            return Position()
        for name, part in parts.items():
            part.load_state_dict(state[name])
        if self._adopt:
            _rescale(parts["optimizer"], self._config.lr / state["config"]["lr"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        return Position.read(state["position"])

    def _is_ours(self, config: Mapping[str, Any]) -> bool:
        """Settings that an older version did not know have their defaults."""
        if self._adopt:
            return True
        try:
            return RunConfig.read(config) == self._config
        except ValueError:
            return False


def _rescale(optimizer: Stateful, ratio: float) -> None:
    """Multiply the rate of the model's parameters; a schedule that sets it does so from its own."""
    if isinstance(optimizer, torch.optim.Optimizer) and ratio != 1.0:
        optimizer.param_groups[0]["lr"] *= ratio
