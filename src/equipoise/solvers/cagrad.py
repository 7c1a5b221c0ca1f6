"""The conflict-averse direction: the best for the worst-off task within a ball around the mean gradient."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.solvers.min_norm import min_norm
from equipoise.solvers.nonnegative import NOISE, nonnegative_quadratic, regularised
from equipoise.solvers.solution import as_gramian, certified, single_threaded

MAX_LEVELS = 60  # levels that are tried; two to five are needed as a rule
ON_SPHERE = 1e-13  # relative error of the squared radius at which a level counts as reached
FAR = 100.0  # squared distance, over the squared radius, from which one step back cancels too many digits
STILL = 1e-4  # |g_w| relative to the gradients' norms below which the point may be Pareto-stationary
INDIFFERENT = 1e-12  # differences of g_i'd, relative to max_i |g_i'g0|, that rounding can make


class CAGradSolution(NamedTuple):
    """The answer of `cagrad`, on the device and in the dtype of the Gramian.

    Attributes:
        weights: Of the final direction (m,): (1 / m + c |g0| w / |g_w|) m / (1 + c^2); always finite.
        simplex_weights: w (m,), the minimiser over the simplex.
        converged: Whether `gap` is below `tolerance(dtype)`, () bool.
        gap: Relative duality gap (), float64.
    """

    weights: Tensor
    simplex_weights: Tensor
    converged: Tensor
    gap: Tensor


class _Ball(NamedTuple):
    """The problem in units of the gradients' norms n: C = cosines + ridge, g_i'g0 / n_i, 1 / n_i, c |g0|."""

    cosines: Tensor
    aligned: Tensor
    inverse_norms: Tensor
    radius: float


@single_threaded
def cagrad(gramian: Tensor, c: float = 0.4) -> CAGradSolution:
    """Finds the direction within c |g0| of the mean gradient g0 that serves the worst-off task best.

    d = g0 + c |g0| g_w / |g_w|, g_w = J'w, where w minimises F(w) = g_w'g0 + c |g0| |g_w| over the simplex; d
    maximises min_i g_i'd in the ball |d - g0| <= c |g0|, and both optima have the same value.

    Method: for a level t, the least change J'x of g0 that lifts every g_i'd to t is a quadratic problem in
    x >= 0, and |J'x| grows with t; the level at which |J'x| = c |g0| is found with the exact root on each
    piece, where the active tasks stay the same, inside a bracket. Then w = x / sum x. Two tasks have a closed form.

    The gap is F(w) - min_i g_i'd over |g0| (1 + c) sqrt(sum_i w_i G_ii), an upper bound on what either is off.

    Degenerate input: where some convex combination of the gradients is zero, the best level may be 0 and d is
    not unique; d is then the feasible direction nearest to g0. With c = 0 or g0 = 0 the weights are 1 / (1 + c^2)
    for all. A Gramian that is not finite gets equal weights, unconverged.

    Source: B. Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, Eqs. 4-5 and
    Algorithm 1; the scale m / (1 + c^2) is that of the authors' code.

    Args:
        gramian: G = JJ' (m, m), inner products of the task gradients.
        c: Radius of the ball relative to |g0|, at least 0.

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers, or `c` is negative.
    """
    if not c >= 0.0:
        raise ValueError(f"`c` should be at least 0. Found {c}.")
    matrix = as_gramian(gramian)
    alignment = matrix.mean(1)
    radius = c * math.sqrt(max(0.0, float(alignment.mean())))
    if 0.0 < radius < math.inf:
        found = _of_two(matrix, radius) if len(matrix) == 2 else None
        change, simplex = found or _best_change(matrix, alignment, radius)
    else:
        change = torch.zeros_like(alignment)
        simplex = torch.zeros_like(alignment).index_fill_(0, alignment.argmin(0, keepdim=True), 1.0)
    gap = _upper(matrix, alignment, radius, simplex) - _lower(matrix, alignment, change)
    squared_norms = matrix.diagonal()
    smallest = torch.where(squared_norms > 0.0, squared_norms, torch.inf).amin().nan_to_num(posinf=0.0)
    typical = torch.maximum(torch.dot(simplex, squared_norms), smallest)
    scale = ((1.0 + c) ** 2 * alignment.mean() * typical).clamp(min=torch.finfo(typical.dtype).tiny).sqrt()
    gap = gap.clamp(min=0.0) / scale
    answer = certified((1.0 + len(matrix) * change) / (1.0 + c * c), gap, gramian.dtype)
    return CAGradSolution(answer.weights, simplex.to(gramian.dtype), answer.converged, gap)


def _of_two(matrix: Tensor, radius: float) -> tuple[Tensor, Tensor] | None:
    """Returns x and w (2,) of two tasks in closed form; None near Pareto-stationarity.

    With w = (a, 1 - a), z = (g_1 - g_2)'g_w = A a + B and D = det G, |g_w|^2 = (z^2 + D) / A, so that dF/da =
    slope + c |g0| z / |g_w|, where slope = (g_1 - g_2)'g0, has its root at z^2 = slope^2 D / (c^2 |g0|^2 A - slope^2).
    """
    (first, product), (_, second) = matrix.tolist()
    slope, spread, offset = (first - second) / 2.0, first - 2.0 * product + second, product - second
    room = radius**2 * spread - slope**2
    if min(first, second) <= 0.0 or spread <= 0.0:
        return None
    share = 0.0 if slope > 0.0 else 1.0  # where F is monotone
    if room > 0.0:
        root = -slope * math.sqrt(max(0.0, first * second - product**2) / room)
        share = min(1.0, max(0.0, (root - offset) / spread))
    other = 1.0 - share
    squared = share**2 * first + 2.0 * share * other * product + other**2 * second
    if not squared > STILL**2 * (share * first + other * second):
        return None
    simplex = matrix.new_tensor([share, other])
    return simplex * (radius / math.sqrt(squared)), simplex


def _upper(matrix: Tensor, alignment: Tensor, radius: float, simplex: Tensor) -> Tensor:
    """Returns F(w) (), which no direction in the ball exceeds for all tasks."""
    squared = torch.dot(simplex, torch.mv(matrix, simplex)).clamp(min=0.0)
    return torch.dot(simplex, alignment) + radius * squared.sqrt()


def _lower(matrix: Tensor, alignment: Tensor, change: Tensor) -> Tensor:
    """Returns min_i g_i'd (), what d = g0 + J'x gives the worst-off task."""
    return (alignment + torch.mv(matrix, change)).amin()


def _best_change(matrix: Tensor, alignment: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Returns x (m,), with d = g0 + J'x, and the simplex weights w (m,)."""
    squared_norms = matrix.diagonal().clamp(min=0.0)
    moving = squared_norms > 0.0
    inverse = torch.where(moving, squared_norms, torch.inf).rsqrt()
    ball = _Ball(regularised(matrix * inverse * inverse[:, None]), alignment * inverse, inverse, radius)
    # F at the corners of the simplex and, over the tasks that have a gradient, at its centre bounds the level.
    corner = torch.where(moving, alignment + radius * squared_norms.sqrt(), torch.inf).amin()
    centre = alignment.sum() + radius * len(matrix) * alignment.mean().sqrt()
    count, level, bound = torch.stack((moving.sum(), corner, centre)).tolist()
    change = inverse * _reach_sphere(ball, min(level, bound / count))
    simplex = change / change.sum()
    squared, mean = torch.stack((torch.mv(matrix, simplex), squared_norms)).mv(simplex).tolist()
    if count == len(matrix) and squared > STILL**2 * mean:
        return change, simplex
    return _near_rest(matrix, ball, change, simplex)


def _near_rest(matrix: Tensor, ball: _Ball, change: Tensor, simplex: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the better of x and the least change to level 0, and of w and the min-norm weights, all (m,).

    Where some convex combination of the gradients is zero, only the latter are exact if the best level is 0.
    """
    alignment = matrix.mean(1)
    shortest = min_norm(matrix).weights
    upper, upper_at_rest = (_upper(matrix, alignment, ball.radius, w) for w in (simplex, shortest))
    values = nonnegative_quadratic(ball.cosines, ball.aligned, ball.aligned < 0.0).values
    least = ball.inverse_norms * values
    lower, lower_at_rest = (_lower(matrix, alignment, x) for x in (change, least))
    within = -torch.dot(values, ball.aligned) <= ball.radius**2
    as_good = lower_at_rest >= lower - INDIFFERENT * alignment.abs().amax()
    change = torch.where(within & as_good, least, change)
    return change, torch.where(upper_at_rest <= upper, shortest, simplex)


def _reach_sphere(ball: _Ball, level: float) -> Tensor:
    """Returns y = x n (m,) of the level at which |J'x| is the radius, searching down from an upper bound."""
    lower, upper = -math.inf, math.inf
    free = ball.aligned < level * ball.inverse_norms
    for _ in range(MAX_LEVELS):
        linear = ball.aligned - level * ball.inverse_norms
        values, free, factor = nonnegative_quadratic(ball.cosines, linear, free)
        slope = torch.cholesky_solve(torch.where(free, ball.inverse_norms, 0.0)[:, None], factor)[:, 0]
        rates = torch.stack((values, slope)).mv(ball.inverse_norms)
        growth, bend, squared = torch.cat((rates, -torch.dot(values, linear)[None])).tolist()
        missing = ball.radius**2 - squared
        if abs(missing) <= ON_SPHERE * ball.radius**2:
            break
        lower, upper = (level, upper) if missing > 0.0 else (lower, level)
        step, exact = _level_step(growth, bend, missing, ball.radius)
        if not lower < level + step < upper:
            step, exact = (lower + upper) / 2.0 - level, False
        if not lower < level + step < upper:
            break
        level += step
        values = values + step * slope
        signed = torch.where(
            free, values, torch.mv(ball.cosines, values) + linear - step * ball.inverse_norms
        )
        if exact and bool(signed.amin() >= -NOISE * values.abs().amax()):
            break
        free = (signed >= 0.0) == free
    return values.clamp(min=0.0)


def _level_step(growth: float, bend: float, missing: float, radius: float) -> tuple[float, bool]:
    """Returns by how much to raise the level, and whether that meets the sphere if the same tasks stay active.

    On one piece |J'x|^2 grows by 2 growth s + bend s^2 with the step s. Where that never meets the radius, the
    step is Newton's on |J'x|, which is convex in the level, so that a step from above does not go below the root.
    """
    if growth <= 0.0:
        return math.inf, False
    discriminant = growth * growth + bend * missing
    if discriminant >= 0.0:
        return missing / (growth + math.sqrt(discriminant)), -missing < FAR * radius**2
    distance = math.sqrt(radius**2 - missing)
    return (radius - distance) * distance / growth, False
