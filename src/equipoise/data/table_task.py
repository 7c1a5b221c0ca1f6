"""A user's table as a multi-task data set: inputs, labels and parts, everything that is wrong with it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .grouped_split import Split
from .smiles import SmilesTable, load_smiles
from .table import Table, listed, read_table
from .table_columns import Roles, Targets, encoded, roles_of, targets_of
from .table_parts import PARTS, SPLITS, split_by_column, split_by_groups, without_copies

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TableSource:
    """Which table, and how it is read.

    Args:
        csv: path of the file.
        smiles: column of molecules, or None.
        features: columns to predict from; none where there are molecules.
        targets: columns to predict; none for the default of `roles_of`.
        split: "random", "scaffold" or "column"; None for the column if there is one, else random.
        split_column: that tells the parts, or None.
        split_seed: of the split, the same for all runs.
        skip_bad: whether to leave out and count what is wrong.
        bits: of a fingerprint.
    """

    csv: str
    smiles: str | None = None
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    split: str | None = None
    split_column: str | None = None
    split_seed: int = 0
    skip_bad: bool = False
    bits: int = 1024


@dataclass(frozen=True)
class TableData:
    """N samples of m tasks.

    Args:
        targets: names, kinds and labels (N, m); every task has two different labels in each part.
        parts: the samples of training, validation and test part.
        inputs: (N, f) float32 encoded features, or None where there are molecules.
        molecules: those of all rows of the table, or None.
        rows: (N,) row of each sample in the table.
        roles: what the columns are used for.
        notes: sentences on what was left out or changed.
    """

    targets: Targets
    parts: Split
    inputs: Tensor | None
    molecules: SmilesTable | None
    rows: Tensor
    roles: Roles
    notes: tuple[str, ...]

    @property
    def training_labels(self) -> Tensor:
        """Labels of the training part (n, m)."""
        return self.targets.labels[self.parts[0]]


def load_table(source: TableSource, root: str | None = None, progress: Progress | None = None) -> TableData:
    """Read, check and split a table; the last two results are kept, as long as the file stays the same.

    Args:
        source: which table, and how.
        root: folder of the cache of molecules; see `data_root`.
        progress: called with (done, total) while molecules are read for the first time.

    Raises:
        ModuleNotFoundError: without pandas, or rdkit where there are molecules.
        FileNotFoundError: if there is no such file.
        ValueError: on anything wrong that is not to be left out; the message says what to do.
    """
    path = Path(source.csv).expanduser()
    facts = path.stat() if path.is_file() else None
    version = (facts.st_mtime_ns, facts.st_size) if facts else (0, 0)
    return _loaded(source, root, version, _Silent(progress))


class _Silent:
    """A progress callback that does not count for the cache."""

    def __init__(self, call: Progress | None) -> None:
        self.call = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Silent)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=2)
def _loaded(source: TableSource, root: str | None, version: tuple[int, int], silent: _Silent) -> TableData:
    split = source.split or ("column" if source.split_column else "random")
    _check_split(split, source.split_column)
    table = read_table(Path(source.csv).expanduser())
    roles = roles_of(
        table,
        smiles=source.smiles,
        features=source.features,
        targets=source.targets,
        split_column=source.split_column,
    )
    targets = targets_of(table, roles.targets)
    molecules, readable, notes = _molecules(table, roles, source, root, silent.call)
    labelled = (~targets.labels.isnan()).any(dim=1)
    rows = (readable & labelled).nonzero()[:, 0]
    if bool((readable & ~labelled).any()):
        notes += (f"{int((readable & ~labelled).sum())} rows left out, since they have no label.",)
    parts, more = _parts(table, rows, molecules, split, source)
    used = torch.cat(parts).sort().values  # copies may have been left out
    parts = tuple(torch.searchsorted(used, part) for part in parts)  # type: ignore[assignment]
    rows = rows[used]
    targets, last = _measurable(replace(targets, labels=targets.labels[rows]), parts, source.skip_bad)
    inputs = None
    if roles.smiles is None:
        inputs, names = encoded(table, roles.features, rows, parts[0])
        notes += (f"{len(roles.features)} features make {len(names)} inputs.",)
    notes = (*roles.notes, *targets.notes, *notes, *more, *last)
    return TableData(targets, parts, inputs, molecules, rows, roles, notes)


def _check_split(split: str, column: str | None) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split` should be one of {', '.join(SPLITS)}. Found {split!r}.")
    if (split == "column") != (column is not None):
        raise ValueError(
            f"`split_column` should name a column where `split` is column, and only there. Found {column!r} with "
            f"split {split}."
        )


def _molecules(
    table: Table, roles: Roles, source: TableSource, root: str | None, progress: Progress | None
) -> tuple[SmilesTable | None, Tensor, tuple[str, ...]]:
    """The molecules, which rows have one (n,), and a sentence on those that have none."""
    if roles.smiles is None:
        return None, torch.ones(table.rows, dtype=torch.bool), ()
    if roles.smiles not in table.texts:
        raise ValueError(
            f"`smiles` should name a column of SMILES strings. Found numbers in {roles.smiles!r}."
        )
    texts = table.texts[roles.smiles]
    molecules = load_smiles(texts, root, bits=source.bits, progress=progress)
    bad = (~molecules.readable).nonzero()[:, 0].tolist()
    if not bad:
        return molecules, molecules.readable, ()
    shown = listed([f"{texts[row]!r} in row {row + 1}" for row in bad], 3)
    if not source.skip_bad or len(bad) == len(texts):
        raise ValueError(
            f"The SMILES strings in {roles.smiles!r} should be readable by rdkit. Found {len(bad)} of {len(texts)} "
            f"that are not: {shown}. Mend them, or leave these rows out with --skip-bad."
        )
    return (
        molecules,
        molecules.readable,
        (f"{len(bad)} rows left out, since rdkit cannot read them: {shown}.",),
    )


def _parts(
    table: Table, rows: Tensor, molecules: SmilesTable | None, split: str, source: TableSource
) -> tuple[Split, tuple[str, ...]]:
    molecule = None if molecules is None else molecules.molecule[rows]
    scaffold = None if molecules is None else molecules.scaffold[rows]
    if split != "column":
        return split_by_groups(split, source.split_seed, molecule, scaffold, len(rows)), ()
    assert source.split_column is not None
    groups = torch.arange(len(rows)) if molecule is None else molecule
    parts, notes = split_by_column(table, source.split_column, rows, groups, source.split_seed)
    if molecule is None:
        return parts, notes
    assert source.smiles is not None
    texts = [table.texts[source.smiles][row] for row in rows.tolist()]
    parts, more = without_copies(parts, molecule, texts, skip_bad=source.skip_bad)
    return parts, (*notes, *more)


def _measurable(targets: Targets, parts: Split, skip_bad: bool) -> tuple[Targets, tuple[str, ...]]:
    """The tasks that have two different labels in each part, and a sentence on the others."""
    problems: dict[int, str] = {}
    for part, index in zip(PARTS, parts, strict=True):
        labels = targets.labels[index]
        known = ~labels.isnan()
        lowest = labels.nan_to_num(nan=torch.inf).amin(dim=0)
        highest = labels.nan_to_num(nan=-torch.inf).amax(dim=0)
        for k in (~(highest > lowest)).nonzero()[:, 0].tolist():
            number = int(known[:, k].sum())
            found = f"{number} labels, all {float(lowest[k]):g}," if number else "no label"
            problems.setdefault(k, f"{targets.names[k]} ({found} in the {part} part)")
    if not problems:
        return targets, ()
    shown = listed(list(problems.values()), 3)
    kept = [k for k in range(len(targets.names)) if k not in problems]
    if not skip_bad or not kept:
        raise ValueError(
            f"Every target should have two different labels in each part of the split. Found {len(problems)} of "
            f"{len(targets.names)} without: {shown}. Leave them out with --skip-bad or `targets`, or change `split` or "
            "`split_seed`."
        )
    names, kinds = tuple(targets.names[k] for k in kept), tuple(targets.kinds[k] for k in kept)
    left = Targets(names, kinds, targets.labels[:, kept], targets.notes)
    return left, (f"{len(problems)} targets left out, since they cannot be measured: {shown}.",)
