"""Figures of a study of scalarization: metrics over p, the best p, and the gain of joint training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from equipoise.study.analysis import (
    Best,
    Findings,
    alone,
    generalisation_gap,
    joint,
    nearest_to_half,
    optimisation_gap,
    single,
)
from equipoise.study.cell import CellResult
from equipoise.study.plan import Capacity, Pair

from .style import INK, Canvas, Plot, bare, cycle

_TICK_RATIO = 1.35


def capacity_name(capacity: Capacity) -> str:
    """For legends, such as "depth 3, width 48"."""
    depth, width = capacity
    words = [f"depth {depth}"] * (depth is not None) + [f"width {width:g}" if width is not None else ""]
    return ", ".join(word for word in words if word) or "the network"


def plausible_range(best: Best) -> str:
    """Such as "0.35 to 0.5"."""
    low, high = min(best.plausible), max(best.plausible)
    return f"{low:g} to {high:g}" if low < high else f"{low:g} alone"


def merit_label(found: Findings) -> str:
    """How a merit is called on an axis: an accuracy in percent is its own merit."""
    measures = [found.plan.measure(name) for name in found.plan.names]
    own = all(one.unit == "%" and one.reference == 100 and one.higher_is_better for one in measures)
    return "test accuracy (%)" if own else "test merit (% of the reference)"


def metrics_over_p(found: Findings, canvas: Canvas) -> Plot | None:
    """A row of panels for each pair: both names and their mean, a line for each capacity."""
    if not found.best:
        return None
    pairs = [pair for pair in found.plan.pairs if any(own == pair for own, _ in found.best)]
    figure = canvas(9.2, 0.9 + 2.3 * len(pairs))
    panels = figure.subplots(len(pairs), 3, squeeze=False, sharex=True)
    looks = dict(zip(found.parameters, cycle(len(found.parameters)), strict=True))
    for pair, row in zip(pairs, panels, strict=True):
        for names, panel in zip(((pair[0],), (pair[1],), pair), row, strict=True):
            for capacity, look in looks.items():
                style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "markersize": 4}
                _line(panel, found, pair, names, capacity, style)
            panel.set_title(" and ".join(names) if len(names) == 1 else f"mean of {' and '.join(names)}")
            panel.grid(True)
        row[0].set_ylabel(merit_label(found))
        for panel in row:
            panel.set_xlabel(f"p of {pair[0]}, 1 − p of {pair[1]}")
            panel.tick_params(labelbottom=True)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    kind = "probability of drawing a batch of" if found.plan.act == "sampling" else "weight of the loss of"
    return Plot(
        "metrics_over_p",
        "Metrics against the weight, by capacity",
        f"p is the {kind} the first name. Dotted lines of the same colour: single-task networks of that capacity with "
        "as many steps. Mean over seeds, thin bars from the lowest to the highest.",
        figure,
        f"For each of {len(pairs)} pairs, lines of test metrics over p for {len(looks)} capacities.",
    )


def _line(
    panel: Any, found: Findings, pair: Pair, names: Sequence[str], capacity: Capacity, style: dict[str, Any]
) -> None:
    cells = joint(found.results, pair, capacity)
    values = {p: [_merit(found, result, names) for result in group] for p, group in cells.items()}
    if not values:
        return
    means = [fmean(group) for group in values.values()]
    panel.plot(list(values), means, label=capacity_name(capacity), **style)
    for p, group in values.items():
        if len(group) > 1:
            panel.plot([p, p], [min(group), max(group)], color=style["color"], linewidth=0.8)
    reference = single(found.plan, found.results, names, capacity, "test")
    if reference is not None:
        panel.axhline(reference, color=style["color"], linestyle=(0, (1, 1.5)), linewidth=1.2)


def _merit(found: Findings, result: CellResult, names: Sequence[str]) -> float:
    return fmean(found.plan.measure(name).merit(result.metrics["test"][name]) for name in names)


def best_map(found: Findings, canvas: Canvas) -> Plot | None:
    """Heat maps of the best p over depth and width, one for each pair."""
    pairs = [pair for pair in found.plan.pairs if any(own == pair for own, _ in found.best)]
    if not pairs:
        return None
    depths, widths = found.plan.depths, found.plan.widths
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    size = (1.6 + columns * max(1.1 * len(widths), 2.4), 0.7 + rows * (1.1 + 0.62 * len(depths)))
    figure = canvas(*size)
    panels = figure.subplots(rows, columns, squeeze=False)
    image = None
    for place, panel in enumerate(panels.flat):
        if place >= len(pairs):
            panel.set_visible(False)
            continue
        image = _map(panel, found, pairs[place])
    figure.colorbar(image, ax=panels, label="best p of the first name", shrink=0.8)
    return Plot(
        "best_p",
        "The best p over depth and width",
        "Large: the p with the best mean metric of the pair on the validation part. Small: the range of p that is not "
        "clearly worse, given how much a network differs when it is trained again (95 %). Orange: the first name "
        "should weigh more; purple: less.",
        figure,
        f"Heat maps of the best p for {len(pairs)} pairs over {len(depths)} depths and {len(widths)} widths.",
    )


def _map(panel: Any, found: Findings, pair: Pair) -> Any:
    depths, widths = found.plan.depths, found.plan.widths
    cells = [[found.best.get((pair, (depth, width))) for width in widths] for depth in depths]
    values = [[cell.p if cell else float("nan") for cell in row] for row in cells]
    image = panel.imshow(values, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto", alpha=0.8)
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            if cell is None:
                panel.text(x, y, "none", ha="center", va="center", fontsize=8)
                continue
            panel.text(x, y - 0.08, f"{cell.p:g}", ha="center", va="center", fontsize=12)
            panel.text(x, y + 0.3, plausible_range(cell), ha="center", va="center", fontsize=7.5)
    panel.set_xticks(range(len(widths)), [_size(width) for width in widths])
    panel.set_yticks(range(len(depths)), [_size(depth) for depth in depths])
    panel.set_xlabel("width")
    panel.set_ylabel("depth")
    panel.set_title(" + ".join(pair))
    bare(panel)
    return image


def _size(size: int | None) -> str:
    return "–" if size is None else f"{size:g}"


def gains(found: Findings, canvas: Canvas) -> Plot | None:
    """Gain over single-task networks against the parameters, at the best p and at equal weights."""
    pairs = [pair for pair in found.plan.pairs if _known(found, pair)]
    if not pairs:
        return None
    figure = canvas(8.4, 3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    even = nearest_to_half(found.plan.grid)
    for pair, look in zip(pairs, cycle(len(pairs)), strict=True):
        style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "capsize": 3}
        _gain_line(left, found, pair, lambda best: best.gain, {**style, "label": " + ".join(pair)})
        _gain_line(right, found, pair, lambda best: best.uniform, style)
    left.set_title("at the p that is best on the validation part")
    right.set_title(f"at p = {even:g}")
    for panel in (left, right):
        panel.axhline(0, color=INK, linewidth=1)
        _parameter_axis(panel, found)
        panel.grid(True)
    left.set_ylabel(f"gain in {merit_label(found)}")
    figure.legend(loc="outside upper center", ncols=3)
    return Plot(
        "gain_over_single",
        "Gain of joint training over single-task networks",
        "Mean test metric of the pair, less that of single-task networks of the same capacity and as many steps; "
        "above 0 joint training is better. Bars: 95 %, for how much a network differs when it is trained again, where "
        "that is known; for single-task networks it is taken to be the same.",
        figure,
        f"A line for each of {len(pairs)} pairs over the parameters of the network.",
    )


def _parameter_axis(panel: Any, found: Findings) -> None:
    """A logarithmic axis with ticks at the networks, those left out that are too near to the one before."""
    ticks: list[int] = []
    for count in found.parameters.values():
        if not ticks or count > _TICK_RATIO * ticks[-1]:
            ticks.append(count)
    panel.set_xscale("log")
    panel.set_xticks(ticks, [_short(count) for count in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("parameters of the network")


def _short(count: int) -> str:
    """Such as 87k or 1.2M."""
    unit, name = next((unit, name) for unit, name in ((1e6, "M"), (1e3, "k"), (1, "")) if count >= unit)
    return f"{float(f'{count / unit:.2g}'):g}{name}" if count < 100 * unit else f"{count / unit:.0f}{name}"


def _known(found: Findings, pair: Pair) -> bool:
    return any(own == pair and best.gain is not None for (own, _), best in found.best.items())


def _gain_line(
    panel: Any, found: Findings, pair: Pair, of: Callable[[Any], float | None], style: dict[str, Any]
) -> None:
    points = [
        (count, gain, len(alone(found.results, pair[0], capacity)))
        for capacity, count in found.parameters.items()
        if (pair, capacity) in found.best and (gain := of(found.best[pair, capacity])) is not None
    ]
    noise = found.noise["test"]
    seeds = [seeds for *_, seeds in points]
    errors = None if noise is None or noise.df < 3 else [noise.half(1.5 / count) for count in seeds]
    panel.errorbar([x for x, *_ in points], [y for _, y, _ in points], yerr=errors, markersize=5, **style)


def gaps(found: Findings, canvas: Canvas) -> Plot | None:
    """Generalisation and optimisation gap against the parameters."""
    cells = [result for result in found.results if result.cell.joint]
    if not cells:
        return None
    figure = canvas(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    for pair, look in zip(found.plan.pairs, cycle(len(found.plan.pairs)), strict=True):
        own = [result for result in cells if result.cell.names == pair]
        fit = [(result.parameters, optimisation_gap(found.results, result)) for result in own]
        general = [(result.parameters, generalisation_gap(found.plan, result)) for result in own]
        _means(left, general, look, " + ".join(pair))
        _means(right, [(x, y) for x, y in fit if y is not None], look, None)
    left.set_ylabel("generalisation gap (points of the metric)")
    right.set_ylabel("optimisation gap (of the training loss)")
    for panel in (left, right):
        panel.axhline(0, color=INK, linewidth=1)
        _parameter_axis(panel, found)
        panel.grid(True)
    figure.legend(loc="outside upper center", ncols=3)
    return Plot(
        "gaps",
        "Generalisation and optimisation gap",
        "Left: metric on fixed training samples less that on the test part. Right: loss on fixed training samples less "
        "that of single-task networks of the same capacity and steps; above 0 joint training fits less well. A mark "
        "for each p and seed, a line through their means. These are our definitions; those of the paper are not known.",
        figure,
        "Marks for every joint cell and lines for each pair over the parameters of the network.",
    )


def _means(panel: Any, points: Sequence[tuple[int, float]], look: Any, label: str | None) -> None:
    if not points:
        return
    panel.plot(
        [x for x, _ in points],
        [y for _, y in points],
        look.marker,
        color=look.colour,
        alpha=0.35,
        markersize=4,
    )
    xs = sorted({x for x, _ in points})
    means = [fmean(y for x, y in points if x == own) for own in xs]
    panel.plot(xs, means, color=look.colour, linestyle=look.dash, label=label)
