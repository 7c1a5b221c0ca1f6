"""Synthetic run directories in the true format, with dynamics as real runs have them."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.benchmark.records import Baselines, Plan, Record, append_record, write_plan
from equipoise.benchmark.runs import Run, base_label, candidates, entries
from equipoise.training.task import Metric, Task

QM9 = {
    "mu": ("D", 0.40),
    "alpha": ("bohr³", 0.80),
    "homo": ("meV", 150.0),
    "lumo": ("meV", 190.0),
    "r2": ("bohr²", 22.0),
    "zpve": ("meV", 25.0),
    "u0": ("meV", 260.0),
    "u": ("meV", 262.0),
    "h": ("meV", 263.0),
    "g": ("meV", 255.0),
    "cv": ("cal/mol K", 0.41),
}
METHODS = ("ls", "uw", "famo", "go4align:groups=5", "nashmtl", "nashmtl+grouped:groups=2")
_ENERGIES = {"zpve", "u0", "u", "h", "g", "r2"}
_EFFECT = {
    "ls": (1.1, 1.9),
    "uw": (1.5, 0.95),
    "famo": (1.2, 1.05),
    "go4align": (1.3, 0.93),
    "nashmtl": (1.05, 1.2),
}


@dataclass(frozen=True)
class Shape:
    """How large the synthetic run is."""

    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    lrs: tuple[float, ...] = (1e-3,)
    epochs: int = 20
    steps: int = 200
    problem: str = "qm9"
    preset: str = "quick"
    baselines: Baselines = "own"


def qm9_tasks() -> tuple[Task, ...]:
    return tuple(Task(name, (Metric(name, False, unit),)) for name, (unit, _) in QM9.items())


def many_tasks(count: int) -> tuple[Task, ...]:
    return tuple(Task(f"attribute_{k}", (Metric(f"f1_{k}", True, ""),)) for k in range(count))


def make_plan(shape: Shape, tasks: Sequence[Task]) -> Plan:
    return Plan(
        problem=shape.problem,
        preset=shape.preset,
        methods=shape.methods,
        seeds=tuple(range(shape.seeds)),
        lrs=shape.lrs,
        baselines=shape.baselines,
        tasks=tuple(tasks),
        config={
            "options": {"molecules": 4000, "width": 32},
            "train": {"epochs": shape.epochs, "after_step": True},
            "device": "cpu",
        },
        command=f"equipoise bench {shape.problem} --preset {shape.preset} --methods {','.join(shape.methods)}",
        versions={
            "python": "3.11.7",
            "torch": "2.6.0",
            "equipoise": "0.1.0",
            "platform": "Linux",
            "threads": 2,
        },
        git="0123abcd0123abcd0123abcd0123abcd0123abcd",
    )


def make_record(
    method: str,
    metrics: Mapping[str, Mapping[str, float]],
    *,
    seed: int = 0,
    lr: float = 1e-3,
    task: str | None = None,
) -> Record:
    """A finished run with the given metrics; everything else is plausible."""
    return Record(
        run_id=f"{method.replace(':', '_').replace('=', '-')}-lr{lr:g}-seed{seed}",
        problem="qm9",
        preset="quick",
        method=method,
        task=task,
        seed=seed,
        lr=lr,
        status="ok",
        error=None,
        metrics=metrics,
        validation_score=sum(metrics.get("validation", {}).values()),
        best_epoch=1,
        epochs=2,
        steps=4,
        seconds=1.0,
        seconds_per_step=0.25,
        peak_memory_mb=500.0,
        fallbacks=0,
        parameters=1000,
        config={"method": base_label(method), "seed": seed, "lr": lr},
        versions={"python": "3.11.7"},
        git=None,
        started="2025-01-01T00:00:00",
    )


def write_run_directory(directory: Path, shape: Shape = Shape(), tasks: Sequence[Task] | None = None) -> Path:
    """A complete run directory: plan, records, and the logs of every run."""
    tasks = qm9_tasks() if tasks is None else tasks
    plan = make_plan(shape, tasks)
    write_plan(directory, plan)
    for label, task in entries(plan):
        for seed in range(shape.seeds):
            runs = candidates(plan, label, task, seed)
            for run in runs if seed == 0 else runs[:1]:
                _write_run(directory, shape, tasks, run)
    return directory


def _write_run(directory: Path, shape: Shape, tasks: Sequence[Task], run: Run) -> None:
    label, only, seed, lr = run.method, run.task, run.seed, run.lr
    stream = random.Random(f"{label} {seed} {lr}")
    own = [task for task in tasks if only in (None, task.name)]
    finals = {
        m.name: _final(label, task.name, m, stream) * (1 + 50 * (1e-3 - lr) / 1e-3 / 100)
        for task in own
        for m in task.metrics
    }
    rates = {m.name: stream.uniform(2, 9) / shape.epochs for task in own for m in task.metrics}
    rows = [_epoch(epoch, own, finals, rates, stream, shape) for epoch in range(1, shape.epochs + 1)]
    record = make_record(
        label,
        {
            "test": finals,
            "validation": {name: rows[-1][f"val_{name}"] for name in finals},
            "trivial": {
                name: _trivial(name, metric)
                for task in own
                for metric in task.metrics
                for name in [metric.name]
            },
        },
        seed=seed,
        lr=lr,
        task=only,
    )
    base = 0.04 if "nashmtl" not in label else 0.09
    values = {
        **record.__dict__,
        "run_id": run.run_id,
        "seconds_per_step": base * stream.uniform(0.98, 1.05),
        "peak_memory_mb": 900.0 if "nashmtl" not in label else 1350.0,
        "fallbacks": 3 if label == "nashmtl" else 0,
        "steps": shape.steps,
        "epochs": shape.epochs,
        "best_epoch": shape.epochs - 1,
        "validation_score": 1.0 + shape.lrs.index(lr),
        "seconds": base * shape.steps,
        "data_seconds": (0.03 if label == "famo" else 0.01) * base * shape.steps,
        "evaluation_seconds": 0.3 * base * shape.steps,
    }
    folder = directory / "runs" / run.run_id
    write_csv(folder / "epochs.csv", rows)
    write_csv(folder / "steps.csv", _steps(label, [task.name for task in own], stream, shape))
    append_record(directory, Record(**values))


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _trivial(name: str, metric: Metric) -> float:
    return 0.3 if metric.higher_is_better else QM9[name][1] * 2.2 if name in QM9 else 2.0


def _final(label: str, task: str, metric: Metric, stream: random.Random) -> float:
    easy, energy = _EFFECT.get(label.split(":")[0].split("+")[0], (1.0, 1.0))
    effect = energy if task in _ENERGIES else easy
    if task == "mu" and label in ("uw", "ls"):
        effect *= 1.4
    noise = stream.gauss(1.0, 0.03)
    if metric.higher_is_better:
        return min(0.99, 0.7 / effect * noise)
    return QM9.get(metric.name, ("", 1.0))[1] * effect * noise


def _epoch(
    epoch: int,
    tasks: Sequence[Task],
    finals: Mapping[str, float],
    rates: Mapping[str, float],
    stream: random.Random,
    shape: Shape,
) -> dict[str, float]:
    row: dict[str, float] = {
        "epoch": epoch,
        "step": epoch * shape.steps // shape.epochs,
        "seconds": epoch * 0.5,
        "lr": 1e-3,
    }
    for task in tasks:
        row[f"train_{task.name}"] = 0.1 + math.exp(-0.2 * epoch)
        for metric in task.metrics:
            shrink = 3.0 * math.exp(-rates[metric.name] * epoch)
            factor = 1 / (1 + shrink) if metric.higher_is_better else 1 + shrink
            row[f"val_{metric.name}"] = finals[metric.name] * factor * stream.gauss(1.0, 0.01)
    row["val_score"] = sum(value for name, value in row.items() if name.startswith("val_"))
    return row


def _steps(label: str, names: Sequence[str], stream: random.Random, shape: Shape) -> list[dict[str, float]]:
    method = label.split(":")[0]
    groups = int(label.split("groups=")[1].split(":")[0]) if "groups=" in label else 0
    speeds = {name: (2.5 if name in _ENERGIES else 0.6) * stream.uniform(0.7, 1.3) for name in names}
    rows = []
    for step in range(1, shape.steps + 1):
        progress = step / shape.steps
        losses = {n: math.exp(-speeds[n] * 2 * progress) * stream.lognormvariate(0, 0.15) for n in names}
        row: dict[str, float] = {"step": step, "epoch": 1 + (step - 1) * shape.epochs // shape.steps}
        row |= {f"loss_{name}": loss for name, loss in losses.items()}
        weights = _weights(method, losses, progress)
        if groups and len(names) > 1:
            assignment, means = _cluster(weights, min(groups, len(names)))
            row |= {f"indicator_{n}": weights[n] for n in names}
            row |= {f"group_{n}": assignment[n] for n in names}
            row |= {f"group_weight_{n}": means[assignment[n]] for n in names}
            weights = {n: means[assignment[n]] for n in names}
        row |= {f"weight_{name}": weight for name, weight in weights.items()}
        if "nashmtl" in label:
            row |= {"conflict": 0.3, "fallback": 0}
        rows.append(row)
    return rows


def _weights(method: str, losses: Mapping[str, float], progress: float) -> dict[str, float]:
    if method.startswith(("ls", "stl")):
        return dict.fromkeys(losses, 1.0)
    power = {"uw": progress, "famo": 0.7 * progress}.get(method, 1.0)
    mean = sum(losses.values()) / len(losses)
    return {name: (mean / loss) ** power for name, loss in losses.items()}


def _cluster(weights: Mapping[str, float], count: int) -> tuple[dict[str, int], dict[int, float]]:
    order = sorted(weights, key=lambda name: weights[name])
    gaps = sorted(range(1, len(order)), key=lambda i: math.log(weights[order[i - 1]] / weights[order[i]]))[
        : count - 1
    ]
    assignment = {name: sum(index >= gap for gap in gaps) for index, name in enumerate(order)}
    members = {k: [weights[n] for n in order if assignment[n] == k] for k in range(count)}
    return assignment, {k: sum(found) / len(found) for k, found in members.items()}
