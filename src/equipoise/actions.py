"""What the commands do, once their options are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch

from equipoise import catalogue
from equipoise.advice import advise
from equipoise.benchmark import plan as planning
from equipoise.benchmark.overrides import Overrides, PlanError, read_lrs
from equipoise.benchmark.records import Baselines, Plan, Record
from equipoise.benchmark.runner import How, run_plan
from equipoise.benchmark.statistics import summarise
from equipoise.core.names import read_value
from equipoise.problems.registry import problem_class
from equipoise.report.grouping import MANY
from equipoise.report.tables import metric_table, ranking_table
from equipoise.report.verdict import verdict
from equipoise.terminal import print_results, print_rows, say, showing

_COMMA = re.compile(r",(?![^\[]*\])")  # not within a list, as in constant:weights=[1,2]


def settings(given: Sequence[str] | None, **named: Any) -> dict[str, Any]:
    """Settings by name, from `name=value` texts and options of their own; None is left out."""
    found = {name: value for name, value in named.items() if value is not None}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise PlanError(f"A setting should look like width=32. Found {text!r}.")
        found[name.strip()] = read_value(value.strip())
    return found


def own_data(
    data: Path | None,
    csv: Path | None,
    smiles: str | None,
    features: str | None,
    targets: str | None,
    *,
    skip_bad: bool,
) -> dict[str, Any]:
    """The options that say which data of the user's own a problem reads; None is left out by `settings`."""
    return {
        "data": None if data is None else str(data.expanduser()),
        "csv": None if csv is None else str(csv.expanduser()),
        "smiles": smiles,
        "features": _names(features),
        "targets": _names(targets),
        "skip_bad": skip_bad or None,
    }


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def overrides(
    methods: str,
    seeds: int | None,
    lrs: str,
    baselines: str,
    changes: Mapping[str, Any],
    *,
    budget: int | None = None,
    match: str = "",
) -> Overrides:
    """What the options of `bench` change of a preset."""
    if seeds is not None and seeds < 1:
        raise PlanError(f"`seeds` should be at least 1. Found {seeds}.")
    if match not in ("", "compute"):
        raise PlanError(f"`match` should be compute, or left out for equal epochs. Found {match!r}.")
    numbers, bounds = read_lrs(lrs)
    labels = tuple(text.strip() for text in _COMMA.split(methods) if text.strip())
    chosen = _baselines(baselines) if baselines else None
    return Overrides(
        methods=labels,
        seeds=tuple(range(seeds or 0)),
        lrs=numbers,
        budget=budget,
        bounds=bounds,
        compute=match == "compute",
        baselines=chosen,
        settings=changes,
    )


def one_run(method: str, seed: int, lr: float | None, changes: Mapping[str, Any]) -> Overrides:
    """What the options of `train` change of a preset."""
    lrs = () if lr is None else (lr,)
    return Overrides((method,), (seed,), lrs, baselines="none", settings=changes)


def make_plan(
    problem: str,
    preset: str,
    changed: Overrides,
    device: str,
    *,
    command: str,
    one_lr: bool = False,
    elsewhere: bool = False,
) -> Plan:
    """The checked plan.

    Args:
        problem: its name.
        preset: the budget.
        changed: of the preset.
        device: cpu, cuda, or nothing for cuda if there is one.
        command: the command line.
        one_lr: whether to take the first of the preset's learning rates, if none is given.
        elsewhere: whether the runs are on other machines, which have GPUs.
    """
    cls = class_of(problem)
    planning.known(f"preset of {problem}", preset, cls.presets)
    if one_lr and not changed.lrs:
        changed = replace(changed, lrs=tuple(cls.presets[preset]["lrs"][:1]))
    return planning.make_plan(cls, preset, changed, device=_device(device, elsewhere), command=command)


def first_run_id(plan: Plan) -> str:
    """The name of the first run of a plan."""
    return planning.pending(plan, [])[0].run_id


def run(plan: Plan, where: Path, how: How) -> list[Record]:
    """Run a plan while showing how it goes."""
    with showing() as show:
        return run_plan(plan, problem_class(plan.problem), where, show, how)


def failures(records: Sequence[Record]) -> list[str]:
    """A line for each run that failed."""
    return [f"  {record.run_id}: {record.error}" for record in records if record.status == "failed"]


def print_report(where: Path, baselines: str | None = None) -> None:
    """Print the tables of a run directory, and write its report if the packages for that are there."""
    source = None if baselines is None else _baselines(baselines)
    summary = summarise(where, baselines=source)
    if summary.methods:
        print_results(metric_table(summary), ranking_table(summary))
    for sentence in verdict(summary):
        say(sentence)
    try:
        from equipoise.report.build import write_report

        say(f"Report: {write_report(where, baselines=source)}")
    except ImportError as error:
        say(f"No report.html: {error}")


def print_comparison(where: Path, others: Sequence[Path]) -> None:
    """Say how run directories differ, and write the page that shows it into the first of them."""
    from equipoise.report.compare_page import said, write_comparison
    from equipoise.report.differences import beside

    for sentence in said(beside(where, others)):
        say(sentence)
    say(f"Comparison: {write_comparison(where, others)}")


def print_run(plan: Plan, records: Sequence[Record], where: Path) -> None:
    """Print the metrics of one run."""
    record = records[-1]
    if record.status == "failed":
        return
    rows = [
        [
            f"{metric.name} {'↑' if metric.higher_is_better else '↓'}",
            *_digits(record, metric.name),
            metric.unit,
        ]
        for metric in plan.metrics
        if metric.name in record.metrics["test"]
    ]
    print_rows(["metric", "test", "validation", "trivial guess", "unit"], rows[:MANY])
    if len(rows) > MANY:
        say(f"and {len(rows) - MANY} metrics more: {where / 'records.jsonl'}")
    memory = "" if record.peak_memory_mb is None else f", at most {record.peak_memory_mb:.0f} MB"
    say(
        f"{record.method}, lr {record.lr:g}, seed {record.seed}: epoch {record.best_epoch} of {record.epochs} "
        f"selected, {record.steps} steps of {1000 * record.seconds_per_step:.1f} ms{memory}, "
        f"{record.parameters} parameters."
    )
    say(f"Logs: {where / 'runs' / record.run_id}")


def print_methods(name: str | None, form: str) -> None:
    """Print the methods and wrappers, or one of them, as "json", "markdown" or "text"."""
    entries = catalogue.catalogue()
    if name is not None:
        planning.known("method or wrapper", name, [entry.name for entry in entries])
        entries = [entry for entry in entries if entry.name == name]
    if form == "json":
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
    elif form == "markdown":
        print(catalogue.markdown(entries))
    elif name is not None:
        print(catalogue.heading(entries[0]))
        print(entries[0].doc)
        print(catalogue.minimal_loop(entries[0]))
    else:
        rows = [[e.name, e.kind, e.summary, ", ".join(catalogue.options_of(e))] for e in entries]
        print_rows(["name", "kind", "what it does", "hyper-parameters"], rows)


def print_advice(n_tasks: int, roomy: bool, missing_labels: bool, prefer: Any) -> None:
    """Print which methods to try first, and why."""
    for place, item in enumerate(
        advise(n_tasks, roomy=roomy, missing_labels=missing_labels, prefer=prefer), start=1
    ):
        say(f"{place}. {item.method}: {item.reason}.")
    say("Rules of thumb with their reasons, not a promise: compare on your own validation data.")


def class_of(problem: str) -> Any:
    """The class of a problem.

    Raises:
        PlanError: if there is none of this name; the nearest one is given.
    """
    try:
        return problem_class(problem)
    except ValueError as error:
        raise PlanError(str(error)) from None


def _device(name: str, elsewhere: bool) -> str:
    available = elsewhere or torch.cuda.is_available()
    if name not in ("", "cpu", "cuda"):
        raise PlanError(f"`device` should be cpu or cuda. Found {name!r}.")
    if name == "cuda" and not available:
        raise PlanError("`device` should be cpu on a machine without a CUDA GPU. Found 'cuda'.")
    return name or ("cuda" if available else "cpu")


def _baselines(text: str) -> Baselines:
    found = next((known for known in get_args(Baselines) if known == text), None)
    if found is None:
        raise PlanError(f"`baselines` should be one of {', '.join(get_args(Baselines))}. Found {text!r}.")
    chosen: Baselines = found
    return chosen


def _digits(record: Record, metric: str) -> list[str]:
    return [f"{record.metrics[part][metric]:.4g}" for part in ("test", "validation", "trivial")]


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
