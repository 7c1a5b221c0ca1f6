"""How near updates from an estimated or surrogate Gramian were to the exact ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise.benchmark.logs import read_steps
from equipoise.benchmark.summary import Summary

from .style import Canvas, Plot, looks
from .wording import number, ranked, short_labels


def fidelity(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Cosine of the update with the exact one over steps, a line per method; None where nobody measured it."""
    look, names = looks(summary), short_labels(summary.plan.methods)
    runs = {row.method: [measured(directory, run.run_id) for run in row.runs] for row in ranked(summary)}
    shown = {method: [run for run in found if run] for method, found in runs.items() if any(found)}
    if not shown:
        return None
    figure = canvas(6.5, 2.9)
    panel = figure.subplots()
    said = [
        _line(panel, found, {"color": look[m].colour, "linestyle": look[m].dash, "label": names[m]})
        for m, found in shown.items()
    ]
    panel.set_xlabel("training step")
    panel.set_ylabel("cosine with the exact update")
    panel.grid(True)
    figure.legend(loc="outside upper center", ncols=5)
    memory = summary.plan.config["train"]["memory"]
    caption = (
        f"How near the shared gradient of memory={memory} is to the one of the exact Gramian of the same batch "
        "(1: the same direction); mean over seeds, dots for each measurement. "
        + "; ".join(f"{name}: {text}" for name, text in zip((names[m] for m in shown), said, strict=True))
        + "."
    )
    alt = f"A line over training steps for each of {', '.join(names[m] for m in shown)}."
    return Plot("fidelity", "Fidelity of the estimated updates", caption, figure, alt)


def measured(directory: Path, run_id: str) -> dict[int, float]:
    """Step -> cosine of a run, where it was measured."""
    log = read_steps(directory, run_id)
    pairs = zip(log.get("step", []), log.get("fidelity", []), strict=False)
    return {int(step): value for step, value in pairs if math.isfinite(value)}


def _line(panel: Any, runs: list[dict[int, float]], style: Mapping[str, Any]) -> str:
    """Draw one method, and say its mean and lowest fidelity."""
    values = [value for run in runs for value in run.values()]
    steps = sorted({step for run in runs for step in run})
    means = [fmean(run[step] for run in runs if step in run) for step in steps]
    panel.plot(steps, means, **style)
    every = [(step, value) for run in runs for step, value in run.items()]
    panel.plot(*zip(*every, strict=True), ".", color=style["color"], alpha=0.4, markersize=3)
    return f"mean {number(fmean(values), 2)}, lowest {number(min(values), 2)}"
