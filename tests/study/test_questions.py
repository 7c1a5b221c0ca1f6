"""Questions: what is run for each, and what planted scores make of the answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scipy import stats

from equipoise.benchmark.records import Plan
from equipoise.benchmark.runs import Run
from equipoise.build import build_method
from equipoise.core import MethodSpec
from equipoise.problems.fronts import Fronts
from equipoise.problems.synthetic import Synthetic
from equipoise.report.answers_page import answers_page, score_table, write_answers
from equipoise.report.wording import number
from equipoise.study.answers import Result, answer
from equipoise.study.answers_file import write_answers_file
from equipoise.study.asking import Asked, arm_plans, check_asked, keep_question, run_question
from equipoise.study.partition import Groups
from equipoise.study.plan import StudyError
from equipoise.study.question import Facts, Found
from equipoise.study.questions import QUESTIONS
from equipoise.study.said import Together
from study.planted_runs import Planted, Scores

FACTS = [
    Facts(3, 2),
    Facts(11, 5),
    Facts(6, 3, (0, 0, 1, 1, 2, 2), {"go4align:groups=3": Found(1.0, (0, 0, 0, 1, 1, 2))}),
]
GO = "go4align:groups=3"
PROBLEM: Any = Synthetic
ORDER = ("ls", "si", "rlw", "dwa", "uw", "famo", "mgda", "nashmtl", "go4align")


def asked(question: str = "grouping", **changes: Any) -> Asked:
    given = {"problem": "synthetic", "preset": "smoke", "seeds": 4, "baselines": "none", **changes}
    return Asked(question=question, **given)


def answered(where: Path, score: Scores, wanted: Asked, runner: Planted | None = None) -> Result:
    question = QUESTIONS[wanted.question]
    plans = run_question(question, PROBLEM, wanted, where, runner or Planted(score))
    return answer(question, where, plans)


@pytest.mark.parametrize("name", sorted(QUESTIONS))
@pytest.mark.parametrize("facts", FACTS, ids=["3 tasks", "11 tasks", "known groups"])
def test_every_variant_is_a_method_and_every_comparison_has_its_variants(name: str, facts: Facts) -> None:
    question = QUESTIONS[name]
    if facts.tasks < question.least_tasks:
        return
    variants = question.variants(facts)
    assert len({one.name for one in variants}) == len(variants) >= 1
    for one in variants:
        build_method(MethodSpec.parse(one.label), facts.tasks)
    for label in question.first(facts) if question.first else ():
        build_method(MethodSpec.parse(label), facts.tasks)
    contrasts = question.asked(facts)
    assert all(set(one.these).isdisjoint(one.those) and one.question.endswith("?") for one in contrasts)
    needed = {one.name for one in question.variants(FACTS[2])}
    if name != "tuned":  # whose variants depend on what its first runs found
        assert all(needed.issuperset(one.names) for one in question.contrasts(FACTS[2]) if facts.known)


def test_all_questions_that_runs_can_answer_have_a_command() -> None:
    answered_by_runs = {number for question in QUESTIONS.values() for number in question.numbers}
    assert answered_by_runs | {11, 14} == set(range(1, 18))  # these two: a unit test, and configuration files


def test_main_effects_of_the_factorial_are_of_four_pairs_each() -> None:
    p, q, groups = QUESTIONS["components"].contrasts(FACTS[0])[:3]
    assert set(p.these) == {"P", "P, grouped", "P and Q", "P and Q, grouped"}
    assert set(p.those) == {"raw losses", "raw losses, grouped", "Q", "Q, grouped"}
    assert set(q.these) == {"Q", "Q, grouped", "P and Q", "P and Q, grouped"}
    assert all(name.endswith("grouped") for name in groups.these) and len(groups.these) == 4


def test_answers_are_paired_t_tests_after_holms_correction(tmp_path: Path) -> None:
    """Scores have a large seed effect, which pairing takes out."""
    noise = {
        "ls": (0.0, 0.0, 0.0, 0.0),
        GO: (0.1, -0.2, 0.0, 0.3),
        "go4align:groups=6:clustering=none": (9, -9, 4, -3),
    }
    means = {"ls": 50.0, GO: 20.0}

    def score(label: str, seed: int) -> float:
        other = [
            (sum(i * ord(letter) for i, letter in enumerate(label)) * (k + 3) % 17) / 10 for k in range(4)
        ]
        return 40.0 * seed + means.get(label, 21.0) + noise.get(label, other)[seed % 4]

    found = answered(tmp_path, score, asked(), Planted(score, {GO: [(0, 0, 1, 1, 2, 2)] * 4}))
    (arm,) = found.arms
    by_question = {one.contrast.question: one for one in arm.answers}
    yes = by_question["Is it better than equal weights?"]
    unsure = by_question["Does grouping help, against a weight for each task?"]
    assert (yes.said, unsure.said) == ("yes", "cannot be told")
    p_values = []
    for one in arm.answers:
        sides = [
            [sum(arm.row(name).scores[seed] for name in names) / len(names) for seed in range(4)]
            for names in (one.contrast.these, one.contrast.those)
        ]
        p_values.append(float(stats.ttest_rel(*sides).pvalue))
        assert one.comparison.p == pytest.approx(p_values[-1], rel=1e-6)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min((len(order) - place) * p_values[i], 1.0))
        assert arm.answers[i].p == pytest.approx(least, rel=1e-6)
    assert yes.sentence.startswith("Yes (-29.9 points of delta_m, 95 % interval")
    assert f"an observed difference of {unsure.visible:.1f} would have been clear" in unsure.sentence
    assert arm.row("found").groups is not None and arm.row("found").groups.agreement == 1.0  # type: ignore[union-attr]


def test_how_groups_moved_has_intervals_over_the_seeds(tmp_path: Path) -> None:
    found = answered(tmp_path, lambda label, seed: 1.0 + len(label) + seed, asked())
    (arm,) = found.arms
    moved = tuple(Groups(2.0, 0.1 * k, 0.4 + 0.1 * k, 0.2 * k) for k in (1, 2, 3))
    rows = tuple(replace(row, moved=moved if row.variant.name == "found" else ()) for row in arm.rows)
    table = score_table(found, replace(arm, rows=rows))
    cells = {
        row[0].text: dict(zip(table.header, (cell.text for cell in row), strict=True)) for row in table.rows
    }
    for column, values, decimals in (
        ("switch rate (%)", (10, 20, 30), 1),
        ("Rand index", (0.2, 0.4, 0.6), 2),
    ):
        low, high = stats.t.interval(0.95, 2, fmean(values), stats.sem(values))
        expected = [number(value, decimals) for value in (fmean(values), low, high)]
        assert cells["found"][column] == f"{expected[0]} ({expected[1]} to {expected[2]})"
    assert cells["no groups"]["Rand index"] == "–"


def test_what_is_the_same_runs_is_no_test_and_said(tmp_path: Path) -> None:
    """Where the fixed weights that validate best are equal ones, their runs are those of equal weights."""

    noise = {"famo": (0.0, 0.4, -0.3, 0.2), "go4align": (0.0, -0.1, 0.3, 0.5)}

    def score(label: str, seed: int) -> float:
        name = label.partition(":")[0]
        if name in noise:
            return 20.0 + (name == "famo") + noise[name][seed]
        equal = label in ("ls", "constant:weights=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]")
        return 10.0 + seed if equal else 30.0

    (arm,) = answered(tmp_path, score, asked("tuned")).arms
    assert arm.row("fixed weights, tuned").scores == arm.row("ls").scores
    *others, last = arm.answers
    assert last.sentence == "Cannot be told: both sides are the same runs, with equal scores on every seed."
    assert (last.said, last.p) == ("cannot be told", 1.0)
    # Against equal and against tuned weights is one test each of the two rules, and they against each other the third.
    against, between = {one.comparison for one in others[:4]}, others[4].comparison
    assert len(against) == 2
    smallest = min(one.p for one in (*against, between))
    assert min(one.p for one in others) == pytest.approx(3 * smallest)


class Converging(Planted):
    """Tasks that converge in steps of `apart(label, seed)` epochs, from the first on."""

    def __init__(self, score: Scores, apart: Callable[[str, int], int]) -> None:
        super().__init__(score)
        self.apart = apart

    def _log(self, plan: Plan, run: Run, directory: Path) -> None:
        ends = [1 + task * self.apart(run.method, run.seed) for task in range(len(plan.tasks))]
        folder = directory / "runs" / run.run_id
        folder.mkdir(parents=True)
        with open(folder / "epochs.csv", "w", newline="") as file:
            rows = [[epoch, *(9.0 if epoch < end else 1.0 for end in ends)] for epoch in range(max(ends) + 1)]
            header = ["epoch", *(f"val_{task.metrics[0].name}" for task in plan.tasks)]
            csv.writer(file).writerows([header, *rows])


def convergence(where: Path, levels: dict[str, float], *, seeds: int = 3, common: float = 0.0) -> Together:
    """What is said where the tasks of `ls si rlw ...` are 1, 2, 3, ... epochs apart and these are the scores."""

    def score(label: str, seed: int) -> float:
        return levels[label.partition(":")[0]] + common * seed + (len(label) * (seed + 1) % 5)

    def apart(label: str, seed: int) -> int:
        return 1 + ORDER.index(label.partition(":")[0]) + round(common / 50) * seed

    wanted = asked("convergence", seeds=seeds)
    found = answered(where, score, wanted, Converging(score, apart))
    assert found.together is not None
    page = answers_page(found, [], "equipoise study convergence")
    assert f"- **{QUESTIONS['convergence'].text}** {found.together.sentence}" in page
    assert "comparisons of this page and the correlation" in page
    write_answers_file(found, where)
    assert json.loads((where / "answers.json").read_text())["correlation"]["said"] == found.together.said
    return found.together


@pytest.mark.parametrize(
    ("sign", "said", "words"), [(1, "yes", "Yes ("), (-1, "no", "No, the other way round (")]
)
def test_convergence_goes_with_scores_over_methods(sign: int, said: str, words: str, tmp_path: Path) -> None:
    one = convergence(tmp_path, {name: 90.0 + sign * 2 * place for place, name in enumerate(ORDER)})
    assert (one.said, one.correlation.n, one.seeds) == (said, 9, 3)
    assert one.sentence.startswith(
        f"{words}correlation of convergence difference and delta_m {one.correlation.r:.2f}"
    )
    assert 0.9 < sign * one.correlation.r < 1
    assert one.correlation.p < one.p < 0.05  # it is one of the tests that are corrected for


def test_what_seeds_do_to_all_methods_is_no_correlation(tmp_path: Path) -> None:
    """Scores that have nothing to do with convergence over methods, while both grow from seed to seed."""
    levels = dict(zip(ORDER, (3.0, -2.0, 1.0, 0.0, 2.0, -1.0, -3.0, 1.5, 0.5), strict=True))
    one = convergence(tmp_path, levels, common=100.0)
    plain = convergence(tmp_path / "alone", levels)
    assert one.said == "cannot be told" and one.correlation.r == pytest.approx(plain.correlation.r)
    assert f"an observed one of {one.visible:.2f} would have been clear" in one.sentence


def test_one_seed_says_nothing_of_the_correlation(tmp_path: Path) -> None:
    one = convergence(tmp_path, {name: 40.0 + 3 * place for place, name in enumerate(ORDER)}, seeds=1)
    assert one.sentence == "Cannot be told: one seed says nothing about another one; add seeds."


def test_equal_differences_of_two_seeds_answer_nothing(tmp_path: Path) -> None:
    """Their spread is 0, and p would be 0: a yes to everything."""
    found = answered(tmp_path, lambda label, seed: 5.0 * seed + len(label), asked(seeds=2))
    answers = found.arms[0].answers
    assert {one.said for one in answers} == {"cannot be told"}
    assert "points of delta_m, but every seed has the same difference" in answers[0].sentence


def test_what_is_worse_is_answered_by_no(tmp_path: Path) -> None:
    found = answered(
        tmp_path, lambda label, seed: 90.0 + seed / 9 if label == GO else 20.0 + 0.1 * (seed % 2), asked()
    )
    no = found.arms[0].answers[1]
    assert no.said == "no" and no.sentence.startswith("No (+70.")


def test_one_seed_answers_nothing_and_says_why(tmp_path: Path) -> None:
    found = answered(tmp_path, lambda label, seed: 1.0 + len(label), asked(seeds=1))
    assert {one.said for one in found.arms[0].answers} == {"cannot be told"}
    assert "one seed" in found.arms[0].answers[0].sentence
    page = answers_page(found, [], "equipoise study grouping")
    assert "add seeds" in page


def test_failed_and_diverged_runs_stay_in_the_table_and_out_of_the_differences(tmp_path: Path) -> None:
    def score(label: str, seed: int) -> float | None:
        if label == "ls":
            return None
        return float("nan") if label == GO and seed == 2 else 10.0 + seed + len(label) / 99

    found = answered(tmp_path, score, asked())
    (arm,) = found.arms
    assert not arm.row("equal weights").scores and len(arm.row("equal weights").failed) == 4
    assert sorted(arm.row("found").scores) == [0, 1, 3]
    assert arm.row("found").failed == ("seed 2: a metric is not finite",)
    by_question = {one.contrast.question: one for one in arm.answers}
    assert by_question["Is it better than equal weights?"].sentence.startswith("Cannot be told: no seed")
    against_none = by_question["Does grouping help, against a weight for each task?"].comparison
    assert against_none is not None and against_none.freedom == 2
    page = answers_page(found, [], "equipoise study grouping")
    assert (
        "| equal weights | failed |" in page
        and "equal weights: seed 0: the loss of g1t1 is not finite" in page
    )
    write_answers_file(found, tmp_path)
    written = json.loads((tmp_path / "answers.json").read_text())
    assert written["arms"][0]["variants"][0]["scores"] == {}
    assert len(written["arms"][0]["answers"]) == len(arm.answers)


def test_a_study_of_which_every_run_failed_says_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"At least one run of .*first should have ended well. Found none"):
        answered(tmp_path, lambda label, seed: None, asked())
    with pytest.raises(StudyError, match=r"At least one run of .*runs should have ended well. Found none"):
        answered(tmp_path / "b", lambda label, seed: None, asked("components"))


def test_frozen_groups_come_from_a_run_of_a_seed_that_the_study_does_not_use(tmp_path: Path) -> None:
    early, late = (2, 2, 1, 1, 0, 0), (0, 1, 1, 1, 2, 2)
    runner = Planted(lambda label, seed: 5.0, {GO: [early, early, early, late, late, late]})
    run_question(QUESTIONS["grouping"], PROBLEM, asked(), tmp_path, runner)
    (first, before), (_, study) = runner.plans
    assert (first, before.seeds, study.seeds) == ("first", (4,), (0, 1, 2, 3))
    specs = [MethodSpec.parse(label).kwargs.get("assignment") for label in study.methods]
    given = [one for one in specs if one is not None]
    assert given[0] == list(late) and sorted(given[1]) == sorted(late) and given[1] != list(late)
    assert given[2] == [0, 0, 1, 1, 2, 2]


def test_tuned_takes_the_setting_of_each_method_that_validates_best(tmp_path: Path) -> None:
    best = {"go4align:groups=6:step=0.001", "famo:lr=0.005:weight_decay=0.001"}
    runner = Planted(lambda label, seed: 1.0 if label in best else 5.0)
    plans = run_question(QUESTIONS["tuned"], PROBLEM, asked("tuned"), tmp_path, runner)
    (_, before), (_, study) = runner.plans
    assert before.seeds == (0,) and len(before.methods) == 18
    assert best < set(study.methods) and len(study.methods) == 4
    assert [one.name for one in plans[0].variants][1:] == [
        "fixed weights, tuned",
        "famo, tuned",
        "go4align, tuned",
    ]


def test_arms_change_an_option_and_all_comparisons_are_corrected_together(tmp_path: Path) -> None:
    plans = arm_plans(QUESTIONS["planted"], PROBLEM, asked("planted"), {})
    assert [one.plan.config["options"]["noise"] for one in plans] == [0.0, 0.5, 1.0, 2.0]
    found = answered(tmp_path, lambda label, seed: len(label) + (seed * 7 % 4) / 10, asked("planted"))
    counts = [len(arm.answers) for arm in found.arms]
    assert counts == [4, 4, 4, 4]
    sizes = arm_plans(QUESTIONS["scaling"], PROBLEM, asked("scaling"), {})
    assert [len(one.plan.tasks) for one in sizes] == [2, 8, 32, 128, 512]


@pytest.mark.parametrize("name", ["clustering", "indicator", "beta", "scaling"])
def test_every_page_has_its_tables_and_figures(name: str, tmp_path: Path) -> None:
    found = answered(tmp_path, lambda label, seed: len(label) + seed % 2, asked(name, seeds=2))
    page = write_answers(found, tmp_path, f"equipoise study {name}").read_text()
    figures = {"beta": "sweep", "scaling": "costs"}
    assert (tmp_path / f"figures/{figures.get(name, 'run_time')}.png").stat().st_size > 5_000
    if name == "scaling":
        row = next(line for line in page.splitlines() if line.startswith("| 512 |"))
        assert row.count("2.00") == 3 and "ms |" in row and "Δm" not in page
        assert found.arms[-1].grouping is not None and 0 < found.arms[-1].grouping < 1
    else:
        assert all(f"| {one.variant.name} |" in page for one in found.arms[0].rows)


@pytest.mark.parametrize(
    ("problem", "changes", "message"),
    [
        (Synthetic, {"seeds": 0}, "`seeds` should be at least 1. Found 0."),
        (
            Synthetic,
            {"known": (0, 1)},
            "`known` should be the group of each of the 6 tasks. Found 2 numbers.",
        ),
        (
            Synthetic,
            {"known": (0, 0, 2, 2, 3, 3)},
            "`known` should number the groups from 0 and leave none empty.",
        ),
        (Fronts, {}, "`problem` should have at least 3 tasks for `study grouping`. Found 2 of fronts."),
        (Fronts, {"question": "planted"}, "should have the option `noise`.* Found fronts: take synthetic."),
    ],
)
def test_what_cannot_be_asked_is_refused(problem: Any, changes: dict[str, Any], message: str) -> None:
    wanted = asked(problem=problem.name, **changes)
    with pytest.raises(StudyError, match=message):
        check_asked(QUESTIONS[wanted.question], problem, wanted)


def test_a_directory_belongs_to_one_study(tmp_path: Path) -> None:
    keep_question(asked(), tmp_path, {"command": "x"}, resume=False)
    keep_question(asked(), tmp_path, {"command": "y"}, resume=False)  # nothing was run yet
    (tmp_path / "runs").mkdir()
    keep_question(asked(), tmp_path, {}, resume=True)
    with pytest.raises(StudyError, match="was begun with this study: add --resume"):
        keep_question(asked(), tmp_path, {}, resume=False)
    with pytest.raises(StudyError, match=r"seeds: 4 -> 3"):
        keep_question(asked(seeds=3), tmp_path, {}, resume=True)
