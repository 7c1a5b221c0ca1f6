"""Your own table: every column to be predicted is a task, on molecules or on other columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.core.names import check_known
from equipoise.data.chemistry import ATOM_FEATURES
from equipoise.data.molecules import EDGE_FEATURES, dense_chunks
from equipoise.data.table_parts import PARTS
from equipoise.data.table_task import TableData, TableSource, load_table
from equipoise.models.mlp import MLP, OneHead
from equipoise.models.mpnn import DenseGraphs, MessagePassingEncoder
from equipoise.training.labels import LabelledLosses
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.tabular import Column, Columns, TableBatch
from equipoise.training.task import Task

from .table_presets import PRESETS

_EVALUATION_BATCH = {"mlp": 2048, "mpnn": 256}
_WIDTH = {"mlp": 256, "mpnn": 64}
_DEPTH = {"mlp": 2, "mpnn": 3}
_PIECE = 16  # molecules padded to the same number of atoms: a large one makes few others large
_SHOWN = 40  # rows of a preview


class Table:
    """A table of your own, as csv or tsv: molecules or features, and a task for each column of numbers to predict.

    Kinds are inferred (see `equipoise.data.table_columns.targets_of`): binary columns have the cross-entropy as loss
    and the area under the ROC curve as metric, counts the Poisson deviance and reals the squared error, both with R2
    and mean absolute error as metrics. An empty cell is no label. The split belongs to the table: it is the same for
    all seeds of runs, since which targets can be measured depends on it.

    Args:
        csv: path of the table.
        smiles: column of molecules as SMILES strings; all other columns of numbers are targets by default.
        features: columns to predict from, names or one text with commas, where there are no molecules.
        targets: columns to predict, likewise.
        split: "random", "scaffold" (molecules) or "column"; by default by column if `split_column` is given.
        split_column: that tells train, validation or test, or numbers of folds.
        split_seed: of a split that is drawn, and of nothing else.
        model: "mlp" on features or circular fingerprints, "mpnn" on the graphs of molecules.
        width: of the layers, by default 256 (mlp) or 64 (mpnn).
        depth: layers (mlp, by default 2) or rounds of messages (mpnn, by default 3).
        dropout: behind each layer (mlp) or the encoder (mpnn).
        bits: of a fingerprint.
        batch_size: samples per training step.
        skip_bad: whether rows and targets that cannot be used are left out and counted, in place of an error.
        root: folder of the cache of molecules, or None for the default one.
        progress: called with (done, total) while molecules are read for the first time.

    Raises:
        ModuleNotFoundError: without pandas or, for molecules, rdkit; the message names the extra.
        FileNotFoundError: if there is no such file.
        ValueError: on anything wrong with the table or an option; the message says what to do.
    """

    name: ClassVar[str] = "table"
    tasks: ClassVar[tuple[Task, ...]] = ()  # those of an instance are its own; see `describe`
    reference: ClassVar[Mapping[str, float]] = {}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        csv: str | None = None,
        smiles: str | None = None,
        features: Sequence[str] | str = (),
        targets: Sequence[str] | str = (),
        split: str | None = None,
        split_column: str | None = None,
        split_seed: int = 0,
        model: str = "mlp",
        width: int | None = None,
        depth: int | None = None,
        dropout: float = 0.2,
        bits: int = 1024,
        batch_size: int = 128,
        skip_bad: bool = False,
        root: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        check_known("`model`", model, _WIDTH)
        if batch_size < 1:
            raise ValueError(f"`batch_size` should be at least 1. Found {batch_size}.")
        self.source = _source(
            {"csv": csv, "smiles": smiles, "features": features, "targets": targets, "split": split}
            | {"split_column": split_column, "split_seed": split_seed, "skip_bad": skip_bad, "bits": bits}
        )
        self.table, self.columns = _loaded(self.source, root, progress)
        if model == "mpnn" and self.table.molecules is None:
            raise ValueError("`model` should be mlp for a table without `smiles`. Found mpnn.")
        self._model = model
        self._shape = (width or _WIDTH[model], depth or _DEPTH[model], dropout)
        self._batch_size = batch_size
        self._targets = self.columns.scaled(self.table.targets.labels)
        self.tasks = self.columns.tasks  # type: ignore[misc]
        self.reference = _reference(self.table, self.columns)  # type: ignore[misc]

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Which packages are there, and what a table should look like."""
        missing = [package for package in ("pandas", "rdkit") if find_spec(package) is None]
        facts: dict[str, Any] = {
            "available": "pandas" not in missing,
            "layout": "a .csv or .tsv file, packed (.gz, .bz2, .xz, .zip) or not, names of the columns first",
            "how": "--csv FILE with --smiles COLUMN, or with --features A,B --targets C,D",
        }
        if missing:
            facts["problem"] = f'{" and ".join(missing)} missing: pip install "equipoise[table]"'
        return facts

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks of the table that the options name; what is read is kept for the runs.

        Raises:
            ValueError: see `Table`.
        """
        table, columns = _loaded(_source(options), options.get("root"), options.get("progress"))
        return Description(columns.tasks, _reference(table, columns))

    def preview(self) -> Preview:
        """Kinds and labels of each target in each part, and what was left out."""
        labels, parts = self.table.targets.labels, self.table.parts
        rows = []
        for k, column in enumerate(self.columns.columns[:_SHOWN]):
            known = [labels[part, k][~labels[part, k].isnan()] for part in parts]
            counts = [f"{len(own):,}" for own in known]
            if column.kind == "binary":
                counts = [f"{len(own):,} ({int(own.sum()):,} positive)" for own in known]
            rows.append((column.name, column.kind, *counts, f"{float(torch.cat(known).mean()):.4g}"))
        sizes = ", ".join(f"{len(part):,} {name}" for part, name in zip(parts, PARTS, strict=True))
        more = len(self.tasks) - len(rows)
        filled = 100 * (1 - float(labels.isnan().double().mean()))
        notes = (
            *((f"and {more} targets more.",) if more > 0 else ()),
            f"{len(labels):,} samples ({sizes}) and {len(self.tasks)} targets; {filled:.1f} % of the labels are there.",
            *self.table.notes,
        )
        return Preview(("target", "kind", *(f"{part} labels" for part in PARTS), "mean"), tuple(rows), notes)

    def model(self, seed: int) -> OneHead:
        """The network, with one linear layer for the heads of all tasks, which begin near the training means."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._network()
        with torch.no_grad():
            network.head.bias.add_(self.columns.start)
        return network

    def _network(self) -> OneHead:
        width, depth, dropout = self._shape
        outputs = len(self.tasks)
        if self._model == "mlp":
            inputs = self.source.bits if self.table.inputs is None else self.table.inputs.shape[1]
            return MLP(inputs, outputs, width, depth, dropout)
        encoder = MessagePassingEncoder(
            width, 2 * width, depth, node_features=ATOM_FEATURES, edge_features=EDGE_FEATURES
        )
        return OneHead(nn.Sequential(encoder, nn.Dropout(dropout)), width, outputs)

    def loaders(self, seed: int) -> Loaders:
        """The split of the table; the seed changes the order of the training samples only."""
        train, validation, test = self.table.parts
        size = _EVALUATION_BATCH[self._model]
        return Loaders(
            SampleBatches(self._read, train, size=self._batch_size, seed=seed),
            SampleBatches(self._read, validation, size=size),
            SampleBatches(self._read, test, size=size),
        )

    def losses(self, model: nn.Module, batch: TableBatch) -> LabelledLosses:
        """The loss of each task that has a label in the batch."""
        assert isinstance(model, OneHead)
        return self.columns.losses(model, batch)

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, OneHead)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[TableBatch]) -> dict[str, float]:
        """AUC, or R2 and mean absolute error in units of the column, of each task over its labels."""
        return self.columns.evaluate(model, loader)

    def trivial(self, seed: int) -> dict[str, float]:
        """The test metrics of guessing the mean of the training labels."""
        return self.columns.trivial(self.table.targets.labels[self.table.parts[2]])

    def _read(self, index: Tensor) -> TableBatch:
        """The samples of these numbers (b,); those of graphs come by size."""
        table = self.table
        if table.molecules is None:
            assert table.inputs is not None
            return TableBatch(table.inputs[index], self._targets[index])
        rows = table.rows[index]
        if self._model == "mlp":
            return TableBatch(table.molecules.fingerprints(rows), self._targets[index])
        chunks, order = dense_chunks(table.molecules.graphs, rows, -(-len(index) // _PIECE))
        return TableBatch([DenseGraphs(*chunk) for chunk in chunks], self._targets[index[order]])


def _source(options: Mapping[str, Any]) -> TableSource:
    """Which table the options name."""
    if not options.get("csv"):
        raise ValueError(
            "`csv` should be the path of your table. Found none: write --csv FILE, or --set csv=FILE."
        )
    chosen = {name: value for name, value in options.items() if name in TableSource.__dataclass_fields__}
    for name in ("features", "targets"):
        given = chosen.get(name) or ()
        words = given.split(",") if isinstance(given, str) else given
        chosen[name] = tuple(word.strip() for word in words if word.strip())
    return TableSource(**chosen)


def _loaded(
    source: TableSource, root: str | None, progress: Callable[[int, int], None] | None
) -> tuple[TableData, Columns]:
    table = load_table(source, root, progress)
    names, kinds = table.targets.names, table.targets.kinds
    if len(names) < 2:
        raise ValueError(
            f"The table should have at least 2 targets, each of them a task. Found {', '.join(names)}: name more, or "
            "see what was left out."
        )
    columns = [Column(name, kind) for name, kind in zip(names, kinds, strict=True)]
    return table, Columns(columns, table.training_labels)


def _reference(table: TableData, columns: Columns) -> dict[str, float]:
    return columns.reference(table.targets.labels[table.parts[1]])
