"""Whether the records of a run directory are runs of its plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.training.config import TrainConfig

from .matched import SHORTENED
from .records import OLDER, Plan, Record, RunDirectoryError
from .runs import COMPUTE, Run, candidates, entries, listens, run_config


def check_records(directory: Path, plan: Plan, records: Sequence[Record]) -> None:
    """Refuse records of another plan: means over runs of two plans would be means of nothing.

    Settings that a record lacks, since its version did not know them, have their defaults.

    Args:
        directory: of the records.
        plan: of the directory.
        records: the lines of `records.jsonl`, all of them.

    Raises:
        RunDirectoryError: naming the first line that is of no run of the plan, or of other settings, and what differs.
    """
    runs = {run.run_id: run for run in _every(plan)}
    for line, record in enumerate(records, start=1):
        run = runs.get(record.run_id)
        found = (
            [f"{record.run_id}, which is not in the plan"] if run is None else _differences(plan, run, record)
        )
        if found:
            raise RunDirectoryError(
                f"{directory / 'records.jsonl'}, line {line}, should be a run of the plan beside it. Found "
                f"{'; '.join(found)}. Records of several plans are mixed here: put each plan's into a directory of "
                "its own, or take the line out to have its run repeated."
            )


def _every(plan: Plan) -> Iterator[Run]:
    """Every run that the plan may come to."""
    for label, task in entries(plan):
        for seed in plan.seeds:
            yield from candidates(plan, label, task, seed)


def _differences(plan: Plan, run: Run, record: Record) -> list[str]:
    expected = flat(_plain(run_config(plan, run).model_dump()))
    found = flat(_plain(with_defaults(record.config)))
    free = {*SHORTENED} if run.method.endswith(COMPUTE) else set()
    free |= set() if listens(run.method) else {"train.after_step"}
    lines = [
        f"{name} = {found[name]}, in the plan {value}"
        for name, value in expected.items()
        if name in found and name not in free and found[name] != value
    ]
    named = {"method": run.method, "task": run.task, "seed": run.seed, "lr": run.lr, "trial": run.trial}
    return lines + [
        f"{name} {getattr(record, name)}, in the plan {value}"
        for name, value in named.items()
        if getattr(record, name) != value
    ]


def with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that an older version did not know have what it did, which for most is their default."""
    if "train" not in config:
        return config
    return {**config, "train": TrainConfig(**{**OLDER, **config["train"]}).model_dump()}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one, with names like `train.epochs`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, where a tuple is a list."""
    plain: dict[str, Any] = json.loads(json.dumps(config))
    return plain
