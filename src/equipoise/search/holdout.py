"""A problem as a search sees it: part of the training data is held out to compare members, the test part stays shut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from equipoise.engine.gradients import Shared
from equipoise.training.domains import Domains
from equipoise.training.problem import Loaders, Problem
from equipoise.training.sampling import SampleBatches
from equipoise.training.setup import stream_seed

from .generations import SearchError


class HeldOut:
    """The same problem with its training part split in two, of which one takes the place of validation and test part.

    So neither the validation part nor the test part has any influence on a search. The published search holds out 30 %
    of the training data: A. Royer et al., NeurIPS 2023, https://arxiv.org/abs/2310.08910.

    Args:
        problem: whose training loader is `SampleBatches`, or `Domains` of such.
        fraction: of the training samples that members are trained on, above 0 and below 1.
        seed: of the split, which is the same for all members.

    Raises:
        SearchError: if the fraction is out of its range.
    """

    def __init__(self, problem: Problem, fraction: float, seed: int) -> None:
        if not 0 < fraction < 1:
            raise SearchError(f"`fraction` should be above 0 and below 1. Found {fraction}.")
        self.problem = problem
        self.name, self.tasks, self.reference = problem.name, problem.tasks, problem.reference
        self.method_defaults, self.presets = problem.method_defaults, problem.presets
        self._fraction = fraction
        self._seed = stream_seed(seed, "search: held out")

    def data(self) -> Mapping[str, Any]:
        """See `Problem`."""
        return self.problem.data()

    def model(self, seed: int) -> nn.Module:
        """See `Problem`."""
        return self.problem.model(seed)

    def loaders(self, seed: int) -> Loaders:
        """Training batches of the one part, and the other one in their order.

        Raises:
            SearchError: if the training loader of the problem is of another kind.
        """
        train = self.problem.loaders(seed).train
        if not isinstance(train, SampleBatches | Domains):
            raise SearchError(
                f"A search should be able to split the training part of {self.name}. Found a loader of the type "
                f"{type(train).__name__}: use SampleBatches or Domains."
            )
        kept, rest = train.split(self._fraction, self._seed)
        return Loaders(kept, rest, rest)

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        """See `Problem`."""
        return self.problem.losses(model, batch)

    def shared(self, model: nn.Module) -> Shared | None:
        """See `Problem`."""
        return self.problem.shared(model)

    def evaluate(self, model: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
        """See `Problem`."""
        return self.problem.evaluate(model, loader)

    def trivial(self, seed: int) -> dict[str, float]:
        """See `Problem`."""
        return self.problem.trivial(seed)
