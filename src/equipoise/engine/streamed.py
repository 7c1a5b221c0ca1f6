"""An estimate of the Gramian from a few tasks a step: a running mean of its entries.

Each step measures the rows of three tasks (of two, if there are three), chosen at random among those present, and moves
what their products tell. Norms and cosines are averaged apart, n_i <- d n_i + (1 - d) |g_i| and
c_ij <- d c_ij + (1 - d) cos(g_i, g_j), so that a gradient that grows does not wait for all of its products. The Gramian
is n_i c_ij n_j, without the negative eigenvalues of c, which averages of entries from different steps can have. A step
costs four backward passes, whatever the number of tasks. While a pair of present tasks has never been measured
together, a step measures all of them.

It lags behind: the entries are those of parameters and batches of earlier steps. On QM9 its updates agreed with the
exact ones about as well as those from another batch's Gramian, and no better than equal weights (docs/memory.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.core import gramian_of

from .gradients import Split, gradients_of, views
from .layerwise import layerwise_gramian
from .sources import Measured, Sources

_DECAY = 0.9  # of 0.5 to 0.95 the mildest to CAGrad in a trial on QM9; the others were all alike
_SEED = 0


class StreamedGramian:
    """Keeps the running means from step to step.

    Args:
        n_tasks: the number of tasks m.
    """

    def __init__(self, n_tasks: int) -> None:
        self._rows = 3 if n_tasks > 3 else 2
        self._norms = torch.zeros(n_tasks, dtype=torch.float64)
        self._cosines = torch.eye(n_tasks, dtype=torch.float64)
        self._seen = torch.zeros(n_tasks, n_tasks, dtype=torch.bool)
        self._stream = torch.Generator().manual_seed(_SEED)

    def measure(self, sources: Sources, split: Split) -> Measured:
        """Measure some tasks, and give the estimate for all that are present; the graph is kept."""
        self._to(split.shared[0].device)
        tasks = torch.tensor(list(sources.roots), device=self._norms.device)
        every = tasks[:, None], tasks
        squares = self._cosines.new_zeros(len(split.shared), sources.n_tasks)
        if bool(self._seen[every].all()) and len(tasks) > self._rows:
            drawn = torch.randperm(len(tasks), generator=self._stream)[: self._rows].sort().values
            tasks = tasks[drawn.to(tasks.device)]
            part = self._products(sources, split, tasks.tolist())
            squares[:, tasks] = 1.0  # the parameters were told apart when all were measured
        else:
            measured = layerwise_gramian(sources, split)
            part, squares = measured.gramian[every], measured.squares
        if bool(part.isfinite().all()):
            self._move(tasks, part)
            return Measured(self._estimate(every), squares, len(tasks))
        bad = torch.zeros_like(self._cosines)
        bad[tasks[:, None], tasks] = part
        return Measured(bad, squares, len(tasks))

    def state_dict(self) -> dict[str, Any]:
        """The running means and the position in the random stream."""
        return {
            "norms": self._norms.clone(),
            "cosines": self._cosines.clone(),
            "seen": self._seen.clone(),
            "stream": self._stream.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._norms, self._cosines, self._seen = (state[k].clone() for k in ("norms", "cosines", "seen"))
        self._stream.set_state(state["stream"].cpu())

    def _to(self, device: torch.device) -> None:
        self._norms, self._cosines = self._norms.to(device), self._cosines.to(device)
        self._seen = self._seen.to(device)

    def _products(self, sources: Sources, split: Split, tasks: list[int]) -> Tensor:
        """The Gramian (k, k) of some tasks' rows."""
        first = split.shared[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        rows = torch.zeros(len(tasks), sum(split.blocks), dtype=dtype, device=first.device)
        for row, i in zip(rows, tasks, strict=True):
            if i not in sources.lacking:
                seeds = [sources.seed(i, first)]
                found = gradients_of([sources.roots[i]], seeds, split.shared, retain_graph=True)
                torch._foreach_copy_(views(row, split.shared), found)
        return sources.unscaled(gramian_of(sources.total(rows)))

    def _move(self, tasks: Tensor, part: Tensor) -> None:
        norms = part.diagonal().clamp(min=0).sqrt()
        lengths = norms.clamp(min=torch.finfo(norms.dtype).tiny)
        cosines = (part / lengths / lengths[:, None]).clamp(-1.0, 1.0)
        cosines.fill_diagonal_(1.0)
        places = tasks[:, None], tasks
        old, seen = self._cosines[places], self._seen[places]
        self._cosines[places] = torch.where(seen, _DECAY * old + (1 - _DECAY) * cosines, cosines)
        known = seen.diagonal()
        self._norms[tasks] = torch.where(known, _DECAY * self._norms[tasks] + (1 - _DECAY) * norms, norms)
        self._seen[places] = True

    def _estimate(self, places: tuple[Tensor, Tensor]) -> Tensor:
        """The Gramian (m, m), zero for absent tasks."""
        values, vectors = torch.linalg.eigh(self._cosines[places])
        cosines = (vectors * values.clamp(min=0)) @ vectors.T
        norms = self._norms[places[1]]
        gramian = torch.zeros_like(self._cosines)
        gramian[places] = norms[:, None] * cosines * norms
        return gramian
