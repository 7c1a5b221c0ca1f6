"""What happens to the other ranks when one of them dies, hangs, or finds NaN.

The other faults that a run has to survive are tested where they happen: a kill in a checkpoint, damaged files and a
full disk in tests/training/test_checkpoint.py and test_loop.py, a full disk under a log in tests/test_monitor.py, rows
that do not fit into memory in test_memory.py. A rank that dies between two steps: test_distributed.py.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import ranks
from fault_cases import PATIENCE, dies, hangs, nan_on_one

_OURS = "Every rank should join the reduction of losses and gradients. Found that one did not"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "how", "says"),
    [
        ("ls", "step", _OURS),
        ("mgda", "pass", _OURS),
        ("ls", "pass", "Connection|closed|reset"),  # within DistributedDataParallel's own reduction
        ("mgda", "shards", "Connection|closed|reset|" + _OURS),
    ],
)
def test_the_other_rank_stops_when_one_dies(spec: str, how: str, says: str, tmp_path: Path) -> None:
    began = time.monotonic()
    processes = ranks.start(dies, 2, tmp_path, spec, how)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert time.monotonic() - began < 60
    assert processes[1].returncode == -9
    assert processes[0].returncode == 1
    assert re.search(says, said[0])


def test_the_other_rank_stops_when_one_hangs(tmp_path: Path) -> None:
    (said, seconds), _ = ranks.run(hangs, 2, tmp_path)
    assert said.startswith(_OURS)
    assert "it has died, or is stuck elsewhere" in said
    assert PATIENCE - 1 < seconds < PATIENCE + 30


def test_nan_on_one_rank_is_an_error_on_all(tmp_path: Path) -> None:
    specs = ["ls", "famo", "uw", "mgda", "nashmtl", "graddrop"]
    for found in ranks.run(nan_on_one, 2, tmp_path, specs):
        for spec in specs:
            said, untouched = found[spec]
            assert re.search(r"Every loss should be finite.* Found b: nan \(rank 1\)", said[0])
            assert all(
                re.search(r"gradient should be finite .* Found infinite or NaN ones: b\.", x)
                for x in said[1:]
            )
            assert len(said) == (1 if spec in ("ls", "famo", "uw") else 2)
            assert untouched
