"""Searches of the same compute, and methods that need none.

    python benchmarks/matched_search.py digits --out runs/matched-digits

Every search gets the largest population with which it takes no more epochs of members than PBT with `--population`
members; only `gradients` has no population, and its own small cost. What it finds is trained anew with
`--seeds` seeds on the whole training part, on two workers of Ray. Balancing methods are trained once with each of
these seeds, for as many epochs and with the same learning rate. Uniform weights are trained with further seeds too,
until they have had the compute of PBT; of those and a seed's own network the one with the best validation score counts
("uniform with restarts"). The difference of each row to uniform weights is paired over the seeds; p after Holm's
correction over the table. What a search costs is counted in trainings of a network on the whole training part (70 % of
one for a member); the passes of a step are not: gradient methods take one backward pass for each task. Killed, the same
command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise import actions, search_actions
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.benchmark.runner import How
from equipoise.cluster.connection import Place
from equipoise.problems.registry import problem_class
from equipoise.search.generations import Asynchronous, Result
from equipoise.search.kept import FILE, keep_plan
from equipoise.search.plan import SearchPlan, make_search
from equipoise.search.ranking import score_of
from equipoise.search.retrain import Retrained, append_retrained, read_retrained
from equipoise.search.run import Found, epochs_of, search
from equipoise.task_show import showing_tasks
from equipoise.training.comparison import holm, paired
from equipoise.training.config import RunConfig
from equipoise.training.problem import description

SEARCHES = ("pbt", "pb2", "random", "grid", "halving", "asha", "bohb", "gradients")
METHODS = ("go4align", "famo", "uw", "imtl_l", "cagrad", "graddrop", "pcgrad")


def epochs_needed(plan: SearchPlan) -> int:
    """Epochs of all members of a search, on made-up scores."""
    algorithm = plan.decides()
    results: list[Result] = []
    if isinstance(algorithm, Asynchronous):
        while len(ready := algorithm.ready(results)) > len(results):
            done = {one.assignment.place for one in results}
            waiting = sorted((one for one in ready if one.place not in done), key=lambda one: -one.generation)
            results.append(Result(waiting[0], float(waiting[0].member)))
        return epochs_of([results])
    history: list[list[Result]] = []
    metrics = {f"gradient norm of {name}": 1.0 for name in plan.names}
    while proposed := algorithm.propose(history):
        history.append([Result(one, float(one.member), metrics) for one in proposed])
    return epochs_of(history)


def fitted(config: RunConfig, names: Sequence[str], name: str, budget: int, options: Any) -> SearchPlan:
    """The search of this name with the largest population that the budget allows."""
    best = None
    for population in itertools.count(2):
        given = {**options, "algorithm": name, "population": population}
        try:
            plan = make_search(config, names, given)
        except ValueError:  # a grid without points
            if population > 100:
                raise
            continue
        if epochs_needed(plan) > budget and best is not None:
            return best
        best = plan
        if name == "gradients":
            return plan
    raise AssertionError


def searched(plan: SearchPlan, where: Path, known: Sequence[Retrained]) -> Found:
    """Run a search, or go on with it; uniform networks that are known are not trained again."""
    facts = {"command": "benchmarks/matched_search.py", "versions": versions(), "git": source_commit()}
    fresh = not (where / FILE).exists()
    keep_plan(plan, where, facts, resume=True)
    for one in known if fresh else ():
        append_retrained(where, one)
    with showing_tasks() as show:
        found = search(plan, problem_class(plan.config.problem), where, show, Place(workers=2))
    search_actions.report(plan, found, where)
    return found


def methods(
    arguments: argparse.Namespace, config: RunConfig, where: Path
) -> dict[str, dict[int, float | None]]:
    """Test scores by method and seed."""
    changes = {**arguments.settings, "epochs": arguments.epochs}
    changes = {name: value for name, value in changes.items() if value is not None}
    labels = ",".join(METHODS)
    changed = actions.overrides(labels, arguments.seeds, f"{config.lr}", "none", changes)
    plan = actions.make_plan(arguments.problem, arguments.preset, changed, "cpu", command="")
    records = actions.run(plan, where, How(resume=(where / "plan.json").exists(), jobs=2))
    problem = description(problem_class(config.problem), config.options)
    found: dict[str, dict[int, float | None]] = {}
    for record in records:
        score = None if record.status != "ok" else score_of("delta_m", problem, record.metrics["test"])
        found.setdefault(record.method, {})[record.seed] = score
    return found


def row(
    name: str, cost: float, own: dict[int, float | None], other: dict[int, float | None]
) -> dict[str, Any]:
    """A row of the table; p is filled in later."""
    known, theirs = ({s: score for s, score in one.items() if score is not None} for one in (own, other))
    scores, difference = list(known.values()), paired(known, theirs)
    return {
        "row": name,
        "trainings": cost,
        "networks": len(scores),
        "score": fmean(scores) if scores else math.nan,
        "difference": difference.mean,
        "half": difference.half,
        "p": difference.p,
        "untested": difference.why,
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    tested = [one for one in rows if not one["untested"]]
    corrected = iter(holm([one["p"] for one in tested]))
    lines = [
        "| what | trainings before | test delta_m, points | against uniform | p (Holm) |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        told = " | "
        if one in tested:
            told = f"{one['difference']:+.2f} ± {one['half']:.2f} | {next(corrected):.2g}"
        lines.append(f"| {one['row']} | {one['trainings']:.1f} | {one['score']:.2f} | {told} |")
    return lines


def main() -> None:
    arguments = parsed()
    changes = {**arguments.settings, "epochs": arguments.epochs}
    changed = actions.one_run("ls", 0, arguments.lr, {k: v for k, v in changes.items() if v is not None})
    config, names = search_actions.base(arguments.problem, arguments.preset, changed, "cpu", elsewhere=False)
    options = {"interval": arguments.interval, "seeds": arguments.seeds}
    pbt = make_search(config, names, {**options, "algorithm": "pbt", "population": arguments.population})
    budget = epochs_needed(pbt)
    epochs = config.train.epochs
    rows: list[dict[str, Any]] = []
    uniform: dict[int, float | None] = {}
    networks: list[Retrained] = []
    for name in SEARCHES:
        plan = pbt if name == "pbt" else fitted(config, names, name, budget, {**options, "restarts": False})
        found = searched(plan, arguments.out / name, networks)
        cost = epochs_of(found.history) * plan.fraction / epochs
        networks = [one for one in read_retrained(arguments.out / name) if one.variant == "uniform"]
        uniform = {one.seed: one.score for one in networks}
        if not rows:
            rows.append(row("uniform", 0.0, uniform, uniform))
            restarts = sum(one.variant == "restart" for one in found.retrained)
            rows.append(row("uniform with restarts", float(restarts), best(found), uniform))
        for variant in ("constant", "schedule"):
            own = {one.seed: one.score for one in found.retrained if one.variant == variant}
            if own:
                rows.append(row(f"{name}, {variant} weights", cost, own, uniform))
            elif variant == "constant":
                rows.append(row(f"{name}: uniform weights won", cost, uniform, uniform))
    for method, scores in methods(arguments, config, arguments.out / "methods").items():
        rows.append(row(f"`{method}`", 0.0, scores, uniform))
    lines = table(rows)
    print("\n".join(lines))
    facts = {
        "versions": versions(),
        "git": source_commit(),
        "arguments": {**vars(arguments), "out": str(arguments.out)},
    }
    (arguments.out / "table.json").write_text(json.dumps({"rows": rows, **facts}, indent=1))
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")


def best(found: Found) -> dict[int, float | None]:
    """For each seed the test score of the uniform network or restart with the best validation score."""
    restarts = [one for one in found.retrained if one.variant == "restart"]
    chosen: dict[int, float | None] = {}
    for own in (one for one in found.retrained if one.variant == "uniform"):
        sound = [one for one in (own, *restarts) if one.validation is not None]
        chosen[own.seed] = min(sound, key=lambda one: one.validation or 0.0).score if sound else None
    return chosen


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--interval", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.settings = actions.settings(vars(arguments).pop("set"))
    return arguments


if __name__ == "__main__":
    main()
