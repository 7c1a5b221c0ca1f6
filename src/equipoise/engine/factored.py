"""The exact Gramian without the weight gradients of linear layers.

The gradient of task i with respect to a weight is D_i' A, from the inputs A (b, in) of the layer and the gradients
D_i (b, out) of its outputs. So <D_i' A, D_j' A> = <A A' D_i, D_j>: a matrix (b, b), and none of (out, in). For the
bias it is the inner product of the sums of D_i and D_j over samples. Leading dimensions count as samples, and all
uses of a weight in one step are laid end to end, so that the terms between two uses are there too.

A weight is treated like this where it costs fewer operations than its rows, b (in + m out) <= m in out, which also
makes D_i smaller than the row; so long sequences go by rows. By rows go, too, all other layers, and every weight that
the graph uses outside of the `nn.Linear` modules that were watched.

Memory: as `layerwise`, where a linear layer counts with its outputs (b out) in place of its weights (out in).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from equipoise.core import gramian_of

from .gradients import Split
from .layerwise import Share, Target, measure, rows_gramian
from .sources import Measured, Sources

_KEY = "equipoise.engine.factored"  # under which a use is noted at its node of the graph
_ENTRIES = 1 << 18  # entries of activations or their gradients that are held in float64 at a time


@dataclass(frozen=True, slots=True)
class Use:
    """One call of a linear layer.

    Args:
        weight: (out, in).
        bias: (out,), or None.
        inputs: detached (..., in).
        version: of the inputs; another one later means that they were changed in place.
        output_nr: which output of its node the layer's output is.
        below: where the graph of the inputs starts, or None.
    """

    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    version: int
    output_nr: int
    below: GradientEdge | None

    @property
    def samples(self) -> int:
        """How many inputs (in,) it was called with."""
        return self.inputs.numel() // self.inputs.shape[-1]


class LinearTaps:
    """Notes the inputs of every `nn.Linear` in a module, for `factored_gramian`.

    The notes hang on the nodes of the autograd graph: they go when the graph goes, or when they have been used.

    Args:
        module: what holds the linear layers.
    """

    def __init__(self, module: nn.Module) -> None:
        # A subclass or a patched layer may do more than x W' + b.
        layers = [m for m in module.modules() if type(m).forward is nn.Linear.forward]
        self._hooks = [
            layer.register_forward_hook(_note, prepend=True, with_kwargs=True)
            for layer in layers
            if "forward" not in vars(layer)
        ]

    def remove(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()


def factored_gramian(sources: Sources, split: Split, *, budget: int | None = None) -> Measured:
    """The exact Gramian, of linear layers from inputs and output gradients; the graph is kept.

    Without `LinearTaps` during the forward pass, it does what `layerwise_gramian` does.

    Args:
        sources: where the graph of each present task starts.
        split: the parameters of the step.
        budget: entries of one task's gradients that are taken at once; m times as many are held. By default a quarter
            more than the largest.
    """
    uses, elsewhere = _walk(sources.roots)
    answer = measure(sources, split, _plan(sources, split, uses, elsewhere), budget)
    for edge, _ in uses:
        _notes(edge.node).pop(_KEY)  # or the inputs would stay in memory as long as the losses
    return answer


def factored_size(sources: Sources, split: Split) -> int:
    """Entries of the largest part of one task's gradients that `factored_gramian` would hold at once, m times."""
    uses, elsewhere = _walk(sources.roots)
    return max(target.size for target in _plan(sources, split, uses, elsewhere)[0])


def _note(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
    weight, bias = layer.weight, layer.bias
    # A weight that is computed from other parameters is no use of its own.
    leaves = all(isinstance(p, Tensor) and p.is_leaf for p in (weight, bias) if p is not None)
    if output.requires_grad and leaves and not torch.compiler.is_compiling():
        inputs = args[0] if args else kwargs["input"]
        below = get_gradient_edge(inputs) if inputs.requires_grad else None
        use = Use(
            cast(Tensor, weight),
            cast("Tensor | None", bias),
            inputs.detach(),
            inputs._version,
            output.output_nr,
            below,
        )
        _notes(get_gradient_edge(output).node)[_KEY] = use


def _notes(node: Node) -> dict[str, Any]:
    return cast(dict[str, Any], node.metadata)  # declared as a method, but an attribute


def _walk(roots: Mapping[int, GradientEdge]) -> tuple[list[tuple[GradientEdge, Use]], set[Tensor]]:
    """The uses of linear layers in the graph, and the leaves that it reaches besides, without going through them."""
    uses: list[tuple[GradientEdge, Use]] = []
    leaves: set[Tensor] = set()
    stack = list({root.node: None for root in roots.values()})
    seen: set[Node] = set(stack)
    while stack:
        node = stack.pop()
        use: Use | None = _notes(node).get(_KEY)
        if (
            use is None or use.inputs._version != use.version
        ):  # autograd may have kept a copy of what they were
            below = [child for child, _ in node.next_functions if child is not None]
            leaves |= {node.variable} if hasattr(node, "variable") else set()
        else:
            uses.append((GradientEdge(node, use.output_nr), use))
            below = [] if use.below is None else [use.below.node]
        fresh = {child: None for child in below if child not in seen}
        seen.update(fresh)
        stack.extend(fresh)
    return uses, leaves


def _plan(
    sources: Sources, split: Split, uses: list[tuple[GradientEdge, Use]], elsewhere: set[Tensor]
) -> tuple[list[Target], list[Share]]:
    weights = _calls([use.weight for _, use in uses], elsewhere)
    biases = _calls([use.bias for _, use in uses], elsewhere)
    shared = set(split.shared)
    sources.check_alike([tuple(use.weight.shape) for _, use in uses])
    everywhere = sources.total_counts([use.samples for _, use in uses], split.shared[0].device)
    paying = {
        p
        for p, ks in weights.items()
        if p in shared and _pays(p, sum(everywhere[k] for k in ks), len(sources.roots))
    }
    tapped = sorted({k for p in paying for k in weights[p]})
    place = {k: position for position, k in enumerate(tapped)}
    targets = [Target(uses[k][0], everywhere[k] * len(uses[k][1].weight), of_samples=True) for k in tapped]
    shares: list[Share] = []
    for position, parameter in enumerate(split.shared):
        calls = weights.get(parameter, []) if parameter in paying else biases.get(parameter, [])
        needs = tuple(place[k] for k in calls if k in place)
        if parameter in paying:
            product = functools.partial(_weight_gramian, sources, [uses[k][1].inputs for k in calls])
            shares.append(Share(position, needs, product))
        elif calls and len(needs) == len(calls):
            shares.append(Share(position, needs, _bias_gramian))
        else:
            shares.append(Share(position, (len(targets),), rows_gramian))
            targets.append(Target(get_gradient_edge(parameter), parameter.numel()))
    return targets, shares


def _calls(parameters: list[Tensor | None], elsewhere: set[Tensor]) -> dict[Tensor, list[int]]:
    """The positions of each parameter that is used nowhere else."""
    calls: dict[Tensor, list[int]] = {}
    for k, parameter in enumerate(parameters):
        # A hook changes the gradient of a parameter, which is never formed here.
        if parameter is not None and parameter not in elsewhere and not parameter._backward_hooks:
            calls.setdefault(parameter, []).append(k)
    return calls


def _pays(weight: Tensor, samples: int, n_present: int) -> bool:
    n_out, n_in = weight.shape
    return samples * (n_in + n_present * n_out) <= n_present * n_in * n_out


def _weight_gramian(
    sources: Sources, inputs: list[Tensor], tasks: list[int], found: list[dict[int, Tensor]]
) -> Tensor:
    """The sum of <A A' D_i, D_j> (k, k) over all pairs of uses, in float64."""
    used = [(x, gradients) for x, gradients in zip(inputs, found, strict=True) if gradients]
    outputs = [_end_to_end([_of(i, gradients) for _, gradients in used]) for i in tasks]
    # Under autocast the layer has rounded its inputs to the precision of its outputs.
    precision = outputs[0].dtype
    activations = _end_to_end([sources.laid_together(_flat(x.to(precision))) for x, _ in used])
    samples = max(1, len(activations))
    kernel = gramian_of(activations, max(1, _ENTRIES // samples))
    total = torch.zeros(len(tasks), len(tasks), dtype=torch.float64, device=kernel.device)
    width = max(1, _ENTRIES // (samples * len(tasks)))
    for start in range(0, outputs[0].shape[1], width):
        wide = torch.stack([output[:, start : start + width] for output in outputs]).double()
        total.addmm_((kernel @ wide).flatten(1), wide.flatten(1).T)
    return total


def _bias_gramian(tasks: list[int], found: list[dict[int, Tensor]]) -> Tensor:
    """The Gramian (k, k) of the sums of the output gradients over the samples of all uses."""
    used = [gradients for gradients in found if gradients]
    sums = {
        i: _end_to_end([_of(i, gradients) for gradients in used]).sum(0, dtype=torch.float64) for i in tasks
    }
    return rows_gramian(tasks, [sums])


def _of(task: int, gradients: dict[int, Tensor]) -> Tensor:
    return gradients[task] if task in gradients else torch.zeros_like(next(iter(gradients.values())))


def _end_to_end(parts: list[Tensor]) -> Tensor:
    flat = [_flat(part) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _flat(samples: Tensor) -> Tensor:
    return samples.reshape(-1, samples.shape[-1])
