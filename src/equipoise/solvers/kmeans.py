"""Exact one-dimensional k-means by dynamic programming."""

import torch
from torch import Tensor

from equipoise.solvers.solution import single_threaded


@single_threaded
def kmeans_1d(values: Tensor, k: int, present: Tensor | None = None) -> Tensor:
    """Splits numbers into the k groups with the least sum of squared distances to the group means.

    Groups of an optimum are intervals of the sorted values, so D_c(j) = min_i D_{c-1}(i) + cost(i + 1, j), with D_c(j)
    the least cost of the first j values in c groups, finds the global optimum. Costs are sums of squared
    distances to the first value of the interval, less n times the squared mean distance: at most a factor 2 n
    is lost to cancellation, so groups are told apart at their own scale even where values span many decades.

    The answer is the same at every call, and no value is ever sent to the host. Values that are equal get the
    same label; of several optima, the one whose boundaries come first in the sorted order. Time and memory grow as
    m^2 for k > 2, as m log m for k <= 2.

    Source: H. Wang and M. Song, Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic Programming,
    The R Journal 3 (2011), for the recursion.

    Args:
        values: (m,) finite where present.
        k: Number of groups, at least 1. More groups than distinct values leave groups empty.
        present: (m,) bool, which values count; None for all. An absent one gets some label that means nothing.

    Returns:
        Labels (m,), long, from 0 to k - 1, rising with the group's mean.

    Raises:
        ValueError: `values` is not one-dimensional, or `k` is below 1.
    """
    if values.ndim != 1:
        raise ValueError(f"`values` should be one-dimensional. Found shape {tuple(values.shape)}.")
    if k < 1:
        raise ValueError(f"`k` should be at least 1. Found {k}.")
    m = values.shape[0]
    if k == 1 or m <= 1:
        return torch.zeros_like(values, dtype=torch.long)
    points = values.detach().to(torch.float64)
    if present is not None:
        # An absent value must not be a left end that costs are measured from, unless it equals a present one.
        largest = torch.where(present, points, -torch.inf).amax()
        points = torch.where(present, points, largest)
    ordered, order = points.sort()
    if k >= m:
        return torch.searchsorted(ordered, points)
    counts = torch.ones_like(ordered) if present is None else present[order].to(torch.float64)
    last = _two_groups(ordered, counts) if k == 2 else _more_groups(ordered, counts, k)
    return torch.searchsorted(ordered[last], points)


def _two_groups(ordered: Tensor, counts: Tensor) -> Tensor:
    """Returns the position (1,) of the last value of the first group, for two groups.

    With values centred on their mean and s_j the sum of the first n_j, the sum of squares between the groups is
    n s_j^2 / (n_j (n - n_j)), and the best split has the largest one.
    """
    below = counts.cumsum(0)
    total = below[-1]
    offsets = ordered - ordered[0]
    sums = (counts * (offsets - torch.dot(counts, offsets) / total)).cumsum(0)
    pairs = below * (total - below)
    between = torch.where(pairs > 0.0, sums * sums / pairs, -1.0)
    return between.argmax(0, keepdim=True)


def _more_groups(ordered: Tensor, counts: Tensor, k: int) -> Tensor:
    """Returns the positions (k - 1,) of the last value of each group but the last one."""
    costs = _interval_costs(ordered, counts)
    least, rest = costs[0], costs[1:]
    ends = []
    for _ in range(k - 2):
        least, end = (rest + least[:-1, None]).min(0)
        ends.append(end)
    last = [(rest[:, -1] + least[:-1]).argmin(0, keepdim=True)]
    for end in reversed(ends):
        last.append(end.gather(0, last[-1]))
    return torch.cat(last[::-1])


def _interval_costs(ordered: Tensor, counts: Tensor) -> Tensor:
    """Returns the sum of squares around the mean of the values from i to j (m, m), infinite for i > j."""
    below = counts.cumsum(0)
    sizes = (below - (below - counts)[:, None]).clamp_(min=1.0)
    offsets = (ordered - ordered[:, None]).triu_()
    weighted = counts * offsets
    sums = weighted.cumsum(1)
    squares = weighted.mul_(offsets).cumsum(1)
    costs = squares.addcdiv_(sums.square_(), sizes, value=-1.0)
    return costs.add_(sizes.fill_(torch.inf).tril_(-1))


def group_means(
    values: Tensor, labels: Tensor, k: int, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Replaces each value by the mean of its group.

    c_g = mean of the present values with label g; w_i = c_{label i}.

    Args:
        values: (m,).
        labels: (m,) long, from 0 to k - 1.
        k: Number of groups.
        present: (m,) bool, which values count; None for all.

    Returns:
        Weights w (m,), 0 where absent, and centres c (k,), 0 where a group is empty; both in the dtype of `values`.
    """
    groups = torch.arange(k, device=labels.device)
    member = labels == groups[:, None]
    if present is not None:
        member = member & present
        values = torch.where(present, values, 0.0)
    member = member.to(values.dtype)
    centres = torch.mv(member, values) / member.sum(1).clamp(min=1.0)
    return torch.mv(member.T, centres), centres
