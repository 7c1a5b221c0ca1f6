"""The bargaining solution of Nash-MTL, and its relatives in FairGrad."""

import torch
from torch import Tensor

from equipoise.solvers.solution import Solution, as_gramian, certified, single_threaded

ACCURATE = (
    1e-11  # residual at which Newton's method stops; it squares the error, so the next step adds little
)
NEAR = 1e-3  # residual below which a step that does not shrink it tenfold has met rounding
LONGEST_STEP = 2.0  # in log a: the quadratic model is trusted within a factor of 7
MAX_STEPS = 50
ROUNDINGS = (
    8.0 * torch.finfo(torch.float64).eps
)  # what cancellation may hide, relative to the terms of (Ga)_i


@single_threaded
def nash(gramian: Tensor, alpha: float = 1.0, start: Tensor | None = None) -> Solution:
    """Finds the weights at which each task gains as fairness alpha asks: a > 0 with G a = a^(-1 / alpha).

    alpha = 1 is the Nash bargaining solution, G a = 1 / a; larger values favour the worst-off task more. The
    equation is the optimality condition of the strictly convex a'Ga / 2 - sum_i phi(a_i) with
    phi'(a) = a^(-1 / alpha). With a_i = b_i / |g_i| it becomes C b = p b^(-s), C the matrix of cosines,
    s = 1 / alpha, p_i = |g_i|^(s - 1), and is solved by Newton's method on log b, whose steps are limited to
    `LONGEST_STEP`: with B = diag b and q = p b^(1 - s), the step d solves (B C B + s diag q) d = q - B C b.

    The gap is max_i |1 - a_i^s (Ga)_i|, the relative residual of the equation, or what rounding could hide of it.

    Degenerate input: a zero gradient takes no part and gets weight 0 (its own weight would be infinite). If a
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
    power = 1.0 / alpha
    norms = matrix.diagonal().clamp(min=0.0).sqrt()
    moving = norms > 0.0
    norms = torch.where(moving, norms, 1.0)
    # A task without gradient becomes one of norm 1 that meets no other; its weight is set to 0 in the end.
    cosines = matrix / norms / norms[:, None]
    cosines = torch.where(torch.eye(len(norms), dtype=torch.bool, device=norms.device), 1.0, cosines)
    prices = norms ** (power - 1.0)
    unit = prices.log().mean().exp() ** (1.0 / (1.0 + power))
    prices = prices / unit ** (1.0 + power)
    first = (prices / cosines.sum(1).clamp(min=0.1)) ** (1.0 / (1.0 + power))
    if start is not None:
        given = start.detach().to(torch.float64) * norms / unit
        first = torch.where(given > 0.0, given, first)
    scaled, residual = _newton(cosines, prices, power, first)
    terms = scaled * torch.mv(cosines.abs(), scaled) / (prices * scaled ** (1.0 - power))
    gap = torch.maximum(residual, ROUNDINGS * terms.amax())
    weights = torch.where(moving, scaled * unit / norms, 0.0)
    return certified(weights, gap, gramian.dtype)


def _newton(cosines: Tensor, prices: Tensor, power: float, first: Tensor) -> tuple[Tensor, Tensor]:
    """Solves C b = p b^(-s) for b > 0 from `first`; returns the best iterate (m,) and its relative residual ()."""
    current, best, least, previous = first, first, float("inf"), float("inf")
    for _ in range(MAX_STEPS):
        target = prices * current ** (1.0 - power)
        excess = target - current * torch.mv(cosines, current)
        residual = float((excess / target).abs().amax())
        if residual < least:
            best, least = current, residual
        if not residual > ACCURATE or (previous < NEAR and residual > 0.1 * previous):
            break
        hessian = cosines * torch.outer(current, current)
        hessian.diagonal().add_(power * target)
        factor, _ = torch.linalg.cholesky_ex(hessian)
        step = torch.cholesky_solve(excess[:, None], factor)[:, 0]
        current = current * torch.exp(step * (LONGEST_STEP / step.abs().amax()).clamp(max=1.0))
        previous = residual
    return best, torch.as_tensor(least, dtype=first.dtype, device=first.device)
