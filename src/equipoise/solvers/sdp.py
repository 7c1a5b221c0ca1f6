"""The semidefinite relaxation of one-dimensional k-means, with a bound that proves how good the answer is."""

from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.solvers.kmeans import kmeans_1d
from equipoise.solvers.solution import single_threaded

RELAXATION = 1.8  # of the splitting; 2 is the limit of what converges
CHECK_EVERY = 10
# Where groups have settled: in trials with 5 to 64 numbers they were those of a gap of 1e-8, at a third of the time.
SETTLED = 1e-4


class Relaxation(NamedTuple):
    """A feasible point of the relaxation and the proof of how good it is.

    Attributes:
        matrix: Z (m, m): non-negative, positive semidefinite, rows that sum to 1, trace k.
        converged: Whether `gap` is at most the tolerance asked for, () bool.
        gap: By how much the sum of squares of Z could still fall, at most, relative to that of one group, () float64.
    """

    matrix: Tensor
    converged: Tensor
    gap: Tensor


@single_threaded
def kmeans_sdp(values: Tensor, k: int, tolerance: float = SETTLED, most_iterations: int = 1000) -> Relaxation:
    """Solves the relaxation of k-means by Peng and Wei.

    A partition is the matrix Z with entries 1 / n_c inside a group of n_c and 0 elsewhere; its sum of squares is
    x'x - x'Zx for centred values x. The relaxation keeps Z >= 0, Z semidefinite, Z 1 = 1 and trace Z = k, so its
    optimum is a lower bound of that of k-means, equal where groups are far enough apart.

    Such a Z is 11'/m + V S V' with V (m, m - 1) orthonormal to 1 and S semidefinite with trace k - 1 and eigenvalues
    up to 1. Douglas-Rachford splitting alternates between that set, where the projection is one eigenvalue
    decomposition, and Z >= 0. For every N >= 0, x'Zx is at most 1'N1 / m plus the k - 1 largest eigenvalues of
    V'(xx' + N)V; the splitting's multipliers give N. Shrinking towards a positive member makes Z feasible.

    On one core 5 numbers take 3 ms, 11 take 5 to 100 ms, 40 take 0.1 to 0.5 s, and 64 take 0.2 to 2 s; with
    far more groups than a handful the last digits may not be reached, and the flag is down.

    Source: J. Peng and Y. Wei, Approximating k-means-type clustering via semidefinite programming, SIAM Journal on
    Optimization 18 (2007), for the relaxation; J. Eckstein and D. Bertsekas, On the Douglas-Rachford splitting method,
    Mathematical Programming 55 (1992), for the algorithm.

    Args:
        values: (m,) finite.
        k: Number of groups, from 1 to m.
        tolerance: The gap at which to stop.
        most_iterations: When to stop without it.

    Raises:
        ValueError: `values` is not one-dimensional, or `k` is not from 1 to m.
    """
    if values.ndim != 1:
        raise ValueError(f"`values` should be one-dimensional. Found shape {tuple(values.shape)}.")
    m = len(values)
    if not 1 <= k <= m:
        raise ValueError(f"`k` should be from 1 to the number of values, {m}. Found {k}.")
    points = values.detach().to(torch.float64)
    points = points - points.mean()
    points = points / points.norm().clamp(min=torch.finfo(torch.float64).tiny)
    mean = torch.full((m, m), 1.0 / m, dtype=points.dtype, device=points.device)
    if k in (1, m):
        exact = mean if k == 1 else torch.eye(m, dtype=points.dtype, device=points.device)
        return Relaxation(exact, *(torch.zeros_like(points[0]) <= tolerance, torch.zeros_like(points[0])))
    return _split(points, mean, k, tolerance, most_iterations)


def _split(points: Tensor, mean: Tensor, k: int, tolerance: float, most_iterations: int) -> Relaxation:
    """Runs the splitting for centred points (m,) of norm 1, with `mean` the matrix 11'/m and 1 < k < m."""
    m = len(points)
    basis, gain = _orthonormal_to_ones(points), torch.outer(points, points)
    share = (k - 1) / (m - 1)
    inner = share * torch.eye(m, dtype=points.dtype, device=points.device) + (1.0 - share) * mean
    state = inner
    for iteration in range(1, most_iterations + 1):
        positive = state.clamp(min=0.0)
        eigenvalues, vectors = torch.linalg.eigh(basis.T @ (2.0 * positive - state + gain) @ basis)
        vectors = basis @ vectors
        matrix = torch.addmm(mean, vectors * _capped(eigenvalues, k - 1.0), vectors.T)
        if iteration % CHECK_EVERY == 0 or iteration == most_iterations:
            multipliers = -state.clamp(max=0.0)
            bound = torch.linalg.eigvalsh(basis.T @ (gain + multipliers) @ basis)[-(k - 1) :].sum()
            bound = bound + multipliers.sum() / m
            below = (-matrix.amin()).clamp(min=0.0)
            feasible = torch.lerp(matrix, inner, below / (below + (1.0 - share) / m))
            gap = (bound - torch.dot(points, feasible @ points)).clamp(min=0.0)
            if float(gap) <= tolerance:
                break
        state = torch.add(state, matrix - positive, alpha=RELAXATION)
    return Relaxation(feasible, gap <= tolerance, gap)


def _orthonormal_to_ones(points: Tensor) -> Tensor:
    """Returns the columns (m, m - 1) that complete the vector of ones to an orthogonal matrix (Helmert's)."""
    m = len(points)
    position = torch.arange(1, m, dtype=points.dtype, device=points.device)
    columns = torch.ones(m, m - 1, dtype=points.dtype, device=points.device).triu()
    columns[1:].diagonal().copy_(-position)
    return columns / (position * (position + 1.0)).sqrt()


def _capped(eigenvalues: Tensor, total: float) -> Tensor:
    """Projects onto {0 <= y <= 1, sum y = total}: y = clamp(eigenvalues - t, 0, 1), t where the sum fits."""
    ends = torch.cat([eigenvalues - 1.0, eigenvalues]).sort().values
    sums = (eigenvalues - ends[:, None]).clamp_(0.0, 1.0).sum(1)
    i = int((sums >= total).sum()) - 1
    span = (sums[i] - sums[i + 1]).clamp(min=torch.finfo(torch.float64).tiny)
    shift = torch.lerp(ends[i], ends[i + 1], (sums[i] - total) / span)
    return (eigenvalues - shift).clamp(0.0, 1.0)


def sdp_groups(ordered: Tensor, k: int) -> tuple[Tensor, bool]:
    """Rounds the relaxation to k groups: exact k-means of Z x, the values (p,) averaged by the relaxed groups.

    Where the relaxation is a partition, Z x holds the group means and rounding changes nothing. The published GO4Align
    variant takes the connected components of Z above a threshold instead, which need not be k.

    Source: D. Mixon, S. Villar and R. Ward, Clustering subgaussian mixtures by semidefinite programming, Information
    and Inference 6 (2017), for Z x as values without noise.

    Returns:
        Labels (p,), long, from 0 to k - 1, and whether the relaxation is solved.
    """
    relaxation = kmeans_sdp(ordered, k)
    return kmeans_1d(relaxation.matrix @ ordered, k), bool(relaxation.converged)
