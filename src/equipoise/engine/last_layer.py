"""A surrogate of the Gramian: gradients of the last shared layer in place of all shared parameters.

The last shared layer is the matrix (or kernel) whose way from the losses through the graph is the shortest, with what
is as near or nearer: its bias, a normalisation on top of it. The gradients of m tasks with respect to it need passes
through the heads and this layer only. As with the features, how well the updates agree depends on the network, and
has to be measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch.autograd.graph import Node, get_gradient_edge

from .gradients import Split
from .layerwise import Share, Target, measure, rows_gramian
from .sources import Measured, Sources


def last_layer_gramian(sources: Sources, split: Split) -> Measured:
    """The Gramian of the gradients with respect to the last shared layer; the graph is kept.

    Args:
        sources: where the graph of each present task starts.
        split: the parameters of the step.
    """
    every = [Target(get_gradient_edge(p), p.numel()) for p in split.shared]
    far = _distances(root.node for root in sources.roots.values())
    ways = [far.get(target.edge.node, len(far)) for target in every]
    matrices = [way for way, p in zip(ways, split.shared, strict=True) if p.ndim > 1]
    nearest = min(matrices or ways)
    chosen = [k for k, way in enumerate(ways) if way <= nearest]
    shares = [Share(k, (position,), rows_gramian) for position, k in enumerate(chosen)]
    # A layer is no pass through the whole network.
    return replace(measure(sources, split, ([every[k] for k in chosen], shares), None), passes=0)


def _distances(roots: Iterable[Node]) -> dict[Node, int]:
    """How many nodes lie on the shortest way from a root to each node."""
    found = dict.fromkeys(roots, 0)
    level, way = list(found), 0
    while level:
        way += 1
        below = {child: None for node in level for child, _ in node.next_functions if child is not None}
        level = [child for child in below if child not in found]
        found |= dict.fromkeys(level, way)
    return found
