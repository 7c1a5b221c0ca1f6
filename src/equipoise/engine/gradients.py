"""Per-task gradients: which parameters are shared, the rows of the Jacobian, and writing `.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from .graph import tasks_reaching

Shared = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Split:
    """The parameters of one step.

    Args:
        shared: those whose gradients are balanced, in a fixed order.
        heads: the other ones.
        reached: parameter -> the positions of the present tasks that reach it, as a bit mask.
    """

    shared: list[Tensor]
    heads: list[Tensor]
    reached: dict[Tensor, int]

    @property
    def blocks(self) -> list[int]:
        """How many columns of the Jacobian each shared parameter has."""
        return [parameter.numel() for parameter in self.shared]


class Splitter:
    """Tells shared parameters from those of the heads.

    Args:
        shared: the shared parameters, with or without names, or the module that holds them; None to infer
            them: those that two or more losses have reached so far (with one task, all).
        tasks: the names of the tasks.

    Raises:
        ValueError: if `shared` is empty or holds a frozen parameter.
    """

    def __init__(self, shared: Shared | None, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._given = None if shared is None else _named(shared)
        self._seen: dict[Tensor, int] = {}
        self._checked = False
        if self._given is not None and not self._given:
            raise ValueError("`shared` should hold at least one parameter. Found none.")
        for parameter, name in (self._given or {}).items():
            if not parameter.requires_grad:
                raise ValueError(
                    f"`shared` should hold parameters that require gradients. Found {name} of shape "
                    f"{tuple(parameter.shape)}, which is frozen: leave it out, or unfreeze it."
                )

    def split(self, roots: Mapping[int, GradientEdge]) -> Split:
        """The split of the parameters that the present tasks' losses reach."""
        positions = list(roots)
        reached: dict[Tensor, int] = {}
        for leaf, bits in tasks_reaching(list(roots.values())).items():
            reached[leaf] = sum(1 << position for k, position in enumerate(positions) if bits >> k & 1)
        complete = len(positions) == len(self._tasks)
        if self._given is not None:
            self._check_used(reached, complete)
            shared = [parameter for parameter in self._given if parameter in reached]
        else:
            shared = self._infer(reached, complete)
        chosen = set(shared)
        return Split(shared, [leaf for leaf in reached if leaf not in chosen], reached)

    def check_rows(self, split: Split, jacobian: Tensor) -> None:
        """Refuse an inferred split that the first rows contradict: a head that all losses seem to reach.

        That is what the graph looks like when the outputs of all heads are concatenated before the losses.
        """
        if self._given is not None or self._checked or len(self._tasks) == 1:
            return
        self._checked = True
        for parameter, rows in zip(split.shared, _columns(jacobian, split.shared), strict=True):
            alive = rows.abs().amax(1) > 0
            if int(alive.sum()) == 1:
                only = self._tasks[int(alive.int().argmax())]
                raise ValueError(
                    f"Shared parameters should get gradients from several losses. Found one of shape "
                    f"{tuple(parameter.shape)} that all losses reach but only {only!r} moves, "
                    "which looks like a head whose output is concatenated with others: pass `shared=` to the "
                    "Balancer, or compute each loss from its own head's output."
                )

    def _infer(self, reached: dict[Tensor, int], complete: bool) -> list[Tensor]:
        if len(self._tasks) == 1:
            return list(reached)
        for leaf, mask in reached.items():
            self._seen[leaf] = self._seen.get(leaf, 0) | mask
        shared = [leaf for leaf in reached if self._seen[leaf].bit_count() >= 2]
        if not shared:
            hint = "" if complete else " (and some tasks are absent in this step)"
            raise ValueError(
                f"The losses of at least two tasks should reach the same parameters. Found none that are "
                f"shared among {', '.join(self._tasks)}{hint}: pass `shared=` to the Balancer."
            )
        return shared

    def _check_used(self, reached: dict[Tensor, int], complete: bool) -> None:
        assert self._given is not None
        unused = [(name, parameter) for parameter, name in self._given.items() if parameter not in reached]
        if unused and (complete or len(unused) == len(self._given)):
            name, parameter = unused[0]
            raise ValueError(
                f"The losses should depend on every shared parameter. Found that none reaches {name} of shape "
                f"{tuple(parameter.shape)} ({len(unused)} of {len(self._given)} are unused): leave it out of `shared`."
            )


def _named(shared: Shared) -> dict[Tensor, str]:
    if isinstance(shared, Tensor):
        raise TypeError("`shared` should be an iterable of parameters or a module. Found one tensor.")
    items = shared.named_parameters() if isinstance(shared, nn.Module) else shared
    named: dict[Tensor, str] = {}
    for i, item in enumerate(items):
        name, parameter = item if isinstance(item, tuple) else (f"parameter number {i}", item)
        named.setdefault(parameter, name)
    return named


class Rows:
    """Measures the rows of the Jacobian, one backward pass per task, in a buffer kept between steps."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, 0)

    def measure(
        self, roots: Mapping[int, GradientEdge], split: Split, n_tasks: int
    ) -> tuple[Tensor, list[tuple[int, Tensor, Tensor]]]:
        """The Jacobian (m, n), rows of absent tasks 0, and each head's (task, parameter, gradient)."""
        jacobian = self._room(split.shared, n_tasks)
        heads: list[tuple[int, Tensor, Tensor]] = []
        last = list(roots)[-1]
        for i, root in roots.items():
            own = [p for p in split.heads if split.reached[p] >> i & 1]
            used = [p for p in split.shared if split.reached[p] >> i & 1]
            gradients = gradients_of([root], None, [*used, *own], retain_graph=i != last)
            heads += [(i, p, g) for p, g in zip(own, gradients[len(used) :], strict=True)]
            views = _views(jacobian[i], split.shared)
            if len(used) < len(split.shared):
                jacobian[i].zero_()
                views = [v for p, v in zip(split.shared, views, strict=True) if split.reached[p] >> i & 1]
            torch._foreach_copy_(views, gradients[: len(used)])
        for i in range(n_tasks):
            if i not in roots:
                jacobian[i].zero_()
        return jacobian, heads

    def _room(self, shared: list[Tensor], n_tasks: int) -> Tensor:
        n = sum(parameter.numel() for parameter in shared)
        dtype = torch.promote_types(shared[0].dtype, torch.float32)
        kept = self._buffer
        if kept.shape != (n_tasks, n) or kept.dtype != dtype or kept.device != shared[0].device:
            self._buffer = torch.empty(n_tasks, n, dtype=dtype, device=shared[0].device)
        return self._buffer


def gradients_of(
    roots: Sequence[GradientEdge],
    weights: Sequence[Tensor] | None,
    parameters: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> list[Tensor]:
    """The gradients of sum_i weights_i L_i with respect to parameters that it reaches, dense."""
    if not parameters:
        return []
    seeds = [torch.ones((), dtype=p.dtype, device=p.device) for p in parameters[:1]] * len(roots)
    found = torch.autograd.grad(
        list(roots),
        list(parameters),
        seeds if weights is None else list(weights),
        retain_graph=retain_graph,
    )
    return [g.to_dense() if g.is_sparse else g for g in found]


def accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Add gradients to `.grad` as a backward pass would; they must not be written to afterwards."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is None:
            parameter.grad = gradient.to(parameter.dtype)
        else:
            parameter.grad.add_(gradient)


def accumulate_flat(shared: list[Tensor], vector: Tensor) -> None:
    """Add a flat shared gradient (n,) to the `.grad` of the shared parameters."""
    accumulate(shared, _views(vector, shared))


def _columns(jacobian: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.split(jacobian, [parameter.numel() for parameter in parameters], dim=1)


def _views(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]
