"""Projection of combinations of the task gradients on the cone of directions that harm no task."""

import torch
from torch import Tensor

from equipoise.solvers.nonnegative import NOISE, regularised
from equipoise.solvers.solution import Solution, as_gramian, single_threaded, tolerance


REFINEMENTS = 2
ACCURATE = 1e-13  # a conflict of this size, relative to d0, no longer matters
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
    added = _least_change(cosines, lengths @ cosines)
    gap = _gaps(added, (lengths + added) @ cosines).amax()
    weights = (wanted + added * size / norms).reshape(targets.shape)
    return Solution(weights.to(gramian.dtype), gap <= tolerance(gramian.dtype), gap)


def _gaps(added: Tensor, image: Tensor) -> Tensor:
    """Returns how far (b,) z (b, m) >= 0 and w = Cz + q (b, m) are from w >= 0 and z'w = 0."""
    conflict = -image.amin(1)
    return torch.maximum(conflict, (added * image).sum(1).abs()).clamp(min=0.0)


def _least_change(cosines: Tensor, linear: Tensor) -> Tensor:
    """Minimises z'Cz / 2 + q'z over z >= 0 for each row q of `linear` (b, m)."""
    answer = torch.zeros_like(linear)
    todo = (linear < 0.0).any(1).nonzero()[:, 0]
    if len(todo) == 0:
        return answer
    rows = linear[todo]
    matrix = regularised(cosines)
    free, settled = _exchange_blocks(matrix, rows)
    stuck = (~settled).nonzero()[:, 0]
    if len(stuck) > 0:
        free[stuck] = _add_one_by_one(matrix, rows[stuck])
    values, factor = _solve_on(matrix, rows, free)
    refined = values
    for _ in range(REFINEMENTS):
        missing = torch.where(free, -rows - refined @ cosines, 0.0)
        refined = refined + torch.cholesky_solve(missing[:, :, None], factor)[:, :, 0]
    both = torch.stack((values, refined)).clamp(min=0.0)
    plain, better = (_gaps(z, z @ cosines + rows) for z in both)
    answer[todo] = torch.where((better < plain)[:, None], both[1], both[0])
    return answer


def _exchange_blocks(matrix: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which entries of each minimiser are positive (b, m), and which rows (b,) that is settled for.

    Every entry with a wrong sign moves to the other side at once; this can cycle where M is nearly singular.
    """
    free = linear < 0.0
    todo = torch.arange(len(linear), device=linear.device)
    settled = torch.zeros_like(todo, dtype=torch.bool)
    for _ in range(MAX_EXCHANGES):
        rows, chosen = linear[todo], free[todo]
        values, _ = _solve_on(matrix, rows, chosen)
        signed = torch.where(chosen, values, values @ matrix + rows)
        right = signed >= -NOISE * values.abs().amax(1, keepdim=True)
        free[todo] = chosen == right
        settled[todo] = done = right.all(1)
        todo = todo[~done]
        if len(todo) == 0:
            break
    return free, settled


def _add_one_by_one(matrix: Tensor, linear: Tensor) -> Tensor:
    """Returns which entries of each minimiser are positive (b, m), by active sets whose objective only falls."""
    answer = torch.zeros_like(linear, dtype=torch.bool)
    todo = torch.arange(len(linear), device=linear.device)
    free, current = answer, torch.zeros_like(linear)
    for _ in range(10 + 4 * linear.shape[1]):
        rows = linear[todo]
        target, _ = _solve_on(matrix, rows, free)
        blocked = free & ~(target > 0.0)
        ratio = torch.where(blocked, current / (current - target), torch.inf)
        step = ratio.amin(1, keepdim=True).clamp(max=1.0)
        current = torch.where(free, current + step * (target - current), 0.0)
        free = free & (ratio > step)
        slack = torch.where(free, torch.inf, current @ matrix + rows)
        worst = slack.amin(1, keepdim=True)
        arrived = ~blocked.any(1, keepdim=True)
        entering = arrived & (slack == worst) & (worst < -ACCURATE)
        answer[todo] = free
        open_ = (~arrived | entering.any(1, keepdim=True))[:, 0]
        todo, free, current = todo[open_], (free | entering)[open_], current[open_]
        if len(todo) == 0:
            break
    return answer


def _solve_on(matrix: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Returns z (b, m) with Mz + q = 0 on the free entries and z = 0 elsewhere, and the Cholesky factors."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, _ = torch.linalg.cholesky_ex(torch.where(free[:, :, None] & free[:, None, :], matrix, identity))
    values = torch.cholesky_solve(torch.where(free, -linear, 0.0)[:, :, None], factor)[:, :, 0]
    return values, factor
