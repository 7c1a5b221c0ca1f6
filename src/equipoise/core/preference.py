"""What a user wants of the tasks: a preference among them, and the losses that would be ideal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def preference_vector(preference: Sequence[float] | None, n_tasks: int) -> Tensor:
    """The preference lambda (m,) float64 of a scalarization, used as it is given; equal shares 1 / m for None.

    Raises:
        ValueError: on a wrong number of entries, or negative, infinite or all zero ones.
    """
    if preference is None:
        return torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64)
    values = torch.tensor(preference, dtype=torch.float64)
    sound = values.shape == (n_tasks,) and bool(
        (values >= 0).all() & values.isfinite().all() & (values > 0).any()
    )
    if not sound:
        raise ValueError(
            f"`preference` should be {n_tasks} finite numbers, none negative and not all 0. Found {preference}."
        )
    return values


def reference_point(reference: Sequence[float] | None, n_tasks: int) -> Tensor:
    """The reference point z* (m,) float64 of a scalarization, in the units of the losses; the origin for None.

    Raises:
        ValueError: on a wrong number of entries, or infinite ones.
    """
    if reference is None:
        return torch.zeros(n_tasks, dtype=torch.float64)
    values = torch.tensor(reference, dtype=torch.float64)
    if values.shape != (n_tasks,) or not bool(values.isfinite().all()):
        raise ValueError(f"`reference` should be {n_tasks} finite numbers. Found {reference}.")
    return values
