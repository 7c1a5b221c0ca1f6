"""Weights read off one short run: a search that costs little more than one training."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from equipoise.training.problem import Problem
from equipoise.training.setup import moved

from .generations import Assignment, Result, SearchError
from .space import Space
from .weights import floored

_BATCHES = 24  # of a measurement, over all domains
_PREFIX = "gradient norm of "


@dataclass(frozen=True)
class ReadOff:
    """Fixed weights that would have made the gradients of a short run equally long.

    One network is trained for a few epochs with uniform weights. After each, the root mean square n_i of the norm of
    each task's gradient of the shared parameters is measured on training batches. Then one network is trained to the
    end with weights p_i in proportion to 1 / n_i, n_i the geometric mean over the epochs; none below the floor.

    With these weights the weighted gradients are equally long: the gradient magnitude similarity of any two tasks,
    2 |p_i g_i| |p_j g_j| / (|p_i g_i|^2 + |p_j g_j|^2), is 1. That good fixed weights have a high one, and that they
    can be read off a short run, is a finding of Y. Yang et al., AutoScale, 2025, https://arxiv.org/abs/2508.13979;
    this is no re-implementation of their two phases.

    Args:
        space: of the points; other settings keep their defaults.
        names: of the tasks, in order.
        epochs: of the training.
        first: epochs of the short run, at least 1 and fewer than `epochs`.

    Raises:
        SearchError: on a number out of its range.
    """

    space: Space
    names: Sequence[str]
    epochs: int
    first: int

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.epochs:
            raise SearchError(
                f"`interval` should be at least 1 epoch and less than the {self.epochs} of the run. Found {self.first}."
            )

    @property
    def members(self) -> int:
        """Assignments of the whole search."""
        return self.first + 1

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next epoch of the short run, then the long one; see `Algorithm`.

        Raises:
            SearchError: if a network diverged.
        """
        k = len(history)
        if k and history[-1][0].score is None:
            raise SearchError(f"The network diverged in generation {k - 1}: lower the learning rate.")
        uniform = self.space.uniform()
        if k < self.first:
            parent = 0 if k else None
            return [Assignment(k, 0, uniform.weights, k, k + 1, parent, uniform.settings)]
        if k > self.first:
            return []
        weights = self._read([one.metrics for row in history for one in row])
        return [Assignment(k, 0, weights, 0, self.epochs, None, uniform.settings)]

    def _read(self, measured: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
        missing = [name for name in self.names if any(_PREFIX + name not in row for row in measured)]
        if missing:
            raise SearchError(
                f"Every task should be in the batches of the short run. Found no gradient of {', '.join(missing)}: "
                "take larger batches, or another algorithm."
            )
        logs = [sum(math.log(max(row[_PREFIX + name], 1e-30)) for row in measured) for name in self.names]
        wanted = [math.exp(-log / len(measured)) for log in logs]
        return floored([value / math.fsum(wanted) for value in wanted], self.space.exploration.floor)


def gradient_norms(problem: Problem, model: nn.Module, device: torch.device, seed: int) -> dict[str, float]:
    """Root mean square of the norm of each task's gradient of the shared parameters, on some training batches.

    Neither the model nor any stream of random numbers is changed.

    Args:
        problem: whose first training batches are taken.
        model: as it is.
        device: of the model.
        seed: of the batches.

    Returns:
        A number for each task that the batches have labels of, named "gradient norm of TASK".
    """
    copied = copy.deepcopy(model).train()
    shared = _parameters(problem.shared(copied), copied)
    squares: dict[str, list[float]] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for batch in islice(problem.loaders(seed).train.epoch(1), _BATCHES):
            for name, loss in problem.losses(copied, moved(batch, device)).items():
                rows = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
                total = sum(float(row.double().square().sum()) for row in rows if row is not None)
                squares.setdefault(name, []).append(total)
    return {_PREFIX + name: math.sqrt(sum(found) / len(found)) for name, found in squares.items()}


def _parameters(shared: Any, model: nn.Module) -> list[torch.Tensor]:
    if shared is None:
        shared = model
    given = shared.parameters() if isinstance(shared, nn.Module) else shared
    tensors = (one[1] if isinstance(one, tuple) else one for one in given)
    return [parameter for parameter in tensors if parameter.requires_grad]
