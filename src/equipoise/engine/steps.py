"""One step: the method is asked, and its answer carried out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from equipoise.core import Aggregator, HeadWeights, Method, Reads, TaskStats

from .amp import LossScale
from .checks import refuse_rows
from .distributed import Ranks, Shares
from .gradients import Split, Splitter, accumulate, gradients_of
from .layerwise import GramianAndHeads
from .losses import StepLosses
from .record import StepRecord
from .rows import Rows
from .sharded import Shards
from .window import Window
from .write import Rules, write_by_hand, write_by_rows, write_heads


class Steps:
    """Carries out the steps of one method.

    Args:
        method: which is asked.
        splitter: which tells the parameters.
        head_weights: what the gradients of heads are scaled by.
        scale: of float16 loops.
        length: micro-batches of a window.
        shards: what stands in for the rows where parameters are sharded.
    """

    def __init__(
        self,
        method: Method,
        splitter: Splitter,
        head_weights: HeadWeights,
        scale: LossScale,
        *,
        length: int,
        shards: Shards | None,
    ) -> None:
        self._method = method
        self._splitter = splitter
        self._head_weights = head_weights
        self._scale = scale
        self._rows: Rows | Shards = shards or Rows()
        self._write = shards.write if shards else write_by_hand
        self.window = Window(method.n_tasks, length)
        self.other: TaskStats | None = None

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

    def by_losses(
        self, step: StepLosses, split: Split | None, shares: Shares | None, ranks: Ranks | None
    ) -> StepRecord:
        """Weights from the losses alone, then one backward pass; with `shares`, gradients are averaged here."""
        window, rules = self.window, self._rules(step, ranks)
        if window.first:
            answer = self._method(TaskStats(step.values, present=step.mask, other=self.other))
            self.other = None
            window.keep(self._learn(answer, step.values, rules.scale), step.present)
        weights = window.weights if step.mask is None else torch.where(step.mask, window.weights, 0.0)
        if split is None:
            seeds = self._seeds(weights, shares, rules).to(step.values.dtype)
            torch.autograd.backward(list(step.roots.values()), [seeds[i] for i in step.roots])
        else:
            heads = rules.head_scales(weights, step.values.double())
            seeds, for_heads = (self._seeds(x, shares, rules) for x in (weights, heads))
            self._write(step, split, rules, (seeds, for_heads), window)
        return self._record(weights, step.values, None)

    def _seeds(self, weights: Tensor, shares: Shares | None, rules: Rules) -> Tensor:
        """What the losses are multiplied with here, so that ranks and micro-batches add up to their mean."""
        if shares is not None:
            weights = weights * shares.own
        if self.window.length > 1:
            weights = weights / self.window.length
        return rules.scaled(weights)

    def by_rows(
        self, step: StepLosses, split: Split, amounts: Tensor, shares: Shares | None, ranks: Ranks | None
    ) -> StepRecord:
        """One backward pass per task; at the end of the window the answer from the rows."""
        window, rules = self.window, self._rules(step, ranks)
        plain = ranks is None and window.length == 1
        joining = ranks if window.last else None
        factors = None if plain else amounts
        self._rows.add(step.roots, split, factors, first=window.first, scale=rules.scale, ranks=joining)
        totals = amounts if shares is None else shares.totals
        window.add(step.values, totals)
        if not window.last:
            return StepRecord(torch.full_like(totals, torch.nan), step.values.double(), complete=False)
        jacobian, heads = self._rows.finish(split, None if plain else window.totals, ranks)
        losses, present = (step.values, step.mask) if plain else (window.losses, window.present)
        if present is None:
            self._splitter.check_rows(split, jacobian)
        gramian = self._rows.gramian(jacobian)
        stats = TaskStats(
            losses, present=present, gramian=gramian, jacobian=jacobian, blocks=split.blocks, other=self.other
        )
        self.other = None
        if not bool(gramian.isfinite().all()):
            return self._without_answer(stats, split, rules)
        if self._method.reads == Reads.GRAMIAN:
            stats = TaskStats(losses, present=present, gramian=gramian)
        answer = self._learn(self._method(stats), losses, rules.scale)
        scales = rules.head_scales(answer, stats.losses)
        if isinstance(self._method, Aggregator):
            write_by_rows(answer, torch.linalg.vector_norm(answer), scales, split, heads, rules)
            return self._record(scales, losses, gramian)
        norm = (answer @ gramian @ answer).clamp(min=0).sqrt()
        write_by_rows(answer.to(jacobian.dtype) @ jacobian, norm, scales, split, heads, rules)
        return self._record(answer, losses, gramian)

    def by_gramian(self, step: StepLosses, split: Split, measured: GramianAndHeads) -> StepRecord:
        """Weights from a Gramian without rows, then one backward pass for the shared parameters."""
        rules, gramian = self._rules(step, None), measured.gramian
        if step.mask is None:
            self._splitter.check_alive(split, measured.squares > 0)
        if not bool(gramian.isfinite().all()):
            refuse_rows(gramian, self._splitter.tasks, self._method)
        answer = self._learn(
            self._method(TaskStats(step.values, present=step.mask, gramian=gramian)), step.values, None
        )
        seeds = [answer[i].to(step.values.dtype) for i in step.roots]
        shared = gradients_of(list(step.roots.values()), seeds, split.shared, retain_graph=False)
        norm = (answer @ gramian @ answer).clamp(min=0).sqrt()
        scales = rules.head_scales(answer, step.values.double())
        direction = torch.cat([g.reshape(-1) for g in shared]) if rules.max_norm > 0 else None
        if direction is None:
            accumulate(split.shared, shared)
            write_heads(scales, measured.heads, rules)
        else:
            write_by_rows(direction, norm, scales, split, measured.heads, rules)
        return self._record(answer, step.values, gramian)

    def _without_answer(self, stats: TaskStats, split: Split, rules: Rules) -> StepRecord:
        """Gradients that are not finite: the loss scaler is left to skip the step, and without one it is an error."""
        if rules.scale is None:
            refuse_rows(stats.gramian, self._splitter.tasks, self._method)
        self._scale.skip()
        total = stats.jacobian.sum(0)
        write_by_rows(
            total, torch.linalg.vector_norm(total), stats.losses, split, [], replace(rules, max_norm=0.0)
        )
        return StepRecord(torch.full_like(stats.losses, torch.nan), stats.losses, stats.gramian)

    def _record(self, weights: Tensor, losses: Tensor, gramian: Tensor | None) -> StepRecord:
        shown = {name: value.detach() for name, value in self._method.diagnostics.items()}
        converged = shown.pop("converged", None)
        fallback = None if converged is None else ~converged
        return StepRecord(weights.detach(), losses.double(), gramian, fallback, shown)
