"""The direction that has the same positive cosine with all gradients."""

import torch
from torch import Tensor

from equipoise.solvers.solution import as_gramian, single_threaded

INDEPENDENT = 1e-3  # least pivot of the Cholesky factor of C from which no eigenvalue is near the tolerance


@single_threaded
def conflict_free(gramian: Tensor, tolerance: float = 1e-13) -> Tensor:
    """Weighs gradients so that their sum is the conflict-free direction of ConFIG.

    With unit gradients u_i = g_i / |g_i|: d = (sum_i g_i'v) v, v = U^+ 1 normalised. As U^+ = U' (U U')^+, the
    pseudo-inverse of the cosines C = U U' (m, m) is enough: b = C^+ 1, v = b U / sqrt(b'C b). Where the gradients are
    clearly independent, a Cholesky factor gives b = C^-1 1; otherwise the eigenvalues do.

    Degenerate input: gradients that are zero are left out; where gradients depend linearly, the least-squares
    answer; weights 0 where the direction is zero, as for two opposite gradients, or the Gramian is not finite.

    Source: Q. Liu et al., ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, ICLR 2025,
    Eqs. 2 and 3.

    Args:
        gramian: G = JJ' (m, m), inner products of the gradients.
        tolerance: Eigenvalues of C below this times m, relative to the largest, count as zero.

    Returns:
        The weights (m,), in the dtype of the Gramian.

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers.
    """
    matrix = as_gramian(gramian)
    norms = matrix.diagonal().sqrt()
    factor, _ = torch.linalg.cholesky_ex(matrix)
    # The pivots of C are those of G over the norms, and C^-1 1 over the norms is G^-1 n.
    pivot = float((factor.diagonal() / norms).amin())
    if pivot > INDEPENDENT and tolerance < INDEPENDENT**2:
        raw = torch.cholesky_solve(norms[:, None], factor)[:, 0]
        weights = raw * (norms.sum() / torch.dot(norms, raw))
    else:
        weights = _by_eigenvalues(torch.where(matrix.isfinite().all(), matrix, 0.0), tolerance)
    return weights.to(gramian.dtype)


def _by_eigenvalues(matrix: Tensor, tolerance: float) -> Tensor:
    """Returns the weights (m,) where gradients may be zero or depend linearly."""
    norms = matrix.diagonal().clamp(min=0.0).sqrt()
    inverse = torch.where(norms > 0.0, 1.0 / norms, 0.0)
    cosines = matrix * torch.outer(inverse, inverse)
    values, vectors = torch.linalg.eigh(cosines)
    noise = tolerance * len(values)
    sums = vectors.sum(0)
    # Where 1 is orthogonal to all that is kept, rounding would be normalised to a direction.
    kept = (values > noise * values[-1]) & (sums.abs() > noise)
    scales = torch.where(kept, sums / values, 0.0)
    raw = vectors @ scales
    square = torch.dot(scales, sums)
    length = torch.dot(norms, cosines @ raw)
    weights: Tensor = raw * inverse * torch.where(square > 0.0, length / square, 0.0)
    return weights
