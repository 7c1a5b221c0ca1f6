"""The one object in a user's training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core import Aggregator, HeadWeights, Method, Reads, TaskStats
from equipoise.core.method import check_at_least, check_one_of

from .amp import LossScale
from .checks import bad_losses, refuse_losses, refuse_uneven, warn_if_stuck
from .distributed import Ranks, Shares, plain
from .gradients import Shared, Split, Splitter, keep_graphs_usable
from .losses import Counts, Losses, LossReader, StepLosses
from .record import StepRecord
from .rows import Rows
from .steps import Steps


class Balancer:
    """Replaces `sum(losses).backward()` in a training loop by a balanced backward pass.

    Build once, then call `backward(losses)` where the loop called `loss.backward()`. The optimizer, its
    `zero_grad()` and `step()` stay as they are. For methods with learned weights (UW) add
    `balancer.parameters()` to the optimizer as a group of their own (lr 0.025 in the literature, no weight decay).

    Loss-only methods cost one ordinary backward pass. Methods that read the Gramian or the Jacobian cost one
    backward pass per task and none besides; their gradients are written to `.grad` by hand, so hooks that
    wait for gradient accumulation do not run.

    In a distributed run all ranks get the same weights: losses and rows are averaged over the ranks, weighted by
    `counts`. Loss-only methods exchange 2 m numbers and leave the gradients to DistributedDataParallel; the others
    also exchange the rows, m n numbers, each while the next one is measured, and DistributedDataParallel has nothing
    left to do. Every rank has to see all losses in its first step.

    Args:
        method: from `build_method`, or a method class.
        tasks: the names of the tasks in order; needed where losses come as a mapping, so that a missing key
            means an absent task and another order of the keys never swaps the states of two tasks.
        shared: the shared parameters (with or without names), or the module that holds them; left out,
            they are inferred: the parameters that two or more losses reach. Loss-only methods do not need them.
        head_weights: "same" to scale the gradients of the heads by the task weights too, "unit" to leave
            them alone, "log" to divide them by the losses; by default as in the code of the method's authors.
        scaler: the `torch.amp.GradScaler` of a float16 loop. Give the losses unscaled; `.grad` gets scaled gradients
            for `scaler.step`. A step that the scaler skips leaves no trace in the method.
        accumulate: micro-batches in each step of the optimizer. Give the losses undivided; the gradients are the mean
            over the window. Methods that read gradients add up the rows, are asked once at the end of the window,
            and equal one large batch; loss-only methods are asked at its first micro-batch and keep those weights.
        check_finite: "raise" an error at once where a loss is not finite, which waits for the device, or "defer" it to
            the next step, which does not; by default "raise" on the CPU and "defer" on CUDA.
        process_group: the ranks to average over; by default all of them.

    Raises:
        TypeError: if `method` is no method.
        ValueError: on names, shared parameters, head weights or options that do not fit.
    """

    def __init__(
        self,
        method: Method,
        *,
        tasks: Sequence[str] | None = None,
        shared: Shared | None = None,
        head_weights: HeadWeights | None = None,
        scaler: Any = None,
        accumulate: int = 1,
        check_finite: str | None = None,
        process_group: Any = None,
    ) -> None:
        if not isinstance(method, Method):
            raise TypeError(
                f"`method` should be a method, for example build_method('go4align', 3). Found {method!r}."
            )
        self.method = method
        self.head_weights: HeadWeights = head_weights or method.head_weights
        check_one_of("head_weights", self.head_weights, ("same", "unit", "log"))
        if isinstance(method, Aggregator) and self.head_weights == "same":
            raise ValueError(
                f"`head_weights` should be 'unit' or 'log' for {type(method).__name__}, which has no task weights. "
                "Found 'same'."
            )
        check_at_least("accumulate", accumulate, 1)
        check_one_of("check_finite", check_finite or "raise", ("raise", "defer"))
        self._check_finite = check_finite
        self._ranks = Ranks(process_group)
        self._scale = LossScale(scaler, method)
        self._reader = LossReader(tasks, method.n_tasks)
        self._splitter = Splitter(shared, self._reader.tasks)
        self._other_rows = Rows()
        self._run = Steps(
            method, self.tasks, self.head_weights, self._scale, splitter=self._splitter, length=accumulate
        )
        self._versions = {name: parameter._version for name, parameter in method.named_parameters()}
        self._steps = 0
        self._saw_rows = False
        if method.reads > Reads.LOSSES:
            keep_graphs_usable()
        self._alike = False  # whether the ranks have compared the method's state
        self._bad: tuple[Tensor, StepLosses] | None = None  # losses that "defer" has not looked at yet

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks in order."""
        return self._reader.tasks

    @property
    def skipped(self) -> int:
        """Steps that the scaler has skipped; the last one counts when the next begins."""
        return self._scale.skipped

    def backward(
        self,
        losses: Losses,
        *,
        present: Tensor | Sequence[bool] | None = None,
        counts: Counts | None = None,
    ) -> StepRecord:
        """Add the balanced gradients of the losses to `.grad`.

        Args:
            losses: one scalar per task: a tensor (m,), a sequence, or a mapping from task names, from which
                absent tasks are left out.
            present: which tasks to use (m,) bool; default all that are given. The loss of an absent task may be
                anything, NaN included.
            counts: how many labelled samples each loss is the mean of (m,), for runs of several ranks or micro-batches
                whose losses should count by that; give it on all ranks or on none. With it a loss-only method's
                gradients are averaged here, not by DistributedDataParallel, so that ranks may lack tasks.

        Returns:
            The weights and what else was measured, detached.

        Raises:
            ValueError: on losses of the wrong number, not scalar, without a graph, not finite, or not positive
                where the method divides by them, and where the shared parameters cannot be told.
                Method and gradients are untouched then.
            RuntimeError: if another rank does not answer.
        """
        ranks = self._ranks if self._ranks.number > 1 else None
        step = self._reader.read(losses, present)
        self.method.to(step.values.device)
        amounts = self._reader.amounts(counts, step)
        step, shares = self._together(step, amounts, ranks)
        self._check_values(step, shares)
        window = self._run.window
        if window.first:
            self._run.begin()
        by_losses = window.reads == Reads.LOSSES
        # Steps with and without rows must not take turns under DistributedDataParallel: it may count on its passes.
        self._saw_rows = self._saw_rows or not by_losses
        by_hand = not by_losses or self.head_weights != "same" or self.method.max_norm > 0
        by_hand = by_hand or (ranks is not None and (counts is not None or self._saw_rows))
        split = self._split(step, ranks) if by_hand else None
        if split is not None and not by_losses:
            record = self._run.by_rows(step, split, amounts, shares, ranks)
        elif split is not None:
            record = self._run.by_losses(step, split, shares, ranks)
        else:
            if shares is not None:
                refuse_uneven(shares, step)
            record = self._run.by_losses(step, None, None, None)
        if self._run.end():
            self._steps += 1
            warn_if_stuck(self._steps, self.method, self._versions)
        return record

    def measure(
        self,
        losses: Losses,
        *,
        present: Tensor | Sequence[bool] | None = None,
        counts: Counts | None = None,
    ) -> TaskStats:
        """Measure a batch without touching gradients or the method's state.

        The next `backward` shows the result to the method as the second batch: MoDo and SDMGrad need another one
        of the training data, CoBa one of the validation data. Call this at the same parameters, just before it.

        Args:
            losses: as for `backward`.
            present: as for `backward`.
            counts: as for `backward`.

        Returns:
            The losses, and for methods that read more than losses the Jacobian and Gramian, of the batch, valid until
            the next call.

        Raises:
            ValueError: as `backward`.
        """
        ranks = self._ranks if self._ranks.number > 1 else None
        reads = self.method.reads
        step = self._reader.read(losses, present, graph=reads > Reads.LOSSES)
        amounts = self._reader.amounts(counts, step)
        step, shares = self._together(step, amounts, ranks)
        self._check_values(step, shares)
        if reads == Reads.LOSSES:
            self._run.other = TaskStats(step.values, present=step.mask)
            return self._run.other
        split = self._split(step, ranks)
        totals = None if shares is None else torch.where(shares.totals > 0, shares.totals, 1.0)
        scale = self._scale.factor(step.values.device)
        factors = None if shares is None else amounts
        self._other_rows.add(step.roots, split, factors, scale=scale, ranks=ranks)
        jacobian, _ = self._other_rows.finish(split, totals, None)
        self._run.other = TaskStats(step.values, present=step.mask, jacobian=jacobian, blocks=split.blocks)
        return self._run.other

    def after_step(self, losses: Losses) -> None:
        """Tell the method the losses after the optimizer step; only FAMO listens, and does without too."""
        values = self._reader.values(losses)
        if self._ranks.number > 1:
            seen = ~values.isnan()
            shares = self._ranks.share(torch.where(seen, values, 0.0), seen.double())
            values = torch.where(shares.totals > 0, shares.means, torch.nan)
        self.method.after_step(values)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The learned weights of the method, for an optimizer group of their own; most methods have none."""
        return self.method.parameters()

    def state_dict(self) -> dict[str, Any]:
        """All that changes from step to step, random streams included; loads with `weights_only=True`.

        Raises:
            RuntimeError: within a window of micro-batches.
        """
        if not self._run.window.first:
            raise RuntimeError(
                f"A state should be saved between two steps of the optimizer. Found micro-batch "
                f"{self._run.window.position} of {self._run.window.length} done."
            )
        return {
            "method": type(self.method).__name__,
            "tasks": list(self.tasks),
            "steps": self._steps,
            "saw_rows": self._saw_rows,
            "weights": self._run.window.weights,
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
        self._run.window.weights = state["weights"]
        self._steps, self._saw_rows = state["steps"], state["saw_rows"]
        self._alike = False

    def _together(
        self, step: StepLosses, amounts: Tensor, ranks: Ranks | None
    ) -> tuple[StepLosses, Shares | None]:
        """The step as all ranks see it together, and who has how many labels."""
        if ranks is None:
            if step.number == 0:
                raise ValueError(
                    "At least one task should be present in a step. Found none: skip this batch."
                )
            return step, None
        if not self._alike:
            state = plain(self.method.state_dict())
            ranks.check_alike(
                "The state of the method", state, step.values.device, "give all ranks the same seed."
            )
            self._alike = True
        shares = ranks.share(step.values, amounts)
        mask = shares.totals > 0
        everywhere = mask.device.type == "cpu" and bool(mask.all())
        return replace(step, values=shares.means, mask=None if everywhere else mask), shares

    def _check_values(self, step: StepLosses, shares: Shares | None) -> None:
        """Refuse losses that cannot be balanced: those of this step, or of the one before if that was put off."""
        positive = self.method.needs_positive_losses or self.head_weights == "log"
        bad = bad_losses(step, positive)
        wait = self._check_finite or ("defer" if step.values.device.type == "cuda" else "raise")
        looked_at = [(bad, step)] if wait == "raise" else [] if self._bad is None else [self._bad]
        self._bad = (bad, step) if wait == "defer" else None
        for found, where in looked_at:
            if bool(found.any()):
                refuse_losses(found, where, self.tasks, self.method, shares, positive=positive)

    def _split(self, step: StepLosses, ranks: Ranks | None) -> Split:
        return self._splitter.split(step.roots) if ranks is None else self._splitter.split_alike(step, ranks)
