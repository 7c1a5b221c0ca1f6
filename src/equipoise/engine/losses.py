"""The losses of one step as the user gives them, checked and put in the order of the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

Losses = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

Counts = Tensor | Sequence[float] | Mapping[str, float]


class Edges(Mapping[int, GradientEdge]):
    """Where the graphs of losses start, by position, each looked up when it is asked for.

    That takes microseconds, which hundreds of tasks add up to more than a small network takes, and methods that read
    losses only never ask.

    Args:
        scalars: losses with a graph.
    """

    def __init__(self, scalars: Mapping[int, Tensor]) -> None:
        self._scalars = scalars
        self._known: dict[int, GradientEdge] = {}

    def __getitem__(self, position: int) -> GradientEdge:
        """Where the graph of the loss at this position starts."""
        if position not in self._known:
            self._known[position] = get_gradient_edge(self._scalars[position])
        return self._known[position]

    def __iter__(self) -> Iterator[int]:
        """The positions."""
        return iter(self._scalars)

    def __len__(self) -> int:
        return len(self._scalars)


@dataclass(frozen=True, slots=True)
class StepLosses:
    """The losses of one step.

    Args:
        values: detached (m,), 0 for absent tasks.
        roots: where the graph of each present task starts, by position; absent tasks are left out.
        mask: which tasks are present (m,) bool, or None if all are.
        number: how many tasks are present here.
        spare: the same for absent tasks whose loss was given all the same: their graph tells of their parameters.
        whole: where the graph of all present losses together starts, a vector in the order of `roots`, or None. One
            root costs less than m, quadratically so in m where they are outputs of one node.
    """

    values: Tensor
    roots: Mapping[int, GradientEdge]
    mask: Tensor | None
    number: int
    spare: Mapping[int, GradientEdge] = field(default_factory=dict)
    whole: GradientEdge | None = None

    @property
    def present(self) -> Tensor:
        """Which tasks are present, (m,) bool."""
        return torch.ones_like(self.values, dtype=torch.bool) if self.mask is None else self.mask


class LossReader:
    """Reads the losses of a step, whether tensor, sequence or mapping.

    Args:
        tasks: the names of the tasks in order, or None: then they are called by their positions, and
            mappings are refused.
        n_tasks: the number of tasks m.

    Raises:
        ValueError: if the names are not m different ones.
    """

    def __init__(self, tasks: Sequence[str] | None, n_tasks: int) -> None:
        if tasks is not None and (len(tasks) != n_tasks or len(set(tasks)) != n_tasks):
            raise ValueError(
                f"`tasks` should be {n_tasks} different names, one per task of the method. Found {list(tasks)}."
            )
        self.named = tasks is not None
        self._last = torch.zeros(())  # for the type and place of a step without any loss
        self.tasks = tuple(tasks) if tasks is not None else tuple(f"task {i}" for i in range(n_tasks))
        self._names = frozenset(self.tasks)

    def read(
        self, losses: Losses, present: Tensor | Sequence[bool] | None, *, graph: bool = True
    ) -> StepLosses:
        """The checked losses of one step; `present` (m,) bool marks those to use, all of them by default.

        Without `graph` the values are enough, and `roots` is empty.
        """
        if isinstance(losses, Mapping):
            scalars = self._from_mapping(losses)
        elif isinstance(losses, Tensor):
            return self._from_tensor(losses, self._mask(present), graph)
        else:
            self._check_number(len(losses))
            scalars = dict(enumerate(losses))
        chosen = self._mask(present)
        absent = {} if chosen is None else {i: loss for i, loss in scalars.items() if not chosen[i]}
        scalars = {i: loss for i, loss in scalars.items() if i not in absent}
        for i, loss in scalars.items():
            self._check_scalar(i, loss)
        if not graph or not scalars:
            step = self._assemble({i: loss.detach() for i, loss in scalars.items()}, {}, {})
        else:
            edges = self._edges(scalars)
            stacked = torch.stack(list(scalars.values()))
            values = stacked.detach()
            step = self._assemble(dict(zip(scalars, values.unbind(), strict=True)), edges, {}, values)
            step = replace(step, whole=get_gradient_edge(stacked))
        return replace(
            step, spare=Edges({i: loss for i, loss in absent.items() if graph and loss.requires_grad})
        )

    def values(self, losses: Losses) -> Tensor:
        """The detached losses (m,), NaN for absent tasks, without a look at their graphs."""
        if isinstance(losses, Tensor):
            self._check_number(losses.numel())
            return losses.detach()
        scalars = self._from_mapping(losses) if isinstance(losses, Mapping) else dict(enumerate(losses))
        self._last = next(iter(scalars.values()), self._last).detach()
        missing = torch.full_like(self._last, torch.nan)
        return torch.stack([scalars.get(i, missing).detach() for i in range(len(self.tasks))])

    def amounts(self, counts: Counts | None, step: StepLosses) -> Tensor:
        """How much each task's loss counts on this rank in this micro-batch (m,), 0 where it is absent."""
        present = step.present.double()
        if counts is None:
            return present
        if isinstance(counts, Mapping):
            counts = [counts.get(task, 0.0) for task in self.tasks]
        given = torch.as_tensor(counts, dtype=torch.float64, device=present.device)
        if given.shape != present.shape or bool((given < 0).any()):
            raise ValueError(
                f"`counts` should be {len(self.tasks)} numbers of at least 0, one per task. Found {given.tolist()}."
            )
        return given * present

    def _from_mapping(self, losses: Mapping[str, Tensor]) -> dict[int, Tensor]:
        if not self.named:
            raise ValueError(
                f"`tasks` should name the tasks in order where losses come as a mapping. Found losses for "
                f"{list(losses)} and no names: write Balancer(method, tasks={list(losses)})."
            )
        unknown = [name for name in losses if name not in self._names]
        if unknown:
            raise ValueError(
                f"The losses should be of the tasks {', '.join(self.tasks)}. Found {', '.join(unknown)}."
            )
        return {i: losses[name] for i, name in enumerate(self.tasks) if name in losses}

    def _from_tensor(self, losses: Tensor, chosen: list[bool] | None, graph: bool) -> StepLosses:
        m = len(self.tasks)
        if losses.ndim != 1:
            raise ValueError(f"`losses` should have shape ({m},). Found {tuple(losses.shape)}.")
        self._check_number(len(losses))
        kept = [i for i in range(m) if chosen is None or chosen[i]]
        values = losses.detach().unbind()
        if not graph:
            return self._assemble({i: values[i] for i in kept}, {}, {})
        if losses.grad_fn is None:
            self._refuse_without_graph(", ".join(self.tasks))
        stacked = losses.grad_fn
        if stacked is not None and stacked.name() == "StackBackward0" and len(stacked.next_functions) == m:
            # The graph of each loss without the stack, through which zeros would flow into all other tasks.
            pieces = stacked.next_functions
            spare = {i: self._edge_of_stack(i, pieces[i]) for i in range(m) if i not in kept and pieces[i][0]}
            edges = {i: self._edge_of_stack(i, pieces[i]) for i in kept}
        else:
            scalars = losses.unbind()
            spare = {i: get_gradient_edge(scalars[i]) for i in range(m) if i not in kept}
            edges = {i: get_gradient_edge(scalars[i]) for i in kept}
        whole = None if chosen is not None else get_gradient_edge(losses)
        return replace(self._assemble({i: values[i] for i in kept}, edges, spare), whole=whole)

    def _edge_of_stack(self, i: int, edge: tuple[torch.autograd.graph.Node | None, int]) -> GradientEdge:
        node, output = edge
        if node is None:
            self._refuse_without_graph(self.tasks[i])
        assert node is not None
        return GradientEdge(node, output)

    def _edges(self, scalars: dict[int, Tensor]) -> Edges:
        for i, loss in scalars.items():
            if not loss.requires_grad:
                self._refuse_without_graph(self.tasks[i])
        return Edges(scalars)

    def _assemble(
        self,
        scalars: dict[int, Tensor],
        roots: Mapping[int, GradientEdge],
        spare: Mapping[int, GradientEdge],
        stacked: Tensor | None = None,
    ) -> StepLosses:
        """The step of detached losses; `stacked` are the same in one tensor, where there is one already."""
        m = len(self.tasks)
        if len(scalars) == m:
            stacked = torch.stack(list(scalars.values())) if stacked is None else stacked
            return StepLosses(stacked, roots, None, m)
        self._last = next(iter(scalars.values()), self._last)
        mask = torch.tensor([i in scalars for i in range(m)], device=self._last.device)
        if stacked is None:
            zero = torch.zeros_like(self._last)
            values = torch.stack([scalars.get(i, zero) for i in range(m)])
        else:
            values = stacked.new_zeros(m).masked_scatter(mask, stacked)
        return StepLosses(values, roots, mask, len(scalars), spare)

    def _mask(self, present: Tensor | Sequence[bool] | None) -> list[bool] | None:
        if present is None:
            return None
        chosen = [bool(flag) for flag in (present.tolist() if isinstance(present, Tensor) else present)]
        if len(chosen) != len(self.tasks):
            raise ValueError(
                f"`present` should have one flag per task, {len(self.tasks)}. Found {len(chosen)}."
            )
        return chosen

    def _check_number(self, found: int) -> None:
        if found != len(self.tasks):
            raise ValueError(f"There should be one loss per task, {len(self.tasks)}. Found {found}.")

    def _check_scalar(self, i: int, loss: Tensor) -> None:
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"The loss of {self.tasks[i]!r} should be a scalar tensor. Found {found}: reduce it, for example "
                "with .mean()."
            )

    def _refuse_without_graph(self, name: str) -> None:
        raise ValueError(
            f"The loss of {name!r} should depend on parameters that require gradients. Found no graph: was it "
            "detached, or computed under no_grad?"
        )
