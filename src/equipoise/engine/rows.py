"""The rows of the Jacobian: one backward pass per task, summed over micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.core.stats import gramian_of

from .batched import Batched
from .distributed import Ranks
from .gradients import Split, gradients_of, views

HeadGradients = list[tuple[int, Tensor, Tensor]]  # task, parameter, gradient
_COLUMNS = 1 << 20  # of rows kept elsewhere that are brought back at a time


class Rows:
    """Measures the rows of the Jacobian in a buffer kept between steps.

    A window is one batch, or several micro-batches whose rows are added up. `add` measures a micro-batch, and
    `finish` gives what the window amounts to.

    Args:
        where: "rows" to keep them on the device in the gradients' precision, "rows_bf16" in bfloat16 (8 bits of each
            entry, off by up to 2^-9 of itself in each micro-batch and rank that is added), "rows_cpu" on the host.
    """

    def __init__(self, where: str = "rows") -> None:
        self._where = where
        self._buffer = torch.empty(0, 0)
        self._heads: list[dict[Tensor, Tensor]] = []
        self._waits: list[Callable[[], None]] = []
        self._batched = Batched()

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
        """Measure the rows of a micro-batch, one backward pass per task that is present, or fewer that are batched.

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
        heads = split.own_heads()
        plain = first and factors is None and scale is None and ranks is None
        batched = self._batched.gradients(roots, split) if plain else None
        for i in range(len(self._heads)):
            if i in roots:
                own = heads[i]
                used = [p for p in split.shared if split.reached.get(p, 0) >> i & 1]
                if batched is None:
                    seed = None if scale is None else [scale]
                    found = gradients_of([roots[i]], seed, [*used, *own], retain_graph=i != last)
                    found = _times(found, None if factors is None else factors[i], scale)
                else:
                    found = next(batched)
                self._keep(i, split, used, found[: len(used)], first)
                for parameter, gradient in zip(own, found[len(used) :], strict=True):
                    kept = self._heads[i].get(parameter)
                    self._heads[i][parameter] = gradient if kept is None else _wide(kept) + gradient
            elif first:
                self._buffer[i].zero_()
            if ranks is not None:
                self._waits.append(self._start_sum(i, split, ranks))

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
            _sum_heads(self._heads, split, ranks)
        if totals is not None:
            self._buffer.div_(totals[:, None].to(self._buffer))
            for i, heads in enumerate(self._heads):
                self._heads[i] = {p: g / totals[i].to(g.dtype) for p, g in heads.items()}
        return self._buffer, [(i, p, g) for i, heads in enumerate(self._heads) for p, g in heads.items()]

    def gramian(self, jacobian: Tensor) -> Tensor:
        """The Gramian (m, m) of rows that `finish` gave."""
        return gramian_of(jacobian)

    def _start_sum(self, i: int, split: Split, ranks: Ranks) -> Callable[[], None]:
        """Begin to add up a row over the ranks; returns what waits for the end."""
        row, device = self._buffer[i], split.shared[0].device
        if row.device == device:
            return ranks.start_sum(row)
        # The ranks may not be able to exchange what the host holds; one row at a time lies on the device.
        row.copy_(ranks.sum(row.to(device)))
        return lambda: None

    def _begin(self, split: Split) -> None:
        n = sum(parameter.numel() for parameter in split.shared)
        dtype = torch.promote_types(split.shared[0].dtype, torch.float32)
        dtype = torch.bfloat16 if self._where == "rows_bf16" else dtype
        kept = self._buffer
        device = torch.device("cpu") if self._where == "rows_cpu" else split.shared[0].device
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
            torch._foreach_add_(places, [g.to(self._buffer) for g in found])


def combined(weights: Tensor, jacobian: Tensor, like: Tensor) -> Tensor:
    """The weights (m,) times rows (m, n), with the device and, at least in float32, the precision of a parameter."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if (jacobian.dtype, jacobian.device) == (dtype, like.device):
        return weights.to(dtype) @ jacobian
    answer = torch.empty(jacobian.shape[1], dtype=dtype, device=like.device)
    wide = weights.to(answer)
    for place, columns in zip(answer.split(_COLUMNS), jacobian.split(_COLUMNS, dim=1), strict=True):
        torch.mv(columns.to(answer).T, wide, out=place)
    return answer


def _times(gradients: list[Tensor], factor: Tensor | None, scale: Tensor | None) -> list[Tensor]:
    """Gradients times a factor over a scale, at least in float32 where the scale may have been needed."""
    if scale is not None:
        gradients = [_wide(g) / scale.to(_wide(g).dtype) for g in gradients]
    return gradients if factor is None else [g * factor.to(g.dtype) for g in gradients]


def _wide(gradient: Tensor) -> Tensor:
    """A gradient in float32 or more, so that sums of many lose nothing."""
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _sum_heads(heads: list[dict[Tensor, Tensor]], split: Split, ranks: Ranks) -> None:
    """Sum the gradients of all heads over the ranks at once, those that did not see a task included."""
    agreed = [(own, p) for i, own in enumerate(heads) for p in split.agreed_heads(i)]
    if agreed:
        flat = torch.cat([own.get(p, torch.zeros_like(p)).reshape(-1) for own, p in agreed])
        sums = views(ranks.sum(flat), [p for _, p in agreed])
        for (own, p), gradient in zip(agreed, sums, strict=True):
            own[p] = gradient
