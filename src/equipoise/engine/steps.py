"""One step: the method is asked, and its answer carried out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equipoise.core import Aggregator, HeadWeights, Method, Reads, TaskStats

from .amp import LossScale
from .checks import finite_rows, refuse_rows
from .distributed import Ranks, Shares
from .gradients import Split, Splitter
from .losses import StepLosses
from .memory import ROWS, Memory
from .record import StepRecord
from .rows import Rows, combined
from .sharded import Shards
from .sources import Measured, Sources, sources_of
from .window import Window
from .write import Rules, seeds_of, write_by_hand, write_by_rows


@dataclass(frozen=True, slots=True)
class Setting:
    """What all steps of a Balancer have in common.

    Args:
        method: which is asked.
        head_weights: what the gradients of heads are scaled by.
        scale: of float16 loops.
        ranks: of the run.
        splitter: which tells the parameters.
        memory: how gradients are measured.
        shards: what stands in for the rows where parameters are sharded.
    """

    method: Method
    head_weights: HeadWeights
    scale: LossScale
    ranks: Ranks
    splitter: Splitter
    memory: Memory
    shards: Shards | None


class Steps:
    """Carries out the steps of one method.

    Args:
        setting: of the Balancer.
        length: micro-batches of a window.
    """

    def __init__(self, setting: Setting, length: int) -> None:
        self._method = setting.method
        self._splitter = setting.splitter
        self._head_weights = setting.head_weights
        self._scale = setting.scale
        self._ranks = setting.ranks
        self._memory = setting.memory
        self._rows: Rows | Shards = setting.shards or Rows(setting.memory.mode)
        self._other_rows = Rows()
        self._write = setting.shards.write if setting.shards else write_by_hand
        self.window = Window(setting.method.n_tasks, length)
        self._scale.window = self.window
        self.other: TaskStats | None = None
        self.backwards = 0  # passes through the shared parameters, a batch and a task each

    def begin(self) -> None:
        """Call at the start of a window, before the method is asked."""
        self._scale.begin()
        self.window.reads = self._method.reads

    def end(self) -> bool:
        """Call after a micro-batch; says whether it was the last of its window."""
        self.window.next()
        return self.window.first

    def _rules(self, step: StepLosses, ranks: Ranks | None) -> Rules:
        return Rules(self._head_weights, self._method.max_norm, self._scale.factor(step.values.device), ranks)

    def _learn(self, weights: Tensor, losses: Tensor, scale: Tensor | None) -> Tensor:
        """The gradients of weights that learn, if any; returns the weights without their graph."""
        if weights.requires_grad:
            total = weights @ losses.to(weights.dtype) + self._method.penalty()  # type: ignore[operator]
            torch.autograd.backward([total], None if scale is None else [scale.to(total.dtype)])
        return weights.detach()

    def by_weights(
        self,
        step: StepLosses,
        split: Split | None,
        shares: Shares | None,
        ranks: Ranks | None,
        measured: Measured | None = None,
    ) -> StepRecord:
        """Weights from the losses, and a Gramian if there is one, then one backward pass.

        With `split`, gradients are written here; with `ranks`, they are averaged here too.
        """
        window, rules = self.window, self._rules(step, ranks)
        gramian = None if measured is None else measured.gramian
        asked = window.first and (gramian is None or bool(gramian.isfinite().all()))
        if gramian is not None and not asked:
            weights = self._no_weights(step, gramian, rules)
        elif asked:
            stats = TaskStats(step.values, present=step.mask, gramian=gramian, other=self.other)
            self.other = None
            weights = window.keep(self._learn(self._method(stats), step.values, rules.scale), step.present)
        else:
            weights = window.weights.to(step.values.device)
        weights = weights if step.mask is None else torch.where(step.mask, weights, 0.0)
        self.backwards += 1 + (0 if measured is None else measured.passes)
        if split is None:
            seeds = self._seeds(weights, shares, rules).to(step.values.dtype)
            if step.whole is not None:
                torch.autograd.backward([step.whole], [seeds_of(seeds, step)])
            else:
                torch.autograd.backward(list(step.roots.values()), [seeds[i] for i in step.roots])
        else:
            heads = rules.head_scales(weights, step.values.double())
            seeds, for_heads = (self._seeds(x, shares, rules) for x in (weights, heads))
            self._write(step, split, rules, (seeds, for_heads), window)
        return self._record(weights, step.values, gramian, asked=asked)

    def _no_weights(self, step: StepLosses, gramian: Tensor, rules: Rules) -> Tensor:
        """NaN for a Gramian that is not finite, so that the loss scaler skips the step; an error without one."""
        if rules.scale is None:
            refuse_rows(gramian, self._splitter.tasks, self._method)
        self._scale.skip()
        return torch.full_like(step.values, torch.nan, dtype=torch.float64)

    def _seeds(self, weights: Tensor, shares: Shares | None, rules: Rules) -> Tensor:
        """What the losses are multiplied with here, so that ranks and micro-batches add up to their mean."""
        if shares is not None:
            weights = weights * shares.own
        if self.window.length > 1:
            weights = weights / self.window.length
        return rules.scaled(weights)

    def measure(self, step: StepLosses, split: Split, amounts: Tensor, shares: Shares | None) -> TaskStats:
        """The rows of a second batch, which the next step shows to the method; valid until the next call."""
        ranks = None if shares is None else self._ranks
        totals = None if shares is None else torch.where(shares.totals > 0, shares.totals, 1.0)
        factors, scale = None if shares is None else amounts, self._scale.factor(step.values.device)
        self.backwards += len(step.roots)
        self._other_rows.add(step.roots, split, factors, scale=scale, ranks=ranks)
        jacobian, _ = self._other_rows.finish(split, totals, None)
        other = TaskStats(step.values, present=step.mask, jacobian=jacobian, blocks=split.blocks)
        if not self._scale.active and not finite_rows(other):
            refuse_rows(jacobian @ jacobian.T, self._splitter.tasks, self._method)
        self.other = other
        return other

    def sources(self, step: StepLosses, shares: Shares | None) -> Sources:
        """Where backward passes start that measure a Gramian without rows."""
        return sources_of(step, shares, self._scale.factor(step.values.device), self._ranks)

    def by_gradients(
        self, step: StepLosses, split: Split, amounts: Tensor, shares: Shares | None, *, at: int
    ) -> StepRecord:
        """By rows, or in less memory; `at` is how many steps have been made."""
        ranks, first = None if shares is None else self._ranks, self.window.first
        try:
            sources = self.sources(step, shares) if self._memory.mode not in ROWS else None
            if sources is None or self._memory.choose(sources, split) in ROWS:
                if self._add_rows(step, split, amounts, ranks):
                    return self.by_rows(step, split, amounts, shares, ranks)
                sources = self.sources(step, shares)
            measured = self._measured(sources, step, split, at) if first else None
            return self.by_weights(step, split, shares, ranks, measured)
        except BaseException:
            self.window.reset()  # what is left of it would be neither this window nor the next
            raise

    def _add_rows(self, step: StepLosses, split: Split, amounts: Tensor, ranks: Ranks | None) -> bool:
        """Measure the rows of a micro-batch; whether they fitted into memory, where there is a leaner way."""
        window, scale = self.window, self._scale.factor(step.values.device)
        self.backwards += len(step.roots)
        factors = None if ranks is None and window.length == 1 else amounts
        joining = ranks if window.last else None
        try:
            self._rows.add(step.roots, split, factors, first=window.first, scale=scale, ranks=joining)
        except torch.OutOfMemoryError as error:
            # Other ranks, or micro-batches before, have done otherwise.
            if ranks is not None or not window.first or not self._memory.fall_back(error):
                raise
            self._rows = Rows()
            return False
        return True

    def _measured(self, sources: Sources, step: StepLosses, split: Split, at: int) -> Measured:
        measured = self._memory.measure(sources, split, at)
        if step.mask is None and bool(measured.gramian.isfinite().all()):
            self._splitter.check_alive(split, measured.squares > 0)
        return measured

    def by_rows(
        self, step: StepLosses, split: Split, amounts: Tensor, shares: Shares | None, ranks: Ranks | None
    ) -> StepRecord:
        """At the end of the window the answer from the rows that have been measured."""
        window, rules = self.window, self._rules(step, ranks)
        plain = ranks is None and window.length == 1
        totals = amounts if shares is None else shares.totals
        window.add(step.values, totals)
        if not window.last:
            return StepRecord(torch.full_like(totals, torch.nan), step.values.double(), complete=False)
        jacobian, heads = self._rows.finish(split, None if plain else window.totals, ranks)
        losses, present = (step.values, step.mask) if plain else (window.losses, window.present)
        gramian = self._rows.gramian(jacobian).to(losses.device)
        stats = TaskStats(
            losses, present=present, gramian=gramian, jacobian=jacobian, blocks=split.blocks, other=self.other
        )
        other, self.other = self.other, None
        if not bool(gramian.isfinite().all()) or not finite_rows(other):
            return self._without_answer(stats, split, rules)
        if present is None:
            self._splitter.check_rows(split, jacobian)
        if self._method.reads == Reads.GRAMIAN:
            stats = TaskStats(losses, present=present, gramian=gramian)
        answer = self._learn(self._method(stats), losses, rules.scale)
        scales = rules.head_scales(answer, stats.losses)
        if isinstance(self._method, Aggregator):
            write_by_rows(answer, torch.linalg.vector_norm(answer), scales, split, heads, rules)
            return self._record(scales, losses, gramian)
        norm = (answer @ gramian @ answer).clamp(min=0).sqrt()
        write_by_rows(combined(answer, jacobian, split.shared[0]), norm, scales, split, heads, rules)
        return self._record(answer, losses, gramian)

    def _without_answer(self, stats: TaskStats, split: Split, rules: Rules) -> StepRecord:
        """Gradients that are not finite: the loss scaler is left to skip the step, and without one it is an error."""
        if rules.scale is None:
            refuse_rows(stats.gramian, self._splitter.tasks, self._method)
        self._scale.skip()
        total = combined(torch.ones_like(stats.losses), stats.jacobian, split.shared[0])
        write_by_rows(
            total, torch.linalg.vector_norm(total), stats.losses, split, [], replace(rules, max_norm=0.0)
        )
        return StepRecord(torch.full_like(stats.losses, torch.nan), stats.losses, stats.gramian)

    def _record(
        self, weights: Tensor, losses: Tensor, gramian: Tensor | None, *, asked: bool = True
    ) -> StepRecord:
        said = self._method.diagnostics if asked else {}
        shown = {name: value.detach() for name, value in said.items()}
        converged = shown.pop("converged", None)
        fallback = None if converged is None else ~converged
        return StepRecord(weights.detach(), losses.double(), gramian, fallback, shown)
