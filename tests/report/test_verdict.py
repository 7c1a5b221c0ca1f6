"""The sentences on top of a report claim no more than the numbers hold."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Sequence

import pytest

from equipoise.benchmark.estimates import Estimate, Evidence, MethodEvidence
from equipoise.benchmark.evidence import evidence, indistinct
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Baseline, Spread, Summary
from equipoise.report import verdict as verdicts
from equipoise.report.verdict import verdict
from report.run_directory import Shape, write_run_directory

METHODS = ("ls", "famo", "go4align:groups=5")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    shape = Shape(methods=METHODS, seeds=5, epochs=1, steps=1, preset="paper")
    found = summarise(write_run_directory(tmp_path_factory.mktemp("run"), shape))
    quiet = [dataclasses.replace(row, not_learnt=frozenset()) for row in found.methods]
    return dataclasses.replace(found, methods=tuple(quiet))


def scored(base: Summary, *scores: Sequence[float]) -> Summary:
    """The methods with these values of Δm, one a seed: each metric is so much worse than its single-task value."""
    rows = []
    for index, (row, own) in enumerate(zip(base.methods, scores, strict=True)):
        tables = [
            {name: value.mean * (1 + score / 100) for name, value in base.baseline.values.items()}
            for score in own
        ]
        runs = tuple(
            dataclasses.replace(run, metrics={**run.metrics, "test": table})
            for run, table in zip(row.runs, tables, strict=False)
        )
        spread = Spread.of(own)
        changes = dict.fromkeys(row.changes, spread.mean)
        rows.append(
            dataclasses.replace(row, runs=runs, delta_m=spread, changes=changes, mean_rank=1.0 + index)
        )
    return dataclasses.replace(base, methods=tuple(rows))


BEST, MIDDLE, LAST = (-3.0, -2.5, -3.3, -2.8, -3.4), (1.0, 1.4, 0.9, 0.8, 0.9), (5.0, 5.2, 4.9, 5.3, 4.6)


def test_a_clear_winner(base: Summary) -> None:
    lead, apart, against = verdict(scored(base, MIDDLE, BEST, LAST))[:3]
    assert re.fullmatch(
        r"famo has the lowest Δm, −3.0 \[−[34].\d, −[12].\d\] %: its metrics are on average 3.0 % better than those of "
        r"single-task networks.",
        lead,
    )
    assert apart == "It differs from every other method (paired tests, Holm's correction over all pairs)."
    assert re.fullmatch(
        r"Against ls, after Holm's correction, better: famo \(−4.0 \[−4.\d, −3.\d\] points\); worse: go4align "
        r"\(\+4.0 \[\+3.\d, \+4.\d\] points\).",
        against,
    )


def test_what_the_seeds_cannot_tell_apart_is_a_tie(base: Summary) -> None:
    sentences = verdict(
        scored(base, (5.0, 6.0, 4.0, 7.0, 3.0), (4.9, 4.0, 6.1, 5.0, 5.5), (9.0, 9.9, 8.1, 10.9, 7.2))
    )
    assert re.match(
        r"A tie: ls \(\+5.0 \[.*\] %\) and famo \(\+5.1 \[.*\] %\) cannot be told apart on 5 seeds.",
        sentences[0],
    )
    assert sentences[1].startswith("Of ls: its metrics are on average 5.0 % worse than those of single-task")
    assert sentences[2].startswith("Against ls, after Holm's correction, worse: go4align (+4.0 [+3.")
    assert re.match(r"famo ties with ls: differences below \d.\d points count as chance here.", sentences[3])


def test_a_difference_inside_its_interval_is_never_called_real(base: Summary) -> None:
    stream = random.Random(0)
    for _ in range(6):
        values = [[stream.gauss(place, 1.5) for _ in range(5)] for place in (0, 1, 2)]
        summary = scored(base, *values)
        found = evidence(summary)
        text = " ".join(verdict(summary))
        for label, one in found.methods.items():
            if one.against is None:
                continue
            low, high = one.against.estimate.low, one.against.estimate.high
            assert low is not None and high is not None
            if low <= 0 <= high:
                assert one.against.verdict == "tie"
                name = re.escape(label.split(":")[0])
                assert not re.search(
                    rf"(better|worse): [^.;]*{name} \(", text.split("Holm's correction,")[-1]
                )


def test_what_differs_from_ls_is_not_called_a_tie_with_it(base: Summary) -> None:
    """Against ls there are two tests, between all pairs three: p = 0.02 passes the first correction alone."""
    values = (0.0, 0.1, -0.1, 0.05, -0.05), (1.2, 0.2, 0.75, 1.4, 0.45), (1.4, -0.6, 0.5, 1.6, -0.4)
    summary = scored(base, *values)
    found = evidence(summary)
    famo = found.methods["famo"].against
    assert famo is not None and famo.verdict == "worse"
    assert "famo" in indistinct(summary)["ls"]
    sentences = verdict(summary)
    assert sentences[0].startswith("A tie: ls (") and "famo" not in sentences[0]
    assert "worse: famo (+0.8 [" in sentences[2]


def test_without_any_difference_that_is_said_once(base: Summary) -> None:
    values = [(5.0, 6.0, 4.0, 7.0, 3.0), (4.9, 4.0, 6.1, 5.0, 5.5), (5.2, 3.1, 6.0, 4.0, 7.0)]
    sentences = verdict(scored(base, *values))
    assert re.search(
        r"No method is clearly different from ls: differences below \d.\d points count as chance",
        sentences[2],
    )
    assert not any("tie with" in text or "ties with" in text for text in sentences)


def test_one_difference_that_survives_alone_may_not_survive_among_many(base: Summary) -> None:
    """Holm's correction over the two comparisons: p = 0.03 alone is no difference here."""
    values = (0.0, 0.1, -0.1, 0.05, -0.05), (0.9, 0.3, 0.5, 1.1, 0.1), (0.1, -0.3, 0.2, 0.4, -0.2)
    found = evidence(scored(base, *values)).methods["famo"].against
    assert found is not None
    assert found.p < 0.05 < found.p_holm
    assert found.verdict == "tie"
    assert found.visible is not None and found.visible > found.estimate.mean


def test_a_lead_that_may_be_chance_is_called_so(base: Summary) -> None:
    values = [(-1.0, 1.5, -2.0, 0.9, -0.2)] * 3
    assert "which may be chance" in " ".join(verdict(scored(base, *values))[:2])


def test_one_seed_says_that_the_order_may_be_chance(base: Summary) -> None:
    sentences = verdict(scored(base, [5.0], [5.9], [7.0]))
    assert sentences[0].startswith("ls has the lowest Δm, +5.0 %: its metrics")
    assert "One seed: the spread is unknown, so the order of the methods may be chance." in sentences
    assert not any("A tie" in text or "differs" in text or "Against" in text for text in sentences)


def test_what_failed_or_is_not_finite_is_said(base: Summary) -> None:
    summary = scored(base, MIDDLE, BEST, (5.0, math.nan, 4.9, 5.3, 4.6))
    gone = dataclasses.replace(base.records[0], method="famo", status="failed", error="DivergedError: nan")
    methods = (summary.methods[0], summary.methods[2])
    sentences = verdict(dataclasses.replace(summary, methods=methods, failed=(gone,)))
    assert "go4align has no Δm: not finite with seed 1." in sentences
    assert "Failed on all seeds: famo." in sentences


def test_another_leader_by_rank_is_named(base: Summary) -> None:
    summary = scored(base, MIDDLE, BEST, LAST)
    assert "By mean rank ls leads, 1.00 against 2.00." in verdict(summary)


def test_without_delta_m_the_rank_leads_and_the_reason_is_given(base: Summary) -> None:
    baseline = dataclasses.replace(base.baseline, missing="no finished single-task run of mu")
    rows = tuple(dataclasses.replace(row, delta_m=None) for row in scored(base, BEST, MIDDLE, LAST).methods)
    summary = dataclasses.replace(base, baseline=baseline, methods=rows, missing=("stl_task-mu",))
    assert verdict(summary)[0] == (
        "There is no Δm yet (no finished single-task run of mu). "
        "ls has the best mean rank, 1.00 among 3 methods over 11 metrics."
    )


def test_where_single_task_networks_were_not_asked_for_nothing_is_missing(base: Summary) -> None:
    baseline = Baseline("none", {}, frozenset(), "single-task networks were not asked for")
    rows = [
        dataclasses.replace(r, delta_m=None, mean_rank=rank)
        for r, rank in zip(base.methods, (1.5, 1.5, 3.0), strict=True)
    ]
    summary = dataclasses.replace(base, baseline=baseline, methods=tuple(rows))
    assert verdict(summary)[0] == (
        "There is no Δm: single-task networks were not asked for. "
        "A tie: ls and famo have the best mean rank, 1.50 among 3 methods over 11 metrics."
    )
    alone = dataclasses.replace(summary, methods=tuple(rows[:1]))
    assert verdict(alone)[0].endswith("With ls alone there is nothing to compare.")
    one_seed = [dataclasses.replace(row, runs=row.runs[:1]) for row in rows]
    assert (
        "One seed: the spread is unknown" in verdict(dataclasses.replace(summary, methods=tuple(one_seed)))[1]
    )


def test_what_delta_m_leaves_out_is_named(base: Summary) -> None:
    baseline = dataclasses.replace(base.baseline, left_out=("mu", "cv"), not_learnt=frozenset({"mu", "r2"}))
    summary = dataclasses.replace(scored(base, BEST, MIDDLE, LAST), baseline=baseline)
    sentences = verdict(summary)
    assert (
        "Δm leaves out 2 of 11 metrics, whose single-task value is not above 0 on every seed: mu and cv."
        in sentences
    )
    assert "Not learnt by the single-task networks: mu and r2; Δm rests on r2 too." in sentences


def test_one_metric_that_outweighs_all_others_is_named(base: Summary) -> None:
    rows = [
        dataclasses.replace(row, changes={**dict.fromkeys(row.changes, 1.0), "mu": -500.0})
        for row in base.methods
    ]
    rows[2] = dataclasses.replace(rows[2], changes=dict.fromkeys(rows[2].changes, 1.0))
    values = {**base.baseline.values, "mu": Spread(0.004, None, 1)}
    summary = dataclasses.replace(
        base, methods=tuple(rows), baseline=dataclasses.replace(base.baseline, values=values)
    )
    found = [sentence for sentence in verdict(summary) if "weighs more" in sentence]
    assert len(found) == 1
    assert (
        "one metric, mu, weighs more than all others together; its single-task value is 0.0040." in found[0]
    )
    assert "ls" in found[0]
    assert "go4align" not in found[0]


def test_two_leaders_by_rank_are_both_named(base: Summary) -> None:
    summary = scored(base, BEST, MIDDLE, LAST)
    rows = [
        dataclasses.replace(row, mean_rank=rank)
        for row, rank in zip(summary.methods, (3.0, 1.5, 1.5), strict=True)
    ]
    sentences = verdict(dataclasses.replace(summary, methods=tuple(rows)))
    assert "By mean rank famo and go4align lead, 1.50 against 3.00." in sentences


def test_long_waits_for_batches_are_said(base: Summary) -> None:
    runs = [dataclasses.replace(run, seconds=10.0, data_seconds=2.0) for run in base.methods[0].runs]
    quick = [dataclasses.replace(run, seconds=10.0, data_seconds=0.5) for run in base.methods[0].runs]
    rows = (
        dataclasses.replace(base.methods[0], runs=tuple(runs)),
        *(dataclasses.replace(r, runs=tuple(quick)) for r in base.methods[1:]),
    )
    assert "More than 5 % of the step time goes into waiting for batches: ls (20.0 %)." in verdict(
        dataclasses.replace(base, methods=rows)
    )


def test_a_small_budget_is_called_a_demonstration(base: Summary) -> None:
    small = dataclasses.replace(base, plan=dataclasses.replace(base.plan, preset="quick"))
    assert any(sentence.startswith("Demonstration budget (preset quick)") for sentence in verdict(small))
    assert not any("Demonstration" in sentence for sentence in verdict(base))


def test_tasks_that_nobody_learnt_are_named(base: Summary) -> None:
    rows = [dataclasses.replace(row, not_learnt=frozenset({"mu", "cv"})) for row in base.methods]
    rows[0] = dataclasses.replace(rows[0], not_learnt=frozenset({"mu"}))
    baseline = dataclasses.replace(base.baseline, not_learnt=frozenset({"homo"}))
    sentences = verdict(dataclasses.replace(base, methods=tuple(rows), baseline=baseline))
    assert "Not learnt by any method: mu." in sentences
    assert "Not learnt by the single-task networks: homo; Δm rests on them too." in sentences


def test_where_nothing_was_learnt_nobody_is_called_best(base: Summary) -> None:
    everything = frozenset(metric.name for metric in base.plan.metrics)
    rows = tuple(dataclasses.replace(row, not_learnt=everything) for row in base.methods)
    assert verdict(dataclasses.replace(base, methods=rows)) == [
        "No method learnt a single task within this budget: the numbers say nothing about the methods."
    ]


def test_open_ends_are_counted(base: Summary) -> None:
    summary = dataclasses.replace(base, failed=base.records[:1], missing=("x", "y"), methods=())
    assert verdict(summary) == [
        "No method has a finished run yet.",
        "Failed on all seeds: ls.",
        "Runs of the plan: 1 failed and 2 not finished; see below.",
    ]


def test_a_single_method_is_not_called_the_lowest(base: Summary) -> None:
    only = dataclasses.replace(base, methods=scored(base, MIDDLE, BEST, LAST).methods[:1])
    assert verdict(only)[0].startswith("ls has a Δm of +1.0 [")
    assert len(verdict(only)) == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        (Estimate(1.2, 1.0, 1.4, 5), Estimate(1.9, 1.5, 2.3, 5), True),
        (Estimate(1.2, 1.0, 1.6, 5), Estimate(1.9, 1.5, 2.3, 5), False),
        (Estimate(1.0, None, None, 5, "the same in every resample"), Estimate(1.9, 1.5, 2.3, 5), True),
        (Estimate(1.0, None, None, 1, "one seed"), Estimate(1.9, None, None, 1, "one seed"), False),
    ],
)
def test_a_leader_in_rank_is_one_where_the_intervals_are_apart(
    ours: Estimate, theirs: Estimate, apart: bool
) -> None:
    methods = {
        name: MethodEvidence(name, None, None, rank, {}, None) for name, rank in (("a", ours), ("b", theirs))
    }
    assert verdicts._apart(Evidence(None, "", methods, {}, 0.95, 10, 0), "a", "b") == apart
