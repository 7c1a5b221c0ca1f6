"""A surrogate of the Gramian: gradients with respect to the features in place of the shared parameters.

The features are where the shared part of the network hands over to the heads: the places in the graph that two or
more losses reach, seen from a part that only one of them reaches. The gradient of a loss with respect to them needs a
pass through its head only, so m of these passes cost little. The Gramian of those gradients is another one than that
of the parameters: how well the updates agree depends on the network, and has to be measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from equipoise.core import gramian_of

from .gradients import Split
from .graph import post_order
from .sources import Measured, Sources


def features_gramian(sources: Sources, split: Split) -> Measured:
    """The inner products of the losses' gradients with respect to the features; the graph is kept.

    Where one task alone is present, the features are its loss: the gradient is 1.

    Args:
        sources: where the graph of each present task starts.
        split: the parameters of the step.
    """
    roots = list(sources.roots.values())
    places = _places(roots, split.heads) if len(roots) > 1 else roots
    first = split.shared[0]
    m = sources.n_tasks
    gramian = torch.zeros(m, m, dtype=torch.float64, device=first.device)
    found: dict[int, list[Tensor | None]] = {}
    for i, root in sources.roots.items():
        gradients = torch.autograd.grad(
            [root], places, [sources.seed(i, first)], retain_graph=True, allow_unused=True
        )
        found[i] = [None if g is None else sources.own(i, g).reshape(-1) for g in gradients]
    tasks = torch.tensor(list(found), device=first.device)
    columns = list(zip(*found.values(), strict=True))
    found.clear()
    gramian[tasks[:, None], tasks] = torch.stack([gramian_of(_filled(column)) for column in columns]).sum(0)
    # Nothing is known of single parameters: every present task counts as moving all of them.
    squares = gramian.new_zeros(len(split.shared), m)
    squares[:, tasks] = 1.0
    # Features have a place per sample, so those of the ranks lie beside each other and their products add up.
    return Measured(sources.unscaled(sources.total(gramian)), squares)


def _filled(column: Sequence[Tensor | None]) -> Tensor:
    """The gradients (k, size) at one place, 0 for tasks that do not reach it."""
    zero = torch.zeros_like(next(gradient for gradient in column if gradient is not None))
    return torch.stack([zero if gradient is None else gradient for gradient in column])


def _places(roots: list[GradientEdge], heads: Sequence[Tensor]) -> list[GradientEdge]:
    """Where parts of one loss meet parts of two or more, parameters left out, each place once.

    Heads that are one layer meet at once, above their own parameters: then it is where no head's parameter is below.
    """
    masks: dict[Node, int] = {}
    for bit, root in enumerate(roots):
        masks[root.node] = masks.get(root.node, 0) | 1 << bit
    places: dict[tuple[Node, int], None] = {
        (root.node, root.output_nr): None for root in roots if masks[root.node].bit_count() > 1
    }
    order = post_order([root.node for root in roots])
    above = _above(order, heads)
    edges = [
        (node, child, number)
        for node in reversed(order)
        for child, number in node.next_functions
        if child is not None
    ]
    for node, child, _ in edges:
        masks[child] = masks.get(child, 0) | masks[node]
    for node, child, number in edges:
        if masks[node].bit_count() == 1 < masks[child].bit_count() and not hasattr(child, "variable"):
            places[(child, number)] = None
    if any(node in above for node, _ in places):
        lower = {
            (child, number): None
            for node, child, number in edges
            if node in above and child not in above and not hasattr(child, "variable")
        }
        places = lower or places
    return [GradientEdge(node, number) for node, number in places]


def _above(order: Sequence[Node], heads: Sequence[Tensor]) -> set[Node]:
    """The nodes, given each after those that it leads to, that lead to a parameter of a head."""
    parameters, above = set(heads), set[Node]()
    for node in order:
        children = (child for child, _ in node.next_functions)
        if getattr(node, "variable", None) in parameters or any(child in above for child in children):
            above.add(node)
    return above
