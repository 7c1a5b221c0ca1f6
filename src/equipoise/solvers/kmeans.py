"""Exact one-dimensional k-means by dynamic programming."""

import torch
from torch import Tensor

from equipoise.solvers.kmeans_levels import borders_by_levels
from equipoise.solvers.solution import single_threaded

# Up to here the costs of all intervals at once take less time than fewer of them in more steps.
DENSE = 256


@single_threaded
def kmeans_1d(values: Tensor, k: int, present: Tensor | None = None) -> Tensor:
    """Splits numbers into the k groups with the least sum of squared distances to the group means.

    Groups of an optimum are intervals of the sorted values, so D_c(j) = min_i D_{c-1}(i) + cost(i + 1, j), with D_c(j)
    the least cost of the first j values in c groups, finds the global optimum. Costs are sums of squared
    distances to the first value of the interval, less n times the squared mean distance: at most a factor 2 n
    is lost to cancellation, so groups are told apart at their own scale even where values span many decades.

    For k > 2, up to `DENSE` values are solved with the costs of all m^2 intervals. Beyond, the best i never falls
    where j rises (see `borders_by_levels`), which needs k m log m time and m log m memory; and for k <= 2, m log m do.
    The total cost is the least one to a relative 1e-10 for up to 1,000 values, also where the groups are tiny beside
    the distances between them; only rounding of the sums enters, which grows with m.

    The answer is the same at every call, and no value is ever sent to the host. Values that are equal get the
    same label. Of several optima, up to `DENSE` values or for k <= 2, the one whose boundaries come first in the
    sorted order; beyond, rounding decides.

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
    if k > 2 and m > DENSE:
        return torch.searchsorted(borders_by_levels(ordered, counts, k), points)
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
    costs = interval_costs(ordered, counts)
    least, rest = costs[0], costs[1:]
    ends = []
    for _ in range(k - 2):
        least, end = (rest + least[:-1, None]).min(0)
        ends.append(end)
    last = [(rest[:, -1] + least[:-1]).argmin(0, keepdim=True)]
    for end in reversed(ends):
        last.append(end.gather(0, last[-1]))
    return torch.cat(last[::-1])


def interval_costs(ordered: Tensor, counts: Tensor) -> Tensor:
    """Measures all groups that k-means may make of rising numbers.

    Each sum is taken around the first value of its interval i, ..., j and then moved to the mean, which loses at most a
    factor 2 (j - i + 1) of the precision.

    Args:
        ordered: (m,) rising.
        counts: (m,) in the same dtype, 1 for a value that counts and 0 for one that does not.

    Returns:
        The sum of squares around the mean of the values from i to j (m, m), infinite for i > j.
    """
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
