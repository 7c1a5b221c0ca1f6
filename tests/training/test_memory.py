"""Peak memory: of this run, not of what the process did before."""

from pathlib import Path

import pytest
import torch

from equipoise.training.memory import PeakMemory

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")
def test_the_peak_is_of_this_run() -> None:
    PeakMemory(CPU)
    torch.ones(40 * 2**20)  # 160 MB, gone at once
    began = PeakMemory(CPU).read()
    watched = PeakMemory(CPU)
    torch.ones(40 * 2**20)
    peak = watched.read()
    assert began is not None
    assert peak is not None
    assert peak - began > 120


def test_a_system_that_does_not_tell_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, text: str) -> int:
        raise PermissionError(self)

    monkeypatch.setattr(Path, "write_text", forbidden)
    assert PeakMemory(CPU).read() is None
