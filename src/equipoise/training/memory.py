"""Peak memory of a run."""

from __future__ import annotations

from pathlib import Path

import torch

_RESET_PEAK = "5"  # what Linux takes as the order to forget the peak of the resident set


class PeakMemory:
    """The most memory that was in use since this object was made, in MB.

    On a GPU what torch has allocated there, else the resident set of the whole process.

    Args:
        device: where the run takes place.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        except OSError:  # another system than Linux, or a sandbox that forbids it
            self._known = False

    def peak(self, before: float | None) -> float | None:
        """The larger one of this peak and one before, in MB; None where neither is known."""
        return max((peak for peak in (before, self.read()) if peak is not None), default=None)

    def read(self) -> float | None:
        """The peak in MB, None where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if not self._known:
            return None
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None
