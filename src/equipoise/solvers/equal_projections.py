"""The combination of gradients whose projections on all of them are equal."""

from __future__ import annotations

import torch
from torch import Tensor

from .solution import single_threaded


@single_threaded
def equal_projections(gramian: Tensor, tolerance: float = 1e-12) -> tuple[Tensor, Tensor]:
    """The weights (m,) that sum to 1 and give d = w J the same projection on every unit gradient.

    With cosines C and norms n of the Gramian (m, m): b = C^-1 1, w_i = (b_i / n_i) / sum_j (b_j / n_j). Tasks with
    a zero gradient get weight 0. Source: Liu et al., ICLR 2021, Eq. 6 in an equivalent form.

    Args:
        gramian: (m, m), float64.
        tolerance: of the smallest pivot of C, and of the sum against its terms.

    Returns:
        The weights, and a () bool: False where the gradients depend linearly or no combination sums to 1, and
        the weights are 1 / m.
    """
    norms = gramian.diagonal().clamp(min=0).sqrt()
    alive = norms > 0
    scale = torch.where(alive, norms, 1.0)
    cosines = gramian / scale[:, None] / scale + torch.diag(torch.where(alive, 0.0, 1.0))
    factor, info = torch.linalg.cholesky_ex(cosines)
    solution = torch.cholesky_solve(torch.ones_like(norms)[:, None], factor)[:, 0]
    raw = torch.where(alive, solution / scale, 0.0)
    total = raw.sum()
    well_posed = (info == 0) & (factor.diagonal().min() ** 2 > tolerance)
    converged = well_posed & (total.abs() > tolerance * raw.abs().sum())
    return torch.where(converged, raw / torch.where(converged, total, 1.0), 1.0 / len(norms)), converged
