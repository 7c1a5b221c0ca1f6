"""What every solver shares: its answer with a certificate, the check of its input, and one thread."""

import functools
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class Solution(NamedTuple):
    """Weights and the proof of how good they are, on the device of the Gramian.

    Attributes:
        weights: The answer (m,), in the dtype of the Gramian; always finite.
        converged: Whether `gap` is below `tolerance(dtype)`, () bool.
        gap: The relative optimality gap or residual that the solver names (), float64; infinite or not a number
            where the Gramian is not finite.
    """

    weights: Tensor
    converged: Tensor
    gap: Tensor


def tolerance(dtype: torch.dtype) -> float:
    """The largest gap that counts as converged: 1e-8, or ten roundings of a Gramian stored less exactly."""
    return max(1e-8, 10.0 * torch.finfo(dtype).eps)


def certified(weights: Tensor, gap: Tensor, dtype: torch.dtype) -> Solution:
    """Returns float64 weights (m,) in `dtype` with their flag; equal weights 1 / m in place of non-finite ones."""
    finite = weights.isfinite().all()
    weights = torch.where(finite, weights, 1.0 / weights.shape[0])
    return Solution(weights.to(dtype), (gap <= tolerance(dtype)) & finite, gap)


def as_gramian(gramian: Tensor) -> Tensor:
    """Checks the shape (m, m) and returns the Gramian detached and in float64.

    Raises:
        ValueError: `gramian` is not a square matrix of floating point numbers with at least one row.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1] or gramian.shape[0] == 0:
        raise ValueError(
            f"`gramian` should be a square matrix with at least one row. Found shape {tuple(gramian.shape)}."
        )
    if not gramian.is_floating_point():
        raise ValueError(f"`gramian` should hold floating point numbers. Found {gramian.dtype}.")
    return gramian.detach().to(torch.float64)


def single_threaded(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Makes a function run its CPU operations on one thread, and restores the number afterwards.

    On matrices this small a second thread only adds waiting: with two, a Cholesky factor of a (40, 40) matrix
    took up to 58 ms on a shared machine where one thread takes 6 us. Switching costs 0.3 us.
    """

    @functools.wraps(function)
    def pinned(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        threads = torch.get_num_threads()
        if threads == 1:
            return function(*args, **kwargs)
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return pinned
