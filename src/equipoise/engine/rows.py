"""The rows of the Jacobian: one backward pass per task, summed over micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.core.stats import gramian_of

from .distributed import Ranks
from .gradients import Split, gradients_of, views

HeadGradients = list[tuple[int, Tensor, Tensor]]  # task, parameter, gradient


class Rows:
    """Measures the rows of the Jacobian in a buffer kept between steps.

    A window is one batch, or several micro-batches whose rows are added up. `add` measures a micro-batch, and
    `finish` gives what the window amounts to.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0, 0)
        self._heads: list[dict[Tensor, Tensor]] = []
        self._waits: list[Callable[[], None]] = []

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
        """Measure the rows of a micro-batch, one backward pass per task that is present.

        Args:
            roots: where the graphs of the present tasks start.
            split: the parameters.
            factors: what each task's gradient is multiplied by (m,); None for 1.
            first: whether a window begins.
            scale: what the losses are multiplied with before, and the gradients divided by after, each backward pass.
            ranks: in the last micro-batch of a window of several ranks: each row is summed over them while the next
                one is measured.
        """
        if first:
            self._begin(split)
        last = list(roots)[-1] if roots else None
        for i in range(len(self._heads)):
            if i in roots:
                own = split.own_heads(i)
                used = [p for p in split.shared if split.reached.get(p, 0) >> i & 1]
                seed = None if scale is None else [scale]
                found = gradients_of([roots[i]], seed, [*used, *own], retain_graph=i != last)
                found = _times(found, None if factors is None else factors[i], scale)
                self._keep(i, split, used, found[: len(used)], first)
                for parameter, gradient in zip(own, found[len(used) :], strict=True):
                    kept = self._heads[i].get(parameter)
                    self._heads[i][parameter] = gradient if kept is None else _wide(kept) + gradient
            elif first:
                self._buffer[i].zero_()
            if ranks is not None:
                self._waits.append(ranks.start_sum(self._buffer[i]))

    def finish(
        self, split: Split, totals: Tensor | None, ranks: Ranks | None = None
    ) -> tuple[Tensor, HeadGradients]:
        """The Jacobian (m, n), rows of absent tasks 0, and each head's gradients, of the whole window.

        Args:
            split: the parameters.
            totals: what the rows are divided by (m,), above 0; None for 1.
            ranks: over which the heads' gradients are still to be summed.
        """
        for wait in self._waits:
            wait()
        self._waits = []
        if ranks is not None:
            for i, heads in enumerate(self._heads):
                _sum_heads(heads, split.agreed_heads(i), ranks)
        if totals is not None:
            self._buffer.div_(totals[:, None].to(self._buffer.dtype))
            for i, heads in enumerate(self._heads):
                self._heads[i] = {p: g / totals[i].to(g.dtype) for p, g in heads.items()}
        return self._buffer, [(i, p, g) for i, heads in enumerate(self._heads) for p, g in heads.items()]

    def gramian(self, jacobian: Tensor) -> Tensor:
        """The Gramian (m, m) of rows that `finish` gave."""
        return gramian_of(jacobian)

    def _begin(self, split: Split) -> None:
        n = sum(parameter.numel() for parameter in split.shared)
        dtype = torch.promote_types(split.shared[0].dtype, torch.float32)
        kept, device = self._buffer, split.shared[0].device
        if kept.shape != (split.n_tasks, n) or kept.dtype != dtype or kept.device != device:
            self._buffer = torch.empty(split.n_tasks, n, dtype=dtype, device=device)
        self._heads = [{} for _ in range(split.n_tasks)]

    def _keep(self, i: int, split: Split, used: list[Tensor], found: list[Tensor], first: bool) -> None:
        """Put gradients into a row, or add them to it."""
        places = views(self._buffer[i], split.shared)
        if len(used) < len(split.shared):
            if first:
                self._buffer[i].zero_()
            chosen = set(used)
            places = [place for p, place in zip(split.shared, places, strict=True) if p in chosen]
        if first:
            torch._foreach_copy_(places, found)
        elif found:
            torch._foreach_add_(places, [g.to(self._buffer.dtype) for g in found])


def _times(gradients: list[Tensor], factor: Tensor | None, scale: Tensor | None) -> list[Tensor]:
    """Gradients times a factor over a scale, at least in float32 where the scale may have been needed."""
    if scale is not None:
        gradients = [_wide(g) / scale.to(_wide(g).dtype) for g in gradients]
    return gradients if factor is None else [g * factor.to(g.dtype) for g in gradients]


def _wide(gradient: Tensor) -> Tensor:
    """A gradient in float32 or more, so that sums of many lose nothing."""
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _sum_heads(heads: dict[Tensor, Tensor], agreed: list[Tensor], ranks: Ranks) -> None:
    """Sum the gradients of a head over the ranks, those that did not see its task included."""
    if agreed:
        flat = torch.cat([heads.get(p, torch.zeros_like(p)).reshape(-1) for p in agreed])
        heads.update(zip(agreed, views(ranks.sum(flat), agreed), strict=True))
