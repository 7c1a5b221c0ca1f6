"""Chemicals: seventeen measured properties of organic molecules, of which few are known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.core.names import check_known
from equipoise.data.chemicals import clipped, load_chemicals, split_chemicals, summarise_chemicals
from equipoise.data.chemicals_package import PACKAGE
from equipoise.data.chemicals_tables import PROPERTIES
from equipoise.data.chemistry import ATOM_FEATURES
from equipoise.data.molecules import EDGE_FEATURES, dense_chunks
from equipoise.data.packages import install
from equipoise.models.mlp import MLP, OneHead
from equipoise.models.mpnn import DenseGraphs, MessagePassingEncoder
from equipoise.training.labels import LabelledLosses
from equipoise.training.problem import Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.tabular import Column, Columns, TableBatch
from equipoise.training.tabular_metrics import mae, r2
from equipoise.training.task import Task

_EVALUATION_BATCH = {"mlp": 2048, "mpnn": 256}
_WIDTH = {"mlp": 256, "mpnn": 64}
_DEPTH = {"mlp": 2, "mpnn": 3}
_PIECE = 16  # molecules padded to the same number of atoms: a large one makes few others large
_COLUMNS = tuple(Column(item.name, "real", item.unit) for item in PROPERTIES)

_SPREADS = (78, 67, 57, 87, 0.14, 190, 0.15, 17, 22, 260, 280, 320, 78, 1.6, 0.057, 55, 73)
"""A fixed scale: mean absolute errors of guessing the training mean, on all molecules, validation part of seed 0."""
_REFERENCE = {
    name: value
    for item, spread in zip(PROPERTIES, _SPREADS, strict=True)
    for name, value in ((f"{item.name} r2", 1.0), (f"{item.name} mae", float(spread)))
}

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {"molecules": 1500, "width": 16, "bits": 256},
        "train": {"epochs": 2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # four minutes on two cores; 66 runs, nearly all tasks are learnt
        "options": {"molecules": 4000, "width": 128},
        "train": {"epochs": 15},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 3,
    },
    "small": {  # hours: all molecules, more methods
        "options": {},
        "train": {"epochs": 30},
        "methods": ["ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "cagrad", "imtl_g", "nashmtl"],
        "lrs": [1e-3],
        "seeds": 2,
    },
    "full": {  # until the validation part stalls
        "options": {"width": 512, "bits": 2048},
        "train": {"epochs": 100, "patience": 15},
        "methods": [
            "ls", "si", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "famo", "go4align"
        ],
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}  # fmt: skip


class Batch(NamedTuple):
    """b molecules.

    Fingerprints (b, bits) uint8 or pieces of graphs, standardised targets (b, 17) with NaN where there is no label, and
    what stands for 0 and for 1 in these, in report units (2, 17).
    """

    inputs: Any
    targets: Tensor
    scale: Tensor


class Chemicals:
    """Seventeen measured properties of 28,367 organic molecules, with one label in eight, from handbooks and databases.

    Mean squared error of each standardised property over the labelled molecules of a batch; metrics: R2 and the mean
    absolute error in the unit of the property, over the labelled molecules of a part. A tenth of the molecules is for
    testing and a tenth for validation, by the seed, with no scaffold in two parts. Before that, labels are moved into
    the range from the 0.5th to the 99.5th percentile of the training part.
    Reference: the package `chemicals`, https://github.com/CalebBell/chemicals; `equipoise.data.chemicals_tables` says
    which table gives what.
    Departures: none, as this is no published benchmark.

    Args:
        molecules: how many to draw, rare labels first, or None for all; see `load_chemicals`.
        yaws: whether labels from the tables of Yaws count too, part of which is estimated; see `load_chemicals`.
        model: "mlp" on circular fingerprints, or "mpnn" on the graphs of atoms and bonds.
        width: of the layers, by default 256 (mlp) or 64 (mpnn).
        depth: layers (mlp, by default 2) or rounds of messages (mpnn, by default 3).
        dropout: behind each layer (mlp) or the encoder (mpnn), in training.
        bits: of a fingerprint.
        batch_size: molecules per training step.
        root: the folder of the caches, or None for the default one.
        workers: threads that read ahead.
        progress: called with (done, total) while the molecules are read for the first time.

    Raises:
        ModuleNotFoundError: if the data package or rdkit is missing; the message says what to run.
        ValueError: if an option is out of its range, or a part has no two labels of a property.
    """

    name: ClassVar[str] = "chemicals"
    tasks: ClassVar[tuple[Task, ...]] = tuple(column.task for column in _COLUMNS)
    reference: ClassVar[Mapping[str, float]] = _REFERENCE
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = _PRESETS

    def __init__(
        self,
        *,
        molecules: int | None = None,
        yaws: bool = False,
        model: str = "mlp",
        width: int | None = None,
        depth: int | None = None,
        dropout: float = 0.2,
        bits: int = 1024,
        batch_size: int = 128,
        root: str | None = None,
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` should be at least 1. Found {batch_size}.")
        check_known("`model`", model, _WIDTH)
        self._model, self._bits = model, bits
        self._shape = (width or _WIDTH[model], depth or _DEPTH[model], dropout)
        self._batch_size, self._workers = batch_size, workers
        self.chemicals = load_chemicals(root, molecules=molecules, yaws=yaws, bits=bits, progress=progress)
        self._columns, _ = self._parts(0)  # refuses too few molecules before anything is trained

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """What is installed of the tables, where the cache is, and how to get what is missing."""
        return summarise_chemicals()

    @classmethod
    def install(cls) -> str:
        """Install the data package alone, without what it depends on."""
        install([PACKAGE])
        return f"Installed {PACKAGE.pin}."

    def preview(self) -> Preview:
        """The properties with their numbers of labels in the parts of seed 0, and those of Yaws."""
        _, parts = self._parts(0)
        known = [(~labels.isnan()).sum(dim=0).tolist() for _, labels in parts]
        estimated = self.chemicals.yaws.sum(dim=0).tolist()
        rows = tuple(
            (item.name, item.unit, *(f"{count[k]:,}" for count in known), f"{estimated[k]:,}")
            for k, item in enumerate(PROPERTIES)
        )
        total = len(self.chemicals)
        filled = float((~self.chemicals.values.isnan()).double().mean())
        left_out = self.chemicals.unreadable
        return Preview(
            ("property", "unit", "training", "validation", "test", "of Yaws"),
            rows,
            (
                f"{total:,} molecules ({', '.join(f'{len(part):,}' for part, _ in parts)}) in "
                f"{len(self.chemicals.group.unique()):,} groups of one scaffold; {100 * filled:.1f} % of the labels "
                "are known.",
                f"{left_out} molecules were left out, which rdkit cannot read.",
                "Labels are clipped to the 0.5th and 99.5th percentile of the training part.",
            ),
        )

    def model(self, seed: int) -> OneHead:
        """The network, with one linear layer for the heads of all properties."""
        width, depth, dropout = self._shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self._model == "mlp":
                return MLP(self._bits, len(self.tasks), width, depth, dropout)
            encoder = MessagePassingEncoder(
                width, 2 * width, depth, node_features=ATOM_FEATURES, edge_features=EDGE_FEATURES
            )
            return OneHead(nn.Sequential(encoder, nn.Dropout(dropout)), width, len(self.tasks))

    def loaders(self, seed: int) -> Loaders:
        """The split of this seed by scaffolds.

        Raises:
            ValueError: if a part has no two different labels of a property.
        """
        columns, parts = self._parts(seed)
        targets = torch.full(self.chemicals.values.shape, torch.nan)
        for part, labels in parts:
            targets[part] = columns.scaled(labels)
        ends = torch.tensor([[0.0], [1.0]]).expand(2, len(self.tasks))
        read = partial(self._read, targets, columns.predictions(ends))
        size = _EVALUATION_BATCH[self._model]
        train, validation, test = (part for part, _ in parts)
        return Loaders(
            SampleBatches(read, train, size=self._batch_size, seed=seed, workers=self._workers),
            SampleBatches(read, validation, size=size),
            SampleBatches(read, test, size=size),
        )

    def losses(self, model: nn.Module, batch: Batch) -> LabelledLosses:
        """The squared error of each standardised property that has a label in the batch."""
        assert isinstance(model, OneHead)
        return self._columns.losses(model, TableBatch(batch.inputs, batch.targets))

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, OneHead)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """R2 and mean absolute error, in its unit, of each property over its labels."""
        pairs = []
        for batch in loader:
            zero, one = batch.scale
            pairs.append([x.double() * (one - zero) + zero for x in (model(batch.inputs), batch.targets)])
        return _measured(*(torch.cat(parts).cpu() for parts in zip(*pairs, strict=True)))

    def trivial(self, seed: int) -> dict[str, float]:
        """The test metrics of guessing the mean of the training labels."""
        columns, (_, _, (_, labels)) = self._parts(seed)
        return columns.trivial(labels)

    def _read(self, targets: Tensor, scale: Tensor, index: Tensor) -> Batch:
        """The molecules of these numbers (b,); those of graphs come by size."""
        if self._model == "mlp":
            return Batch(self.chemicals.molecules.fingerprints(index), targets[index], scale)
        chunks, order = dense_chunks(self.chemicals.molecules.graphs, index, -(-len(index) // _PIECE))
        return Batch([DenseGraphs(*chunk) for chunk in chunks], targets[index[order]], scale)

    def _parts(self, seed: int) -> tuple[Columns, list[tuple[Tensor, Tensor]]]:
        """The scales of a split, and the molecules of its parts with the labels that each of them uses."""
        values, parts = self.chemicals.values, split_chemicals(self.chemicals, seed)
        labels = [clipped(values[part], values[parts[0]]) for part in parts]
        for name, own in zip(("training", "validation", "test"), labels, strict=True):
            _check(name, own)
        return Columns(_COLUMNS, labels[0]), list(zip(parts, labels, strict=True))


def _check(part: str, labels: Tensor) -> None:
    """Refuse a part on which a property cannot be measured."""
    for item, own in zip(PROPERTIES, labels.unbind(dim=1), strict=True):
        found = len(own[~own.isnan()].unique())
        if found < 2:
            raise ValueError(
                f"`molecules` should be enough for two different labels of {item.name} in the {part} part. "
                f"Found {found}: take more molecules."
            )


def _measured(guesses: Tensor, labels: Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    for item, guess, own in zip(PROPERTIES, guesses.unbind(dim=1), labels.unbind(dim=1), strict=True):
        known = ~own.isnan()
        found[f"{item.name} r2"] = r2(guess[known], own[known])
        found[f"{item.name} mae"] = mae(guess[known], own[known])
    return found
