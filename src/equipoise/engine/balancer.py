"""The one object in a user's training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from equipoise.core import HeadWeights, Method, Reads, TaskStats
from equipoise.core.method import check_at_least

from .amp import LossScale
from .checks import LossCheck, check_method, refuse_uneven, warn_if_stuck
from .distributed import Ranks, Shares
from .fidelity import fidelity
from .gradients import Shared, Split, Splitter, keep_graphs_usable
from .losses import Counts, Losses, LossReader, StepLosses
from .memory import Memory
from .record import StepRecord
from .sharded import refuse_measuring, shards_of
from .steps import Setting, Steps
from .together import Together


class Balancer:
    """Replaces `sum(losses).backward()` in a training loop by a balanced backward pass.

    Build once, then call `backward(losses)` where the loop called `loss.backward()`. The optimizer, its
    `zero_grad()` and `step()` stay as they are. For methods with learned weights (UW) add
    `balancer.parameters()` to the optimizer as a group of their own (lr 0.025 in the literature, no weight decay).

    Loss-only methods cost one ordinary backward pass, the others one per task; those write the gradients to `.grad`
    by hand, so that hooks which wait for gradient accumulation do not run.

    In a distributed run all ranks get the same weights: losses and rows are averaged over the ranks, weighted by
    `counts`. Loss-only methods leave the gradients to DistributedDataParallel. Build the Balancer after `fully_shard`,
    with `shared`; methods of the Jacobian are refused then. Every rank sees all losses in its first step.

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
            over the window. Methods that read rows add them up, are asked once at its end, and equal one large batch;
            the others are asked at its first micro-batch and keep those weights. A micro-batch whose losses are
            refused does not count: give another in its place. If gradients are refused, the window is given up.
        memory: how methods that read the Gramian get it. Exact: "rows" (m gradients held at once; "rows_bf16" and
            "rows_cpu" keep them in bfloat16 and on the host), "layerwise" (some layers at a time), "factored" (without
            the weight gradients of linear layers; `shared` has to be the module). Estimates: "sketch", "streamed" (3
            tasks a step). Surrogates: "features", "last_layer". All but rows end with one more backward pass, and ask
            at the first micro-batch. "auto" takes the first exact one within `budget_gb`, or rows.
        budget_gb: what "auto" may spend on gradients, in 10^9 bytes.
        check_finite: "raise" an error at once where a loss is not finite, which waits for the device, or "defer" it,
            the task absent till then (loss-only methods); by default "defer" on CUDA, "raise" elsewhere.
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
        memory: str = "auto",
        budget_gb: float | None = None,
        check_finite: str | None = None,
        process_group: Any = None,
    ) -> None:
        check_method(method, head_weights)
        self.method = method
        self.head_weights: HeadWeights = head_weights or method.head_weights
        check_at_least("accumulate", accumulate, 1)
        self._ranks = Ranks(process_group)
        self._together = Together(self._ranks, method)
        self._scale = LossScale(scaler, method)
        self._reader = LossReader(tasks, method.n_tasks)
        positive = method.needs_positive_losses or self.head_weights == "log"
        self._check = LossCheck(check_finite, method, positive, self._reader.tasks)
        self._splitter = Splitter(shared, self._reader.tasks)
        for parameter in self._splitter.given[:1]:
            method.to(parameter.device)  # before an optimizer that loads its state looks where weights are
        self._shards = shards_of(self._splitter.given, method, self._ranks)
        self._versions = {name: parameter._version for name, parameter in method.named_parameters()}
        self._steps, self._saw_rows = 0, False
        if method.reads > Reads.LOSSES:
            keep_graphs_usable()
        obstacle = "" if self._shards is None else "fully_shard shards the rows"
        self._memory = Memory(memory, budget_gb, shared, method, obstacle)
        setting = Setting(
            method, self.head_weights, self._scale, self._ranks, self._splitter, self._memory, self._shards
        )
        self._run = Steps(setting, accumulate)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks in order."""
        return self._reader.tasks

    @property
    def memory(self) -> str:
        """The memory mode, once a step has been made."""
        return self._memory.mode

    @property
    def skipped(self) -> int:
        """Steps that the scaler has skipped."""
        self._scale.settle()
        return self._scale.skipped

    @property
    def backwards(self) -> int:
        """Backward passes of a batch through the shared parameters so far; m of them where rows are read."""
        return self._run.backwards

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
            counts: how many labelled samples each loss is the mean of (m,), for several ranks, or micro-batches of
                methods of rows (others take each alike); give it on all ranks or on none. With it a loss-only method's
                gradients are averaged here, not by DistributedDataParallel, so that ranks may lack tasks.

        Returns:
            The weights and what else was measured, detached.

        Raises:
            ValueError: on losses of the wrong number, not scalar, without a graph, not finite, or not positive
                where the method divides by them, and where the shared parameters cannot be told.
                Method and gradients are untouched then.
            RuntimeError: if another rank does not answer.
        """
        step, amounts, shares = self._read(losses, present, counts, graph=True)
        ranks = None if shares is None else self._ranks
        window = self._run.window
        if window.first:
            self._run.begin()
        by_losses = window.reads == Reads.LOSSES
        # Steps with and without rows must not take turns under DistributedDataParallel: it may count on its passes.
        self._saw_rows = self._saw_rows or not by_losses
        by_hand = self.head_weights != "same" or self.method.max_norm > 0 or not by_losses
        by_hand |= ranks is not None and (counts is not None or self._saw_rows)
        split = self._split(step, shares) if by_hand else None
        if split is None:
            refuse_uneven(shares, step)
            record = self._run.by_weights(step, None, None, None)
        elif by_losses:
            record = self._run.by_weights(step, split, shares, ranks)
        else:
            record = self._run.by_gradients(step, split, amounts, shares, at=self._steps)
        if self._shards is not None:
            self._shards.publish()
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
            The losses, and for methods that read more the Jacobian and Gramian, of the batch, until the next call.

        Raises:
            ValueError: as `backward`.
        """
        reads = self.method.reads
        step, amounts, shares = self._read(losses, present, counts, graph=reads > Reads.LOSSES)
        if reads == Reads.LOSSES:
            self._run.other = TaskStats(step.values, present=step.mask)
            return self._run.other
        refuse_measuring(self._shards)
        return self._run.measure(step, self._split(step, shares), amounts, shares)

    def fidelity(
        self,
        losses: Losses,
        *,
        present: Tensor | Sequence[bool] | None = None,
        counts: Counts | None = None,
    ) -> Tensor:
        """How near the update of an estimate or a surrogate (`memory`) is to that of the exact Gramian.

        The cosine () of the two shared gradients. Costs m more backward passes and changes nothing: call it now and
        then, just before `backward` with the same losses.

        Args:
            losses: as for `backward`.
            present: as for `backward`.
            counts: as for `backward`.

        Raises:
            ValueError: as `backward`, and if the Balancer keeps rows or its method does not read the Gramian.
        """
        step, _, shares = self._read(losses, present, counts, graph=True)
        split, sources = self._split(step, shares), self._run.sources(step, shares)
        return fidelity(self.method, self._memory, sources, split, step, at=self._steps)

    def after_step(self, losses: Losses) -> None:
        """Tell the method the losses after the optimizer step; only FAMO listens, and does without too."""
        self.method.after_step(self._together.mean(self._reader.values(losses)))

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
        self._scale.settle()
        return {
            "method": type(self.method).__name__,
            "tasks": list(self.tasks),
            "steps": self._steps,
            "saw_rows": self._saw_rows,
            "weights": self._run.window.weights,
            "skipped": self._scale.skipped,
            "state": self.method.state_dict(),
            "memory": self._memory.state_dict(),
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
        self._scale.forget()
        self._splitter.resume()
        self._run.window.reset()
        self._run.window.weights = state["weights"]
        self._scale.skipped = state["skipped"]
        self._steps, self._saw_rows = state["steps"], state["saw_rows"]
        self._memory.load_state_dict(state["memory"])
        self._together.compared = False

    def _read(
        self, losses: Losses, present: Tensor | Sequence[bool] | None, counts: Counts | None, *, graph: bool
    ) -> tuple[StepLosses, Tensor, Shares | None]:
        """The losses as all ranks see them, what each counts here (m,), and who has how many labels."""
        step = self._reader.read(losses, present, graph=graph)
        self.method.to(step.values.device)
        amounts = self._reader.amounts(counts, step)
        step, shares = self._together.join(step, amounts)
        return self._check.checked(step, shares), amounts, shares

    def _split(self, step: StepLosses, shares: Shares | None) -> Split:
        if self._shards is not None:
            return self._shards.split(step, shares)
        alike = self._splitter.split_alike
        return self._splitter.split(step.roots) if shares is None else alike(step, self._ranks)
