"""The exact Gramian without m full rows: a stretch of the network at a time, for all tasks.

The graph is cut where one node lies between the losses and everything that is still to be measured: between two
layers of a chain, at the sum that ends a residual block. The m cotangents at a cut are all that the next stretch
needs, so that every node runs once per task, as in m plain backward passes. A stretch with more parameters than the
budget (parallel branches, weights that are tied across the network) is passed through again for each group of them.

Memory: m times the largest group of parameters, and m times the activation at a cut. Where activations are larger
than parameters, as in small convolutional networks, the rows themselves may be the smaller.

Looked at and left: passing again from the losses for each group needs no cuts, but its time grows with the square of
the depth; one pass batched over the tasks holds m times the gradients of activations and rows, and fails on
operations that cannot be batched; hooks on parameters see one task at a time.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from .gradients import Split
from .graph import post_order
from .sources import Measured, Sources

Top = tuple[list[GradientEdge], list[Tensor]]  # where a stretch starts for one task, and its cotangents
_BLOCK = 16_384  # columns that are summed in float64 at a time


@dataclass(frozen=True, slots=True)
class Target:
    """A place in the graph whose gradient is wanted from every task.

    Args:
        edge: the place.
        size: the entries of one task's gradient that count against the budget.
        of_samples: whether its gradients have a row per sample, which ranks lay end to end, where they add up others.
    """

    edge: GradientEdge
    size: int
    of_samples: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What one shared parameter adds to the Gramian.

    Args:
        parameter: its position among the shared ones.
        needs: the positions of the targets that it is computed from.
        gramian: from the tasks (k of them) and, for each target, task -> gradient (0 where it is missing), to (k, k).
    """

    parameter: int
    needs: tuple[int, ...]
    gramian: Callable[[list[int], list[dict[int, Tensor]]], Tensor]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the graph that is passed through for all tasks before the next one.

    Args:
        groups: positions of its targets; one pass per task for each group.
        cut: where the next stretch starts.
    """

    groups: list[list[int]]
    cut: list[GradientEdge]


def layerwise_gramian(sources: Sources, split: Split, *, budget: int | None = None) -> Measured:
    """The exact Gramian from the rows of a few parameters at a time; the graph is kept.

    Args:
        sources: where the graph of each present task starts.
        split: the parameters of the step.
        budget: entries of the parameters whose m rows may be held at once; a larger parameter is held alone.
            By default a quarter more than the largest, so that a bias goes with its weight.

    Raises:
        ValueError: if the budget is below 1.
    """
    targets = [Target(get_gradient_edge(p), p.numel()) for p in split.shared]
    shares = [Share(k, (k,), rows_gramian) for k in range(len(split.shared))]
    return measure(sources, split, (targets, shares), budget)


def measure(
    sources: Sources, split: Split, plan: tuple[list[Target], list[Share]], budget: int | None
) -> Measured:
    """Carries out a plan for the shared parameters."""
    if budget is not None and budget < 1:
        raise ValueError(f"`budget` should be at least 1. Found {budget}.")
    targets, shares = plan
    first, m = split.shared[0], sources.n_tasks
    gramian = torch.zeros(m, m, dtype=torch.float64, device=first.device)
    squares = gramian.new_zeros(len(split.shared), m)
    held: dict[int, dict[int, Tensor]] = {}
    users: dict[int, list[Share]] = {}
    for share in shares:
        for k in share.needs:
            users.setdefault(k, []).append(share)
    route = stretches(list(sources.roots.values()), targets, budget or 5 * max(t.size for t in targets) // 4)
    sources.check_alike([(s.groups, [targets[k].size for g in s.groups for k in g]) for s in route])
    for position, found in sweep(sources, targets, route, first):
        held[position] = _of_all_ranks(sources, targets[position], found)
        del found  # or it would live on while the next group is measured
        for share in [s for s in users.get(position, []) if held.keys() >= {*s.needs}]:
            _add(share, [held[k] for k in share.needs], gramian, squares)
            for k in share.needs:
                users[k].remove(share)
        held = {k: kept for k, kept in held.items() if users[k]}
    return Measured(sources.unscaled((gramian + gramian.T) / 2), squares, len(sources.roots))


def _of_all_ranks(sources: Sources, target: Target, found: dict[int, Tensor]) -> dict[int, Tensor]:
    """The gradients of a target as one large batch on one rank would have them."""
    if sources.ranks is None or not found:
        return found
    if not target.of_samples:
        return sources.summed(found)
    samples = torch.stack([g.reshape(-1, g.shape[-1]) for g in found.values()], dim=1)
    return dict(zip(found, sources.laid_together(samples).unbind(1), strict=True))


def rows_gramian(tasks: list[int], found: list[dict[int, Tensor]]) -> Tensor:
    """The Gramian (k, k) of the rows of one parameter, summed in float64 by blocks of columns."""
    rows = [found[0][i].reshape(-1) for i in tasks]
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows[0].device)
    for start in range(0, len(rows[0]), _BLOCK):
        wide = torch.stack([row[start : start + _BLOCK] for row in rows]).double()
        total.addmm_(wide, wide.T)
    return total


def stretches(roots: Sequence[GradientEdge], targets: Sequence[Target], budget: int) -> list[Stretch]:
    """Stretches of at most `budget` entries where cuts allow it, and groups of at most that many in them."""
    route: list[Stretch] = []
    current: list[int] = []
    cut: list[GradientEdge] = []
    pieces = pieces_of(roots, targets)
    # From the inputs upwards: what a cut leaves of a layer joins the rest of it, not the layer above.
    for k in reversed(range(len(pieces))):
        if current and sum(targets[j].size for j in [*pieces[k][0], *current]) > budget:
            route.append(Stretch(_groups(current, targets, budget), cut))
            current, cut = [], pieces[k][1]
        current = [*pieces[k][0], *current]
    return [Stretch(_groups(current, targets, budget), cut), *reversed(route)]


def sweep(
    sources: Sources, targets: Sequence[Target], route: Sequence[Stretch], like: Tensor
) -> Iterator[tuple[int, dict[int, Tensor]]]:
    """Each target's position and its task -> gradient, tasks that do not reach it left out.

    Holds the gradients of one group at a time, and what the caller keeps.
    """
    tops: dict[int, Top] = {i: ([root], [sources.seed(i, like)]) for i, root in sources.roots.items()}
    for group, last, stretch in [(g, g is s.groups[-1], s) for s in route for g in s.groups]:
        edges = [targets[k].edge for k in group]
        found: dict[int, dict[int, Tensor]] = {k: {} for k in group}
        for i, top in tops.items():
            below = _pass(sources, i, top, found, (edges, stretch.cut if last else []))
            tops[i] = below if last else top
        for k in group:
            yield k, found.pop(k)


def _pass(
    sources: Sources,
    task: int,
    top: Top,
    found: dict[int, dict[int, Tensor]],
    places: tuple[list[GradientEdge], list[GradientEdge]],
) -> Top:
    """Adds one task's gradients at the targets of `found`, and gives the top of the next stretch."""
    edges, cut = places
    outputs, cotangents = top
    if not outputs or (not edges and not cut):
        return [], []
    gradients = torch.autograd.grad(outputs, [*edges, *cut], cotangents, retain_graph=True, allow_unused=True)
    below = [(edge, g) for edge, g in zip(cut, gradients[len(edges) :], strict=True) if g is not None]
    for held, gradient in zip(found.values(), gradients, strict=False):
        held |= {} if gradient is None else {task: sources.own(task, gradient)}
    return [edge for edge, _ in below], [g for _, g in below]


def _add(share: Share, found: list[dict[int, Tensor]], gramian: Tensor, squares: Tensor) -> None:
    tasks = sorted({i for gradients in found for i in gradients})
    if not tasks:
        return
    part = share.gramian(tasks, found)
    index = torch.tensor(tasks, device=gramian.device)
    gramian[index[:, None], index] += part
    squares[share.parameter, index] = part.diagonal()


def _groups(positions: list[int], targets: Sequence[Target], budget: int) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    size = 0
    for k in positions:
        if groups[-1] and size + targets[k].size > budget:
            groups.append([])
            size = 0
        groups[-1].append(k)
        size += targets[k].size
    return groups


def pieces_of(
    roots: Sequence[GradientEdge], targets: Sequence[Target]
) -> list[tuple[list[int], list[GradientEdge]]]:
    """The targets between one cut and the next, in the order of the backward pass, and the edges of the cut below."""
    wanted: dict[Node, list[int]] = {}
    for k, target in enumerate(targets):
        wanted.setdefault(target.edge.node, []).append(k)
    heights = _heights(list({root.node: None for root in roots}), wanted)
    numbers: dict[Node, set[int]] = {}
    for edge in [*roots, *(GradientEdge(*link) for node in heights for link in _links(node, heights))]:
        numbers.setdefault(edge.node, set()).add(edge.output_nr)
    pieces: list[tuple[list[int], list[GradientEdge]]] = []
    piece: list[int] = []
    for node, alone in _passage({root.node for root in roots if root.node in heights}, heights):
        piece += wanted.get(node, [])
        if piece and alone:
            pieces.append((piece, [GradientEdge(node, number) for number in sorted(numbers[node])]))
            piece = []
    return [*pieces, (piece, [])] if piece else pieces


def _passage(starts: set[Node], heights: dict[Node, int]) -> Iterator[tuple[Node, bool]]:
    """Every node after all that lead to it, and whether it is alone in having been reached but not passed.

    Of the nodes that may come next, those with the shortest way to go come first: side branches end before a cut.
    """
    waiting = Counter(child for node in heights for child, _ in _links(node, heights))
    order = {node: k for k, node in enumerate(heights)}
    reached = set(starts)
    ready = [(heights[node], order[node], node) for node in starts if not waiting[node]]
    heapq.heapify(ready)
    while ready:
        node = heapq.heappop(ready)[2]
        yield node, len(reached) == 1
        reached.discard(node)
        for child, _ in _links(node, heights):
            reached.add(child)
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, (heights[child], order[child], child))


def _heights(starts: list[Node], wanted: Container[Node]) -> dict[Node, int]:
    """The nodes that are wanted or lead to such ones, with the length of the longest way down to one."""
    heights: dict[Node, int] = {}
    for node in post_order(starts):
        below = [heights[child] for child, _ in _links(node, heights)]
        if below or node in wanted:
            heights[node] = 1 + max(below, default=0)
    return heights


def _links(node: Node, among: Container[Node]) -> list[tuple[Node, int]]:
    return [(child, number) for child, number in node.next_functions if child is not None and child in among]
