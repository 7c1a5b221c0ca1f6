"""The direction that has the same positive cosine with all gradients."""

import torch
from torch import Tensor

from equipoise.solvers.solution import as_gramian, single_threaded


@single_threaded
def conflict_free(gramian: Tensor, tolerance: float = 1e-13) -> Tensor:
    """Weighs gradients so that their sum is the conflict-free direction of ConFIG.

    With unit gradients u_i = g_i / |g_i|: d = (sum_i g_i'v) v, v = U^+ 1 normalised. As U^+ = U' (U U')^+, the
    pseudo-inverse of the cosines C = U U' (m, m) is enough: b = C^+ 1, v = b U / sqrt(b'C b).

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
    matrix = torch.where(matrix.isfinite().all(), matrix, 0.0)
    norms = matrix.diagonal().clamp(min=0.0).sqrt()
    inverse = torch.where(norms > 0.0, 1.0 / torch.where(norms > 0.0, norms, 1.0), 0.0)
    cosines = matrix * inverse * inverse[:, None]
    values, vectors = torch.linalg.eigh(cosines)
    noise = tolerance * len(values)
    sums = vectors.sum(0)
    # Where 1 is orthogonal to all that is kept, rounding would be normalised to a direction.
    kept = (values > noise * values[-1]) & (sums.abs() > noise)
    scales = torch.where(kept, sums / torch.where(kept, values, 1.0), 0.0)
    raw = vectors @ scales
    square = (scales * sums).sum()
    length = (norms * (cosines @ raw)).sum()
    factor = torch.where(square > 0.0, length / torch.where(square > 0.0, square, 1.0), 0.0)
    weights: Tensor = factor * raw * inverse
    return weights.to(gramian.dtype)
