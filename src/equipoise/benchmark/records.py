"""What a run directory holds: the plan and one line per finished run; reading and appending survive a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from equipoise.training.storage import append_line, whole_lines
from equipoise.training.storage import write_atomically as write_atomically
from equipoise.training.task import Metric, Task

PLAN_FORMAT = 2
"""2 has `budget`, `trials` and `added`; a plan of format 1 is read as one without them."""
OLDER = {"after_step": False}
"""What the training of versions without these settings did, where it is not the default."""
Baselines = Literal["own", "published", "none"]


class RunDirectoryError(ValueError):
    """A run directory that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Setting:
    """What a trial of a tuning budget changes.

    Args:
        lr: learning rate.
        train: fields of `TrainConfig`, such as "weight_decay".
        knobs: hyper-parameters of the method.
    """

    lr: float
    train: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One finished run: what was run, what came out, and everything needed to do it again.

    Args:
        run_id: also the name of the run's folder under `runs/`.
        problem: name of the problem, for example "qm9".
        preset: the budget, for example "quick".
        method: the method's label; for a single-task baseline "stl:task=<name>".
        task: the baseline's task, None for all other methods.
        seed: of data split, initial parameters and batches.
        lr: learning rate.
        status: "ok", or "failed" where the run ended with an error.
        error: the error of a failed run.
        metrics: "test" and "validation" (both at the selected epoch) and "trivial" (test metrics of predicting
            the training mean) -> metric -> value, in report units; a baseline holds its own task's metrics only.
            A trial that was not chosen has "validation" alone: its test part was not read.
        validation_score: what the epoch and the learning rate are selected by; lower is better.
        best_epoch: the selected epoch, counted from 1.
        epochs: how many were run.
        steps: how many training steps were run.
        seconds: of training only, waiting for batches included.
        seconds_per_step: of training only.
        peak_memory_mb: peak resident or device memory in MB, where known.
        fallbacks: steps in which a solver fell back.
        parameters: number of parameters of the model.
        config: resolved configuration.
        versions: python, torch, equipoise, platform, threads.
        git: commit of the source, where known.
        started: ISO time.
        data_seconds: of `seconds`, waiting for batches; None in records of older versions.
        evaluation_seconds: of looking at validation and test part, besides `seconds`; None likewise.
        trial: position of its setting in `Plan.trials`; None without a tuning budget.
        forwards: batches that went through the network in training; in a single-task run on one of several domains each
            counts as its share of the samples of a batch of all domains. None in records of older versions.
        backwards: backward passes of a batch through the shared parameters, m where rows are read; None likewise.
    """

    run_id: str
    problem: str
    preset: str
    method: str
    task: str | None
    seed: int
    lr: float
    status: Literal["ok", "failed"]
    error: str | None
    metrics: Mapping[str, Mapping[str, float]]
    validation_score: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    seconds_per_step: float
    peak_memory_mb: float | None
    fallbacks: int
    parameters: int
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    git: str | None
    started: str
    data_seconds: float | None = None
    evaluation_seconds: float | None = None
    trial: int | None = None
    forwards: float | None = None
    backwards: float | None = None

    def to_json(self) -> str:
        """One line of strict JSON; numbers that are not finite become null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote; null among the numbers becomes NaN.

        Raises:
            ValueError: on text that is not a JSON object or lacks a field.
        """
        raw = _known_fields(cls, text)
        for name in ("validation_score", "seconds", "seconds_per_step", "lr"):
            raw[name] = math.nan if raw[name] is None else float(raw[name])
        raw["metrics"] = {
            part: {name: math.nan if value is None else float(value) for name, value in row.items()}
            for part, row in raw["metrics"].items()
        }
        return cls(**raw)


@dataclass(frozen=True)
class Plan:
    """What a run directory is for: written once, before the first run.

    Args:
        problem: name of the problem.
        preset: the budget.
        methods: labels of the methods, in the order of the tables; `LABEL@compute` is LABEL at the compute of `ls`.
        seeds: one run per seed.
        lrs: candidates of the learning rate; the preset's first one where there is a budget.
        baselines: "own" single-task runs, the "published" constants, or "none".
        tasks: with their metrics, in the order of the tables.
        config: resolved configuration of the problem, the model and the training.
        command: the command line that made it.
        versions: python, torch, equipoise, platform, threads.
        git: commit of the source, where known.
        format: version of this file format.
        budget: settings that each row tries out; None chooses among `lrs` alone.
        trials: row -> its settings, where there is a budget.
        added: methods that are in the table though nobody asked for them, since a fair table has them.
    """

    problem: str
    preset: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    lrs: tuple[float, ...]
    baselines: Baselines
    tasks: tuple[Task, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    git: str | None = None
    format: int = PLAN_FORMAT
    budget: int | None = None
    trials: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    added: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of all tasks, in order."""
        return tuple(metric for task in self.tasks for metric in task.metrics)

    def to_json(self) -> str:
        """Indented JSON, for `plan.json`."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            ValueError: on text that is not a JSON object, lacks a field or has the format of a newer version.
        """
        raw = _known_fields(cls, text)
        found = raw.pop("format", 1)
        if not isinstance(found, int) or not 1 <= found <= PLAN_FORMAT:
            raise ValueError(
                f"`format` should be from 1 to {PLAN_FORMAT}. Found {found}: a newer version of equipoise wrote it; "
                "install that one to go on."
            )
        for name in ("methods", "seeds", "lrs", "added"):
            raw[name] = tuple(raw.get(name, ()))
        raw["trials"] = {
            row: tuple(Setting(**setting) for setting in settings)
            for row, settings in raw.get("trials", {}).items()
        }
        if "train" in raw.get("config", {}):
            raw["config"]["train"] = {**OLDER, **raw["config"]["train"]}
        raw["tasks"] = tuple(
            Task(task["name"], tuple(Metric(**metric) for metric in task["metrics"])) for task in raw["tasks"]
        )
        return cls(**raw)


def read_plan(directory: Path) -> Plan:
    """Read `plan.json` of a run directory.

    Raises:
        RunDirectoryError: where there is none, or it cannot be read.
    """
    path = directory / "plan.json"
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(
            f"{directory} should be a run directory, as `equipoise bench ... --out DIR` makes it. Found no plan.json."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(f"{path} should be a plan that `equipoise bench` wrote. {error}") from error


def write_plan(directory: Path, plan: Plan) -> None:
    """Write `plan.json` of a run directory, all of it or nothing; makes the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "plan.json", plan.to_json())


def read_records(directory: Path) -> list[Record]:
    """Read `records.jsonl` of a run directory; an empty list where there is none.

    A last line without its newline was cut off by a kill and is ignored.

    Raises:
        RunDirectoryError: on any other line that is not a record.
    """
    path = directory / "records.jsonl"
    records = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            records.append(Record.from_json(line.decode("utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise RunDirectoryError(
                f"{path}, line {number}, should be a record; take the line out to have its run repeated. {error}"
            ) from error
    return records


def append_record(directory: Path, record: Record) -> None:
    """Add a line to `records.jsonl` and wait until it is on the disk.

    A last line that a kill has cut off is taken out first.
    """
    append_line(directory / "records.jsonl", record.to_json().encode("utf-8"))


def _known_fields(cls: type[Record] | type[Plan], text: str) -> dict[str, Any]:
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError(f"It should be a JSON object. Found {type(raw).__name__}.")
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in raw]
    if missing:
        raise ValueError(
            f"It should have the fields of a {cls.__name__.lower()}. Found no {', '.join(missing)}."
        )
    return {f.name: raw[f.name] for f in fields(cls) if f.name in raw}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
