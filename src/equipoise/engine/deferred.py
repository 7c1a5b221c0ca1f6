"""Flags that are looked at later, so that nobody waits for the device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .losses import StepLosses


class Deferred:
    """Keeps which losses of recent steps were bad until the host can know without waiting.

    On a CUDA device the flags are copied to pinned memory beside the computation; elsewhere they are there at once,
    and are looked at in the next step. A step that is captured into a CUDA graph keeps none: its replays run no Python
    that could look. Its bad losses are left out all the same.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, StepLosses, torch.cuda.Event | None]] = []

    def put(self, bad: Tensor, step: StepLosses) -> None:
        """Keep the flags (m,) of a step."""
        if bad.device.type != "cuda":
            self._kept.append((bad, _without_graph(step), None))
            return
        if torch.cuda.is_current_stream_capturing():
            return
        host = torch.empty(bad.shape, dtype=bad.dtype, pin_memory=True)
        host.copy_(bad, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._kept.append((host, _without_graph(step), event))

    def take(self) -> tuple[Tensor, StepLosses] | None:
        """The flags and losses of the oldest step that has arrived and was bad, if any; forgets what has arrived."""
        while self._kept and _arrived(self._kept[0][2]):
            bad, step, _ = self._kept.pop(0)
            if on_host(bad):
                self._kept = []
                return bad, step
        return None


def _without_graph(step: StepLosses) -> StepLosses:
    """The step as an error needs it: a graph that is kept would keep all activations."""
    return replace(step, roots={}, spare={}, whole=None)


def _arrived(event: torch.cuda.Event | None) -> bool:
    """Whether flags are in host memory; asking that during a capture would spoil the graph."""
    return event is None or (not torch.cuda.is_current_stream_capturing() and event.query())


def on_host(flags: Tensor) -> bool:
    """Whether any flag in host memory is set."""
    return any(flags.tolist())
