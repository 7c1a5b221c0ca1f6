"""Figures of what the methods cost: time per step, memory, and where the time of a run goes."""

from __future__ import annotations

from typing import Any

from equipoise.benchmark.summary import Spread, Summary

from .style import BLUE, GREY, INK, ORANGE, Canvas, Plot, bars
from .times import ROUGH_TIMES, UNIT, Times, times, waiting_sentences
from .wording import number, ranked, short_labels


def cost(summary: Summary, canvas: Canvas) -> Plot | None:
    """Seconds per step relative to equal weights, the published ones beside them, and peak memory."""
    rows, entries = list(reversed(ranked(summary))), list(reversed(times(summary)))
    if not rows:
        return None
    unit = next((row.seconds_per_step.mean for row in rows if row.method == UNIT), None)
    panels: list[tuple[str, list[Spread | None], str]] = []
    if unit:
        panels.append(
            (f"time per step, relative to {UNIT}", [entry.relative for entry in entries], "{:.2f}×")
        )
    else:
        panels.append(
            ("milliseconds per step", [_thousandfold(row.seconds_per_step) for row in rows], "{:.0f}")
        )
    published = [entry.published if unit else None for entry in entries]
    if any(published):
        panels.append((f"published, relative to {UNIT}", [_point(value) for value in published], "{:.2f}×"))
    if any(row.peak_memory_mb for row in rows):
        panels.append(("peak memory (MB)", [_point(row.peak_memory_mb) for row in rows], "{:.0f}"))
    figure = canvas(2.6 + 2.9 * len(panels), 1.1 + 0.34 * len(rows))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    colours = [GREY if row.method == UNIT else BLUE for row in rows]
    for panel, (title, values, form) in zip(axes, panels, strict=True):
        bars(panel, values, colours, form, absent="–")
        panel.set_xlabel(title)
        if "relative" in title:
            panel.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    names = short_labels(summary.plan.methods)
    axes[0].set_yticks(range(len(rows)), [names[row.method] for row in rows])
    alt = f"Bars with numbers for {len(rows)} methods: {', '.join(title for title, *_ in panels)}."
    return Plot("cost", "What a step costs", cost_caption(unit, any(published)), figure, alt)


def time_split(summary: Summary, canvas: Canvas) -> Plot | None:
    """Seconds of a run in computing, waiting for batches and evaluation; None where nobody measured them."""
    entries = [entry for entry in reversed(times(summary)) if entry.waiting is not None]
    if not entries:
        return None
    figure = canvas(8.4, 1.4 + 0.34 * len(entries))
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        _stack(axes, place, entry)
    names = short_labels(summary.plan.methods)
    axes.set_yticks(range(len(entries)), [names[entry.method] for entry in entries])
    axes.set_ylim(-0.6, len(entries) - 0.4)
    axes.set_xlim(0, 1.3 * max(entry.steps + (entry.evaluation or 0.0) for entry in entries) or 1)
    axes.set_xlabel("seconds of one run")
    axes.grid(True, axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    caption = (
        "Mean over the seeds. Steps are computing and waiting for batches; evaluation of the validation and test part "
        f"comes on top. {' '.join(waiting_sentences(summary))} {ROUGH_TIMES}"
    )
    alt = f"Stacked bars for {len(entries)} methods; the table below has the numbers."
    return Plot("times", "Seconds of a run", caption, figure, alt)


def cost_caption(unit: float | None, published: bool) -> str:
    """How to read the costs.

    Args:
        unit: seconds of a step of equal weights, where known.
        published: whether published times are shown too.
    """
    base = f" {UNIT} takes {number(unit * 1000, 1)} ms a step." if unit else ""
    other = (
        " Published: time of an epoch on one A100, GO4Align (NeurIPS 2024), figures 1 and 4, with another network and "
        "batch where the settings differ."
    )
    return (
        f"Training only, without evaluation, on the machine named under provenance.{base} {ROUGH_TIMES} "
        f"Peak memory is that of the whole process or device, model and data included.{other if published else ''}"
    )


def _stack(axes: Any, place: int, entry: Times) -> None:
    parts = {
        "computing": (entry.computing or 0.0, BLUE),
        "waiting for batches": (entry.waiting or 0.0, ORANGE),
        "evaluation": (entry.evaluation or 0.0, GREY),
    }
    left = 0.0
    for name, (seconds, colour) in parts.items():
        label = None if place else name
        axes.barh(place, seconds, left=left, color=colour, height=0.62, label=label)
        left += seconds
    waiting = number(100 * (entry.waiting_share or 0.0), 1)
    text = f"{number(left, 0 if left >= 100 else 1)} s, waiting {waiting} % of steps"
    axes.annotate(text, (left, place), (6, 0), textcoords="offset points", va="center", fontsize=9)


def _point(value: float | None) -> Spread | None:
    return Spread(value, None, 1) if value else None


def _thousandfold(spread: Spread) -> Spread:
    return Spread(spread.mean * 1000, None if spread.std is None else spread.std * 1000, spread.n)
