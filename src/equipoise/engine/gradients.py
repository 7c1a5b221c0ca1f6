"""Per-task gradients: which parameters are shared, the rows of the Jacobian, and writing `.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from .distributed import Ranks
from .fsdp import refuse_hidden_shards
from .graph import SINGLE_PASS, tasks_reaching
from .losses import StepLosses

_FIRST_STEP = (
    "in a distributed run every rank has to see the same network with all losses in its first step; give an absent "
    "task's loss too, with `present=` to say that it does not count."
)

Shared = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Split:
    """The parameters of one step.

    Args:
        shared: those whose gradients are balanced, in a fixed order.
        heads: the other ones.
        reached: parameter -> the positions of the present tasks that reach it, as a bit mask.
        n_tasks: the number of tasks m.
        agreed: the same as `reached` for all tasks of all ranks, where they have agreed on it.
    """

    shared: list[Tensor]
    heads: list[Tensor]
    reached: dict[Tensor, int]
    n_tasks: int
    agreed: dict[Tensor, int] | None = None

    @property
    def blocks(self) -> list[int]:
        """How many columns of the Jacobian each shared parameter has."""
        return [parameter.numel() for parameter in self.shared]

    def own_heads(self) -> list[list[Tensor]]:
        """The heads' parameters that each present task reaches, by position."""
        own: list[list[Tensor]] = [[] for _ in range(self.n_tasks)]
        for parameter in self.heads:
            mask = self.reached.get(parameter, 0)
            while mask:
                lowest = mask & -mask
                own[lowest.bit_length() - 1].append(parameter)
                mask ^= lowest
        return own

    def agreed_heads(self, task: int) -> list[Tensor]:
        """The heads' parameters that a task reaches on any rank."""
        agreed = self.reached if self.agreed is None else self.agreed
        return [parameter for parameter in self.heads if agreed[parameter] >> task & 1]


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
        self.tasks = tasks
        self._given = None if shared is None else _named(shared)
        self._seen: dict[Tensor, int] = {}
        self._checked = False
        self._looked = False  # whether parameters are sharded unbeknown
        self._resumed = False  # whether what was seen of the network before is lost
        self._agreed: Split | None = None
        if self._given is not None and not self._given:
            raise ValueError("`shared` should hold at least one parameter. Found none.")
        for parameter, name in (self._given or {}).items():
            if not parameter.requires_grad:
                raise ValueError(
                    f"`shared` should hold parameters that require gradients. Found {name} of shape "
                    f"{tuple(parameter.shape)}, which is frozen: leave it out, or unfreeze it."
                )

    @property
    def given(self) -> list[Tensor]:
        """The shared parameters that were given; none if they are to be inferred."""
        return list(self._given or {})

    def resume(self) -> None:
        """Call where a run goes on that has seen the network before, which no saved state can tell of."""
        self._resumed = True

    def split(self, roots: Mapping[int, GradientEdge]) -> Split:
        """The split of the parameters that the present tasks' losses reach."""
        reached = _masks(roots)
        if not self._looked:
            refuse_hidden_shards(reached)
            self._looked = True
        complete = len(roots) == len(self.tasks)
        if self._given is not None:
            self._check_used(reached, complete)
            shared = [parameter for parameter in self._given if parameter in reached]
        else:
            shared = self._infer(reached, complete)
        chosen = set(shared)
        heads = [leaf for leaf in reached if leaf not in chosen]
        return Split(shared, heads, reached, len(self.tasks))

    def split_alike(self, step: StepLosses, ranks: Ranks) -> Split:
        """The split that all ranks have agreed on in the first step, with what this rank's present tasks reach.

        Raises:
            ValueError: on every rank, if one of them lacks a task in the first step; on this one, if the network
                has changed.
        """
        if self._agreed is None:
            roots = dict(sorted({**step.spare, **step.roots}.items()))
            split = self.split(roots) if roots else Split([], [], {}, len(self.tasks))
            layout = [(len(roots), p.numel(), split.reached[p]) for p in (*split.shared, *split.heads)]
            ranks.check_alike("The network", layout, step.values.device, _FIRST_STEP)
            if len(roots) < len(self.tasks):
                raise ValueError(
                    f"The losses of all tasks should be there in the first step. Found {len(roots)}: {_FIRST_STEP}"
                )
            self._agreed = split
        agreed, now = self._agreed, _masks(step.roots)
        if any(parameter not in agreed.reached for parameter in now):
            raise ValueError(
                "The network should be the same at every step of a distributed run. Found a parameter that no loss "
                "reached in the first step."
            )
        return Split(agreed.shared, agreed.heads, now, len(self.tasks), agreed.reached)

    def check_rows(self, split: Split, jacobian: Tensor) -> None:
        """Refuse an inferred split that the first rows contradict: a head that all losses seem to reach.

        That is what the graph looks like when the outputs of all heads are concatenated before the losses.
        """
        if self._given is None and not self._checked:
            columns = torch.split(jacobian, split.blocks, dim=1)
            self.check_alive(split, torch.stack([rows.abs().amax(1) > 0 for rows in columns]))

    def check_alive(self, split: Split, alive: Tensor) -> None:
        """The same from which tasks move which shared parameter (parameters, m)."""
        if self._given is not None or self._checked or len(self.tasks) == 1:
            return
        self._checked = True
        for parameter, movers in zip(split.shared, alive, strict=True):
            if int(movers.sum()) == 1:
                only = self.tasks[int(movers.int().argmax())]
                raise ValueError(
                    f"Shared parameters should get gradients from several losses. Found one of shape "
                    f"{tuple(parameter.shape)} that all losses reach but only {only!r} moves, "
                    "which looks like a head whose output is concatenated with others: pass `shared=` to the "
                    "Balancer, or compute each loss from its own head's output."
                )

    def _infer(self, reached: dict[Tensor, int], complete: bool) -> list[Tensor]:
        if len(self.tasks) == 1:
            return list(reached)
        if self._resumed and not complete:
            raise ValueError(
                "After loading a state, the first step should have the losses of all tasks where the shared parameters "
                "are inferred. Found some absent, so that shared parameters could be taken for those of a head: pass "
                "`shared=` to the Balancer."
            )
        self._resumed = False
        for leaf, mask in reached.items():
            self._seen[leaf] = self._seen.get(leaf, 0) | mask
        shared = [leaf for leaf in reached if self._seen[leaf].bit_count() >= 2]
        if not shared:
            hint = "" if complete else " (and some tasks are absent in this step)"
            raise ValueError(
                f"The losses of at least two tasks should reach the same parameters. Found none that are "
                f"shared among {', '.join(self.tasks)}{hint}: pass `shared=` to the Balancer."
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


def _masks(roots: Mapping[int, GradientEdge]) -> dict[Tensor, int]:
    """For each parameter the positions of the tasks that reach it, as a bit mask."""
    positions = list(roots)
    return {
        leaf: sum(1 << position for k, position in enumerate(positions) if bits >> k & 1)
        for leaf, bits in tasks_reaching(list(roots.values())).items()
    }


def _named(shared: Shared) -> dict[Tensor, str]:
    if isinstance(shared, Tensor):
        raise TypeError("`shared` should be an iterable of parameters or a module. Found one tensor.")
    items = shared.named_parameters() if isinstance(shared, nn.Module) else shared
    named: dict[Tensor, str] = {}
    for i, item in enumerate(items):
        name, parameter = item if isinstance(item, tuple) else (f"parameter number {i}", item)
        named.setdefault(parameter, name)
    return named


def gradients_of(
    roots: Sequence[GradientEdge],
    weights: Sequence[Tensor] | None,
    parameters: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> list[Tensor]:
    """The gradients of sum_i weights_i L_i with respect to parameters, dense; 0 for those that it does not reach."""
    if not parameters:
        return []
    if not roots:
        return [torch.zeros_like(parameter) for parameter in parameters]
    seeds = [torch.ones((), dtype=p.dtype, device=p.device) for p in parameters[:1]] * len(roots)
    try:
        found = torch.autograd.grad(
            list(roots),
            list(parameters),
            seeds if weights is None else list(weights),
            retain_graph=retain_graph,
            allow_unused=True,
            materialize_grads=True,
        )
    except RuntimeError as error:
        raise _explained(error) from error
    return [g.to_dense() if g.is_sparse else g for g in found]


def keep_graphs_usable() -> None:
    """Let a compiled network be differentiated more than once, which costs it some memory."""
    import torch._functorch.config as compiled  # imported late: it is slow, and few programs need it

    compiled.donated_buffer = False


def _explained(error: RuntimeError) -> RuntimeError:
    """What to do about an autograd error that stands for a wrong set-up."""
    if "donated buffers" in str(error):
        return RuntimeError(SINGLE_PASS)
    if "use_reentrant=True" in str(error):
        return RuntimeError(
            "Activation checkpointing should be of the non-reentrant kind where gradients per task are read. Found "
            "the reentrant one: call checkpoint(..., use_reentrant=False)."
        )
    return error


def accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Add gradients to `.grad` as a backward pass would; they must not be written to afterwards."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is None:
            parameter.grad = gradient.to(parameter.dtype)
        else:
            parameter.grad.add_(gradient)


def accumulate_flat(shared: list[Tensor], vector: Tensor) -> None:
    """Add a flat shared gradient (n,) to the `.grad` of the shared parameters."""
    accumulate(shared, views(vector, shared))


def views(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The pieces of a flat vector, shaped like the parameters."""
    pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]
