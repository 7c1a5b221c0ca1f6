"""Projection of combinations of the task gradients on the cone of directions that harm no task."""

import torch
from torch import Tensor

from equipoise.solvers.nonnegative import NOISE, regularised
from equipoise.solvers.solution import Solution, as_gramian, single_threaded, tolerance

REFINEMENTS = 2  # of the rows that the ridge of `regularised` leaves above ACCURATE
ACCURATE = 1e-11  # a conflict of this size, relative to d0, no longer matters
MAX_EXCHANGES = 8  # two to five are needed as a rule


@single_threaded
def project_on_dual_cone(gramian: Tensor, targets: Tensor) -> Solution:
    """Finds for combinations u of the gradients the nearest ones that conflict with no gradient.

    With d0 = u J, the nearest direction d with J d >= 0 is d = v J for the v that minimises v'Gv over v >= u, entry
    by entry. All the rows u are solved at once, in units of the gradients' norms n: with x = u n, C the matrix of
    cosines and z = (v - u) n, minimise z'Cz / 2 + (C x)'z over z >= 0 by block principal pivoting with refinement.

    The gap is the largest, over the rows u, of max(0, max_i -g_i'd / |g_i|) / s and |sum_i z_i g_i'd / |g_i|| / s^2
    with s = sum_i |u_i| |g_i|, the length of the pieces that d0 is the sum of: what is left of the conflicts, and of
    the complementarity that makes d the nearest. (z >= 0 holds exactly.)

    Degenerate input: a zero gradient conflicts with nothing and keeps its u_i. Where gradients depend linearly, d is
    unique and v is not. A Gramian that is not finite gets v = u, unconverged.

    Source: P. Quinton and V. Rey, Jacobian Descent for Multi-Objective Optimization (2024), Proposition 1, for the
    problem; J. Judice and F. Pires, A block principal pivoting algorithm for large-scale strictly monotone linear
    complementarity problems, Computers & Operations Research 21 (1994), for the method.

    Args:
        gramian: G = JJ' (m, m), inner products of the task gradients.
        targets: u (m,), or several as rows (b, m).

    Returns:
        v as `weights`, of the shape of `targets`, one flag () for all and the largest gap ().

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers, or `targets` does not fit it.
    """
    matrix = as_gramian(gramian)
    m = len(matrix)
    if targets.ndim not in (1, 2) or targets.shape[-1] != m:
        raise ValueError(f"`targets` should have shape ({m},) or (b, {m}). Found {tuple(targets.shape)}.")
    wanted = targets.detach().to(matrix).reshape(-1, m)
    if not bool(matrix.isfinite().all()):
        return Solution(
            targets.to(gramian.dtype), matrix.new_zeros((), dtype=torch.bool), matrix.new_tensor(torch.inf)
        )
    norms = matrix.diagonal().clamp(min=0.0).sqrt()
    moving = norms > 0.0
    norms = torch.where(moving, norms, 1.0)
    # A task without gradient becomes one that meets no other and has nothing to give.
    cosines = matrix / norms / norms[:, None]
    cosines = torch.where(torch.eye(m, dtype=torch.bool, device=matrix.device), 1.0, cosines)
    lengths = torch.where(moving, wanted * norms, 0.0)
    size = lengths.abs().sum(1, keepdim=True)
    size = torch.where(size > 0.0, size, 1.0)
    lengths = lengths / size
    linear = lengths @ cosines
    added = (
        _least_change(cosines, lengths, linear) if bool((linear < 0.0).any()) else torch.zeros_like(linear)
    )
    gap = _gaps(added, added @ cosines + linear).amax()
    weights = (wanted + added * size / norms).reshape(targets.shape)
    return Solution(weights.to(gramian.dtype), gap <= tolerance(gramian.dtype), gap)


def _gaps(added: Tensor, image: Tensor) -> Tensor:
    """Returns how far (b,) z (b, m) >= 0 and w = Cz + q (b, m) are from w >= 0 and z'w = 0."""
    conflict = -image.amin(1)
    return torch.maximum(conflict, (added * image).sum(1).abs()).clamp(min=0.0)


def _least_change(cosines: Tensor, lengths: Tensor, linear: Tensor) -> Tensor:
    """Minimises z'Cz / 2 + q'z over z >= 0 for each row x of `lengths` (b, m) and q = Cx of `linear` (b, m)."""
    matrix = regularised(cosines)
    values, left = _exchange_blocks(matrix, linear, _first_guess(matrix, lengths))
    if len(left) > 0:
        values[left] = _add_one_by_one(matrix, linear[left])
    values = values.clamp(min=0.0)
    for _ in range(REFINEMENTS):
        rough = _gaps(values, values @ cosines + linear) > ACCURATE
        if not bool(rough.any()):
            break
        values[rough] = _refined(matrix, cosines, linear[rough], values[rough])
    return values


def _first_guess(matrix: Tensor, lengths: Tensor) -> Tensor:
    """Returns which entries of each minimiser may be positive (b, m), from one inverse for all.

    With y = z + x >= x, a single x_i > 0 and only its own bound kept, y = x_i P_i / P_ii, P the inverse of the matrix.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])
    return (lengths / inverse.diagonal()) @ inverse > lengths


def _exchange_blocks(matrix: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the minimisers (b, m) and the rows left without one (k,); `free` (b, m) guesses what is positive.

    Every entry with a wrong sign moves to the other side at once, which can cycle where the matrix is nearly singular.
    """
    answer, rows = torch.zeros_like(linear), linear
    left = torch.arange(len(linear), device=linear.device)
    for _ in range(MAX_EXCHANGES):
        values = _solve_on(matrix, rows, free)
        signed = torch.where(free, values, torch.addmm(rows, values, matrix))
        right = signed >= -NOISE * values.abs().amax(1, keepdim=True)
        answer[left] = values
        wrong = (~right.all(1)).nonzero()[:, 0]
        left, rows, free = left[wrong], rows[wrong], (free == right)[wrong]
        if len(left) == 0:
            break
    return answer, left


def _add_one_by_one(matrix: Tensor, linear: Tensor) -> Tensor:
    """Returns the minimisers (b, m) by active sets that start empty, take in one entry a step, and never go uphill."""
    answer = torch.zeros_like(linear)
    left = torch.arange(len(linear), device=linear.device)
    rows, current, free = linear, answer, torch.zeros_like(linear, dtype=torch.bool)
    for _ in range(10 + 4 * linear.shape[1]):
        target = _solve_on(matrix, rows, free)
        blocked = free & ~(target > 0.0)
        ratio = torch.where(blocked, current / (current - target), torch.inf)
        step = ratio.amin(1, keepdim=True).clamp(max=1.0)
        current = torch.where(free, current + step * (target - current), 0.0)
        free = free & (ratio > step)
        slack = torch.where(free, torch.inf, torch.addmm(rows, current, matrix))
        worst = slack.amin(1, keepdim=True)
        moving = blocked.any(1, keepdim=True)
        entering = ~moving & (slack == worst) & (worst < -ACCURATE)
        answer[left] = current
        going = (moving | entering.any(1, keepdim=True))[:, 0].nonzero()[:, 0]
        left, rows, free, current = left[going], rows[going], (free | entering)[going], current[going]
        if len(left) == 0:
            break
    return answer


def _refined(matrix: Tensor, cosines: Tensor, linear: Tensor, values: Tensor) -> Tensor:
    """Returns the minimisers (b, m) after one step of iterative refinement, which undoes the ridge, where it helps."""
    free = values > 0.0
    change = _solve_on(matrix, linear + values @ cosines, free)
    refined = (values + change).clamp(min=0.0)
    before, after = (_gaps(z, z @ cosines + linear) for z in (values, refined))
    return torch.where((after < before)[:, None], refined, values)


def _solve_on(matrix: Tensor, linear: Tensor, free: Tensor) -> Tensor:
    """Returns z (b, m) with Mz + q = 0 on the free entries and z = 0 elsewhere."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, _ = torch.linalg.cholesky_ex(torch.where(free[:, :, None] & free[:, None, :], matrix, identity))
    return torch.cholesky_solve(torch.where(free, -linear, 0.0)[:, :, None], factor)[:, :, 0]
