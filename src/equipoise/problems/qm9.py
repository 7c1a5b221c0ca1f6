"""QM9: eleven quantum-chemical properties of small molecules, by one message-passing network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.data.qm9 import TARGETS, dense_chunks, load_qm9, split, standardise, summarise_qm9
from equipoise.models.mpnn import DenseGraphs, MessagePassingNet
from equipoise.training.problem import Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

_ENERGIES = ("homo", "lumo", "zpve", "u0", "u", "h", "g")  # reported in meV, as published
_UNITS = {"mu": "D", "alpha": "a0^3", "r2": "a0^2", "cv": "cal/(mol K)"} | dict.fromkeys(_ENERGIES, "meV")
_EVALUATION_BATCH = 500


_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {"molecules": 600, "width": 16, "edge_width": 16},
        "train": {"epochs": 3},
        "methods": _METHODS,
        "lrs": [5e-3],
        "seeds": 1,
    },
    "quick": {  # ten minutes on two cores; most tasks are learnt
        "options": {"molecules": 4000, "width": 32, "edge_width": 32},
        "train": {"epochs": 13},  # 351 steps
        "methods": _METHODS,
        "lrs": [5e-3],
        "seeds": 2,
    },
    "small": {  # hours; all molecules, a quarter of the published network
        "options": {"width": 32, "edge_width": 32},
        "train": {"epochs": 12},
        "methods": ["ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "cagrad", "imtl_g", "nashmtl"],
        "lrs": [1e-3],
        "seeds": 1,
    },
    "paper": {  # the published protocol
        "options": {},
        "train": {"epochs": 300},
        "methods": [
            "ls", "si", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "famo", "go4align"
        ],
        "lrs": [1e-3, 5e-4, 1e-4],
        "seeds": 3,
    },
}  # fmt: skip


class Batch(NamedTuple):
    """b molecules: dense chunks, standardised targets (b, 11) in their order, and report units per deviation (11,)."""

    chunks: list[DenseGraphs]
    targets: Tensor
    unit: Tensor


class QM9:
    """The QM9 benchmark of GO4Align, FAMO and Nash-MTL, on all molecules or a sample of them.

    Mean squared error of standardised targets, a task each; metric: mean absolute error in report units.
    Split 10k test, 10k validation, rest training by the seed (a tenth each for a sample). Reference:
    A. Navon et al., ICML 2022, https://arxiv.org/abs/2202.01017, and J. Shen et al., NeurIPS 2024,
    https://arxiv.org/abs/2404.06486, Section 5.1.
    Departures: standardised by mean and deviation of the training part, where the published code takes
    those of the whole set, test part included.

    Args:
        molecules: how many to sample, or None for all 130,831. The sample does not depend on the seed of a run.
        batch_size: molecules per training step.
        width: of the node states, 64 in the papers.
        edge_width: of the hidden layer of the edge network, 128 in the papers.
        rounds: of message passing.
        chunks: pieces of like size that a batch is computed in; changes the cost, not the result.
        source: "qm9pack" or the folder of a PyTorch Geometric QM9.
        root: the folder of the cache, or None for the default one.
        features: "pyg" or "chemical"; see `load_qm9`.
        progress: called with (done, total) while the molecules are read for the first time.

    Raises:
        ModuleNotFoundError: if the data package is missing; the message names the extra.
        ValueError: if an option is out of its range.
    """

    name: ClassVar[str] = "qm9"
    tasks: ClassVar[tuple[Task, ...]] = tuple(
        Task(name, (Metric(name, higher_is_better=False, unit=_UNITS[name]),)) for name in TARGETS
    )
    reference: ClassVar[Mapping[str, float]] = dict(
        zip(
            TARGETS,
            (0.0671, 0.1814, 60.576, 53.915, 0.5027, 4.539, 58.838, 64.244, 63.852, 66.223, 0.07212),
            strict=True,
        )
    )  # the published single-task errors, in full precision as in the code of FAMO and Nash-MTL: a fixed scale
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "go4align": {"groups": 5},
        "grouped": {"groups": 5},
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = _PRESETS

    def __init__(
        self,
        *,
        molecules: int | None = None,
        batch_size: int = 120,
        width: int = 64,
        edge_width: int = 128,
        rounds: int = 3,
        chunks: int = 4,
        source: str = "qm9pack",
        root: str | None = None,
        features: str = "pyg",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"`batch_size` should be at least 2. Found {batch_size}.")
        self._shape = {"width": width, "edge_width": edge_width, "rounds": rounds}
        self._batch_size = batch_size
        self._chunks = chunks
        self.molecules = load_qm9(
            root, source=source, molecules=molecules, features=features, progress=progress
        )
        self._factors = torch.tensor([1000.0 if name in _ENERGIES else 1.0 for name in TARGETS])

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """What is installed of QM9, where its cache is, and how to get what is missing."""
        return summarise_qm9()

    def model(self, seed: int) -> nn.Module:
        """The published network: NNConv and GRU rounds, Set2Set, one linear head per target."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MessagePassingNet(tasks=len(self.tasks), **self._shape)

    def loaders(self, seed: int) -> Loaders:
        """The published split of this seed."""
        train, validation, test = split(len(self.molecules), seed)
        mean, deviation = standardise(self.molecules.targets, train)
        read = partial(self._read, (self.molecules.targets - mean) / deviation, deviation * self._factors)
        return Loaders(
            SampleBatches(read, train, size=self._batch_size, seed=seed),
            SampleBatches(read, validation, size=_EVALUATION_BATCH),
            SampleBatches(read, test, size=_EVALUATION_BATCH),
        )

    def _read(self, targets: Tensor, unit: Tensor, index: Tensor) -> Batch:
        chunks, place = dense_chunks(self.molecules, index, self._chunks)
        return Batch([DenseGraphs(*chunk) for chunk in chunks], targets[index[place]], unit)

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean squared error of each standardised target."""
        assert isinstance(model, MessagePassingNet)
        pairs = zip(model.outputs(batch.chunks), batch.targets.unbind(dim=1), strict=True)
        return {
            name: (found - target).square().mean()
            for name, (found, target) in zip(TARGETS, pairs, strict=True)
        }

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, MessagePassingNet)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Mean absolute error of each target in report units."""
        total, molecules = torch.zeros(len(TARGETS), dtype=torch.float64), 0
        for batch in loader:
            errors = (model(batch.chunks) - batch.targets).abs() * batch.unit
            total += errors.double().sum(dim=0).cpu()
            molecules += len(errors)
        return dict(zip(TARGETS, (total / molecules).tolist(), strict=True))

    def trivial(self, seed: int) -> dict[str, float]:
        """Mean absolute test error of guessing the training mean."""
        train, _, test = split(len(self.molecules), seed)
        targets = self.molecules.targets.double() * self._factors
        errors = (targets[test] - targets[train].mean(dim=0)).abs().mean(dim=0)
        return dict(zip(TARGETS, errors.tolist(), strict=True))
