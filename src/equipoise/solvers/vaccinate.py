"""Turning gradients towards each other until the cosines of their angles are what they usually are."""

from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.solvers.solution import single_threaded

# A correction grows as 1 / sqrt(1 - target^2); this keeps it below 10,000 gradients.
LARGEST_TARGET = 1.0 - 1e-8
CANCELLED = 1e-7  # length of a sum, over that of its parts, that rounding alone can leave
NEVER = -2.0  # a target that no cosine is below


class _Meetings(NamedTuple):
    """What is known before task i meets its t-th partner, all (..., m, steps), step t last.

    `active` tells which of them count, `old` are their targets, `goals` the targets that a cosine is compared with,
    and `stretch` is 1 / (1 - goal^2).
    """

    partners: Tensor
    active: Tensor
    old: Tensor
    goals: Tensor
    stretch: Tensor


@single_threaded
def vaccinate(gramians: Tensor, targets: Tensor, orders: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Corrects the gradients of m tasks, in each layer if there are several, by the rule of GradVac.

    For each layer and task i, from d = g_i, over the other tasks j in the order given: with c the cosine between d and
    g_j, and t the target of (i, j), where c < t: d <- d + a g_j with
    a = |d| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)), after which the cosine is t and |d| has become
    |d| sqrt((1 - c^2) / (1 - t^2)). Then t <- (1 - beta) t + beta c, whether or not d was corrected. All is done on
    the inner products of unit gradients, for all tasks and layers at once, and nothing is sent to the host.

    Degenerate input: a gradient that is zero, or was cancelled, has no angle: it is left alone and so is its target. A
    target counts as at most 1 - 1e-8.

    Source: Z. Wang et al., Gradient Vaccine, ICLR 2021, Algorithm 1.

    Args:
        gramians: Inner products of the gradients (m, m), or in each of b layers (b, m, m), float64.
        targets: t of each layer, task i and task j, of the same shape; not changed.
        orders: Row i is the order in which task i meets the tasks (m, steps) long; itself among them is passed over.
        beta: How far a target moves, in [0, 1].

    Returns:
        The weights (m,) or (b, m) of the corrected gradients' sum, and the new targets.
    """
    norms = gramians.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
    units = torch.where(norms > 0.0, norms, 1.0)
    cosines = gramians / (units[..., None] * units[..., None, :])
    meetings = _meetings(norms, targets, orders)
    steps, seen, alive = _meet(cosines, meetings, orders)
    added = torch.zeros_like(cosines).scatter_(-1, meetings.partners, steps)
    weights = 1.0 + (added * units[..., None]).sum(-2) / units
    counted = meetings.active & alive
    moved = torch.where(counted, meetings.old + beta * (seen - meetings.old), meetings.old)
    return weights, targets.scatter(-1, meetings.partners, moved)


def _meetings(norms: Tensor, targets: Tensor, orders: Tensor) -> _Meetings:
    tasks = torch.arange(len(orders), device=orders.device)
    partners = orders.expand(*norms.shape, orders.shape[1])
    moving = norms > 0.0
    active = moving[..., None] & moving[..., orders] & (orders != tasks[:, None])
    old = targets.gather(-1, partners)
    goals = torch.where(active, old.clamp(-LARGEST_TARGET, LARGEST_TARGET), NEVER)
    stretch = torch.where(active, 1.0 / (1.0 - goals * goals), 0.0)
    return _Meetings(partners, active, old, goals, stretch)


def _meet(cosines: Tensor, meetings: _Meetings, orders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns, for all meetings, what was added of unit gradients, the cosines seen, and whether d was not cancelled.

    |d| and the sum of the lengths of its parts are carried along, since either takes a product of matrices otherwise.
    """
    images = cosines.clone()
    lengths = torch.ones_like(cosines[..., 0])
    parts = lengths.clone()
    steps, seen, alive = [], [], []
    columns = zip(orders.T, meetings.goals.unbind(-1), meetings.stretch.unbind(-1), strict=True)
    for others, goal, stretch in columns:
        standing = lengths > CANCELLED * parts
        products = images.gather(-1, others.expand(lengths.shape)[..., None])[..., 0]
        cosine = torch.where(standing, products / lengths, 1.0).clamp_(-1.0, 1.0)
        ratio = torch.addcmul(stretch, stretch * cosine, cosine, value=-1.0).sqrt_()
        below = cosine < goal
        step = torch.where(below, lengths * (goal * ratio - cosine), 0.0)
        lengths = torch.where(below, lengths * ratio, lengths)
        parts = parts + step
        images.addcmul_(step[..., None], cosines[..., others, :])
        steps.append(step)
        seen.append(cosine)
        alive.append(standing)
    return torch.stack(steps, -1), torch.stack(seen, -1), torch.stack(alive, -1)
