"""The Euclidean projection on the simplex, and shares of some of the tasks."""

import torch
from torch import Tensor

from equipoise.solvers.solution import single_threaded


@single_threaded
def project_simplex(values: Tensor) -> Tensor:
    """Finds the point of the simplex {x >= 0, sum x = 1} that is nearest to `values`, exactly.

    x_i = max(v_i - t, 0) with the level t at which x sums to 1. With the values sorted from the largest down and
    S_k the sum of the first k, t = (S_k - 1) / k for the largest k whose k-th value exceeds that. The projection does
    not change when a constant is added, so the largest value is taken off first: no digits are lost to
    values that are large or many decades apart. Nothing is sent to the host.

    Degenerate input: an entry -inf gets 0; where an entry is not a number, or the largest is infinite, there is no
    projection and every entry gets 1 / m.

    Source: J. Duchi et al., Efficient Projections onto the l1-Ball for Learning in High Dimensions, ICML 2008, Fig. 1.

    Args:
        values: v (m,).

    Returns:
        x (m,), in the dtype of `values`.

    Raises:
        ValueError: `values` is not a vector with at least one entry.
    """
    if values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(
            f"`values` should be a vector with at least one entry. Found shape {tuple(values.shape)}."
        )
    points = values.detach().to(torch.float64)
    # An entry that lies 1 or more below the largest gets 0 whatever it is.
    points = (points - points.amax()).clamp(min=-1.0)
    ordered = points.sort(descending=True).values
    sizes = torch.arange(1, len(points) + 1, dtype=torch.float64, device=points.device)
    levels = (ordered.cumsum(0) - 1.0) / sizes
    last = (ordered > levels).sum() - 1
    projected = (points - levels.gather(0, last.clamp(min=0)[None])).clamp(min=0.0)
    usable = projected.isfinite().all()
    return torch.where(usable, projected, 1.0 / len(points)).to(values.dtype)


def shares_of_present(shares: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of the present tasks among themselves, and what they have of the whole.

    A method that moves the first and stores them times the second leaves the absent tasks' shares alone, and takes
    nothing from them: over many steps a task loses no weight by being absent.

    Args:
        shares: on the simplex (m,).
        present: which tasks are present (m,) bool.

    Returns:
        A point of the simplex (m,), 0 for absent tasks, equal shares if the present ones have none; and their sum ().
    """
    here = torch.where(present, shares, 0.0)
    whole = here.sum()
    among = here / torch.where(whole > 0, whole, 1.0)
    return project_simplex(torch.where(present, among, -torch.inf)), whole
