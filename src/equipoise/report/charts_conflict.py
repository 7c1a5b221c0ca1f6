"""Interactive figures of the gradients on the way: how often they conflict, and how near estimates come to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from equipoise.benchmark.logs import read_steps
from equipoise.benchmark.summary import Summary

from .interactive import Chart, Panel, Values, axis, dash, layout, numbers
from .plots_fidelity import measured
from .style import Look, looks
from .wording import number, ranked, short_labels

_BINS = 60

Curve = list[tuple[float, float]]  # step, value


def conflict(summary: Summary, directory: Path) -> Chart | None:
    """The share of pairs of tasks whose gradients conflict over steps; None where no method reads gradients."""
    found = {
        row.method: [curve for run in row.runs if (curve := _conflicts(directory, run.run_id))]
        for row in ranked(summary)
    }
    caption = (
        "Share of the pairs of tasks whose gradients have a negative inner product, at the steps that were logged; "
        "neighbouring steps and seeds are averaged. Only methods that read the gradients have it."
    )
    return _lines(
        summary,
        found,
        ("conflict", "How often the gradients of two tasks conflict", caption),
        "share of pairs",
    )


def fidelity(summary: Summary, directory: Path) -> Chart | None:
    """The cosine of estimated updates with the exact ones over steps; None where nobody measured it."""
    found = {
        row.method: [
            sorted((float(step), value) for step, value in curve.items())
            for run in row.runs
            if (curve := measured(directory, run.run_id))
        ]
        for row in ranked(summary)
    }
    memory = summary.plan.config.get("train", {}).get("memory", "auto")
    caption = (
        f"How near the shared gradient of memory={memory} is to the one of the exact Gramian of the same batch "
        "(1: the same direction); mean over seeds."
    )
    return _lines(
        summary,
        found,
        ("fidelity", "Fidelity of the estimated updates", caption),
        "cosine with the exact update",
    )


def _lines(
    summary: Summary, found: Mapping[str, list[Curve]], said: tuple[str, str, str], what: str
) -> Chart | None:
    """A line per method that has a curve, the mean over its seeds; None without any."""
    look, short = looks(summary), short_labels(summary.plan.methods)
    means = {method: _mean_curve(curves) for method, curves in found.items() if curves}
    if not means:
        return None
    traces = tuple(_line(short[method], look[method], curve) for method, curve in means.items())
    every = [value for curve in means.values() for _, value in curve]
    upwards = axis(what, range=[1.08 * min(0.0, *every), 1.08 * max(0.0, *every) or 1.0])
    panel = Panel(traces, layout(340, axis("training step"), upwards))
    values = {method: [value for _, value in curve] for method, curve in means.items()}
    body = (
        (method, *(number(value, 3) for value in (fmean(found), min(found), max(found))))
        for method, found in values.items()
    )
    name, title, caption = said
    table = numbers(name, title, ("method", "mean", "lowest", "highest"), body)
    alt = f"A line over training steps for each of {', '.join(short[method] for method in means)}."
    keys = {short[method]: look[method] for method in means}
    return Chart(name, title, caption, alt, (panel,), table, keys)


def _line(label: str, look: Look, curve: Curve) -> Values:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(curve) < 12 else "lines",
        "x": [step for step, _ in curve],
        "y": [value for _, value in curve],
        "name": label,
        "legendgroup": label,
        "line": {"color": look.colour, "dash": dash(look), "width": 2},
        "hovertemplate": "step %{x}: %{y:.2f}<extra>%{fullData.name}</extra>",
    }


def _conflicts(directory: Path, run_id: str) -> Curve:
    log = read_steps(directory, run_id)
    pairs = zip(log.get("step", []), log.get("conflict", []), strict=False)
    known = [(step, value) for step, value in pairs if math.isfinite(value)]
    count = min(_BINS, len(known))
    edges = [len(known) * k // count for k in range(count + 1)] if count else []
    return [
        (fmean(step for step, _ in known[a:b]), fmean(value for _, value in known[a:b]))
        for a, b in itertools.pairwise(edges)
    ]


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    by_step: dict[float, list[float]] = {}
    for step, value in itertools.chain(*curves):
        by_step.setdefault(step, []).append(value)
    return [(step, fmean(values)) for step, values in sorted(by_step.items())]
