"""All that a study is a function of: pairs, capacities, weights and seeds, and the run of each cell."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from equipoise.benchmark.plan import PlanError
from equipoise.core import MethodSpec
from equipoise.training.config import RunConfig, Settings

Act = Literal["sampling", "losses"]
Capacity = tuple[int | None, int | None]
"""Depth and width; None where the network has no such option."""
Pair = tuple[str, str]


class StudyError(PlanError):
    """A study that cannot be made, or cannot go on; the message says why and what to do."""


class Measure(Settings):
    """What a domain or task is judged by: the first metric of its task.

    Args:
        name: of the domain or task.
        metric: its name.
        unit: of the metric.
        higher_is_better: its direction.
        reference: the problem's reference value, which is not 0.
    """

    name: str
    metric: str
    unit: str
    higher_is_better: bool
    reference: float

    def merit(self, value: float) -> float:
        """A value in percent of the reference, negative where lower is better: higher is always better.

        merit = 100 v / |reference|, or -100 v / |reference|. An accuracy in percent with the reference 100 is its own.
        """
        return 100 * value / abs(self.reference) * (1 if self.higher_is_better else -1)


@dataclass(frozen=True)
class Cell:
    """One network of a study.

    Args:
        names: the two domains or tasks that it is trained on, or the one of a single-task reference.
        p: weight of the first name, 1 - p of the second; None for one name.
        depth: of the network.
        width: of the network.
        seed: of the run.
    """

    names: tuple[str, ...]
    p: float | None
    depth: int | None
    width: int | None
    seed: int

    @property
    def capacity(self) -> Capacity:
        """Depth and width."""
        return self.depth, self.width

    @property
    def joint(self) -> bool:
        """Whether it is trained on two."""
        return self.p is not None

    @property
    def name(self) -> str:
        """Unique within a study, and a file name."""
        plain = "+".join(self.names)
        safe = re.sub(r"[^A-Za-z0-9._+-]", "-", plain)
        safe = (
            safe
            if safe == plain and len(safe) < 80
            else f"{safe[:60]}-{hashlib.sha256(repr(self.names).encode()).hexdigest()[:8]}"
        )
        sizes = [f"d{self.depth}"] * (self.depth is not None) + [f"w{self.width:g}"] * (
            self.width is not None
        )
        weight = [] if self.p is None else [f"p{self.p:g}"]
        return "-".join([safe, *sizes, *weight, f"seed{self.seed}"])


class StudyPlan(Settings):
    """A study of scalarization.

    Args:
        config: what all cells have in common: problem, options, learning rate, training, device.
        measures: of all domains or tasks, in the problem's order.
        act: what p acts on: the "sampling" of two domains, or the two "losses".
        domains: whether the problem has the option `domains`, which leaves the others out.
        pairs: two names each.
        depths: of the network; (None,) where it has no such option.
        widths: likewise.
        grid: the values of p, rising.
        seeds: of the runs.
        probe: fixed batches of training samples that gradients, loss and accuracy are measured on.
        least_steps: cells with fewer steps are left out of figures and verdicts.
    """

    config: RunConfig
    measures: tuple[Measure, ...]
    act: Act
    domains: bool
    pairs: tuple[Pair, ...]
    depths: tuple[int | None, ...]
    widths: tuple[int | None, ...]
    grid: tuple[float, ...]
    seeds: tuple[int, ...]
    probe: int = 8
    least_steps: int = 300

    def measure(self, name: str) -> Measure:
        """What a domain or task is judged by."""
        return next(measure for measure in self.measures if measure.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """The domains or tasks that the pairs are of, in the problem's order."""
        used = {name for pair in self.pairs for name in pair}
        return tuple(measure.name for measure in self.measures if measure.name in used)

    @property
    def capacities(self) -> tuple[Capacity, ...]:
        """All of them, by depth, then by width."""
        return tuple((depth, width) for depth in self.depths for width in self.widths)

    @property
    def steps(self) -> int | None:
        """Steps of each cell where the options tell it: epochs of `samples` in batches of `batch_size`."""
        samples, batch = (self.config.options.get(name) for name in ("samples", "batch_size"))
        if samples is None or batch is None:
            return None
        shown = batch * (2 if self.act == "losses" else 1)
        steps: int = math.ceil(samples / shown) * self.config.train.epochs
        return steps

    def cells(self) -> list[Cell]:
        """Every network, in the order in which they are trained: by seed, then by capacity, references first."""
        return [
            cell
            for seed in self.seeds
            for capacity in self.capacities
            for cell in (
                *(Cell((name,), None, *capacity, seed) for name in self.names),
                *(Cell(pair, p, *capacity, seed) for pair in self.pairs for p in self.grid),
            )
        ]

    def config_of(self, cell: Cell) -> RunConfig:
        """The run of a cell; all have equally many steps of the same batch size.

        Sampling: a batch of the first domain with probability p, of the second with 1 - p. Losses: the total is
        2 p L_1 + 2 (1 - p) L_2, so that p = 0.5 is a plain sum and the learning rate means the same for all.
        """
        sizes = {"depth": cell.depth, "width": cell.width}
        options = {**self.config.options, **{key: size for key, size in sizes.items() if size is not None}}
        method = "ls"
        if self.domains:
            options |= {"domains": list(cell.names), **self._mixing(cell, options)}
        if self.act == "losses":
            method = self._method(cell)
        return self.config.model_copy(update={"options": options, "method": method, "seed": cell.seed})

    def _mixing(self, cell: Cell, options: Mapping[str, Any]) -> dict[str, Any]:
        if self.act == "sampling":
            weights = {} if cell.p is None else {"weights": [cell.p, 1 - cell.p]}
            return {"mixing": "sampled", **weights}
        samples = options.get("samples")  # a step of a pair shows a batch of each
        fewer = {} if samples is None or cell.joint else {"samples": math.ceil(samples / 2)}
        return {"mixing": "together", **fewer}

    def _method(self, cell: Cell) -> str:
        if cell.p is None:
            return MethodSpec("stl", {"task": cell.names[0]}).label
        by_name = {cell.names[0]: 2 * cell.p, cell.names[1]: 2 * (1 - cell.p)}
        names = cell.names if self.domains else [measure.name for measure in self.measures]
        return MethodSpec("constant", {"weights": [by_name.get(name, 0.0) for name in names]}).label


def check_study(plan: StudyPlan) -> None:
    """Refuse what cannot be studied.

    Raises:
        StudyError: naming the setting.
    """
    rising = sorted(set(plan.grid)) == list(plan.grid)
    if not plan.grid or not rising or not all(0 < p < 1 for p in plan.grid):
        raise StudyError(f"`grid` should be rising numbers above 0 and below 1. Found {_shown(plan.grid)}.")
    for name, sizes in (("depths", plan.depths), ("widths", plan.widths)):
        good = sizes == (None,) or all(size is not None and size > 0 for size in sizes)
        if not sizes or not good or len(set(sizes)) < len(sizes):
            raise StudyError(
                f"`{name}` should be different numbers above 0, at least 1. Found {_shown(sizes)}."
            )
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise StudyError(f"`seeds` should be at least 1, each different. Found {_shown(plan.seeds)}.")
    if not plan.pairs:
        raise StudyError("`pairs` should hold at least 1 pair. Found none.")
    if plan.probe < 1:
        raise StudyError(f"`probe` should be at least 1 batch. Found {plan.probe}.")
    if plan.config.train.max_steps is not None:
        raise StudyError("A study goes by epochs: `max_steps` should be left out, and `epochs` be fewer.")
    if "samples" in plan.config.options and plan.config.options["samples"] is None:
        raise StudyError(
            "`samples` should be a number, so that an epoch has as many steps for every pair. Found None: add --set "
            "samples=3200, for example."
        )
    if len({frozenset(pair) for pair in plan.pairs}) < len(plan.pairs):
        raise StudyError("`pairs` should be different from each other. Found one twice.")


def _shown(values: tuple[Any, ...]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values) or "none"
