"""What is planted in the cells of a study is found, and nothing else."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from equipoise.study.analysis import analyse, generalisation_gap, merit, optimisation_gap
from equipoise.study.cell import CellResult
from equipoise.study.plan import Cell, Measure
from equipoise.study.verdict import verdicts

from .planted import PARAMETERS, plan, results

SMALL, LARGE = (1, 8), (2, 16)


def hill(cell: Cell, top: float, height: float = 80.0, steep: float = 60.0) -> float:
    assert cell.p is not None
    return height - steep * (cell.p - top) ** 2


def noisy(sd: float, value: float, cell: Cell) -> float:
    return value + random.Random(cell.name).gauss(0, sd)


def test_the_best_p_and_the_gain_over_single_networks() -> None:
    study = plan()
    tops = {("a", "b"): 0.35, ("a", "c"): 0.75}
    single = {"a": 70.0, "b": 60.0, "c": 50.0}
    found = analyse(
        study,
        results(study, lambda c: hill(c, tops[c.names]) if c.joint else single[c.names[0]]),  # type: ignore[index]
    )
    assert list(found.parameters.items()) == sorted(PARAMETERS.items(), key=lambda item: item[1])
    for (pair, _), best in found.best.items():
        assert best.p == tops[pair]
        assert best.plausible == (best.p,)  # seeds agree: there is no noise
        assert best.gain == pytest.approx(80 - 5 - (single[pair[0]] + single[pair[1]] - 10) / 2)
        assert best.uniform == pytest.approx((best.gain or 0) - 60 * (best.p - 0.5) ** 2)
    assert len(found.best) == 8 and not found.hidden


def test_noise_widens_what_is_plausible() -> None:
    study = plan()
    sharp = analyse(study, results(study, lambda c: noisy(0.05, hill(c, 0.35) if c.joint else 70, c)))
    blurred = analyse(study, results(study, lambda c: noisy(3.0, hill(c, 0.35) if c.joint else 70, c)))
    assert all(best.plausible == (0.35,) for best in sharp.best.values())
    assert sharp.noise["test"] is not None and blurred.noise["test"] is not None
    assert sharp.noise["test"].sd == pytest.approx(0.05, rel=0.4)
    assert blurred.noise["test"].sd == pytest.approx(3.0, rel=0.4)
    assert sum(len(best.plausible) for best in blurred.best.values()) > 2 * len(blurred.best)
    alone = plan(seeds=(0,), grid=(0.25, 0.5, 0.75))
    unknown = analyse(alone, results(alone, lambda c: hill(c, 0.25) if c.joint else 70))
    assert unknown.noise["validation"] is None
    assert all(best.plausible == (0.25, 0.5, 0.75) for best in unknown.best.values())


def gain_with(rise: float, sd: float) -> list[CellResult]:
    study = plan()
    return results(
        study,
        lambda c: noisy(
            sd, hill(c, 0.5) + rise * math.log2(PARAMETERS[c.capacity] / 100) if c.joint else 78, c
        ),
    )


@pytest.mark.parametrize(
    ("rise", "sd", "answer"),
    [(2.0, 0.2, "holds"), (-2.0, 0.2, "does not hold"), (-0.7, 4.0, "cannot be told here")],
)
def test_joint_training_gains_with_capacity_or_not(rise: float, sd: float, answer: str) -> None:
    found = analyse(plan(), gain_with(rise, sd))
    verdict = verdicts(found)[0]
    assert verdict.answer == answer
    assert found.trend is not None
    if sd < 1:
        assert found.trend.value == pytest.approx(rise, abs=0.3)
        assert f"{found.trend.value:+.2f}" in verdict.numbers


@pytest.mark.parametrize(
    ("large", "sd", "cost", "answer"),
    [
        (0.35, 0.1, 0.0, "holds"),
        (0.75, 0.1, 60 * 0.4**2, "does not hold"),
        (0.5, 6.0, None, "cannot be told here"),
    ],
)
def test_weights_of_a_small_network_for_a_large_one(
    large: float, sd: float, cost: float | None, answer: str
) -> None:
    study = plan()

    def value(cell: Cell) -> float:
        return noisy(sd, hill(cell, large if cell.capacity == LARGE else 0.35) if cell.joint else 70, cell)

    found = analyse(study, results(study, value))
    verdict = verdicts(found)[2]
    assert verdict.answer == answer
    if cost is not None and found.transfer_mean is not None:
        assert found.transfer_mean.value == pytest.approx(cost, abs=0.4)
        assert {(one.small, one.large) for one in found.transfer.values()} == {(0.35, large)}
        assert ("2 of 2 pairs" if large == 0.35 else "0 of 2 pairs") in verdict.numbers
        tuning = 60 * (large - 0.5) ** 2
        assert all(one.tuning == pytest.approx(tuning, abs=0.5) for one in found.transfer.values())


@pytest.mark.parametrize(
    ("rho", "answer"), [(0.0, "holds"), (-0.9, "does not hold"), (0.33, "cannot be told here")]
)
def test_conflict_predicts_the_metric_or_not(rho: float, answer: str) -> None:
    study = plan()

    def history(cell: Cell) -> list[dict[str, float]]:
        draw = random.Random(cell.name)
        rows = []
        for _ in range(8):
            x, z = draw.gauss(0, 1), draw.gauss(0, 1)
            row = {"conflict": 0.5 + 0.1 * x, "cosine": -x, "magnitude": 1.0}
            rows.append({**row, "merit": 70 + 5 * (rho * x + math.sqrt(1 - rho**2) * z)})
        return rows

    found = analyse(study, results(study, lambda c: 70.0, history=history))
    verdict = verdicts(found)[1]
    assert verdict.answer == answer
    rows = {(one.statistic, one.epochs): one for one in found.correlations}
    row, opposite = rows["conflict", "all"].pearson, rows["cosine", "all"].pearson
    assert row is not None and opposite is not None
    assert row.value == pytest.approx(rho, abs=0.1)
    assert opposite.value == pytest.approx(-row.value)
    assert rows["magnitude", "all"].pearson is None


def test_cells_that_do_not_count_are_named_and_change_nothing() -> None:
    study = plan()
    every = results(study, lambda c: hill(c, 0.35) if c.joint else 70)
    whole = analyse(study, every)
    first, second, third, *_ = [r for r in every if r.cell.joint and r.cell.p == 0.25 and r.cell.seed == 1]
    spoiled = {
        first.cell: CellResult(first.cell, "DivergedError: no"),
        second.cell: replace(second, steps=299, metrics={"validation": {}, "test": {}}),
        third.cell: replace(third, steps=500),
    }
    found = analyse(study, [spoiled.get(result.cell, result) for result in every])
    assert found.hidden == {
        first.cell.name: "failed: DivergedError: no",
        second.cell.name: "299 steps, fewer than 300",
        third.cell.name: "500 steps, where most cells have 400",
    }
    assert found.best == whole.best and found.trend == whole.trend
    assert not analyse(study, []).best
    nothing = analyse(study, [CellResult(cell, "no") for cell in study.cells()])
    assert [one.answer for one in verdicts(nothing)] == ["cannot be told here"] * 3


def test_gaps_are_differences_to_training_samples_and_to_single_networks() -> None:
    study = plan()
    every = results(study, lambda c: 60.0 if c.joint else 75.0)
    joint = next(result for result in every if result.cell.joint)
    assert generalisation_gap(study, joint) == pytest.approx(
        15
    )  # 10 more in training, 5 less in the test part
    assert optimisation_gap(every, joint) == pytest.approx((2 - 0.60) - (2 - 0.75))
    assert optimisation_gap([joint], joint) is None
    assert merit(study, joint, "train") == 70


def test_a_merit_is_always_better_when_higher() -> None:
    error = Measure(name="a", metric="a", unit="m", higher_is_better=False, reference=2.0)
    score = Measure(name="a", metric="a", unit="", higher_is_better=True, reference=-0.5)
    assert error.merit(1.0) == -50 > error.merit(3.0)
    assert score.merit(0.25) == 50


def test_without_references_gains_are_unknown_and_the_rest_is_not() -> None:
    study = plan()
    joint = [r for r in results(study, lambda c: hill(c, 0.35) if c.joint else 70) if r.cell.joint]
    found = analyse(study, joint)
    assert all(best.p == 0.35 and best.gain is None for best in found.best.values())
    assert [one.answer for one in verdicts(found)] == ["cannot be told here", "cannot be told here", "holds"]
    assert set(found.best) == {(pair, capacity) for pair in study.pairs for capacity in study.capacities}
