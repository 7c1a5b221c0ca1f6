"""A step as all ranks see it together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from equipoise.core import Method

from .distributed import Ranks, Shares, plain
from .losses import StepLosses


class Together:
    """Averages the losses of a step over the ranks, so that the method is the same on all of them.

    Args:
        ranks: of the run, or one alone.
        method: whose state has to begin alike.
    """

    def __init__(self, ranks: Ranks, method: Method) -> None:
        self.ranks = ranks
        self._method = method
        self.compared = False  # whether the ranks have compared the method's state

    def join(self, step: StepLosses, amounts: Tensor) -> tuple[StepLosses, Shares | None]:
        """The step of all ranks, and who has how many labels (m,); None where there is one rank.

        Raises:
            ValueError: if no task is present; on every rank, if their methods differ.
        """
        if self.ranks.number == 1:
            if step.number == 0:
                raise ValueError(
                    "At least one task should be present in a step. Found none: skip this batch."
                )
            return step, None
        if not self.compared:
            state = plain(self._method.state_dict())
            self.ranks.check_alike(
                "The state of the method", state, step.values.device, "give all ranks the same seed."
            )
            self.compared = True
        shares = self.ranks.share(step.values, amounts)
        mask = shares.totals > 0
        everywhere = mask.device.type == "cpu" and bool(mask.all())
        return replace(step, values=shares.means, mask=None if everywhere else mask), shares

    def mean(self, values: Tensor) -> Tensor:
        """Losses (m,) averaged over the ranks that have them; NaN is none."""
        if self.ranks.number == 1:
            return values
        seen = ~values.isnan()
        shares = self.ranks.share(torch.where(seen, values, 0.0), seen.double())
        return torch.where(shares.totals > 0, shares.means, torch.nan)
