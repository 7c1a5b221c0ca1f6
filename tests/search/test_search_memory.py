"""What a search of eight small networks needs of the memory of a laptop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from equipoise.problems.digits import Digits

LIMIT_GB = 8.0


def held(process: psutil.Process) -> dict[str, float]:
    """GB of memory by the name of each process of a tree; what several share is divided among them."""
    found: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            name = one.cmdline()[0] if one.cmdline()[0].startswith("ray::") else one.name()
            found[f"{name} {one.pid}"] = one.memory_full_info().pss / 2**30
        except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
            continue
    return found


@pytest.mark.slow
def test_eight_members_fit_into_eight_gigabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Digits.data()["available"]:
        pytest.skip("the data of digits is not installed: equipoise data digits --install")
    words = ["search", "digits", "--preset", "smoke", "--population", "8", "--workers", "2", "--seeds", "1"]
    with open(tmp_path / "said.txt", "w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "equipoise.cli", *words, "--out", str(tmp_path / "run")],
            stdout=said,
            stderr=said,
        )
        tree, most = psutil.Process(process.pid), dict[str, float]()
        while process.poll() is None:
            now = held(tree)
            most = max(most, now, key=lambda one: sum(one.values()))
            time.sleep(0.3)
    assert process.returncode == 0, (tmp_path / "said.txt").read_text()
    idle = [name for name in most if name.startswith("ray::IDLE")]
    with capsys.disabled():
        parts = ", ".join(f"{name.rpartition(' ')[0]} {size:.2f}" for name, size in most.items())
        print(f"\nAt most {sum(most.values()):.2f} GB: {parts}; {len(idle)} idle workers of Ray.")
    assert sum(most.values()) < LIMIT_GB
    assert sum(name.startswith("ray::Worker") for name in most) == 2
