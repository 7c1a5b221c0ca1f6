"""The gradients of all tasks in passes that are batched over the tasks, where that is quicker than a pass per task.

A batched pass launches each operation once for many tasks. That pays where launching costs more than computing: for
small layers on a GPU (not measured: there was none). On a CPU it was slower on every network of
`benchmarks/step_cost.py`, by 4 % to 100 %, for small layers too, and it holds more memory; so there the loop stays.

Only the part of the network that the tasks share is batched: it starts at the places where the tasks' own parts meet
it, and one short pass per task leads there from its loss. Both ways compute the same sums, but not always in the same
order, and which one is quicker is told by the clock; so where a run asks for deterministic algorithms the loop stays
too, and elsewhere a batched pass has to be clearly quicker, lest two runs choose differently.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from .gradients import Split, gradients_of
from .graph import post_order

CHUNK = 16  # tasks in one pass, whose gradients are all held at once
_NETWORKS = 4  # that are timed; where graphs keep changing, timing each would cost more than it brings
_TURNS = 2
_log = logging.getLogger("equipoise")

Gradients = Iterator[list[Tensor]]  # task by task, those of the shared parameters and of its own head


class Batched:
    """Says, for each network that it is shown, whether batched passes are quicker, and makes them.

    A network is known by the operations of its graph, the shapes of its parameters and the number of tasks. When it is
    seen first, both ways run a few times; the choice is kept, and logged.

    Args:
        devices: the types of device on which batched passes are tried.
        gain: how many times quicker they have to be.
    """

    def __init__(self, devices: Sequence[str] = ("cuda",), gain: float = 1.2) -> None:
        self._devices = devices
        self._gain = gain
        self._choices: dict[int, bool] = {}

    def gradients(self, roots: Mapping[int, GradientEdge], split: Split) -> Gradients | None:
        """The gradients of every task by batched passes, which end with the graph freed; None to take the loop.

        Args:
            roots: where the graphs of the tasks start.
            split: the parameters of the step.
        """
        device = split.shared[0].device.type if split.shared else ""
        if device not in self._devices or torch.are_deterministic_algorithms_enabled():
            return None
        every = (1 << split.n_tasks) - 1
        whole = split.n_tasks > 1 and all(split.reached.get(p) == every for p in split.shared)
        border = _border(list(roots.values())) if whole else None
        if border is None:
            return None
        places, operations = border
        key = hash((operations, tuple(p.shape for p in (*split.shared, *split.heads)), split.n_tasks))
        if key not in self._choices:
            if len(self._choices) == _NETWORKS:
                return None
            self._choices[key] = self._quicker(roots, split, places)
        return _batched(roots, split, places, last=True) if self._choices[key] else None

    def _quicker(self, roots: Mapping[int, GradientEdge], split: Split, places: list[GradientEdge]) -> bool:
        """Whether batched passes work, agree with the loop and are quicker by the gain."""
        try:
            pairs = zip(_loop(roots, split), _batched(roots, split, places), strict=True)
            if not all(_agree(one, other) for one, other in pairs):
                _log.info("equipoise measures gradients task by task: batched over the tasks they differ")
                return False
        except Exception as error:  # a backward pass written by anyone may raise anything when it is batched
            _log.info("equipoise measures gradients task by task: they cannot be batched (%s)", error)
            return False
        device = split.shared[0].device
        turns = [
            (_seconds(_loop(roots, split), device), _seconds(_batched(roots, split, places), device))
            for _ in range(_TURNS)
        ]
        loop, batched = (min(times) for times in zip(*turns, strict=True))
        chosen = bool(loop >= self._gain * batched)
        how = "batched over the tasks" if chosen else "task by task"
        _log.info("equipoise measures gradients %s (%.2g s batched, %.2g s in a loop)", how, batched, loop)
        return chosen


def _loop(roots: Mapping[int, GradientEdge], split: Split) -> Gradients:
    """One pass per task; the graph is kept."""
    heads = split.own_heads()
    for i, root in roots.items():
        yield gradients_of([root], None, [*split.shared, *heads[i]], retain_graph=True)


def _batched(
    roots: Mapping[int, GradientEdge], split: Split, places: list[GradientEdge], *, last: bool = False
) -> Gradients:
    """One short pass per task to the places, and from there one for each chunk of tasks; `last` frees the graph."""
    tasks = iter(roots.items())
    left, heads = len(roots), split.own_heads()
    while chunk := list(islice(tasks, CHUNK)):
        left -= len(chunk)
        found = [_to_border(root, [*places, *heads[i]]) for i, root in chunk]
        columns = [[gradients[k] for gradients in found] for k in range(len(places))]
        used = [k for k, column in enumerate(columns) if any(g is not None for g in column)]
        shared = _onwards(
            [places[k] for k in used],
            split.shared,
            [_stacked(columns[k]) for k in used],
            retain_graph=left > 0 or not last,
        )
        for row, ((i, _), gradients) in enumerate(zip(chunk, found, strict=True)):
            own = zip(heads[i], gradients[len(places) :], strict=True)
            yield [*(g[row] for g in shared), *(torch.zeros_like(p) if g is None else g for p, g in own)]


def _to_border(root: GradientEdge, inputs: Sequence[GradientEdge | Tensor]) -> tuple[Tensor | None, ...]:
    """The gradients of one loss at the places and of its own head; None where it does not reach."""
    edges = [get_gradient_edge(x) if isinstance(x, Tensor) else x for x in inputs]
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        [root], edges, retain_graph=True, allow_unused=True
    )
    return found


def _onwards(
    places: list[GradientEdge], shared: list[Tensor], cotangents: list[Tensor], *, retain_graph: bool
) -> list[Tensor]:
    """The gradients (k, ...) of the shared parameters from those of k tasks at the places."""

    # Not `is_grads_batched`: that has fewer batching rules, and loops over the tasks itself where it has none.
    def one(*gradients: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            places, shared, gradients, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
        )

    with warnings.catch_warnings():
        # Of single operations that are looped over: the clock has told whether the whole is quicker.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return list(torch.vmap(one)(*cotangents))


def _stacked(column: Sequence[Tensor | None]) -> Tensor:
    """The gradients at one place, 0 for tasks that do not reach it, of which there is one that does."""
    zero = torch.zeros_like(next(gradient for gradient in column if gradient is not None))
    return torch.stack([zero if gradient is None else gradient for gradient in column])


def _border(roots: list[GradientEdge]) -> tuple[list[GradientEdge], tuple[str, ...]] | None:
    """Where parts of one task meet parts of several, and the names of all operations; None if that is no clean cut.

    It is one if no place leads to another, so that the gradients at the places hold everything, each once, and if no
    parameter lies on both sides.
    """
    masks: dict[Node, int] = {}
    for bit, root in enumerate(roots):
        masks[root.node] = masks.get(root.node, 0) | 1 << bit
    places = {(root.node, root.output_nr): None for root in roots if masks[root.node].bit_count() > 1}
    order = list(reversed(post_order(list(masks))))
    edges = [(node, child, k) for node in order for child, k in node.next_functions if child is not None]
    for node, child, _ in edges:
        masks[child] = masks.get(child, 0) | masks[node]
    starts = {node for node, _ in places}
    below: set[Node] = set()
    for node, child, number in edges:
        if node in starts or node in below:
            below.add(child)
        elif masks[child].bit_count() > 1:
            if hasattr(child, "variable"):
                return None
            places[(child, number)] = None
            starts.add(child)
    if starts & below:
        return None
    return [GradientEdge(*place) for place in places], tuple(node.name() for node in order)


def _agree(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether the gradients of a task are equal up to rounding, all parameters together: some have none but noise."""
    tolerance = torch.finfo(one[0].dtype).eps ** 0.5
    off = sum(float((a - b).double().square().sum()) for a, b in zip(one, other, strict=True))
    return bool(off <= tolerance**2 * sum(float(a.double().square().sum()) for a in one))


def _seconds(gradients: Gradients, device: torch.device) -> float:
    """How long it takes to go through the gradients of all tasks."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in gradients:
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
