"""Aligned multi-task learning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least, check_one_of

_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "min": lambda values: values[0],
    "median": lambda values: values[(len(values) - 1) // 2],
    "rmse": lambda values: values.mean(),
}


class AlignedMTL(GramianWeighting):
    """Replaces the gradients by the nearest ones that are orthogonal and of one length, and takes their mean.

    With G = V diag(l) V' of the Gramian (m, m), of rank r: w = (1 / m) sqrt(c) V diag(l)^(-1/2) V' 1 (m,), in which
    only the r eigenvalues l that are not zero take part and c is their least ("min"), median or mean ("rmse")
    value. The gradients sqrt(c) V diag(l)^(-1/2) V' J then have all singular values sqrt(c).

    Reads: Gramian.
    State: none.
    Scale: |w J| = sqrt(c / m) for independent gradients; some weights can be negative.
    Reference: D. Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023,
        https://arxiv.org/abs/2305.19000, Algorithm 1; the scale modes of the authors' code.
    Departures: the mean as in the paper, where the code sums, m times as long. An eigenvalue counts as zero up to
        `tolerance` m max l, as in the code, which leaves out a task whose gradient is some 1e3 times shorter than
        the others. The lower of two median values, as in the code. Zero gradients get weights 1 / m.

    Args:
        n_tasks: the number of tasks m, at least 1.
        scale: "min", the paper's; "median" or "rmse".
        tolerance: of the eigenvalues, at least 0; the rounding of float32, 1.2e-7, as in the code.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(
        self, n_tasks: int, scale: str = "min", tolerance: float = torch.finfo(torch.float32).eps
    ) -> None:
        super().__init__(n_tasks)
        check_one_of("scale", scale, tuple(_SCALES))
        check_at_least("tolerance", tolerance, 0.0)
        self.scale = scale
        self.tolerance = tolerance

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        values, vectors = torch.linalg.eigh(stats.gramian)
        kept = values > self.tolerance * len(index) * values[-1].clamp(min=0.0)
        values, vectors = values[kept], vectors[:, kept]
        if len(values) == 0:
            return torch.full_like(stats.losses, 1.0 / len(index))
        stretch = (_SCALES[self.scale](values) / values).sqrt()
        weights: Tensor = vectors @ (stretch * vectors.sum(0)) / len(index)
        return weights
