"""Which parameters each loss reaches, read off the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

SINGLE_PASS = (
    "A compiled network should allow several backward passes, one per task. Found one that was compiled for a "
    "single one: build the Balancer before the network's first forward pass, or call torch.compiler.reset()."
)


def tasks_reaching(roots: Sequence[GradientEdge]) -> dict[Tensor, int]:
    """For each leaf of the graph that requires gradients, the set of roots that reach it.

    Visits every node of the union of the graphs once, whatever the number of roots. Costs about a
    microsecond a node and nothing on the device.

    Args:
        roots: where the graphs of the m losses start.

    Returns:
        leaf -> bit mask, bit i set where root i reaches it; in the order of the backward pass.

    Raises:
        RuntimeError: if a part of the graph was compiled to be passed once.
    """
    masks: dict[Node, int] = {}
    for bit, root in enumerate(roots):
        masks[root.node] = masks.get(root.node, 0) | 1 << bit
    leaves: dict[Tensor, int] = {}
    for node in reversed(post_order(list(masks))):
        mask = masks[node]
        if isinstance(node, BackwardCFunction):
            _refuse_single_pass(type(node))
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves[variable] = mask
        for child, _ in node.next_functions:
            if child is not None:
                masks[child] = masks.get(child, 0) | mask
    return leaves


def _refuse_single_pass(kind: type) -> None:
    """Refuse a compiled network whose backward pass writes over what a second one would read.

    torch checks that only while the option is on that `keep_graphs_usable` turns off, and a network may have been
    compiled before that.
    """
    compiled: Any = getattr(kind, "_forward_cls", None)
    overwritten = getattr(getattr(compiled, "metadata", None), "bw_donated_idxs", None)
    if overwritten and getattr(compiled, "compiled_bw", None) is not None:
        raise RuntimeError(SINGLE_PASS)


def post_order(starts: list[Node]) -> list[Node]:
    """Every node reached from `starts`, each after all nodes that it leads to."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in starts]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child, _ in node.next_functions if child is not None)
    return order
