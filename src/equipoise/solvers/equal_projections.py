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
    squares = gramian.diagonal().clamp(min=0.0)
    norms = squares.sqrt()
    resting = (squares == 0.0).to(squares)
    factor, info = torch.linalg.cholesky_ex(gramian + resting.diag())
    # C^-1 1 over the norms is G^-1 n, and the pivots of C are those of G over the norms.
    raw = torch.cholesky_solve(norms[:, None], factor)[:, 0]
    pivot = (factor.diagonal() / (norms + resting)).amin()
    total = raw.sum()
    certain = torch.minimum(pivot * pivot, total.abs() / raw.abs().sum()) > tolerance
    converged = certain & (info == 0)
    return torch.where(converged, raw / total, 1.0 / len(norms)), converged
