"""How the rows of a user's table are split into training, validation and test part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .grouped_split import Split, grouped_split
from .table import Table, listed

SPLITS = ("random", "scaffold", "column")
PARTS = ("training", "validation", "test")
_WORDS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


def split_by_groups(
    split: str, seed: int, molecule: Tensor | None, scaffold: Tensor | None, rows: int
) -> Split:
    """A tenth of the rows for test and validation each, drawn with the seed.

    Copies of a molecule are in one part. By "scaffold", so are all molecules of a scaffold, and a scaffold with more
    than a twentieth of the rows (that of all molecules without a ring is one) is always in the training part.

    Args:
        split: "random" or "scaffold".
        seed: of the order.
        molecule: (rows,) numbers, the same for copies; None where there are no molecules.
        scaffold: (rows,) numbers, or None likewise.
        rows: how many.

    Raises:
        ValueError: by scaffold without molecules, or if a part would stay empty.
    """
    if split == "random":
        return grouped_split(torch.arange(rows) if molecule is None else molecule, seed)
    if scaffold is None:
        raise ValueError("`split` should be random or column for a table without molecules. Found scaffold.")
    return grouped_split(scaffold, seed, large_to_training=True)


def split_by_column(
    table: Table, name: str, rows: Tensor, groups: Tensor, seed: int
) -> tuple[Split, tuple[str, ...]]:
    """The parts that a column tells: by words (train, validation, test) or by numbers of folds.

    Of folds, the lowest number is the test part, the next one the validation part, and all others are the training
    part. Where there are training and test part only, a ninth of the training part becomes the validation part.

    Args:
        table: the table.
        name: of the column.
        rows: of the table that are used (n,).
        groups: (n,) numbers, the same for rows that have to stay together where a validation part is made.
        seed: of drawing it.

    Returns:
        The parts, as positions within `rows`, and sentences on what was made.

    Raises:
        ValueError: if the column holds anything else, or a part is empty.
    """
    part_of = _from_words(table, name, rows) if name in table.texts else _from_folds(table, name, rows)
    train, validation, test = ((part_of == part).nonzero()[:, 0] for part in range(3))
    notes: tuple[str, ...] = ()
    if len(validation) == 0 and len(train) and len(test):
        first, second, rest = grouped_split(groups[train], seed, shares=(1 / 9, 0.0))
        train, validation = train[torch.cat([first, rest]).sort().values], train[second]
        notes = (
            f"{name!r} tells no validation part: {len(validation)} rows of the training part became it (split_seed).",
        )
    empty = [part for part, index in zip(PARTS, (train, validation, test), strict=True) if len(index) == 0]
    if empty:
        raise ValueError(f"Column {name!r} should have rows of each part. Found none for {listed(empty)}.")
    return (train, validation, test), notes


def without_copies(
    parts: Split, molecule: Tensor, texts: Sequence[str], *, skip_bad: bool
) -> tuple[Split, tuple[str, ...]]:
    """The parts without molecules that an earlier part has too, and a sentence on how many they were.

    Args:
        parts: positions (n in all).
        molecule: (n,) numbers, the same for copies.
        texts: their strings, for the message.
        skip_bad: whether to leave copies out.

    Raises:
        ValueError: if there are any and they are not to be left out.
    """
    seen = molecule[parts[0]]
    kept, copies = [parts[0]], []
    for part in parts[1:]:
        again = torch.isin(molecule[part], seen)
        copies += part[again].tolist()
        kept.append(part[~again])
        seen = torch.cat([seen, molecule[part]])
    if copies and not skip_bad:
        raise ValueError(
            f"A molecule should be in one part of the split. Found {len(copies)} rows of the validation and test part "
            f"whose molecule is in another part too, such as {texts[copies[0]]!r}: change the split column, or leave "
            "these rows out with --skip-bad."
        )
    notes = (f"{len(copies)} rows left out, since their molecule is in an earlier part.",) if copies else ()
    return (kept[0], kept[1], kept[2]), notes


def _from_words(table: Table, name: str, rows: Tensor) -> Tensor:
    words = [table.texts[name][row].lower() for row in rows.tolist()]
    strange = sorted({word for word in words if word not in _WORDS})
    if strange:
        raise ValueError(
            f"Column {name!r} should say train, validation or test in each row, or hold numbers of folds. Found "
            f"{listed([repr(word) for word in strange])}."
        )
    return torch.tensor([_WORDS[word] for word in words])


def _from_folds(table: Table, name: str, rows: Tensor) -> Tensor:
    values = table.numbers[name][rows]
    folds, fold = values.unique(return_inverse=True)
    if not bool((values == values.round()).all()) or len(folds) < 3:
        shown = listed([f"{value:g}" for value in folds.tolist()])
        raise ValueError(
            f"Column {name!r} should hold whole numbers of at least 3 folds, or say train, validation or test in each "
            f"row. Found {shown}."
        )
    part_of: Tensor = 2 - fold
    return part_of.clamp(min=0)
