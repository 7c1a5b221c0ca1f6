"""All numbers of a run directory in one file, for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from equipoise.benchmark.evidence import evidence, indistinct
from equipoise.benchmark.records import Record
from equipoise.benchmark.summary import Summary
from equipoise.training.metrics import relative_changes
from equipoise.training.task import Metric, Task

METRICS_FILE = "metrics.csv"
EVIDENCE_FILE = "evidence.json"
_COLUMNS = (
    "task",
    "metric",
    "unit",
    "higher_is_better",
    "method",
    "lr",
    "seed",
    "test",
    "validation",
    "trivial",
    "single_task",
    "change_percent",
    "not_learnt",
)


def metrics_csv(summary: Summary) -> str:
    """A line per metric, method and seed, at the chosen learning rates; the single-task runs come last.

    `single_task` is the mean over the seeds of the single-task runs, or the published constant. `change_percent` is
    relative to it, lower is better, and empty for metrics that delta_m leaves out. `not_learnt` is of the mean over
    the seeds. A number that is not known or not finite is empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(summary))
    return text.getvalue()


def evidence_json(summary: Summary) -> str:
    """All estimates as indented JSON, with the fields of `equipoise.benchmark.evidence.Evidence`.

    `indistinct` lists for each method those whose delta_m cannot be told from its own. A number that is not finite is
    null.
    """
    found = {
        "problem": summary.plan.problem,
        "preset": summary.plan.preset,
        "seeds": list(summary.plan.seeds),
        "baselines": summary.baseline.source,
        **asdict(evidence(summary)),
        "indistinct": indistinct(summary),
    }
    return json.dumps(_strict(found), indent=1, allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(summary: Summary) -> Iterator[dict[str, str]]:
    for row in summary.methods:
        for run in row.runs:
            for task in summary.plan.tasks:
                yield from _of_task(summary, task, run, row.not_learnt)
    for task in summary.plan.tasks:
        for run in summary.baseline_runs[task.name]:
            yield from _of_task(summary, task, run, summary.baseline.not_learnt)


def _of_task(
    summary: Summary, task: Task, run: Record, not_learnt: frozenset[str]
) -> Iterator[dict[str, str]]:
    for metric in task.metrics:
        values = {
            part: run.metrics.get(part, {}).get(metric.name) for part in ("test", "validation", "trivial")
        }
        reference = summary.baseline.values.get(metric.name)
        usable = reference is not None and metric.name not in summary.baseline.left_out
        yield {
            "task": task.name,
            "metric": metric.name,
            "unit": metric.unit,
            "higher_is_better": str(metric.higher_is_better).lower(),
            "method": run.method,
            "lr": f"{run.lr:g}",
            "seed": str(run.seed),
            **{part: _number(value) for part, value in values.items()},
            "single_task": _number(reference.mean if reference else None),
            "change_percent": _change(metric, values["test"], reference.mean) if usable and reference else "",
            "not_learnt": str(metric.name in not_learnt).lower(),
        }


def _change(metric: Metric, value: float | None, reference: float) -> str:
    if value is None:
        return ""
    return _number(relative_changes([value], [reference], [metric.higher_is_better])[0])


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.8g}"
