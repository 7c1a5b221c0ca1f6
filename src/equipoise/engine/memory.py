"""How the Gramian is measured: from m rows, or in less memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from equipoise.core import Method, Reads
from equipoise.core.method import check_one_of

from .factored import LinearTaps, factored_gramian
from .features import features_gramian
from .gradients import Shared, Split
from .layerwise import GramianAndHeads, layerwise_gramian
from .sketch import SIZE, sketched_gramian, standard_error

MODES = ("auto", "rows", "layerwise", "factored", "sketch", "features")
_GIGABYTE = 1e9
_log = logging.getLogger("equipoise")


class Memory:
    """Chooses a memory mode and measures by it.

    Args:
        mode: one of `MODES`.
        budget_gb: what "auto" may spend on gradients, in units of 10^9 bytes; None for no limit.
        shared: what the Balancer was given; "factored" needs a module, whose linear layers it watches.
        method: which is to be shown the Gramian.
        obstacle: why only rows are possible in this set-up, or "".

    Raises:
        ValueError: if the mode cannot work here.
    """

    def __init__(
        self, mode: str, budget_gb: float | None, shared: Shared | None, method: Method, obstacle: str
    ) -> None:
        check_one_of("memory", mode, MODES)
        if budget_gb is not None and not budget_gb > 0:
            raise ValueError(f"`budget_gb` should be above 0. Found {budget_gb:g}.")
        if method.reads == Reads.JACOBIAN:
            obstacle = obstacle or f"{type(method).__name__} reads the whole Jacobian"
        self._obstacle = obstacle
        self._budget = budget_gb
        self._module = shared if isinstance(shared, nn.Module) else None
        self._asked = mode
        self.mode = mode if mode != "auto" or budget_gb is not None else "rows"
        self._fails(mode)
        wanted = self.mode in ("factored", "auto") and not obstacle
        self._taps = LinearTaps(self._module) if wanted and self._module is not None else None

    def choose(self, split: Split, ranks: int) -> str:
        """The mode for a step, "rows" or another one; decided, and said, when the first step is seen."""
        if ranks > 1 and self.mode != "rows":
            self._obstacle = f"a distributed run of {ranks} ranks reduces the rows"
            self._fails(self.mode)
            self.mode = "rows"
        if self.mode == "auto":
            self.mode = self._within_budget(split)
            _log.info("equipoise measures gradients by memory=%r", self.mode)
        return self.mode

    def measure(
        self, roots: Mapping[int, GradientEdge], split: Split, n_tasks: int, step: int
    ) -> GramianAndHeads:
        """The Gramian and the heads' gradients by the chosen mode; the graph is kept."""
        if self.mode == "factored":
            return factored_gramian(roots, split, n_tasks)
        if self.mode == "sketch":
            return sketched_gramian(roots, split, n_tasks, seed=step)
        if self.mode == "features":
            return features_gramian(roots, split, n_tasks)
        return layerwise_gramian(roots, split, n_tasks)

    def fall_back(self, error: Exception) -> bool:
        """After the rows did not fit: whether there is a leaner mode to go on with, which is said."""
        if self._asked != "auto" or self._obstacle:
            return False
        self.mode = "layerwise"
        _log.warning(
            "equipoise: the rows do not fit into memory (%s); going on with memory='layerwise'", error
        )
        return True

    def _within_budget(self, split: Split) -> str:
        """The fastest exact mode that fits; the sketch if none does."""
        if self._obstacle or self._budget is None:
            return "rows"
        size = torch.promote_types(split.shared[0].dtype, torch.float32).itemsize
        room = self._budget * _GIGABYTE / (size * split.n_tasks)  # entries of each row
        if sum(split.blocks) <= room:
            return "rows"
        watched = set(self._linear_weights())
        others = [p.numel() for p in split.shared if p not in watched]
        if watched and max(others, default=0) <= room:
            return "factored"
        if max(split.blocks) <= room:
            return "layerwise"
        _log.warning(
            "equipoise: no exact mode fits into %g GB; memory='sketch' estimates the Gramian, standard error %.1f %%",
            self._budget,
            100 * standard_error(SIZE),
        )
        return "sketch"

    def _linear_weights(self) -> list[torch.Tensor]:
        if self._taps is None or self._module is None:
            return []
        return [layer.weight for layer in self._module.modules() if isinstance(layer, nn.Linear)]

    def _fails(self, mode: str) -> None:
        """Refuse a mode that was asked for by name and cannot work."""
        if self._asked in ("auto", "rows"):
            return
        if self._obstacle:
            raise ValueError(f"`memory` should be 'rows' or 'auto' here: {self._obstacle}. Found {mode!r}.")
        if mode == "factored" and self._module is None:
            raise ValueError(
                "`shared` should be the module of the shared parameters for memory='factored', which watches its "
                "linear layers. Found no module."
            )
