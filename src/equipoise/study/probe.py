"""Looks at a network between two epochs, always at the same training samples, without changing its training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.build import build_method
from equipoise.engine import Balancer
from equipoise.monitor.gramians import grad_norms, pair_cosines
from equipoise.training.domains import Domains
from equipoise.training.problem import Problem
from equipoise.training.setup import moved

_READS_GRADIENTS = "mgda"  # any method that reads the Gramian; only its measurement is used


class Probe:
    """Loss and metrics on fixed training samples, and how the gradients of two losses stand to each other on them.

    For each of k batches, with the gradients g_1 and g_2 of the two losses with respect to the shared parameters, in
    evaluation mode (dropout off, batch normalisation as it is, so that what is measured is a function of the network):
        cosine     = g_1 . g_2 / (|g_1| |g_2|)
        conflict   = 1 if the cosine is below 0, else 0
        magnitude  = 2 |g_1| |g_2| / (|g_1|^2 + |g_2|^2), 1 for equal lengths, near 0 where one is much longer,
    each averaged over the batches. Random numbers, mode, gradients and buffers of the network are left as they were.

    Reference: magnitude similarity is from T. Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
    https://arxiv.org/abs/2001.06782, definition 2. Conflict as a share of batches is a definition of this study: that
    of the paper which it checks is not known.

    Args:
        problem: which measures.
        names: one or two domains or tasks.
        metrics: the name of the metric of each.
        seed: of the run, whose training samples these are.
        batches: how many k; fewer if an epoch has no more, except of several domains, which begin again.
        device: of the network.
    """

    def __init__(
        self,
        problem: Problem,
        names: Sequence[str],
        metrics: Mapping[str, str],
        *,
        seed: int,
        batches: int,
        device: torch.device,
    ) -> None:
        self._problem = problem
        self._names = list(names)
        self._metrics = metrics
        self._device = device
        loader = problem.loaders(seed).train
        self._several = isinstance(loader, Domains)
        first = (
            loader.first(batches)
            if isinstance(loader, Domains)
            else list(itertools.islice(loader.epoch(1), batches))
        )
        self._batches = [moved(batch, device) for batch in first]

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """What is found: "loss" and "train" by name, and for two names "conflict", "cosine" and "magnitude".

        Raises:
            NotFiniteError: if a loss or a gradient is not finite.
        """
        with _untouched(network, self._device):
            with torch.no_grad():
                metrics = self._problem.evaluate(network, self._batches)
            losses, gramians = self._pair(network) if len(self._names) == 2 else (self._alone(network), None)
        found: dict[str, Any] = {
            "loss": {name: fmean(row[name] for row in losses if name in row) for name in self._names},
            "train": {name: metrics[self._metrics[name]] for name in self._names},
        }
        return found if gramians is None else {**found, **gradient_statistics(gramians)}

    def _alone(self, network: nn.Module) -> list[dict[str, float]]:
        """The loss of each batch."""
        with torch.no_grad():
            return [_values(self._losses(network, batch)) for batch in self._batches]

    def _pair(self, network: nn.Module) -> tuple[list[dict[str, float]], Tensor]:
        """The losses of each batch, and the Gramian of each that has both (k, 2, 2)."""
        balancer = Balancer(
            build_method(_READS_GRADIENTS, 2), tasks=self._names, shared=self._problem.shared(network)
        )
        values, gramians = [], []
        for batch in self._batches:
            losses = self._losses(network, batch)
            values.append(_values(losses))
            if len(losses) == 2:
                gramians.append(balancer.measure(losses).gramian.cpu())
        return values, torch.stack(gramians)

    def _losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Of several domains, each from a forward pass of its own, so that a gradient goes through its own only."""
        parts = [{name: batch[name]} for name in self._names] if self._several else [batch]
        found = [self._problem.losses(network, part) for part in parts]
        return {name: losses[name] for name in self._names for losses in found if name in losses}


def _values(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


def gradient_statistics(gramians: Tensor) -> dict[str, float]:
    """Conflict, cosine and magnitude similarity, see `Probe`, of Gramians (k, 2, 2).

    A gradient of length 0 is in conflict with none; its cosine is left out, and is 0 where there is no other one.
    """
    norms = grad_norms(gramians)
    cosines = pair_cosines(gramians)[:, 0]
    known = cosines[~cosines.isnan()]
    squares = norms.square().sum(-1)
    similar = torch.where(squares > 0, 2 * norms.prod(-1) / squares, 1.0)
    return {
        "conflict": float((gramians[:, 0, 1] < 0).double().mean()),
        "cosine": float(known.mean()) if len(known) else 0.0,
        "magnitude": float(similar.mean()),
    }


@contextmanager
def _untouched(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode and random numbers of its own while the context lasts."""
    training = network.training
    network.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        network.train(training)
