"""Turning gradients towards each other until the cosines of their angles are what they usually are."""

import torch
from torch import Tensor

from equipoise.solvers.solution import single_threaded

LARGEST_TARGET = (
    1.0 - 1e-6
)  # a correction grows as 1 / sqrt(1 - target^2); this keeps it below 1000 gradients
CANCELLED = 1e-14  # squared length of a sum, over that of its parts, that rounding alone can leave


@single_threaded
def vaccinate(gramians: Tensor, targets: Tensor, orders: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Corrects the gradients of m tasks in each of b layers by the rule of GradVac.

    For each layer and task i, from d = g_i, over the other tasks j in the order given: with c the cosine between d and
    g_j, and t the target of (i, j), where c < t: d <- d + a g_j with
    a = |d| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)), after which the cosine is t. Then
    t <- (1 - beta) t + beta c, whether or not d was corrected. All is done on the coefficients of the gradients, for
    all tasks and layers at once, and nothing is sent to the host.

    Degenerate input: a gradient that is zero, or was cancelled, has no angle: it is left alone and so is its target. A
    target counts as at most 1 - 1e-8.

    Source: Z. Wang et al., Gradient Vaccine, ICLR 2021, Algorithm 1.

    Args:
        gramians: Inner products of the gradients in each layer (b, m, m), float64.
        targets: t of each layer, task i and task j (b, m, m); not changed.
        orders: Row i is the order in which task i meets the tasks (m, m) long; itself among them is passed over.
        beta: How far a target moves, in [0, 1].

    Returns:
        The weights (b, m) of the corrected gradients' sum, and the new targets (b, m, m).
    """
    tasks = torch.arange(gramians.shape[-1], device=gramians.device)
    norms = gramians.diagonal(dim1=1, dim2=2).clamp(min=0.0).sqrt()
    coefficients = torch.eye(len(tasks), dtype=gramians.dtype, device=gramians.device).repeat(
        len(gramians), 1, 1
    )
    products = gramians.clone()
    targets = targets.clone()
    for others in orders.T:
        squares = (coefficients * products).sum(2)
        parts = (coefficients.abs() * norms[:, None]).sum(2)
        alive = (others != tasks) & (squares > CANCELLED * parts * parts) & (norms[:, others] > 0.0)
        lengths, partner = torch.where(alive, squares, 1.0).sqrt(), torch.where(alive, norms[:, others], 1.0)
        cosines = (products[:, tasks, others] / lengths / partner).clamp(-1.0, 1.0)
        target = targets[:, tasks, others]
        goal = target.clamp(max=LARGEST_TARGET)
        ratio = ((1.0 - cosines * cosines) / (1.0 - goal * goal)).sqrt()
        step = torch.where(alive & (cosines < goal), lengths * (goal * ratio - cosines) / partner, 0.0)
        coefficients[:, tasks, others] += step
        products += step[:, :, None] * gramians[:, others]
        targets[:, tasks, others] = torch.where(alive, (1.0 - beta) * target + beta * cosines, target)
    return coefficients.sum(1), targets
