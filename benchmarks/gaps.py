"""How far an answer is from the optimum of its method's problem, computed from the answer alone and alike for all."""

import torch
from torch import Tensor

ALPHA = 2.0  # of FairGrad; at 1 its equation is that of Nash-MTL
C = 0.4  # of CAGrad


def min_norm_gap(jacobian: Tensor, weights: Tensor) -> float:
    """The duality gap of the least norm over the simplex, relative to the mean squared norm of the rows in use."""
    weights = weights.clamp(min=0.0) / weights.clamp(min=0.0).sum()
    gramian = jacobian @ jacobian.T
    image = gramian @ weights
    return max(0.0, float(weights @ image - image.min())) / float(weights @ gramian.diagonal())


def cagrad_gap(jacobian: Tensor, weights: Tensor) -> float:
    """The duality gap, from the weights of the direction: 1 / m + c |g0| w / |g_w|, w on the simplex."""
    gramian = jacobian @ jacobian.T
    m, centre = len(gramian), gramian.mean(0)
    length = centre.mean().sqrt()
    change = (weights - 1.0 / m).clamp(min=0.0)
    if not float(change.sum()) > 0.0:
        return float("inf")
    simplex = change / change.sum()
    norm = (simplex @ gramian @ simplex).sqrt()
    slopes = centre + C * length * (gramian @ simplex) / norm
    typical = (simplex @ gramian.diagonal()).sqrt()
    return max(0.0, float((simplex @ slopes - slopes.min()) / (length * (1 + C) * typical)))


def fairness_gap(jacobian: Tensor, weights: Tensor, alpha: float) -> float:
    """The least relative residual of G a = a^(-1 / alpha) over all scales of the weights."""
    if float(weights.min()) <= 0.0:
        return 1.0
    products = weights ** (1.0 / alpha) * (jacobian @ (weights @ jacobian))
    low, high = products.min(), products.max()
    return float((high - low) / (high + low)) if float(low) > 0.0 else 1.0


def nash_gap(jacobian: Tensor, weights: Tensor) -> float:
    return fairness_gap(jacobian, weights, 1.0)


def fairgrad_gap(jacobian: Tensor, weights: Tensor) -> float:
    return fairness_gap(jacobian, weights, ALPHA)


def projection_gap(jacobian: Tensor, weights: Tensor) -> float:
    """The violation of the optimality conditions of a projection on the dual cone, for rows u of targets.

    v >= u, J (v J) >= 0 and (v - u)'J (v J) = 0, in units of the rows' norms and of the length s = sum_i |u_i| |g_i|.
    The targets are the mean where there is one row of weights, and the m tasks over m where there are m.
    """
    m = len(jacobian)
    targets = torch.eye(m).to(jacobian) / m if weights.ndim == 2 else torch.ones(1, m).to(jacobian) / m
    weights = weights.reshape(-1, m)
    norms = jacobian.norm(dim=1)
    size = (targets * norms).sum(1, keepdim=True)
    images = (weights @ jacobian) @ jacobian.T / norms / size
    added = (weights - targets) * norms / size
    conflict, below = -float(images.min()), -float(added.min())
    return max(0.0, conflict, below, float((images * added).sum(1).abs().max()))


def cosine_gap(direction: Tensor, jacobian: Tensor) -> float:
    """By how much the cosines with the rows differ, relative to the largest: for independent rows none do."""
    cosines = jacobian @ direction / jacobian.norm(dim=1)
    largest = cosines.abs().max()
    return float((cosines.max() - cosines.min()) / largest) if float(largest) > 0.0 else float("inf")


def equal_projection_gap(jacobian: Tensor, weights: Tensor) -> float:
    """For IMTL-G: equal projections on all rows, and weights that sum to 1."""
    return max(cosine_gap(weights @ jacobian, jacobian), abs(float(weights.sum()) - 1.0))


def conflict_free_gap(jacobian: Tensor, direction: Tensor) -> float:
    """For ConFIG: equal cosines with all rows, and a length that is the sum of the projections of the rows."""
    length = direction.norm()
    excess = float((jacobian @ direction).sum() / length**2) - 1.0
    return max(cosine_gap(direction, jacobian), abs(excess))


def aligned_gap(jacobian: Tensor, weights: Tensor) -> float:
    """For Aligned-MTL: sqrt(G) m w = sigma 1, sigma the least singular value of J; the root is from those of J."""
    left, singular, _ = torch.linalg.svd(jacobian, full_matrices=False)
    images = len(weights) * (left @ (singular * (weights @ left))) / singular[-1]
    return float((images - 1.0).abs().max())
