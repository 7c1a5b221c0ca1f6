"""Projection of combinations of the task gradients on the cone of directions that harm no task."""

import math
import operator

import torch
from torch import Tensor

from equipoise.solvers.nonnegative import NOISE, regularised
from equipoise.solvers.solution import Solution, as_gramian, single_threaded, tolerance

REFINEMENTS = 2  # of the rows that the ridge of `regularised` leaves above ACCURATE
ACCURATE = 1e-11  # a conflict of this size, relative to d0, no longer matters
MAX_EXCHANGES = 8  # one or two are needed as a rule
GUESS_STEP, GUESS_MOMENTUM = 0.7, 0.5  # for rows with conflicts; where cosines are near 1 there are few
SMALL = 300  # entries of G times rows u, up to which plain Python is faster than tensors
SMALLEST_PIVOT = 1e-6  # of cosines; below it half of the digits are gone
TINY = torch.finfo(torch.float64).tiny


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
    if wanted.numel() * m <= SMALL:
        found = _in_plain_python(matrix.tolist(), wanted.tolist())
        if found is not None:
            weights = wanted.new_tensor(found[0]).reshape(targets.shape)
            return _with_gap(weights.to(gramian.dtype), wanted.new_tensor(found[1]))
    squares = matrix.diagonal()
    norms = squares.clamp(min=0.0).sqrt()
    lengths = wanted * norms
    if (
        not float(squares.amin()) > 0.0
    ):  # a task without gradient becomes one that meets no other and has nothing to give
        norms = torch.where(norms > 0.0, norms, 1.0)
        matrix = matrix + (squares <= 0.0).to(matrix).diag()
    cosines = matrix / torch.outer(norms, norms)
    size = torch.linalg.vector_norm(lengths, ord=1, dim=1, keepdim=True).clamp(min=TINY)
    linear = (lengths / size) @ cosines
    worst, best = map(float, linear.aminmax())
    if not worst < 0.0 or best == math.inf:
        known = 0.0 if worst >= 0.0 and best < math.inf else math.inf
        return _with_gap(targets.detach().to(gramian), wanted.new_tensor(known))
    added, gap = _least_change(cosines, linear)
    weights = torch.addcmul(wanted, added, size / norms).reshape(targets.shape)
    return _with_gap(weights.to(gramian.dtype), gap)


def _with_gap(weights: Tensor, gap: Tensor) -> Solution:
    return Solution(weights, gap <= tolerance(weights.dtype), gap)


def _in_plain_python(
    gramian: list[list[float]], targets: list[list[float]]
) -> tuple[list[list[float]], float] | None:
    """Returns v (b, m) and the largest gap, or nothing where that gap is above `ACCURATE`.

    On a few numbers this takes less time than the first ten operations on tensors.
    """
    norms = [math.sqrt(max(row[i], 0.0)) for i, row in enumerate(gramian)]
    units = [norm or 1.0 for norm in norms]
    cosines = [
        [g / (a * b) for g, b in zip(row, units, strict=True)] for row, a in zip(gramian, units, strict=True)
    ]
    answers, largest = [], 0.0
    for target in targets:
        lengths = [u * norm for u, norm in zip(target, norms, strict=True)]
        size = sum(map(abs, lengths)) or 1.0
        linear = [_dot(lengths, row) / size for row in cosines]
        added = _pivoted(cosines, linear) if not min(linear) >= 0.0 else [0.0] * len(linear)
        image = [q + _dot(added, row) for q, row in zip(linear, cosines, strict=True)]
        gap = max(-min(image), abs(_dot(added, image)), 0.0)
        if not gap <= ACCURATE or not math.isfinite(sum(map(sum, gramian))):
            return None
        largest = max(largest, gap)
        answers.append([u + z * size / unit for u, z, unit in zip(target, added, units, strict=True)])
    return answers, largest


def _dot(left: list[float], right: list[float]) -> float:
    return math.fsum(map(operator.mul, left, right))


def _pivoted(cosines: list[list[float]], linear: list[float]) -> list[float]:
    """Returns the minimiser of z'Cz / 2 + q'z over z >= 0, all (m,), or something else where it meets a bad pivot.

    w = Cz + q is solved for one z_r in exchange for w_r at a time, the r with the most negative entry, until none is
    negative. That can cycle, or meet a pivot that is all rounding.
    """
    table, right, basic = [row[:] for row in cosines], linear[:], [False] * len(linear)
    for _ in range(3 * len(linear)):
        worst = min(right)
        r = right.index(worst)
        if worst >= -NOISE or not table[r][r] > SMALLEST_PIVOT:
            break
        _pivot(table, right, r)
        basic[r] = not basic[r]
    return [max(value, 0.0) if free else 0.0 for value, free in zip(right, basic, strict=True)]


def _pivot(table: list[list[float]], right: list[float], r: int) -> None:
    """Exchanges the r-th unknown on one side of y = table x + right for the r-th on the other, in place."""
    row, inverse, constant = table[r], 1.0 / table[r][r], right[r]
    for i, other in enumerate(table):
        if i != r:
            factor = other[r] * inverse
            table[i] = [a - factor * b for a, b in zip(other, row, strict=True)]
            table[i][r] = factor
            right[i] -= factor * constant
    table[r] = [-b * inverse for b in row]
    table[r][r] = inverse
    right[r] = -constant * inverse


def _gaps(added: Tensor, cosines: Tensor, linear: Tensor) -> Tensor:
    """Returns how far (b,) z (b, m) >= 0 and w = Cz + q (b, m) are from w >= 0 and z'w = 0."""
    image = torch.addmm(linear, added, cosines)
    return torch.maximum(-image.amin(1), (added * image).sum(1).abs())


def _least_change(cosines: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """Minimises z'Cz / 2 + q'z over z >= 0 for each row q of `linear` (b, m).

    Returns:
        z (b, m), and the largest gap ().
    """
    matrix = regularised(cosines)
    values, left = _exchange_blocks(matrix, linear, _first_guess(cosines, linear))
    if len(left) > 0:
        values[left] = _add_one_by_one(matrix, linear[left])
    values = values.clamp(min=0.0)
    for attempt in range(REFINEMENTS + 1):
        gaps = _gaps(values, cosines, linear)
        largest = gaps.amax()
        if attempt == REFINEMENTS or not float(largest) > ACCURATE:
            break
        rough = gaps > ACCURATE
        values[rough] = _refined(matrix, cosines, linear[rough], values[rough])
    return values, largest


def _first_guess(cosines: Tensor, linear: Tensor) -> Tensor:
    """Returns which entries of each minimiser are positive (b, m) after some steps of projected gradient descent.

    They need not converge: a step costs a twentieth of an exchange, and leaves one or two exchanges to do.
    """
    shrink = torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device).sub_(
        cosines, alpha=GUESS_STEP
    )
    pull = linear * -GUESS_STEP
    before = ahead = pull.clamp(min=0.0)
    for _ in range(6 + len(cosines) // 4):
        values = torch.addmm(pull, ahead, shrink).clamp_(min=0.0)
        before, ahead = values, torch.lerp(before, values, 1.0 + GUESS_MOMENTUM)
    return before > 0.0


def _exchange_blocks(matrix: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the minimisers (b, m) and the rows left without one (k,); `free` (b, m) guesses what is positive.

    Every entry with a wrong sign moves to the other side at once, which can cycle where the matrix is nearly singular.
    """
    answer, rows = torch.zeros_like(linear), linear
    left = torch.arange(len(linear), device=linear.device)
    for exchange in range(MAX_EXCHANGES):
        signed = _solve_on(matrix, rows, free)
        right = signed >= -NOISE * torch.linalg.vector_norm(signed, ord=torch.inf, dim=1, keepdim=True)
        wrong = (~right.all(1)).nonzero()[:, 0]
        if 2 * len(wrong) > len(left) and exchange < MAX_EXCHANGES - 1:
            free = free == right
            continue
        values = torch.where(free, signed, 0.0)
        answer = values if len(left) == len(answer) else answer.index_copy_(0, left, values)
        if len(wrong) == 0:
            return answer, wrong
        left, rows, free = left[wrong], rows[wrong], (free == right)[wrong]
    return answer, left


def _add_one_by_one(matrix: Tensor, linear: Tensor) -> Tensor:
    """Returns the minimisers (b, m) by active sets that start empty, take in one entry a step, and never go uphill."""
    answer = torch.zeros_like(linear)
    left = torch.arange(len(linear), device=linear.device)
    rows, current, free = linear, answer, torch.zeros_like(linear, dtype=torch.bool)
    for _ in range(10 + 4 * linear.shape[1]):
        signed = _solve_on(matrix, rows, free)
        target = torch.where(free, signed, 0.0)
        blocked = free & ~(target > 0.0)
        ratio = torch.where(blocked, current / (current - target), torch.inf)
        step = ratio.amin(1, keepdim=True).clamp(max=1.0)
        current = torch.where(free, current + step * (target - current), 0.0)
        free = free & (ratio > step)
        slack = torch.where(free, torch.inf, signed)  # of the target, reached where nothing blocked
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
    change = _solve_on(matrix, torch.addmm(linear, values, cosines), free)
    refined = torch.where(free, values + change, 0.0).clamp(min=0.0)
    before, after = (_gaps(z, cosines, linear) for z in (values, refined))
    return torch.where((after < before)[:, None], refined, values)


def _solve_on(matrix: Tensor, linear: Tensor, free: Tensor) -> Tensor:
    """Returns z on the free entries and w = Mz + q on the others, all (b, m), with w = 0 and z = 0 elsewhere."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    system = torch.where(free[:, None, :], -matrix, identity)
    signed: Tensor = torch.linalg.solve_ex(system, linear[:, :, None])[0][:, :, 0]
    return signed
