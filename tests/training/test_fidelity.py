"""Fidelity of estimated updates in the logs of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from toy import Toy


def steps_of(folder: Path, method: str, **train: object) -> list[dict[str, str]]:
    """The rows of `steps.csv` after a run of 10 steps at most."""
    config = RunConfig(
        problem="toy",
        method=method,
        lr=1e-2,
        seed=0,
        train=TrainConfig.read({"epochs": 3, "max_steps": 10, **train}),
    )
    Trainer(Toy(), config, folder, folder / "checkpoint.pt").run()
    with open(folder / "steps.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_measured_every_n_steps_and_changes_nothing(tmp_path: Path) -> None:
    mode = "last_layer"
    rows = steps_of(tmp_path / "a", "mgda", memory=mode, fidelity_every=4)
    found = {int(row["step"]): float(row["fidelity"]) for row in rows if row["fidelity"]}
    assert list(found) == [1, 5, 9]
    assert all(-1 <= value <= 1 for value in found.values())
    assert not all(math.isclose(value, 1.0, abs_tol=1e-6) for value in found.values())
    plain = steps_of(tmp_path / "b", "mgda", memory=mode)
    assert [{k: v for k, v in row.items() if k != "fidelity"} for row in rows] == plain


@pytest.mark.parametrize(
    ("method", "memory"),
    [("ls", "features"), ("mgda", "rows"), ("mgda", "layerwise"), ("mgda", "auto"), ("famo", "sketch")],
)
def test_where_it_means_nothing_it_is_left_out(tmp_path: Path, method: str, memory: str) -> None:
    rows = steps_of(tmp_path, method, memory=memory, fidelity_every=1)
    assert "fidelity" not in rows[0]


def test_every_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="`fidelity_every` should be greater than or equal to 1. Found 0"):
        TrainConfig.read({"fidelity_every": 0})
