"""The bargaining solution of Nash-MTL, and its relatives in FairGrad."""

import math

import torch
from torch import Tensor

from equipoise.solvers.solution import Solution, as_gramian, certified, single_threaded, tolerance

# Residual at which Newton's method stops: it squares the error, so the next step would add little.
ACCURATE = 1e-11
NEAR = 1e-3  # residual below which a step that does not shrink it tenfold has met rounding
LONGEST_STEP = 2.0  # in log a: the quadratic model is trusted within a factor of 7
LEAST_ROW_SUM = 0.1  # of the cosines, for the first guess, which is exact where all row sums are equal
MAX_STEPS = 50
# What cancellation may hide, relative to the terms of (Ga)_i.
ROUNDINGS = 4.0 * torch.finfo(torch.float64).eps


@single_threaded
def nash(gramian: Tensor, alpha: float = 1.0, start: Tensor | None = None) -> Solution:
    """Finds the weights at which each task gains as fairness alpha asks: a > 0 with G a = a^(-1 / alpha).

    alpha = 1 is the Nash bargaining solution, G a = 1 / a; larger values favour the worst-off task more. The
    equation is the optimality condition of the strictly convex a'Ga / 2 - sum_i phi(a_i) with
    phi'(a) = a^(-1 / alpha). With a_i = b_i / |g_i| it becomes C b = p b^(-s), C the matrix of cosines,
    s = 1 / alpha, p_i = |g_i|^(s - 1), and is solved by Newton's method on log b, whose steps are limited to
    `LONGEST_STEP`: with B = diag b and q = p b^(1 - s), the step d solves (B C B + s diag q) d = q - B C b.

    The gap is max_i |1 - a_i^s (Ga)_i|, the relative residual of the equation, or what rounding could hide of it.

    Degenerate input: a zero gradient takes no part and gets weight 0, where none is left with the flag down. If a
    convex combination of the gradients is zero (a Pareto-stationary point), no solution exists: the flag
    is down and the weights are the iterate with the smallest residual. The same holds near such a point,
    where cancellation in float64 leaves a residual above the tolerance.

    Source: A. Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, Claim 3.1; H. Ban and K. Ji, Fair
    Resource Allocation in Multi-Task Learning, ICML 2024, Eq. 5.

    Args:
        gramian: G = JJ' (m, m), inner products of the task gradients.
        alpha: Fairness, above 0.
        start: Weights (m,) to start from, such as those of the last step; entries that are not positive are ignored.

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers, or `alpha` is not positive.
    """
    if not alpha > 0.0:
        raise ValueError(f"`alpha` should be above 0. Found {alpha}.")
    matrix = as_gramian(gramian)
    squared_norms = matrix.diagonal()
    if float(squared_norms.amin()) <= 0.0:
        return _without_resting_tasks(gramian, alpha, start)
    power = 1.0 / alpha
    inverse = squared_norms.rsqrt()
    cosines = matrix * inverse * inverse[:, None]
    prices, unit = torch.ones_like(inverse), 1.0
    if power != 1.0:
        prices = inverse ** (1.0 - power)
        unit = float(prices.log().mean().exp()) ** (1.0 / (1.0 + power))
        prices = prices / unit ** (1.0 + power)
    first = (prices / cosines.sum(1).clamp(min=LEAST_ROW_SUM)) ** (1.0 / (1.0 + power))
    if start is not None:
        given = start.detach().to(torch.float64) / (inverse * unit)
        first = torch.where(given > 0.0, given, first)
    scaled, gap = _newton(cosines, prices, power, first)
    weights = scaled * inverse * unit if math.isfinite(gap) else torch.ones_like(inverse)
    certificate = torch.full_like(inverse[0], gap)
    return Solution(weights.to(gramian.dtype), certificate <= tolerance(gramian.dtype), certificate)


def _without_resting_tasks(gramian: Tensor, alpha: float, start: Tensor | None) -> Solution:
    """Solves for the tasks that have a gradient; the others get weight 0."""
    moving = (gramian.diagonal() > 0.0).nonzero()[:, 0]
    weights = torch.zeros_like(gramian[0])
    if len(moving) == 0:
        return certified(weights, torch.full_like(weights[0], torch.inf, dtype=torch.float64), gramian.dtype)
    part = nash(gramian[moving][:, moving], alpha, None if start is None else start[moving])
    return part._replace(weights=weights.index_copy(0, moving, part.weights))


def _newton(cosines: Tensor, prices: Tensor, power: float, first: Tensor) -> tuple[Tensor, float]:
    """Solves C b = p b^(-s) for b > 0 from `first`; returns the iterate (m,) with the least gap, and that gap."""
    current, best, least, previous = first, first, math.inf, math.inf
    for _ in range(MAX_STEPS):
        target = prices if power == 1.0 else prices * current ** (1.0 - power)
        excess = torch.addcmul(target, current, torch.mv(cosines, current), value=-1.0)
        residual = float(torch.linalg.vector_norm(excess / target, ord=math.inf))
        if residual < least:
            best, least = current, residual
        if not residual > ACCURATE or (previous < NEAR and residual > 0.1 * previous):
            break
        hessian = torch.addcmul(torch.diag(power * target), cosines, torch.outer(current, current))
        factor, _ = torch.linalg.cholesky_ex(hessian)
        step = torch.cholesky_solve(excess[:, None], factor)[:, 0]
        current = current * step.clamp_(-LONGEST_STEP, LONGEST_STEP).exp_()
        previous = residual
    target = prices * best ** (1.0 - power)
    terms = best * torch.mv(cosines.abs(), best) / target
    return best, max(least, ROUNDINGS * float(terms.amax()))
