"""The one object in a user's training loop."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core import Aggregator, HeadWeights, Method, Reads, TaskStats
from equipoise.core.method import check_one_of

from .gradients import Rows, Shared, Split, Splitter, accumulate, accumulate_flat, gradients_of
from .losses import Losses, LossReader, StepLosses
from .record import StepRecord

_CLIP_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_ divides by the norm plus this
_PATIENCE = 10  # steps after which a learned weight that never moved is warned about


class Balancer:
    """Replaces `sum(losses).backward()` in a training loop by a balanced backward pass.

    Build once, then call `backward(losses)` where the loop called `loss.backward()`. The optimizer, its
    `zero_grad()` and `step()` stay as they are. For methods with learned weights (UW) add
    `balancer.parameters()` to the optimizer as a group of their own (lr 0.025 in the literature, no weight decay).

    Loss-only methods cost one ordinary backward pass. Methods that read the Gramian or the Jacobian cost one
    backward pass per task and none besides; their gradients are written to `.grad` by hand, so hooks that
    wait for gradient accumulation do not run.

    Args:
        method: from `build_method`, or a method class.
        tasks: the names of the tasks in order; needed where losses come as a mapping, so that a missing key
            means an absent task and another order of the keys never swaps the states of two tasks.
        shared: the shared parameters (with or without names), or the module that holds them; left out,
            they are inferred: the parameters that two or more losses reach. Loss-only methods do not need them.
        head_weights: "same" to scale the gradients of the heads by the task weights too, "unit" to leave
            them alone, "log" to divide them by the losses; by default as in the code of the method's authors.

    Raises:
        TypeError: if `method` is no method.
        ValueError: on names, shared parameters or head weights that do not fit.
        RuntimeError: in a distributed run of more than one process, which this version does not support.
    """

    def __init__(
        self,
        method: Method,
        *,
        tasks: Sequence[str] | None = None,
        shared: Shared | None = None,
        head_weights: HeadWeights | None = None,
    ) -> None:
        if not isinstance(method, Method):
            raise TypeError(
                f"`method` should be a method, for example build_method('go4align', 3). Found {method!r}."
            )
        _refuse_ranks()
        self.method = method
        self.head_weights: HeadWeights = head_weights or method.head_weights
        check_one_of("head_weights", self.head_weights, ("same", "unit", "log"))
        if isinstance(method, Aggregator) and self.head_weights == "same":
            raise ValueError(
                f"`head_weights` should be 'unit' or 'log' for {type(method).__name__}, which has no task weights. "
                "Found 'same'."
            )
        self._reader = LossReader(tasks, method.n_tasks)
        self._splitter = Splitter(shared, self._reader.tasks)
        self._rows = Rows()
        self._other_rows = Rows()
        self._other: TaskStats | None = None
        self._versions = {name: parameter._version for name, parameter in method.named_parameters()}
        self._steps = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks in order."""
        return self._reader.tasks

    def backward(self, losses: Losses, *, present: Tensor | Sequence[bool] | None = None) -> StepRecord:
        """Add the balanced gradients of the losses to `.grad`.

        Args:
            losses: one scalar per task: a tensor (m,), a sequence, or a mapping from task names, from which
                absent tasks are left out.
            present: which tasks to use (m,) bool, where losses come as a tensor or sequence; default all. The
                loss of an absent task may be anything, NaN included.

        Returns:
            The weights and what else was measured, detached.

        Raises:
            ValueError: on losses of the wrong number, not scalar, without a graph, not finite, or not positive
                where the method divides by them, and where the shared parameters cannot be told.
                Method and gradients are untouched then.
        """
        step = self._reader.read(losses, present)
        self._check_values(step)
        reads = self.method.reads
        by_hand = reads > Reads.LOSSES or self.head_weights != "same" or self.method.max_norm > 0
        split = self._splitter.split(step.roots) if by_hand else None
        self.method.to(step.values.device)
        if split is None or reads == Reads.LOSSES:
            record = self._by_losses(step, split)
        else:
            record = self._by_rows(step, split, reads)
        self._steps += 1
        self._warn_if_stuck()
        return record

    def measure(self, losses: Losses, *, present: Tensor | Sequence[bool] | None = None) -> TaskStats:
        """Measure a batch without touching gradients or the method's state.

        The next `backward` shows the result to the method as the second batch: MoDo and SDMGrad need another one
        of the training data, CoBa one of the validation data. Call this at the same parameters, just before it.

        Args:
            losses: as for `backward`.
            present: as for `backward`.

        Returns:
            The losses, and for methods that read more than losses the Jacobian and Gramian, of the batch, valid until
            the next call.

        Raises:
            ValueError: as `backward`.
        """
        step = self._reader.read(losses, present, graph=self.method.reads > Reads.LOSSES)
        self._check_values(step)
        if self.method.reads == Reads.LOSSES:
            self._other = TaskStats(step.values, present=step.mask)
            return self._other
        split = self._splitter.split(step.roots)
        jacobian, _ = self._other_rows.measure(step.roots, split, self.method.n_tasks)
        self._other = TaskStats(step.values, present=step.mask, jacobian=jacobian, blocks=split.blocks)
        return self._other

    def after_step(self, losses: Losses) -> None:
        """Tell the method the losses after the optimizer step; only FAMO listens, and does without too."""
        self.method.after_step(self._reader.values(losses))

    def parameters(self) -> Iterator[nn.Parameter]:
        """The learned weights of the method, for an optimizer group of their own; most methods have none."""
        return self.method.parameters()

    def state_dict(self) -> dict[str, Any]:
        """All that changes from step to step, random streams included; loads with `weights_only=True`."""
        return {
            "method": type(self.method).__name__,
            "tasks": list(self.tasks),
            "steps": self._steps,
            "state": self.method.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: if the state is of another method or other tasks.
        """
        for key, own in (("method", type(self.method).__name__), ("tasks", list(self.tasks))):
            if state[key] != own:
                raise ValueError(f"The {key} of the state should be {own}. Found {state[key]}.")
        self.method.load_state_dict(state["state"])
        self._steps = state["steps"]

    def _by_losses(self, step: StepLosses, split: Split | None) -> StepRecord:
        """Weights from the losses alone, then one backward pass."""
        weights = self.method(TaskStats(step.values, present=step.mask, other=self._other))
        self._other = None
        used = [weights[i].detach().to(step.values.dtype) for i in step.roots]
        if weights.requires_grad:
            (weights @ step.values.to(weights.dtype) + self.method.penalty()).backward()  # type: ignore[operator]
        roots = list(step.roots.values())
        if split is None:
            torch.autograd.backward(roots, used)
        else:
            scales = self._head_scales(weights.detach(), step.values).to(step.values.dtype)
            shared = gradients_of(roots, used, split.shared, retain_graph=True)
            heads = gradients_of(roots, [scales[i] for i in step.roots], split.heads, retain_graph=False)
            if self.method.max_norm > 0:
                factor = self._clip(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(shared))))
                shared = [g * factor for g in shared]
            accumulate(split.shared, shared)
            accumulate(split.heads, heads)
        return self._record(weights, step, None)

    def _by_rows(self, step: StepLosses, split: Split, reads: Reads) -> StepRecord:
        """One backward pass per task, then the answer from the rows."""
        jacobian, heads = self._rows.measure(step.roots, split, self.method.n_tasks)
        if step.mask is None:
            self._splitter.check_rows(split, jacobian)
        stats = TaskStats(
            step.values, present=step.mask, jacobian=jacobian, blocks=split.blocks, other=self._other
        )
        self._other = None
        gramian = stats.gramian
        if reads == Reads.GRAMIAN:
            stats = TaskStats(step.values, present=step.mask, gramian=gramian)
        answer = self.method(stats)
        if answer.requires_grad:
            (answer @ step.values.to(answer.dtype) + self.method.penalty()).backward()  # type: ignore[operator]
            answer = answer.detach()
        scales = self._head_scales(answer, stats.losses)
        weights = scales if isinstance(self.method, Aggregator) else answer
        if isinstance(self.method, Aggregator):
            shared = answer * self._clip(torch.linalg.vector_norm(answer))
        else:
            norm = (answer @ gramian @ answer).clamp(min=0).sqrt()
            shared = (answer * self._clip(norm)).to(jacobian.dtype) @ jacobian
        accumulate_flat(split.shared, shared)
        for i, parameter, gradient in heads:
            accumulate([parameter], [gradient * scales[i].to(gradient.dtype)])
        return self._record(weights, step, gramian)

    def _head_scales(self, weights: Tensor, losses: Tensor) -> Tensor:
        """What the gradients of each task's head are multiplied by (m,)."""
        if self.head_weights == "same":
            return weights
        if self.head_weights == "log":
            return torch.where(losses > 0, 1.0 / losses, 0.0)
        return torch.ones_like(losses)

    def _clip(self, norm: Tensor) -> Tensor:
        """What a shared gradient of this norm is multiplied by to respect the method's `max_norm`."""
        if self.method.max_norm == 0:
            return torch.ones_like(norm)
        return (self.method.max_norm / (norm + _CLIP_EPSILON)).clamp(max=1.0)

    def _record(self, weights: Tensor, step: StepLosses, gramian: Tensor | None) -> StepRecord:
        shown = {name: value.detach() for name, value in self.method.diagnostics.items()}
        converged = shown.pop("converged", None)
        fallback = None if converged is None else ~converged
        return StepRecord(weights.detach(), step.values.double(), gramian, fallback, shown)

    def _check_values(self, step: StepLosses) -> None:
        values = step.values
        bad = ~values.isfinite()
        positive = self.method.needs_positive_losses or self.head_weights == "log"
        if positive:
            absent = torch.zeros_like(bad) if step.mask is None else ~step.mask
            bad = bad | ((values <= 0) & ~absent)
        if not bool(bad.any()):
            return
        found = ", ".join(f"{self.tasks[i]}: {values[i].item():g}" for i in bad.nonzero()[:, 0].tolist())
        kind = "finite and above 0" if positive else "finite"
        raise ValueError(
            f"Every loss should be {kind} for {type(self.method).__name__}. Found {found}. The method's state and "
            "the gradients are untouched: skip this batch, or look for what went wrong in it."
        )

    def _warn_if_stuck(self) -> None:
        if self._steps != _PATIENCE or not self._versions:
            return
        parameters = dict(self.method.named_parameters())
        stuck = [name for name, version in self._versions.items() if parameters[name]._version == version]
        if stuck:
            warnings.warn(
                f"The learned weights of {type(self.method).__name__} ({', '.join(stuck)}) have not moved in "
                f"{_PATIENCE} steps: add a group with balancer.parameters() to the optimizer.",
                stacklevel=3,
            )


def _refuse_ranks() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        ranks = torch.distributed.get_world_size()
        if ranks > 1:
            raise RuntimeError(
                f"The Balancer should run in one process in this version. Found {ranks} ranks, whose weights "
                "would drift apart."
            )
