"""What a Gramian tells about m task gradients g_i, with G_ij = g_i . g_j and (...) any leading dimensions.

What is undefined is NaN: the cosine with a gradient of length 0, and that with an update of length 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A squared length below this part of what its terms add up to is rounding: float64 leaves 1e-16 of each term.
_ROUNDING = 1e-13


def grad_norms(gramian: Tensor) -> Tensor:
    """The lengths of the gradients, |g_i| (..., m), of a Gramian (..., m, m)."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def pair_cosines(gramian: Tensor) -> Tensor:
    """The cosines of g_i and g_j (..., m (m - 1) / 2), in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    m = gramian.shape[-1]
    norms = _or_nan(grad_norms(gramian))
    first, second = torch.triu_indices(m, m, 1, device=gramian.device)
    cosines = gramian[..., first, second] / norms[..., first] / norms[..., second]
    return cosines.clamp(-1, 1)


def conflict_share(gramian: Tensor) -> Tensor:
    """The share of pairs whose inner product is negative (...); 0 for one task."""
    m = gramian.shape[-1]
    negative = (gramian < 0).sum((-2, -1)) - (gramian.diagonal(dim1=-2, dim2=-1) < 0).sum(-1)
    return negative.double() / max(m * (m - 1), 1)


def update_cosines(gramian: Tensor, weights: Tensor) -> Tensor:
    """The cosines of g_i and the update w J (..., m), for weights (..., m).

    (G w)_i = g_i . w J and w' G w = |w J|^2, so that the gradients themselves are not needed.
    """
    products = (gramian @ weights.unsqueeze(-1)).squeeze(-1)
    squared = (weights * products).sum(-1, keepdim=True)
    terms = (weights.abs() * grad_norms(gramian)).sum(-1, keepdim=True).square()
    length = torch.where(squared > _ROUNDING * terms, squared, torch.nan).sqrt()
    return (products / _or_nan(grad_norms(gramian)) / length).clamp(-1, 1)


def _or_nan(norms: Tensor) -> Tensor:
    return torch.where(norms > 0, norms, torch.nan)
