"""Parameters sharded by `fully_shard` (FSDP2): each rank holds a part of every parameter, and of every row.

`torch.autograd.grad` knows nothing of the sharded parameters; an ordinary backward pass leaves the mean over the ranks
in their `.grad`, each rank's part on that rank. So each task has a backward pass of its own, what it leaves in `.grad`
is the task's row, and the Gramian is the sum over the ranks of the products of their parts. All ranks run the same
passes in the same order, since each one gathers parameters and reduces gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.core import Method, Reads
from equipoise.core.stats import gramian_of

from .distributed import Ranks, Shares
from .fsdp import is_sharded, like, placements, sharded_parameters
from .gradients import Split, accumulate, views
from .graph import tasks_reaching
from .losses import StepLosses
from .rows import HeadGradients
from .window import Window
from .write import Rules

_PLACEMENTS = (["Shard"], ["Replicate", "Shard"])


def shards_of(given: Sequence[Tensor], method: Method, ranks: Ranks) -> Shards | None:
    """What measures rows in shards, or None where the shared parameters are whole on every rank.

    Args:
        given: the shared parameters that the Balancer was given.
        method: which is asked.
        ranks: of the Balancer.

    Raises:
        ValueError: where shards do not allow the method, or were not made by `fully_shard` over these ranks.
    """
    if not any(is_sharded(parameter) for parameter in given):
        return None
    for parameter in given:
        placed = placements(parameter)
        if placed not in _PLACEMENTS or parameter.device_mesh.size() != ranks.number:  # type: ignore[attr-defined]
            raise ValueError(
                "Each shared parameter should be sharded by fully_shard over all ranks of the Balancer, or none. Found "
                f"one of shape {tuple(parameter.shape)} that is {', '.join(placed) or 'whole'}, and {ranks.number} "
                "ranks: shard the whole network over `process_group`; tensor parallelism is not supported."
            )
    return Shards(given, method, ranks)


def refuse_measuring(shards: Shards | None) -> None:
    """Refuse a second batch of gradients.

    Raises:
        ValueError: where parameters are sharded.
    """
    if shards is not None:
        raise ValueError(
            "`measure` should be asked for losses only where fully_shard shards the parameters. Found a method that "
            "reads gradients; none that needs a second batch of those works in shards."
        )


class Shards:
    """Measures the rows of the Jacobian in shards, and writes shards of gradients.

    Stands in for `Rows`. The parameters of its `Split` are the local parts, whose `.grad` is handed on by `publish`.

    Args:
        shared: the shared parameters, sharded.
        method: which is asked.
        ranks: of the Balancer.

    Raises:
        ValueError: if the method reads the whole Jacobian.
    """

    def __init__(self, shared: Sequence[Tensor], method: Method, ranks: Ranks) -> None:
        self._method = method
        self._ranks = ranks
        self._shared = list(shared)
        self._refuse_jacobian()
        chosen = set(shared)
        self._others = [parameter for parameter in sharded_parameters() if parameter not in chosen]
        self._copies = int(shared[0].device_mesh.size(0)) if len(placements(shared[0])) == 2 else 1  # type: ignore[attr-defined]
        self._buffer = torch.empty(0, 0)
        self._head_rows: list[dict[Tensor, Tensor]] = []
        self._local: dict[Tensor, Tensor] = {}
        self._agreed = False
        self._roots: dict[int, GradientEdge] = {}
        self._leaves: dict[Tensor, int] = {}
        self._like_loss = torch.zeros(())
        self._lacking: set[int] = set()  # tasks that this rank has no labels of
        self._uneven: set[int] = set()  # tasks that some rank has no labels of

    def split(self, step: StepLosses, shares: Shares | None) -> Split:
        """The local parts of the parameters; call before each batch.

        Raises:
            ValueError: on all ranks alike, if one lacks the graph of a task or has another network; on this one, if
                a head is not sharded.
        """
        self._refuse_jacobian()
        m = len(step.values)
        labelled = torch.tensor([[i in step.roots for i in range(m)]])
        if shares is not None:
            labelled = shares.counts.cpu() > 0
        own = labelled[0 if shares is None else shares.rank].tolist()
        present = labelled.any(0).nonzero()[:, 0].tolist()
        given = {**step.spare, **step.roots}
        self._lacking = {i for i in present if not own[i]}
        self._uneven = {i for i in present if not bool(labelled[:, i].all())}
        if self._uneven or not self._agreed:
            self._agree({i: given[i] for i in sorted(given)}, present, step.values.device)
        self._roots = {i: given[i] for i in present}
        masks = tasks_reaching([given[i] for i in present])
        self._leaves = {
            leaf: sum(1 << i for k, i in enumerate(present) if mask >> k & 1) for leaf, mask in masks.items()
        }
        self._like_loss = step.values
        self._local = {p: p.to_local().detach() for p in (*self._shared, *self._others)}  # type: ignore[attr-defined]
        return Split([self._local[p] for p in self._shared], [self._local[p] for p in self._others], {}, m)

    def add(
        self,
        roots: Mapping[int, GradientEdge],
        split: Split,
        factors: Tensor | None,
        *,
        first: bool = True,
        scale: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Measure the local parts of the rows of a micro-batch; the arguments are those of `Rows.add`."""
        del roots, ranks  # `split` has told them, and the reduction is part of each pass
        if first:
            self._begin(split)
        before = self._take()
        try:
            for i in self._roots:
                seed = torch.ones((), dtype=torch.float64) if factors is None else factors[i]
                self._backward([i], seed.expand(split.n_tasks), scale, retain_graph=i != max(self._roots))
                shared, heads = self._found(scale)
                for place, gradient in zip(views(self._buffer[i], split.shared), shared, strict=True):
                    place.add_(gradient)
                for parameter, gradient in heads.items():
                    kept = self._head_rows[i].get(parameter)
                    self._head_rows[i][parameter] = gradient if kept is None else kept + gradient
        finally:
            self._put(before)

    def finish(
        self, split: Split, totals: Tensor | None, ranks: Ranks | None = None
    ) -> tuple[Tensor, HeadGradients]:
        """The local columns of the Jacobian (m, n), and each head's local gradients, as `Rows.finish`."""
        del split, ranks
        found = [(i, p, g) for i, heads in enumerate(self._head_rows) for p, g in heads.items()]
        if totals is not None:
            self._buffer.div_(totals[:, None].to(self._buffer.dtype))
            found = [(i, p, g / totals[i].to(g.dtype)) for i, p, g in found]
        return self._buffer, [(i, self._local[p], g) for i, p, g in found]

    def gramian(self, jacobian: Tensor) -> Tensor:
        """The Gramian (m, m) of the rows whose local columns these are."""
        return self._everywhere(gramian_of(jacobian))

    def write(
        self, step: StepLosses, split: Split, rules: Rules, seeds: tuple[Tensor, Tensor], window: Window
    ) -> None:
        """Add the gradients of two weighted sums of the losses, as `write_by_hand`."""
        del step
        for_shared, for_heads = seeds
        one_pass = rules.head_weights == "same"
        before = self._take()
        try:
            self._sum_up(for_shared, retain_graph=not one_pass)
            shared, heads = self._found(None)
            if not one_pass:
                self._take()
                self._sum_up(for_heads, retain_graph=False)
                heads = self._found(None)[1]
        finally:
            self._put(before)
        if rules.max_norm > 0:
            shared = window.hold(shared)
            squares = torch.stack([g.double().square().sum() for g in shared]).sum()
            norm = self._everywhere(squares).sqrt()
            factor = rules.clip(norm if rules.scale is None else norm / rules.scale.to(norm.dtype))
            shared = [g * factor.to(g.dtype) for g in shared] if window.last else []
        accumulate(split.shared if shared else [], shared)
        accumulate([self._local[p] for p in heads], list(heads.values()))

    def publish(self) -> None:
        """Hand what was written to the local parts' `.grad` on to the parameters."""
        for parameter, local in self._local.items():
            if local.grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = like(parameter, local.grad)
            else:
                parameter.grad.to_local().add_(local.grad)  # type: ignore[attr-defined]
        self._local = {}
        self._roots, self._leaves = {}, {}  # keep no graph alive

    def _refuse_jacobian(self) -> None:
        if self._method.reads == Reads.JACOBIAN:
            raise ValueError(
                "`method` should read the losses or the Gramian where fully_shard shards the parameters: each rank has "
                f"only some columns of the Jacobian. Found {type(self._method).__name__}, which reads all of it: "
                "choose a method that reads less, for example 'upgrad', or train with DistributedDataParallel."
            )

    def _agree(self, given: dict[int, GradientEdge], present: list[int], device: torch.device) -> None:
        """Refuse what would leave ranks waiting for each other, before any pass."""
        needed = set(present) if self._agreed else set(range(len(self._head_rows) or self._method.n_tasks))
        lacking = torch.tensor([sum(i not in given for i in needed)], dtype=torch.int64, device=device)
        everyone = self._ranks.gather(lacking)[:, 0].tolist() if self._ranks.number > 1 else lacking.tolist()
        if any(everyone):
            ranks = [rank for rank, number in enumerate(everyone) if number]
            raise ValueError(
                "Where fully_shard shards the parameters, every rank should give the losses of all tasks that any rank "
                f"has labels of, and of all tasks in the first step. Found that ranks {ranks} lack some: give an "
                "absent task's loss too, with `present=` to say that it does not count."
            )
        if not self._agreed and self._ranks.number > 1:
            reached = tasks_reaching(list(given.values()))
            layout = [(tuple(leaf.shape), mask) for leaf, mask in reached.items()]
            self._ranks.check_alike("The network", layout, device, "build it alike everywhere.")
        self._agreed = True

    def _begin(self, split: Split) -> None:
        n = sum(split.blocks)
        dtype = torch.promote_types(split.shared[0].dtype, torch.float32)
        if self._buffer.shape != (split.n_tasks, n) or self._buffer.dtype != dtype:
            self._buffer = torch.empty(split.n_tasks, n, dtype=dtype, device=split.shared[0].device)
        self._buffer.zero_()
        self._head_rows = [{} for _ in range(split.n_tasks)]

    def _take(self) -> dict[Tensor, Tensor | None]:
        """What is in `.grad`, which is left empty."""
        found = {parameter: parameter.grad for parameter in self._local}
        self._put(dict.fromkeys(found))
        return found

    def _put(self, gradients: Mapping[Tensor, Tensor | None]) -> None:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    def _sum_up(self, seeds: Tensor, *, retain_graph: bool) -> None:
        """Backward passes from the weighted sum of the losses: one, and one for each task that some rank lacks."""
        together = [i for i in self._roots if i not in self._uneven]
        passes = [*([together] if together else []), *([i] for i in self._roots if i in self._uneven)]
        for tasks in passes:
            self._backward(tasks, seeds, None, retain_graph=retain_graph or tasks is not passes[-1])

    def _backward(self, tasks: list[int], seeds: Tensor, scale: Tensor | None, *, retain_graph: bool) -> None:
        """One pass from some tasks, whose reduction divides by the number of ranks."""
        leaves = [leaf for leaf, mask in self._leaves.items() if any(mask >> i & 1 for i in tasks)]
        # The loss of an absent task may be NaN, and 0 times NaN is NaN: its gradients are replaced, not multiplied.
        absent = self._lacking.issuperset(tasks)
        hooks = [leaf.register_hook(torch.zeros_like) for leaf in leaves] if absent else []
        factor = self._ranks.number if scale is None else self._ranks.number * scale.double()
        before = {leaf: leaf.grad for leaf in leaves}
        try:
            torch.autograd.backward(
                [self._roots[i] for i in tasks],
                [(seeds[i] * factor).to(self._like_loss) for i in tasks],
                retain_graph=retain_graph,
            )
        finally:
            for hook in hooks:
                hook.remove()
            whole = [leaf for leaf in leaves if leaf.grad is not None]
            self._put(before)
        if whole:
            raise ValueError(
                "All parameters should be sharded by fully_shard, or none. Found one of shape "
                f"{tuple(whole[0].shape)} that is whole: call fully_shard on the whole network too."
            )

    def _found(self, scale: Tensor | None) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
        """What passes have left in `.grad`, which is left empty: of shared parameters, and of heads."""
        found = {p: g.to_local() for p, g in self._take().items() if g is not None}  # type: ignore[attr-defined]
        if scale is not None:
            found = {p: g.to(torch.promote_types(g.dtype, torch.float32)) / scale for p, g in found.items()}
        shared = [found.pop(p) if p in found else torch.zeros_like(self._local[p]) for p in self._shared]
        return shared, found

    def _everywhere(self, part: Tensor) -> Tensor:
        """The sum over the ranks of their parts of a number, those that hold copies counted once."""
        return self._ranks.sum(part) / self._copies if self._ranks.number > 1 else part
