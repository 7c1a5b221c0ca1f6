"""A Gaussian process whose function changes over time: its fit to what was seen, and what it expects elsewhere."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
_FORGETTING = (0.0, 0.03, 0.1, 0.3)
_NOISES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Process:
    """A zero-mean Gaussian process of signal variance 1 at points x and times t.

        k((x, t), (x', t')) = exp(-|x - x'|^2 / (2 length^2)) (1 - forgetting)^(|t - t'| / 2)

    Source: I. Bogunovic, J. Scarlett and V. Cevher, Time-Varying Gaussian Process Bandit Optimization, AISTATS 2016,
    https://arxiv.org/abs/1601.06650, equation 5, with a squared-exponential kernel for the points.

    Args:
        length: the length scale.
        forgetting: from 0 for a function that stays, to below 1.
        noise: variance of what is seen around the function.
    """

    length: float
    forgetting: float
    noise: float

    def kernel(self, x: Tensor, t: Tensor, others: Tensor, times: Tensor) -> Tensor:
        """The covariance k of the points (a, d) at times (a,) and of others (b, d) at times (b,): (a, b)."""
        near: Tensor = torch.exp(-torch.cdist(x, others).square() / (2 * self.length**2))
        apart = (t[:, None] - times[None]).abs()
        memory: Tensor = (1 - self.forgetting) ** (apart / 2)
        return near * memory

    def covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """The covariance (n, n) of what is seen at points (n, d) and times (n,)."""
        return self.kernel(x, t, x, t) + self.noise * torch.eye(len(x), dtype=x.dtype)


def evidence(covariances: Tensor, y: Tensor) -> Tensor:
    """The log marginal likelihood (k,) of y (n,) under each of some covariances (k, n, n) of what is seen."""
    factors: Tensor = torch.linalg.cholesky(covariances)
    solved: Tensor = torch.linalg.solve_triangular(factors, y[None, :, None], upper=False)[..., 0]
    volume = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -solved.square().sum(-1) / 2 - volume - len(y) * math.log(2 * math.pi) / 2


def fitted(x: Tensor, t: Tensor, y: Tensor) -> Process:
    """The process of the highest evidence among fixed lengths, rates of forgetting and noises; the first of ties.

    Args:
        x: points (n, d).
        t: times (n,).
        y: what was seen (n,).
    """
    best: tuple[float, Process] | None = None
    for length in _LENGTHS:  # one at a time, for the sake of memory
        choices = [Process(length, *others) for others in itertools.product(_FORGETTING, _NOISES)]
        found = evidence(torch.stack([process.covariance(x, t) for process in choices]), y)
        place = int(found.argmax())
        if best is None or float(found[place]) > best[0]:
            best = (float(found[place]), choices[place])
    assert best is not None
    return best[1]


def expected(process: Process, x: Tensor, t: Tensor, y: Tensor, points: Tensor, time: float) -> Tensor:
    """The mean (b,) of the function at points (b, d) and one time, given y (n,)."""
    weights = torch.cholesky_solve(y[:, None], torch.linalg.cholesky(process.covariance(x, t)))[:, 0]
    return process.kernel(points, torch.full((len(points),), time, dtype=x.dtype), x, t) @ weights


def deviation(process: Process, x: Tensor, t: Tensor, points: Tensor, time: float) -> Tensor:
    """The standard deviation (b,) of the function at points (b, d) and one time, whatever will be seen at x and t."""
    cross = process.kernel(points, torch.full((len(points),), time, dtype=x.dtype), x, t)
    solved = torch.linalg.solve_triangular(
        torch.linalg.cholesky(process.covariance(x, t)), cross.T, upper=False
    )
    left: Tensor = 1 - solved.square().sum(0)
    return left.clamp(min=0).sqrt()
