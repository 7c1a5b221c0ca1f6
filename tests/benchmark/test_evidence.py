"""Estimates, differences and reasons, on run directories that are small enough to check by hand or by scipy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from scipy import stats

from equipoise.benchmark.aggregates import middle_mean
from equipoise.benchmark.evidence import Estimate, Evidence, evidence, indistinct
from equipoise.benchmark.records import Baselines, Record, append_record, write_plan
from equipoise.benchmark.samples import Samples
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, make_plan, make_record

TASKS = (Task("a", (Metric("a", False, "K"),)), Task("b", (Metric("b", True, "%"),)))
LS = [(4.0, 50.0), (4.4, 52.0), (4.2, 49.0), (4.1, 51.0)]
FAMO = [(3.0, 51.0), (3.5, 53.0), (3.3, 50.5), (3.0, 51.0)]
UW = [(4.1, 50.1), (4.3, 52.1), (4.3, 48.8), (4.05, 51.3)]
SINGLE_A, SINGLE_B = [4.0, 4.0, 4.0, 4.0], [50.0, 50.0, 50.0, 50.0]
Rows = Sequence[tuple[float, float]]


def summary_of(
    path: Path,
    methods: Mapping[str, Rows],
    single: tuple[Sequence[float], Sequence[float]] = (SINGLE_A, SINGLE_B),
    *,
    planned: Sequence[str] = (),
    failed: Sequence[Record] = (),
    baselines: Baselines = "own",
) -> Summary:
    shape = Shape(methods=(*methods, *planned), seeds=4, baselines=baselines)
    write_plan(path, make_plan(shape, TASKS))
    for method, rows in methods.items():
        for seed, (a, b) in enumerate(rows):
            append_record(path, make_record(method, {"test": {"a": a, "b": b}}, seed=seed))
    for name, values in zip("ab", single if baselines == "own" else ((), ()), strict=True):
        for seed, value in enumerate(values):
            record = make_record(f"stl:task={name}", {"test": {name: value}}, seed=seed, task=name)
            append_record(path, record)
    for record in failed:
        append_record(path, record)
    return summarise(path)


def broken(method: str, seed: int) -> Record:
    return dataclasses.replace(
        make_record(method, {}, seed=seed), status="failed", error="DivergedError: nan"
    )


def scores(rows: Rows) -> list[float]:
    """delta_m against 4 and 50, by its definition."""
    return [50 * ((a - 4) / 4 - (b - 50) / 50) for a, b in rows]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return evidence(summary_of(tmp_path_factory.mktemp("run"), {"ls": LS, "famo": FAMO, "uw": UW}))


def near(value: float, within: float = 0.03) -> Any:
    return pytest.approx(value, rel=within)


def test_without_noise_of_single_task_runs_delta_m_has_student_s_interval(found: Evidence) -> None:
    own = scores(FAMO)
    estimate = found.methods["famo"].delta_m
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    half = stats.t.isf(0.025, 3) * stdev(own) / 2
    assert estimate.mean == pytest.approx(fmean(own))
    assert (estimate.n, estimate.why) == (4, "")
    assert (estimate.high - estimate.mean, estimate.mean - estimate.low) == (near(half), near(half))
    change = found.methods["famo"].changes["a"]
    assert change.mean == pytest.approx(100 * (3.2 - 4) / 4)
    assert change.high is not None
    assert change.high - change.mean == near(stats.t.isf(0.025, 3) * 25 * stdev(a for a, _ in FAMO) / 2)


def test_the_noise_of_single_task_runs_widens_the_interval(tmp_path: Path) -> None:
    """Runs of other seeds than the method's are independent of it."""
    noisy = [3.8, 4.2, 4.0], [49.0, 51.0, 50.0]
    estimate = evidence(summary_of(tmp_path, {"ls": LS, "famo": FAMO}, noisy)).methods["famo"].delta_m
    assert estimate is not None and estimate.high is not None
    a, b = fmean(a for a, _ in FAMO), fmean(b for _, b in FAMO)
    # by the delta method: d/dB of 50 (M - B) / B is -50 M / B^2
    parts = [(stdev(scores(FAMO)) / 2) ** 2]
    parts += [(50 * a / 16 * stdev(noisy[0])) ** 2 / 3, (50 * b / 2500 * stdev(noisy[1])) ** 2 / 3]
    freedom = math.floor(sum(parts) ** 2 / sum(part**2 / n for part, n in zip(parts, (3, 2, 2), strict=True)))
    half = stats.t.isf(0.025, freedom) * math.sqrt(sum(parts))
    assert estimate.high - estimate.mean == near(half, 0.05)
    assert sum(parts) > 1.3 * parts[0]  # so that leaving the single-task runs out would show


@pytest.mark.parametrize("sign", [1, -1])
def test_single_task_runs_of_the_same_seeds_move_with_the_method(tmp_path: Path, sign: int) -> None:
    """A seed is a split: what makes it hard for both cancels, what helps one and hurts the other adds up."""
    noisy = [4 + sign * (a - fmean(a for a, _ in FAMO)) for a, _ in FAMO], [50.0] * 4
    found = evidence(summary_of(tmp_path, {"ls": LS, "famo": FAMO}, noisy)).methods["famo"]
    a = fmean(a for a, _ in FAMO)
    moved = [100 * (own / 4 - a * single / 16) for (own, _), single in zip(FAMO, noisy[0], strict=True)]
    change = found.changes["a"]
    assert change.high is not None
    assert change.high - change.mean == near(stats.t.isf(0.025, 3) * stdev(moved) / 2, 0.06)
    alone = stats.t.isf(0.025, 3) * 25 * stdev(a for a, _ in FAMO) / 2
    assert (change.high - change.mean < alone) == (sign > 0)


def test_the_difference_is_that_of_the_paired_t_test(found: Evidence) -> None:
    famo, uw = found.methods["famo"].against, found.methods["uw"].against
    assert famo is not None and uw is not None and found.methods["ls"].against is None
    for one, rows in ((famo, FAMO), (uw, UW)):
        known = stats.ttest_rel(scores(rows), scores(LS))
        interval = known.confidence_interval(0.95)
        assert one.p == pytest.approx(float(known.pvalue))
        assert (one.estimate.low, one.estimate.high) == (near(interval.low, 1e-6), near(interval.high, 1e-6))
    assert famo.p_holm == pytest.approx(2 * famo.p)
    assert uw.p_holm == pytest.approx(uw.p)
    assert (famo.verdict, uw.verdict) == ("better", "tie")


def test_what_is_called_real_is_at_least_what_can_be_seen(found: Evidence) -> None:
    for one in (found.methods["famo"].against, found.methods["uw"].against):
        assert one is not None and one.visible is not None
        assert (abs(one.estimate.mean) >= one.visible) == (one.verdict != "tie")


def test_the_probability_of_improvement_counts_pairs_of_seeds(found: Evidence) -> None:
    uw = found.methods["uw"].against
    assert uw is not None
    wins = [
        fmean((x < y) + 0.5 * (x == y) for x in own for y in other)
        for own, other in (
            ([a for a, _ in UW], [a for a, _ in LS]),
            ([-b for _, b in UW], [-b for _, b in LS]),
        )
    ]
    assert uw.improvement.mean == pytest.approx(fmean(wins))
    low, high = uw.improvement.low, uw.improvement.high
    assert low is not None and high is not None
    assert 0 <= low < uw.improvement.mean < high <= 1


def test_the_inter_quartile_mean_is_the_mean_of_the_middle_half(found: Evidence) -> None:
    changes = [25 * (a - 4) for a, _ in FAMO] + [-2 * (b - 50) for _, b in FAMO]
    estimate = found.methods["famo"].iqm
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    assert estimate.mean == pytest.approx(float(stats.trim_mean(changes, 0.25)))
    assert estimate.low < estimate.mean < estimate.high


def test_mean_ranks_are_those_of_the_summary_and_stay_in_range(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO, "uw": UW})
    ranks = [one.mean_rank for one in evidence(summary).methods.values()]
    assert [rank and rank.mean for rank in ranks] == [row.mean_rank for row in summary.methods]
    for rank in ranks:
        assert rank is not None
        assert rank.why or (rank.low is not None and rank.high is not None and 1 <= rank.low < rank.high <= 3)


def test_two_seeds_are_enough_for_intervals_however_wide(tmp_path: Path) -> None:
    single = SINGLE_A[:2], SINGLE_B[:2]
    crossing = [(4.0, 50.0), (4.4, 50.6)], [(4.2, 49.5), (4.1, 51.0)]  # each leads with one seed
    summary = summary_of(tmp_path, {"ls": crossing[0], "famo": crossing[1]}, single)
    famo = evidence(summary).methods["famo"]
    assert famo.delta_m is not None and famo.delta_m.high is not None
    half = stats.t.isf(0.025, 1) * stdev(scores(crossing[1])) / math.sqrt(2)
    assert famo.delta_m.high - famo.delta_m.mean == near(half)
    assert famo.mean_rank is not None and famo.mean_rank.low == 1.0 and famo.mean_rank.high == 2.0
    assert famo.against is not None and famo.against.verdict == "tie"
    alone = evidence(summary_of(tmp_path / "alone", {"ls": LS, "famo": FAMO}, (SINGLE_A[:1], SINGLE_B[:1])))
    delta = alone.methods["famo"].delta_m
    assert delta is not None and delta.why == "one seed of the single-task run of a and 1 more"


def test_one_seed_has_no_interval_and_no_test(tmp_path: Path) -> None:
    found = evidence(summary_of(tmp_path, {"ls": LS[:1], "famo": FAMO[:1]}))
    famo = found.methods["famo"]
    why = "one seed, which says nothing about its spread"
    assert famo.delta_m == Estimate(pytest.approx(-13.5), None, None, 1, why)  # type: ignore[arg-type]
    assert famo.iqm is not None and famo.iqm.why == why and famo.changes["a"].why == why
    assert famo.mean_rank == Estimate(1.0, None, None, 1, "one seed of ls")
    assert famo.against is not None
    assert (famo.against.verdict, famo.against.p, famo.against.visible) == ("unknown", 1.0, None)
    assert famo.against.estimate.why == famo.against.improvement.why == why


def test_one_seed_of_a_single_task_run_refuses_what_rests_on_it(tmp_path: Path) -> None:
    found = evidence(summary_of(tmp_path, {"ls": LS, "famo": FAMO}, (SINGLE_A[:1], [49.0, 51.0, 50.0, 50.0])))
    famo = found.methods["famo"]
    assert famo.delta_m is not None and famo.delta_m.low is None
    assert famo.delta_m.why == famo.changes["a"].why == "one seed of the single-task run of a"
    assert famo.changes["b"].low is not None
    assert famo.against is not None and famo.against.verdict == "better"  # paired: the baseline is the same


def test_a_value_that_is_not_a_number_is_said_and_not_dropped(tmp_path: Path) -> None:
    rows = [FAMO[0], (math.nan, 53.0), *FAMO[2:]]
    found = evidence(summary_of(tmp_path, {"ls": LS, "famo": rows, "uw": UW}))
    famo, uw = found.methods["famo"], found.methods["uw"]
    assert famo.delta_m is not None and math.isnan(famo.delta_m.mean)
    assert famo.delta_m.why == famo.changes["a"].why == "not finite with seed 1"
    assert famo.changes["b"].low is not None
    assert famo.against is not None and famo.against.verdict == "unknown"
    assert famo.against.estimate.why == "not finite with seed 1"
    assert uw.against is not None and uw.against.p_holm == uw.against.p  # the only test that is left
    assert famo.mean_rank is not None and famo.mean_rank.mean == 2.0  # last in a, first in b
    assert indistinct(summary_of(tmp_path / "again", {"ls": LS, "famo": rows}))["ls"] == ("famo",)


def test_a_single_task_value_that_is_not_above_zero_on_every_seed_is_left_out(tmp_path: Path) -> None:
    """Nothing is relative to a value that may be 0, and its ratio would rule delta_m."""
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO}, (SINGLE_A, [90.0, -20.0, 50.0, 1.0]))
    found = evidence(summary).methods["famo"]
    assert summary.baseline.left_out == ("b",)
    assert set(found.changes) == {"a"}
    assert found.delta_m is not None and found.delta_m.low is not None
    assert found.delta_m.mean == pytest.approx(found.changes["a"].mean)


def test_seeds_that_all_agree_are_no_evidence(tmp_path: Path) -> None:
    same = [(3.0, 51.0)] * 4
    found = evidence(summary_of(tmp_path, {"ls": [(4.0, 50.0)] * 4, "famo": same}))
    famo = found.methods["famo"]
    assert famo.delta_m is not None and "same in every resample" in famo.delta_m.why
    assert famo.against is not None and famo.against.verdict == "unknown"
    assert famo.against.estimate.mean == pytest.approx(-13.5)
    assert "no spread" in famo.against.estimate.why


def test_without_baselines_only_ranks_and_chances_are_left(tmp_path: Path) -> None:
    found = evidence(summary_of(tmp_path, {"ls": LS, "famo": FAMO}, baselines="none"))
    famo = found.methods["famo"]
    assert (famo.delta_m, famo.iqm, famo.changes) == (None, None, {})
    assert famo.mean_rank is not None and famo.mean_rank.mean == 1.0
    assert famo.against is not None and famo.against.improvement.mean > 0.5
    assert famo.against.estimate.why == "there is no delta_m: single-task networks were not asked for"


def test_a_failed_seed_is_a_seed_less_and_its_partner_is_left_out(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO[:3]}, failed=[broken("famo", 3)])
    famo = evidence(summary).methods["famo"]
    assert famo.against is not None and famo.against.estimate.n == 3
    assert famo.against.estimate.mean == pytest.approx(
        fmean(x - y for x, y in zip(scores(FAMO[:3]), scores(LS[:3]), strict=True))
    )


def test_a_method_that_failed_on_all_seeds_is_named_with_its_reason(tmp_path: Path) -> None:
    summary = summary_of(
        tmp_path, {"ls": LS}, planned=("uw", "famo"), failed=[broken("uw", seed) for seed in range(4)]
    )
    assert evidence(summary).failed == {"uw": "DivergedError: nan"}  # famo has runs to come


@pytest.mark.parametrize(
    ("planned", "failed", "why"),
    [
        ((), [], "ls is not among the methods"),
        (("ls",), [], "ls has no finished run yet"),
        (("ls",), [broken("ls", seed) for seed in range(4)], "ls failed on all seeds: DivergedError: nan"),
    ],
)
def test_without_ls_there_is_no_comparison_and_the_reason_is_said(
    tmp_path: Path, planned: Sequence[str], failed: Sequence[Record], why: str
) -> None:
    found = evidence(summary_of(tmp_path, {"famo": FAMO, "uw": UW}, planned=planned, failed=failed))
    assert (found.reference, found.why) == (None, why)
    assert all(one.against is None for one in found.methods.values())


def test_pairs_that_cannot_be_told_apart_are_mutual(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO, "uw": UW})
    assert indistinct(summary) == {"ls": ("uw",), "famo": (), "uw": ("ls",)}


def test_the_evidence_of_a_summary_is_kept_and_repeatable(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO})
    assert evidence(summary) is evidence(summary)
    assert evidence(summarise(tmp_path)) == evidence(summary)


def test_the_other_intervals_have_student_s_quantile_of_the_seeds_too(tmp_path: Path) -> None:
    """Half a width is t_{0.975, n - 1} times the spread over resamples."""
    level = (
        [(4.0, 50.0), (4.4, 52.0), (4.2, 49.0), (4.1, 51.0)],
        [(4.1, 50.5), (4.3, 51.5), (4.3, 49.5), (4.0, 50.0)],
    )
    summary = summary_of(tmp_path, {"ls": level[0], "famo": level[1], "uw": UW})
    samples, found = Samples(summary), evidence(summary)
    by_name = {row.method: row for row in summary.methods}
    quantile = float(stats.t.isf(0.025, 3))

    def half(estimate: Estimate | None) -> float:
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        return max(
            estimate.high - estimate.mean, estimate.mean - estimate.low
        )  # one end may be cut at a limit

    own, other = samples.costs(by_name["famo"]), samples.costs(by_name["ls"])
    wins = torch.stack([(mine < other).double() + (mine == other).double() / 2 for mine in own]).mean(dim=2)
    drawn = (samples.draws(by_name["famo"]) @ wins * samples.other_draws(by_name["ls"])).sum(dim=1)
    against = found.methods["famo"].against
    assert against is not None and half(against.improvement) == near(quantile * float(drawn.std()))

    costs = {name: samples.draws(row) @ samples.costs(row) for name, row in by_name.items()}
    ranks = 1 + torch.stack([(cost < costs["famo"]).double().mean(dim=1) for cost in costs.values()]).sum(
        dim=0
    )
    rank = found.methods["famo"].mean_rank
    assert half(rank) == near(
        min(quantile * float(ranks.std()), max(3 - rank.mean, rank.mean - 1) if rank else 0)
    )

    changes = samples.changes(samples.values(by_name["famo"]), samples.baseline)
    every = samples.draws(by_name["famo"]).repeat_interleave(2, dim=1)
    middles = middle_mean(changes.flatten().expand(len(every), -1), every)
    assert half(found.methods["famo"].iqm) == near(quantile * float(middles.std()))


def test_rows_at_the_compute_of_ls_are_compared_with_it_too(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"ls": LS, "famo": FAMO, "uw": UW})
    rows = [
        dataclasses.replace(row, method="famo@compute") if row.method == "uw" else row
        for row in summary.methods
    ]
    found = evidence(dataclasses.replace(summary, methods=tuple(rows))).methods
    assert found["famo"].against is not None and found["famo@compute"].against is not None
    assert found["famo"].against.p_holm == pytest.approx(2 * found["famo"].against.p)
