"""Fair plans: equal trials, the rows that no table goes without, and a test part that is read once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.choice import best
from equipoise.benchmark.execute import failed
from equipoise.benchmark.knobs import DECOUPLED, KNOBS, TRAIN_KNOBS, WEIGHT_DECAY
from equipoise.benchmark.order import left, pending, spent
from equipoise.benchmark.overrides import PlanError, read_lrs
from equipoise.benchmark.plan import differences
from equipoise.benchmark.records import Plan, Record, read_records
from equipoise.benchmark.runs import Run, run_config
from equipoise.benchmark.statistics import summarise
from equipoise.build import build_method, hyper_parameters
from equipoise.methods import METHODS
from equipoise.report.ranking import ranking_table
from equipoise.training.config import TrainConfig
from equipoise.training.outcome import InterruptedRunError, Progress
from equipoise.training.problem import Loaders
from shown import Shown, go, results, toy_plan
from toy import Toy

TASKS = 2
NEEDED = ("ls", "si", "rlw", "gls", "uw")


class Counting(Toy):
    """Counts how often the test part was read, over all copies of the problem."""

    reads = 0

    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        return replace(loaders, test=Watched(loaders.test))


class Watched:
    """A part of the data that tells when it is read."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        Counting.reads += 1
        return iter(self.batches)


def record(made: Plan, run: Run, score: float, *, test: bool | None = None) -> Record:
    read = run.test if test is None else test
    metrics = {"validation": {"a_mae": 1.0}, **({"test": {"a_mae": 1.0}} if read else {})}
    return replace(failed(made, run, ""), status="ok", error=None, validation_score=score, metrics=metrics)


def two(*methods: str, **changes: Any) -> Plan:
    """A plan of two rows only, so that it is run in a moment."""
    return replace(toy_plan(budget=2, settings={"epochs": 1}, **changes), methods=methods)


def test_every_row_has_the_same_number_of_trials_and_the_same_rates_and_decays() -> None:
    made = toy_plan(budget=6, methods=("cagrad", "uw"))
    assert set(made.trials) == {*made.methods, "stl:task=a", "stl:task=b"}
    assert all(len(trials) == 6 for trials in made.trials.values())
    pairs = {tuple((one.lr, one.train["weight_decay"]) for one in row) for row in made.trials.values()}
    assert len(pairs) == 1
    (pairs_of_all,) = pairs
    assert len(set(pairs_of_all)) == 6
    assert pairs_of_all[0] == (0.01, 0.0)  # the preset's
    assert all(
        2e-3 <= lr <= 0.05 and WEIGHT_DECAY.low <= d <= WEIGHT_DECAY.high for lr, d in pairs_of_all[1:]
    )
    assert [sorted(one.knobs) for one in made.trials["cagrad"]] == [[], *5 * [["c"]]]
    assert all("method_lr" in one.train for one in made.trials["uw"][1:])
    assert not any(one.knobs for one in made.trials["ls"])
    assert Plan.from_json(made.to_json()) == made


def test_the_list_is_a_function_of_problem_and_row_and_grows_at_its_end() -> None:
    small, large, again = (toy_plan(budget=n, methods=("cagrad",)) for n in (3, 9, 9))
    assert large.trials == again.trials
    assert {row: trials[:3] for row, trials in large.trials.items()} == dict(small.trials)

    class Other(Toy):
        name = "other"

    from equipoise.benchmark.plan import Overrides, make_plan

    assert make_plan(Other, "quick", Overrides(budget=9, methods=("cagrad",))).trials != large.trials


def test_the_trials_fill_the_range_evenly() -> None:
    """Any 16 points of a Sobol sequence from a multiple of 16 on hit each 16th of a range once."""
    trials = toy_plan(budget=17).trials["ls"][1:]
    places = [math.log(one.lr / 2e-3) / math.log(25) for one in trials]
    decays = [(math.log10(one.train["weight_decay"]) + 6) / 3 for one in trials]
    for values in (places, decays):
        middles = [(place + 0.5) / 16 for place in range(16)]
        assert all(abs(a - b) < 0.5 / 16 + 0.002 for a, b in zip(sorted(values), middles, strict=True))


def test_decay_of_adamw_has_a_range_of_its_own() -> None:
    trials = toy_plan(budget=9, settings={"optimizer": "adamw"}).trials["ls"][1:]
    assert all(DECOUPLED.low <= one.train["weight_decay"] <= DECOUPLED.high for one in trials)


def test_what_the_user_has_written_is_not_tuned() -> None:
    made = toy_plan(budget=4, methods=("famo:lr=0.1", "go4align:groups=1:clustering=quantile"))
    assert all(set(one.knobs) == {"weight_decay"} for one in made.trials["famo:lr=0.1"][1:])
    row = next(row for row in made.trials if row.startswith("go4align"))
    assert all(set(one.knobs) == {"step", "decay"} for one in made.trials[row][1:])
    free = toy_plan(budget=4, methods=("go4align",))  # groups=2 is the problem's, not the user's
    assert all("groups" in one.knobs for one in free.trials["go4align:groups=2"][1:])


@pytest.mark.parametrize(
    ("name", "knob"), [(method, knob) for method, knobs in KNOBS.items() for knob in knobs]
)
@pytest.mark.parametrize("n_tasks", [2, 3, 11])
def test_every_value_of_a_knob_makes_a_method(name: str, knob: str, n_tasks: int) -> None:
    for place in (0.0, 0.3, 0.6, 1 - 1e-9):
        value = KNOBS[name][knob].at(place, n_tasks)
        if knob in TRAIN_KNOBS:
            TrainConfig.read({knob: value})
        else:
            build_method(name, n_tasks, **{knob: value})


def test_the_default_of_a_knob_lies_in_its_range() -> None:
    for name, knobs in KNOBS.items():
        for knob, how in knobs.items():
            own = hyper_parameters(METHODS[name])
            default = TrainConfig().method_lr if knob in TRAIN_KNOBS else own[knob].default
            inside = default in how.options if how.kind == "choice" else how.low <= default <= how.high
            assert inside, (name, knob, default)


def test_the_documented_ranges_are_those_that_are_tried_out() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    for name, knobs in KNOBS.items():
        for knob, how in knobs.items():
            assert f"| `{name}` | `{knob}` | {how.text} | {how.source} |" in page


def test_rows_that_no_table_goes_without_are_added_and_named() -> None:
    made = toy_plan(budget=2, methods=("cagrad", "uw", "si+ema:decay=0.9"))
    assert made.methods == ("cagrad", "uw", "si+ema:decay=0.9", "ls", "si", "rlw", "gls")
    assert made.added == ("ls", "si", "rlw", "gls")
    assert toy_plan(budget=2, methods=NEEDED).added == ()
    assert toy_plan(methods=("cagrad",)).methods == ("cagrad",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, r"`budget` should be at least 1\. Found 0\."),
        (
            {"budget": 4, "lrs": (1e-3, 5e-4)},
            r"`lr` should be bounds with --budget, such as 1e-4\.\.1e-2.*Found 0\.001, 0\.0005\.",
        ),
        (
            {"budget": 4, "bounds": (1e-2, 1e-3)},
            r"`lr` should have bounds above 0, the lower one first\. Found 0\.01\.\.0\.001\.",
        ),
        ({"bounds": (1e-3, 1e-2)}, r"Found bounds, 0\.001\.\.0\.01: add --budget N"),
        (
            {"budget": 4, "settings": {"report": "last"}},
            r"`report` should be best with --budget, or every trial would read the test part\. Found last",
        ),
        (
            {"budget": 4, "settings": {"schedule": "cosine", "min_lr": 0.005}},
            r"`lr` should be at least `min_lr`, 0\.005, for schedule=cosine\. Found 0\.002\.\.0\.05",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        toy_plan(**changes)


def test_learning_rates_are_candidates_or_bounds() -> None:
    assert read_lrs("1e-3,5e-4") == ((1e-3, 5e-4), None)
    assert read_lrs("1e-4..1e-2") == ((), (1e-4, 1e-2))
    with pytest.raises(
        PlanError, match=r"numbers separated by commas, or with --budget bounds .* Found '1\.\.x'"
    ):
        read_lrs("1..x")


def test_bounds_hold_for_the_first_trial_too() -> None:
    trials = toy_plan(budget=5, bounds=(1e-4, 1e-3)).trials["ls"]
    assert trials[0].lr == 1e-3  # the preset's 0.01 lies above
    assert all(1e-4 <= one.lr <= 1e-3 for one in trials)


def test_trials_run_on_the_first_seed_without_the_test_part_then_the_best_reads_it() -> None:
    made = toy_plan(budget=3, methods=NEEDED, seeds=(4, 5), baselines="none")
    runs = [run for run in pending(made, []) if run.method == "ls"]
    assert [(run.trial, run.seed, run.test) for run in runs] == [(0, 4, False), (1, 4, False), (2, 4, False)]
    assert left(made, []) == 5 * (3 + 2)
    records = [record(made, run, score) for run, score in zip(runs, (2.0, -1.0, 3.0), strict=True)]
    later = [run for run in pending(made, records) if run.method == "ls"]
    assert [(run.trial, run.seed, run.test) for run in later] == [(1, 4, True), (1, 5, True)]
    assert later[0].run_id == runs[1].run_id  # it goes on from its own checkpoint
    assert run_config(made, later[0]) == run_config(made, runs[1])
    records += [record(made, run, 0.0) for run in later]
    assert not [run for run in pending(made, records) if run.method == "ls"]
    assert left(made, records) == 4 * (3 + 2)


def test_checkpoints_are_kept_of_the_best_trial_alone() -> None:
    made = toy_plan(budget=3, methods=NEEDED, baselines="none")
    runs = [run for run in pending(made, []) if run.method == "ls"]
    records = [record(made, run, score) for run, score in zip(runs, (2.0, 1.0, 3.0), strict=True)]
    assert spent(made, records[:1], records[0]) == []
    assert spent(made, records[:2], records[1]) == [runs[0].run_id]
    assert set(spent(made, records, records[2])) == {runs[0].run_id, runs[2].run_id}
    read = record(made, replace(runs[1], test=True), 1.0)
    assert spent(made, [*records, read], read) == [runs[1].run_id]


def test_what_chooses_is_given_validation_scores_alone() -> None:
    assert best({"a": 2.0, "b": -1.0, "c": math.nan}) == "b"
    assert best({"late": 1.0, "later": 1.0}) == "late"
    assert best({"a": math.nan}) is None
    assert best({}) is None


def test_other_test_metrics_change_no_choice(tmp_path: Path) -> None:
    """Records whose test metrics all say the opposite of their validation scores lead to the same runs and rows."""
    made = toy_plan(lrs=(0.1, 0.01), seeds=(0, 1), methods=("ls",), baselines="none")
    runs = pending(made, [])
    honest = [record(made, run, score) for run, score in zip(runs, (1.0, 2.0), strict=True)]
    turned = [replace(one, metrics={"test": {"a_mae": 9.0 - 4 * one.validation_score}}) for one in honest]
    assert pending(made, honest) == pending(made, turned)
    assert pending(made, honest)[0].lr == 0.1


def test_the_test_part_is_read_once_for_each_row_and_seed(tmp_path: Path) -> None:
    Counting.reads = 0
    plan, show = two("ls", "uw", seeds=(0, 1)), Shown()
    records = go(plan, tmp_path, show, problem=Counting)
    assert len(records) == 4 * (2 + 2) == show.total
    assert Counting.reads == 4 * 2 * 2  # of the chosen network, and of the guess that it is compared with
    lines = read_records(tmp_path)
    trials = [line for line in lines if line.seed == 0 and "test" not in line.metrics]
    assert len(trials) == 4 * 2
    assert all(set(line.metrics) == {"validation"} for line in trials)
    for row in ("ls", "uw", "stl:task=a", "stl:task=b"):
        own = [line for line in trials if line.method == row]
        lowest = min(own, key=lambda line: line.validation_score)
        read = [line for line in lines if line.method == row and "test" in line.metrics]
        assert [(line.trial, line.seed) for line in read] == [(lowest.trial, 0), (lowest.trial, 1)]
        assert read[0].validation_score == lowest.validation_score
        assert read[0].steps == lowest.steps
    assert not list((tmp_path / "checkpoints").iterdir())
    summary = summarise(tmp_path)
    assert [len(row.runs) for row in summary.methods] == [2, 2]
    assert summary.missing == ()
    chosen = next(row for row in summary.methods if row.method == "uw")
    assert chosen.setting.startswith(f"lr {chosen.lr:g}, weight decay ")


def test_reading_the_test_part_trains_nothing_and_is_the_run_itself(tmp_path: Path) -> None:
    """The chosen trial equals a run of its configuration that reads the test part at its end."""
    from equipoise.training.loop import Trainer

    steps: list[str] = []

    class Watching(Shown):
        def progress(self, run: Run, now: Progress) -> None:
            steps.append(f"{run.run_id} {run.test}")

    plan = two("ls", "uw", baselines="none")
    records = go(plan, tmp_path / "runs", Watching())
    reads = [line for line in records if "test" in line.metrics]
    assert not [step for step in steps if step.endswith("True")]
    one = reads[0]
    run = next(r for r in pending(plan, []) if r.run_id == one.run_id)
    config = run_config(plan, run)
    outcome = Trainer(Toy(**config.options), config, tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.metrics == one.metrics


def test_a_lost_checkpoint_costs_time_and_changes_nothing(tmp_path: Path) -> None:
    plan = two("ls", "uw", baselines="none")
    whole = results(go(plan, tmp_path / "a"))

    class Losing(Shown):
        def finished(self, record: Record, left: int) -> None:
            for file in (tmp_path / "b" / "checkpoints").iterdir():
                file.unlink()

    assert results(go(plan, tmp_path / "b", Losing())) == whole


def test_a_stopped_budget_goes_on_to_the_same_records(tmp_path: Path) -> None:
    plan = two("ls", "uw", baselines="none")
    whole = results(go(plan, tmp_path / "a"))

    class Stopping(Shown):
        def finished(self, record: Record, left: int) -> None:
            super().finished(record, left)
            if len(self.ends) == 3:  # the first look at the test part has just been recorded
                raise InterruptedRunError("stop")

    with pytest.raises(InterruptedRunError):
        go(plan, tmp_path / "b", Stopping())
    assert results(go(plan, tmp_path / "b", resume=True)) == whole


def test_a_method_that_fails_in_all_trials_stays_as_failed_and_the_others_go_on(tmp_path: Path) -> None:
    """Losses that are below 0 are none for a geometric mean."""

    class Negative(Toy):
        def losses(self, model: Any, batch: Any) -> Any:
            return {name: loss - 100.0 for name, loss in super().losses(model, batch).items()}

    plan = two("ls", "gls", baselines="none", seeds=(0, 1))
    records = go(plan, tmp_path, problem=Negative)
    bad = [line for line in records if line.method == "gls"]
    assert [(line.trial, line.status) for line in bad] == [(0, "failed"), (1, "failed")]
    assert all("above 0 for GLS" in (line.error or "") for line in bad)
    summary = summarise(tmp_path)
    assert "gls" not in [row.method for row in summary.methods]
    (row,) = (line for line in ranking_table(summary).rows if line[0].text == "gls")
    assert row[1].text == "failed with all 2 settings on the first seed"
    assert {line.method for line in summary.failed} >= {"gls"}
    assert summary.missing == ()
    assert "ls" in [row.method for row in summary.methods]
    again = replace(plan, budget=1, trials={row: settings[:1] for row, settings in plan.trials.items()})
    records = go(again, tmp_path / "one", problem=Negative)
    assert [line.seed for line in records if line.method == "gls"] == [
        0,
        1,
    ]  # nothing to choose: a seed is a seed
    (row,) = (line for line in ranking_table(summarise(tmp_path / "one")).rows if line[0].text == "gls")
    assert row[1].text == "failed on all seeds"


def test_a_validation_part_that_is_the_test_part_is_refused(tmp_path: Path) -> None:
    class Same(Toy):
        def loaders(self, seed: int) -> Any:
            loaders = super().loaders(seed)
            return replace(loaders, validation=loaders.test)

    records = go(two("ls", "uw", baselines="none"), tmp_path, problem=Same)
    assert all(line.status == "failed" for line in records)
    assert all("Found that the two are one" in (line.error or "") for line in records)


def test_other_trials_are_another_plan() -> None:
    old, new = (toy_plan(budget=4, bounds=bounds) for bounds in (None, (1e-4, 1e-3)))
    assert differences(old, new)[-1].startswith("trials: others, of gls, ls, ")
    assert "budget: None -> 4" in differences(toy_plan(), old)
