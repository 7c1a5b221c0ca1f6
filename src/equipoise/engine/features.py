"""A surrogate of the Gramian: gradients with respect to the features in place of the shared parameters.

The features are where the shared part of the network hands over to the heads: the places in the graph that two or
more losses reach, seen from a part that only one of them reaches. The gradient of a loss with respect to them needs a
pass through its head only, so m of these passes cost little. The Gramian of those gradients is another one than that
of the parameters: how well the updates agree depends on the network, and has to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.autograd.graph import GradientEdge, Node

from .gradients import Split, gradients_of
from .graph import post_order
from .layerwise import GramianAndHeads


def features_gramian(roots: Mapping[int, GradientEdge], split: Split, n_tasks: int) -> GramianAndHeads:
    """The inner products of the losses' gradients with respect to the features; the graph is kept.

    Where one task alone is present, the features are its loss: the gradient is 1.

    Args:
        roots: where the graph of each present task starts.
        split: the parameters of the step.
        n_tasks: the number of tasks m.
    """
    places = _places(list(roots.values())) if len(roots) > 1 else list(roots.values())
    device = split.shared[0].device
    gramian = torch.zeros(n_tasks, n_tasks, dtype=torch.float64, device=device)
    found: dict[int, torch.Tensor] = {}
    heads: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for i, root in roots.items():
        own = split.own_heads(i)
        gradients = torch.autograd.grad(
            [root], places, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        found[i] = torch.cat([gradient.reshape(-1).double() for gradient in gradients])
        heads += [
            (i, p, g) for p, g in zip(own, gradients_of([root], None, own, retain_graph=True), strict=True)
        ]
    tasks = list(found)
    rows = torch.stack([found[i] for i in tasks])
    gramian[torch.tensor(tasks, device=device)[:, None], torch.tensor(tasks, device=device)] = rows @ rows.T
    # Nothing is known of single parameters: every present task counts as moving all of them.
    squares = torch.zeros(len(split.shared), n_tasks, dtype=torch.float64, device=device)
    squares[:, tasks] = 1.0
    return GramianAndHeads(gramian, squares, heads)


def _places(roots: list[GradientEdge]) -> list[GradientEdge]:
    """Where parts of one loss meet parts of two or more, parameters left out, each place once."""
    masks: dict[Node, int] = {}
    for bit, root in enumerate(roots):
        masks[root.node] = masks.get(root.node, 0) | 1 << bit
    places: dict[tuple[Node, int], None] = {
        (root.node, root.output_nr): None for root in roots if masks[root.node].bit_count() > 1
    }
    order = list(reversed(post_order([root.node for root in roots])))
    edges = [
        (node, child, number) for node in order for child, number in node.next_functions if child is not None
    ]
    for node, child, _ in edges:
        masks[child] = masks.get(child, 0) | masks[node]
    for node, child, number in edges:
        if masks[node].bit_count() == 1 < masks[child].bit_count() and not hasattr(child, "variable"):
            places[(child, number)] = None
    return [GradientEdge(node, number) for node, number in places]
