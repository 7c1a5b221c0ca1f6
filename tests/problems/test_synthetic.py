"""Planted groups: the tasks are what the docstring says, and their best errors are known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.problems.synthetic import Synthetic, groups_of


def test_groups_are_blocks_of_alike_sizes() -> None:
    assert groups_of(6, 3) == (0, 0, 1, 1, 2, 2)
    assert groups_of(5, 2) == (0, 0, 0, 1, 1)
    assert Synthetic.known_groups({"tasks": 4, "groups": 2}) == (0, 0, 1, 1)
    assert [task.name for task in Synthetic(tasks=4, groups=2).tasks] == ["g1t1", "g1t2", "g2t3", "g2t4"]


def test_scales_of_groups_are_spread_and_blurred_as_asked() -> None:
    exact = Synthetic(tasks=6, groups=3, noise=0.0, spread=100.0, label_noise=0.5).world(3)
    torch.testing.assert_close(exact.variance / exact.variance[0], torch.tensor([1.0, 1, 10, 10, 100, 100]))
    blurred = Synthetic(tasks=400, groups=2, noise=0.7, spread=1.0, held=1, samples=10).world(0)
    assert float(blurred.variance.log().std()) == pytest.approx(0.7, abs=0.08)


def test_tasks_of_a_group_share_their_function_and_no_others() -> None:
    world = Synthetic(tasks=4, groups=2, own=0.2, label_noise=0.01, samples=20_000, held=1, inputs=32).world(
        0
    )
    together = torch.corrcoef(world.y.T)
    assert float(together[0, 1]) > 0.6 and float(together[2, 3]) > 0.6  # 0.8 but for what the two parts share
    assert max(abs(float(together[i, j])) for i in (0, 1) for j in (2, 3)) < 0.3
    alone = Synthetic(tasks=4, groups=2, own=1.0, label_noise=0.01, samples=20_000, held=1, inputs=32).world(
        0
    )
    assert abs(float(torch.corrcoef(alone.y.T)[0, 1])) < 0.6


def test_the_reference_is_the_error_of_the_function_that_made_the_targets() -> None:
    """Two worlds that differ in nothing but the noise of their labels: what is between them is that noise."""
    options = {"tasks": 3, "groups": 3, "samples": 20_000, "held": 20_000, "noise": 0.0}
    clean, noisy = (Synthetic(**options, label_noise=noise) for noise in (1e-6, 0.4))  # type: ignore[arg-type]
    signal, seen = clean.world(1), noisy.world(1)
    error = 100 * (seen.y - signal.y).square().mean(0) / seen.variance
    best = list(noisy.reference.values())
    assert best == pytest.approx([100 * 0.16 / 1.16] * 3)
    assert error.tolist() == pytest.approx(best, rel=0.03)
    trivial = list(noisy.trivial(1).values())
    assert trivial == pytest.approx([100.0] * 3, abs=4)


def test_losses_and_metrics_are_squared_errors() -> None:
    problem = Synthetic(tasks=3, groups=3, samples=50, held=30)
    model, loaders = problem.model(0), problem.loaders(0)
    batch = next(loaders.train.epoch(1))
    outputs = model(batch.x).detach()
    for k, loss in enumerate(problem.losses(model, batch).values()):
        assert loss.item() == pytest.approx(float(((outputs[:, k] - batch.y[:, k]) ** 2).mean()), rel=1e-5)
    (part,) = loaders.test
    expected = 100 * ((model(part.x).detach() - part.y) ** 2).mean(0) / part.variance
    assert list(problem.evaluate(model, loaders.test).values()) == pytest.approx(expected.tolist(), rel=1e-4)
    assert problem.shared(model) is model.encoder


def test_every_seed_draws_a_world_of_its_own_and_the_same_again() -> None:
    first, again = Synthetic(), Synthetic()
    assert first.world(1).y.equal(again.world(1).y)
    assert not first.world(1).y.equal(first.world(2).y)


def test_a_benchmark_learns_it(tmp_path: Path) -> None:
    arguments = ["bench", "synthetic", "--preset", "smoke", "--methods", "si,go4align", "--baselines", "none"]
    settings = ["--set", "tasks=3", "--set", "groups=3", "--jobs", "1", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*arguments, *settings])
    assert done.exit_code == 0, done.output
    for record in read_records(tmp_path / "run"):
        found, trivial = record.metrics["test"], record.metrics["trivial"]
        best = 100 * 0.09 / 1.09
        assert best < min(found.values())
        assert sum(found.values()) < 0.75 * sum(trivial.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 1}, r"`tasks` should be at least 2. Found 1."),
        ({"groups": 13}, r"`groups` should be from 1 to the number of tasks, 12. Found 13."),
        ({"label_noise": 0.0}, r"`label_noise` should be above 0. Found 0.0."),
        ({"spread": 0.5}, r"`spread` should be at least 1. Found 0.5."),
        ({"noise": -1.0}, r"`noise` should be at least 0. Found -1.0."),
        ({"own": 1.5}, r"`own` should be from 0 to 1. Found 1.5."),
        ({"samples": 0}, r"`samples` should be at least 1. Found 0."),
        ({"noise": math.nan}, r"`noise` should be at least 0. Found nan."),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Synthetic(**options)  # type: ignore[arg-type]
