"""How the Gramian is measured: from m rows, or in less memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from equipoise.core import Method, Reads
from equipoise.core.method import check_one_of

from .factored import LinearTaps, factored_gramian, factored_size
from .features import features_gramian
from .gradients import Shared, Split
from .last_layer import last_layer_gramian
from .layerwise import layerwise_gramian
from .sketch import SIZE, sketched_gramian, standard_error
from .sources import Measured, Sources
from .streamed import StreamedGramian

ROWS = ("rows", "rows_bf16", "rows_cpu")
EXACT = (*ROWS, "layerwise", "factored")
_BY_GROUPS: dict[str, Callable[..., Measured]] = {
    "layerwise": layerwise_gramian,
    "factored": factored_gramian,
}
_SURROGATES: dict[str, Callable[[Sources, Split], Measured]] = {
    "features": features_gramian,
    "last_layer": last_layer_gramian,
}
MODES = ("auto", *ROWS, "layerwise", "factored", "sketch", "streamed", "features", "last_layer")
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
        self._check()
        wanted = self.mode in ("factored", "auto") and not obstacle
        self._taps = LinearTaps(self._module) if wanted and self._module is not None else None
        self._said = False
        self._room: int | None = None  # entries of each row that may be held at once
        self._streamed = StreamedGramian(method.n_tasks)

    def choose(self, sources: Sources, split: Split) -> str:
        """The mode for a step, one of the rows or another one; decided, and said, when the first step is seen."""
        if self.mode == "auto":
            self.mode = self._within_budget(sources, split)
            _log.info("equipoise measures gradients by memory=%r", self.mode)
        if self.mode == "sketch" and not self._said:
            error = 100 * standard_error(SIZE)
            _log.info("equipoise: memory='sketch' estimates the Gramian, standard error %.1f %%", error)
            self._said = True
        return self.mode

    def measure(self, sources: Sources, split: Split, step: int) -> Measured:
        """The Gramian by the chosen mode; the graph is kept."""
        if self.mode == "sketch":
            return sketched_gramian(sources, split, seed=step)
        if self.mode == "streamed":
            return self._streamed.measure(sources, split)
        if self.mode in _BY_GROUPS:
            return _BY_GROUPS[self.mode](sources, split, budget=self._room)
        return _SURROGATES[self.mode](sources, split)

    def fall_back(self, error: Exception) -> bool:
        """After the rows did not fit: whether there is a leaner mode to go on with, which is said."""
        if self._asked != "auto" or self._obstacle:
            return False
        self.mode = "layerwise"
        _log.warning(
            "equipoise: the rows do not fit into memory (%s); going on with memory='layerwise'", error
        )
        return True

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step."""
        return self._streamed.state_dict() if self.mode == "streamed" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, if by the same mode."""
        if state and self.mode == "streamed":
            self._streamed.load_state_dict(state)

    def _within_budget(self, sources: Sources, split: Split) -> str:
        """The fastest exact mode that fits; the sketch if none does."""
        if self._obstacle or self._budget is None:
            return "rows"
        size = torch.promote_types(split.shared[0].dtype, torch.float32).itemsize
        room = self._budget * _GIGABYTE / (size * split.n_tasks)  # entries of each row
        if sum(split.blocks) <= room:
            return "rows"
        self._room = max(1, int(room))
        if self._taps is not None and factored_size(sources, split) <= room:
            return "factored"
        if max(split.blocks) <= room:
            return "layerwise"
        _log.warning(
            "equipoise: no exact mode fits into %g GB; memory='sketch' estimates the Gramian", self._budget
        )
        return "sketch"

    def _check(self) -> None:
        """Refuse a mode that was asked for by name and cannot work."""
        if self._asked in ("auto", "rows"):
            return
        if self._obstacle:
            raise ValueError(
                f"`memory` should be 'rows' or 'auto' here: {self._obstacle}. Found {self._asked!r}."
            )
        if self._asked == "factored" and self._module is None:
            raise ValueError(
                "`shared` should be the module of the shared parameters for memory='factored', which watches its "
                "linear layers. Found no module."
            )
