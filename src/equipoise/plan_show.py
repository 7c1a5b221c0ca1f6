"""What `equipoise bench` says of a plan before it is run."""

from __future__ import annotations

from pathlib import Path

from equipoise.benchmark import plan as planning
from equipoise.benchmark.matched import BACKWARD, FORWARD, expected
from equipoise.benchmark.records import Plan, Setting
from equipoise.benchmark.runs import COMPUTE, base_label, settings
from equipoise.benchmark.trials import knobs_of
from equipoise.terminal import print_rows, say
from equipoise.training.config import TrainConfig


def print_plan(plan: Plan, where: Path, *, separate: bool = False) -> None:
    """Print what a plan would run: its rows, its settings, how many runs, and about how many passes they take.

    Args:
        plan: of the runs.
        where: its directory.
        separate: whether each task has samples of its own; see `equipoise.training.problem.Separate`.
    """
    entries = planning.entries(plan)
    seeds = ", ".join(map(str, plan.seeds))
    rows = [[label, _tried(plan, label), seeds] for label, _ in entries]
    print_rows(["run", f"{_kind(plan)}, on the first seed", "seeds, with the best of them"], rows)
    for name, value in planning.flat(plan.config).items():
        say(f"{name} = {value}")
    say_added(plan)
    for line in (*_trial_lines(plan), *_cost_lines(plan, separate)):
        say(line)
    say(f"{planning.left(plan, [])} runs ({_counted(plan)}) would go to {where}.")


def say_added(plan: Plan) -> None:
    """Say which methods are in the table though nobody asked for them."""
    if plan.added:
        why = "a tuned table always has them" if plan.budget else "compute is matched to it"
        say(f"Added, since {why}: {', '.join(plan.added)}.")


def _kind(plan: Plan) -> str:
    return "learning rates" if plan.budget is None else "trials"


def _tried(plan: Plan, label: str) -> str:
    if label.endswith(COMPUTE):
        about = f"about {_epochs(plan, label)} epochs in place of {_train(plan).epochs}"
        return f"the setting of {base_label(label)}, {about}"
    if plan.budget is None:
        return ", ".join(f"{lr:g}" for lr in plan.lrs)
    tuned = [name for one in plan.trials[label][1:2] for name in (*one.train, *one.knobs)]
    known = knobs_of(label, {})
    texts = [f"{name} {known[name].text}" if name in known else name for name in tuned]
    return ", ".join([f"{plan.budget} of lr", *texts])


def _trial_lines(plan: Plan) -> list[str]:
    if plan.budget is None:
        return []
    first = plan.trials[next(iter(plan.trials))]
    pairs = ", ".join(f"{one.lr:g} / {_decay(one)}" for one in first)
    return [
        f"The {plan.budget} trials of every row, learning rate / weight decay: {pairs}.",
        "They run on the first seed, without the test part. The trial with the best validation score goes on from its "
        "end to read the test part, and its setting runs on the other seeds.",
    ]


def _decay(setting: Setting) -> str:
    return f"{setting.train['weight_decay']:g}"


def _cost_lines(plan: Plan, separate: bool) -> list[str]:
    """How many passes all runs take, counted in runs of `ls`."""
    n_tasks, train = len(plan.tasks), _train(plan)
    unit = expected("ls", train, n_tasks)
    total = 0.0
    for label, _ in planning.entries(plan):
        matched = label.endswith(COMPUTE)
        runs = len(plan.seeds) if matched else len(settings(plan, label)) + len(plan.seeds) - 1
        share = _epochs(plan, label) / train.epochs if matched else 1.0
        total += runs * share * expected(label, train, n_tasks, separate=separate) / unit
    return [
        f"Estimated passes: as many as {total:.0f} runs of ls of {train.epochs} epochs, where a forward pass counts "
        f"{FORWARD} and a backward pass through the shared parameters {BACKWARD}. Rows are at equal epochs"
        f"{', but for those ending in ' + COMPUTE if any(m.endswith(COMPUTE) for m in plan.methods) else ''}."
    ]


def _epochs(plan: Plan, label: str) -> int:
    train, n_tasks = _train(plan), len(plan.tasks)
    return int(train.epochs * expected("ls", train, n_tasks) / expected(label, train, n_tasks))


def _train(plan: Plan) -> TrainConfig:
    return TrainConfig(**plan.config["train"])


def _counted(plan: Plan) -> str:
    """How the number of runs comes about."""
    rows = [label for label, _ in planning.entries(plan) if not label.endswith(COMPUTE)]
    matched = len(planning.entries(plan)) - len(rows)
    others = len(plan.seeds) - 1
    if plan.budget is None:
        text = f"{len(rows)} x {len(plan.lrs) + others}"
    else:
        looks = "look" if others == 0 else f"look and {others} other seeds"
        text = f"{len(rows)} x ({plan.budget} trials, one {looks})"
    return text + (f", {matched} x {len(plan.seeds)} at the compute of ls" if matched else "")
