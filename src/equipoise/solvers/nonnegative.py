"""Strictly convex quadratic problems over non-negative vectors, the core of `min_norm` and `cagrad`."""

from typing import NamedTuple

import torch
from torch import Tensor

LARGER_RIDGES = 12
PATIENCE = 3  # block exchanges without progress before the slower, monotone method takes over
NOISE = 4.0 * torch.finfo(torch.float64).eps  # what counts as zero, relative to the largest entry of y


class NonnegativeSolution(NamedTuple):
    """The minimiser over y >= 0 and what the next, similar problem can start from.

    Attributes:
        values: y (m,).
        free: Which entries of y may be positive (m,) bool.
        factor: Cholesky factor of the matrix with the rows and columns outside `free` set to the identity's.
    """

    values: Tensor
    free: Tensor
    factor: Tensor


def regularised(matrix: Tensor) -> Tensor:
    """Adds to a symmetric (m, m) with a diagonal near 1 a ridge that makes it positive definite.

    The ridge is 4 m roundings for a Gramian that is exact to float64, whose optimality gap it changes by as
    much. It grows where rounding in float32 has left negative eigenvalues, up to 1e-4 or so.
    """
    candidate, added = matrix.clone(), 0.0
    diagonal = candidate.diagonal()
    ridge = 4.0 * matrix.shape[0] * torch.finfo(matrix.dtype).eps
    for _ in range(LARGER_RIDGES):
        diagonal.add_(ridge - added)
        if int(torch.linalg.cholesky_ex(candidate)[1]) == 0:
            break
        added, ridge = ridge, 10.0 * ridge
    return candidate


def nonnegative_quadratic(matrix: Tensor, linear: Tensor, free: Tensor) -> NonnegativeSolution:
    """Minimises y'My / 2 + q'y over y >= 0 exactly.

    The optimality conditions are y >= 0, My + q >= 0, y'(My + q) = 0. Given which entries are free, one linear
    solve gives y; block principal pivoting moves every entry with a wrong sign to the other side at once, which
    takes two to six solves. On nearly singular matrices it can cycle, so after `PATIENCE` exchanges without
    fewer wrong signs an active-set method that moves one entry at a time, and never uphill, finishes.

    Source: J. Judice and F. Pires, A block principal pivoting algorithm for large-scale strictly monotone linear
    complementarity problems, Computers & Operations Research 21 (1994); C. Lawson and R. Hanson, Solving Least
    Squares Problems (1974), chapter 23.

    Args:
        matrix: M (m, m), positive definite with a diagonal near 1 (see `regularised`).
        linear: q (m,).
        free: First guess of the entries that are positive (m,) bool.
    """
    fewest, patience = matrix.shape[0] + 1, PATIENCE
    while True:
        values, factor = _solve_on(matrix, linear, free)
        signed = torch.where(free, values, torch.addmv(linear, matrix, values))
        right = signed >= -NOISE * torch.linalg.vector_norm(values, ord=torch.inf)
        wrong = len(linear) - int(right.sum())
        if wrong == 0:
            return NonnegativeSolution(values.clamp(min=0.0), free, factor)
        if wrong < fewest:
            fewest, patience = wrong, PATIENCE
        elif patience > 0:
            patience -= 1
        else:
            return _active_set(matrix, linear, values)
        free = free == right


def _solve_on(matrix: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Returns y with My + q = 0 on the free entries and y = 0 elsewhere, and the Cholesky factor."""
    identity = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    factor, _ = torch.linalg.cholesky_ex(torch.where(free & free[:, None], matrix, identity))
    values = torch.cholesky_solve(torch.where(free, -linear, 0.0)[:, None], factor)[:, 0]
    return values, factor


def _active_set(matrix: Tensor, linear: Tensor, start: Tensor) -> NonnegativeSolution:
    """Solves the same problem from a feasible start, one entry per step, with a falling objective."""
    current = start.clamp(min=0.0)
    free = current > 0.0
    if not bool(start.isfinite().all()):  # nor is the problem, and no step would mend it
        return NonnegativeSolution(current, free, matrix)
    for _ in range(50 + 10 * matrix.shape[0]):
        target, factor = _solve_on(matrix, linear, free)
        blocked = free & ~(target > 0.0)
        if bool(blocked.any()):
            ratio = torch.where(blocked, current / (current - target), torch.inf)
            current = torch.where(free, current + ratio.amin() * (target - current), 0.0)
            free = free & (ratio > ratio.amin()) & (current > 0.0)
            continue
        current = target
        slack = torch.where(free, torch.inf, torch.mv(matrix, current) + linear)
        if float(slack.amin()) >= -NOISE * float(current.abs().amax()):
            return NonnegativeSolution(current, free, factor)
        free = free | (slack == slack.amin())
    return NonnegativeSolution(current.clamp(min=0.0), free, factor)
