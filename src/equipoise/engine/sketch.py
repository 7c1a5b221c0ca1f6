"""An estimate of the Gramian from rows that are folded to a few thousand numbers while they are measured.

Every entry of a row is added, with a random sign, to one of `size` sums chosen at random; signs and sums are the same
for all tasks. With S (m, size) those sums, S S' is an unbiased estimate of the Gramian, and its entry (i, j) has the
variance (|g_i|^2 |g_j|^2 + <g_i, g_j>^2 - 2 sum_k g_ik^2 g_jk^2) / size at most. So the standard error is at most
sqrt(2 / size) |g_i| |g_j|, whatever the number of parameters: 1.1 % for 16,384 sums.

Memory: the gradient of one task, as a plain backward pass. Nothing random is stored: the draws are made again for
each task, from a seed per parameter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gradients import Split, gradients_of
from .sources import Measured, Sources

SIZE = 1 << 14  # the largest: a sum and a sign are drawn from 16 random bits, one of them spare
_WORDS = 1 << 14  # 64-bit words drawn at a time, four entries each: small enough to stay in the cache


def sketched_gramian(sources: Sources, split: Split, *, seed: int, size: int = SIZE) -> Measured:
    """An estimate of the Gramian, one task's gradient at a time; the graph is kept.

    Args:
        sources: where the graph of each present task starts.
        split: the parameters of the step.
        seed: of the random sums and signs; another one in every step, or the errors of the steps do not average out.
        size: to how many numbers a row is folded: a power of 2, up to 16,384.

    Raises:
        ValueError: if the size is no power of 2 in range.
    """
    if not (1 <= size <= SIZE and size & (size - 1) == 0):
        raise ValueError(f"`size` should be a power of 2, at most {SIZE}. Found {size}.")
    first = split.shared[0]
    dtype = torch.promote_types(first.dtype, torch.float32)
    sums = torch.zeros(sources.n_tasks, 2 * size, dtype=dtype, device=first.device)
    squares = torch.zeros(len(split.shared), sources.n_tasks, dtype=torch.float64, device=first.device)
    for i, root in sources.roots.items():
        used = [k for k, p in enumerate(split.shared) if split.reached.get(p, 0) >> i & 1]
        if i in sources.lacking or not used:
            continue
        found = gradients_of(
            [root], [sources.seed(i, first)], [split.shared[k] for k in used], retain_graph=True
        )
        for k, gradient in zip(used, found, strict=True):
            squares[k, i] = _fold(gradient.reshape(-1), seed * 1_000_003 + k, sums[i])
        del found, gradient  # or they would live on beside those of the next task
    # The sums of the mean gradient are the mean of the sums, which no Gramian is.
    sketch = sources.total(sums[:, :size] - sums[:, size:]).double()
    return Measured(sources.unscaled(sketch @ sketch.T), sources.total(squares), len(sources.roots))


def standard_error(size: int) -> float:
    """The largest standard error of an entry (i, j), in units of |g_i| |g_j|."""
    return math.sqrt(2 / size)


def _fold(row: Tensor, seed: int, sums: Tensor) -> Tensor:
    """Add each entry of a row (n,) to one of the sums (2 size,), of which the upper half count as negative.

    Returns the square of its norm ().
    """
    draws = torch.Generator(row.device).manual_seed(seed % 2**63)
    words = torch.empty(_WORDS, dtype=torch.int64, device=row.device)
    square = torch.zeros((), dtype=torch.float64, device=row.device)
    for part in row.split(4 * _WORDS):
        words.random_(-(2**63), None, generator=draws)
        chosen = words.view(torch.int16)[: len(part)] & (len(sums) - 1)
        sums.index_add_(0, chosen.long(), part.to(sums.dtype))
        square += part.double().square().sum()
    return square
