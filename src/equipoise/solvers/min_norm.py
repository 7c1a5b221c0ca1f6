"""The shortest vector in the convex hull of the task gradients."""

import torch
from torch import Tensor

from equipoise.solvers.nonnegative import nonnegative_quadratic, regularised
from equipoise.solvers.solution import Solution, as_gramian, certified, single_threaded


@single_threaded
def min_norm(gramian: Tensor) -> Solution:
    """Finds the convex combination of the gradients with the least norm, exactly.

    Minimises w'Gw over the simplex {w >= 0, sum w = 1}. With A = G + s 11', s > 0, the minimiser of
    x'Ax / 2 - sum x over x >= 0 is a positive multiple of w, whether or not the least norm is zero; that problem
    is solved by pivoting on A scaled to a unit diagonal, so gradients may differ by many decades.

    The gap is max(0, w'Gw - min_i (Gw)_i) / sum_i w_i G_ii: by how much the squared norm could still fall, at
    most, relative to the mean squared norm of the gradients in use.

    Degenerate input: where gradients are zero, the weights are shared among those equally; equal gradients
    share their weight in some way (any is optimal); a Gramian that is not finite gets equal weights, unconverged.

    Source: P. Wolfe, Finding the nearest point in a polytope, Mathematical Programming 11 (1976), for the problem
    and its optimality conditions.

    Args:
        gramian: G = JJ' (m, m), inner products of the task gradients.

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers.
    """
    matrix = as_gramian(gramian)
    squared_norms = matrix.diagonal()
    smallest = squared_norms.amin()
    if float(smallest) <= 0.0:
        still = (squared_norms <= 0.0).to(matrix.dtype)
        return certified(still / still.sum(), torch.zeros_like(smallest), gramian.dtype)
    weights = _between_two(matrix) if len(matrix) == 2 else _in_hull(matrix, smallest)
    image = torch.mv(matrix, weights)
    gap = (torch.dot(weights, image) - image.amin()).clamp(min=0.0) / torch.dot(weights, squared_norms)
    return certified(weights, gap, gramian.dtype)


def _between_two(matrix: Tensor) -> Tensor:
    """Returns the weights (2,) of the shortest point of a segment, in closed form."""
    (first, both), (_, second) = matrix.tolist()
    squared_distance = first + second - 2.0 * both
    if not squared_distance > 0.0:
        return torch.full_like(matrix[0], 0.5)
    shares = (min(1.0, max(0.0, part / squared_distance)) for part in (second - both, first - both))
    return matrix.new_tensor(tuple(shares))


def _in_hull(matrix: Tensor, shift: Tensor) -> Tensor:
    """Returns the weights (m,) by pivoting on G + s 11', scaled to a unit diagonal."""
    lifted = matrix + shift
    scale = lifted.diagonal().rsqrt()
    system = regularised(lifted * scale * scale[:, None])
    weights = scale * nonnegative_quadratic(system, -scale, torch.ones_like(scale, dtype=torch.bool)).values
    return weights / weights.sum()
