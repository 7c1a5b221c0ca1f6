"""What the columns of a user's table are: molecules, features, targets and their kinds, or none of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .table import Table, listed

Kind = Literal["binary", "count", "real"]

CATEGORIES = 20  # of a column of texts that have an input of their own
_FEWEST = 20  # rows from which on a column of different whole numbers counts as an identifier


@dataclass(frozen=True)
class Roles:
    """What the columns are used for.

    Args:
        smiles: the column of molecules, or None.
        features: columns that the network sees; none where there are molecules.
        targets: columns that it is to predict.
        notes: a sentence on each group of columns that is left out, with the reason.
    """

    smiles: str | None
    features: tuple[str, ...]
    targets: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Targets:
    """Labels of m tasks.

    Args:
        names: of the tasks.
        kinds: "binary", "count" or "real" each.
        labels: (n, m) float64, NaN where there is none; 0 and 1 where the kind is binary.
        notes: sentences on columns that were changed.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    labels: Tensor
    notes: tuple[str, ...] = ()


def roles_of(
    table: Table,
    *,
    smiles: str | None,
    features: Sequence[str],
    targets: Sequence[str],
    split_column: str | None,
) -> Roles:
    """Say what each column is used for.

    With `smiles`, or with `features`, targets default to all other columns of numbers. With `targets` alone, all other
    columns are features. In both cases columns that look like identifiers are left out: texts or whole numbers of
    which no two are equal. What is named is never left out.

    Args:
        table: the table.
        smiles: the column of molecules, or None.
        features: columns to predict from; none where there are molecules.
        targets: columns to predict.
        split_column: which tells the parts, and is neither.

    Raises:
        ValueError: if a name is unknown or has two roles, or there is nothing to predict, or nothing to predict from.
    """
    named = {"smiles": [smiles] if smiles else [], "features": features, "targets": targets}
    named["split_column"] = [split_column] if split_column else []
    owner: dict[str, str] = {}
    for option, names in named.items():
        table.check_known(option, names)
        for name in names:
            if name in owner:
                raise ValueError(
                    f"A column should have one role. Found {name!r} in `{owner[name]}` and `{option}`."
                )
            owner[name] = option
    if smiles and features:
        raise ValueError(
            f"Either `smiles` or `features` should say what to predict from. Found both: {smiles!r} and "
            f"{listed(features)}."
        )
    if not smiles and not features and not targets:
        raise ValueError(
            "`smiles` should name the column of molecules, or `features` and `targets` other columns. Found none of "
            f"them; the columns of the table are {listed(table.names)}."
        )
    left = [name for name in table.names if name not in owner]
    return _defaults(table, smiles, tuple(features), tuple(targets), left)


def targets_of(table: Table, names: Sequence[str]) -> Targets:
    """The labels of columns, and what kind they are of.

    binary: two different values, of which the higher one is the positive class (1); count: whole numbers of at least
    0, among them 0 or 1; real: any other.

    Raises:
        ValueError: if a column holds texts, infinite numbers, or no label at all.
    """
    notes, kinds, columns = [], [], []
    for name in names:
        if name in table.texts:
            words = [word for word in table.texts[name] if word]
            shown = listed([repr(word) for word, _ in Counter(words).most_common(3)])
            raise ValueError(
                f"Labels should be 0 and 1, or other numbers. Found {shown} in column {name!r}: code them as numbers, "
                "or leave the column out of `targets`."
            )
        labels = table.numbers[name]
        known = labels[~labels.isnan()]
        if len(known) == 0 or not bool(known.isfinite().all()):
            found = "no label at all" if len(known) == 0 else "an infinite number"
            raise ValueError(
                f"Column {name!r} should hold finite numbers where it has labels. Found {found}: leave it out of "
                "`targets`, or mend it."
            )
        values = known.unique()
        if len(values) == 2 and values.tolist() != [0, 1]:
            low, high = values.tolist()
            labels = torch.where(labels.isnan(), labels, (labels == high).double())
            notes.append(f"{name}: {high:g} counts as 1 and {low:g} as 0.")
        kinds.append(_kind(values))
        columns.append(labels)
    return Targets(tuple(names), tuple(kinds), torch.stack(columns, dim=1), tuple(notes))


def encoded(table: Table, names: Sequence[str], rows: Tensor, training: Tensor) -> tuple[Tensor, list[str]]:
    """Columns as inputs of a network.

    Numbers are standardised by mean and deviation of the training part; a missing one is 0, and columns in which some
    are missing get another input that says so. Texts get an input for each of the 20 most frequent ones of the training
    part, for a missing one too; all others have none.

    Args:
        table: the table.
        names: of the columns.
        rows: of the table that are used (n,).
        training: the positions within `rows` of the training part.

    Returns:
        (n, f) float32 and the names of the f inputs.
    """
    inputs: list[Tensor] = []
    shown: list[str] = []
    for name in names:
        if name in table.numbers:
            values = table.numbers[name][rows]
            missing = ~values.isfinite()
            known = values[training][~missing[training]]
            mean, deviation = (
                (known.mean(), known.std(correction=0)) if len(known) else (torch.zeros(()),) * 2
            )
            scaled = (values - mean) / torch.where(deviation > 0, deviation, 1.0)
            inputs.append(scaled.masked_fill(missing, 0.0))
            shown.append(name)
            if bool(missing.any()):
                inputs.append(missing.double())
                shown.append(f"{name} is missing")
        else:
            words = [table.texts[name][row] for row in rows.tolist()]
            frequent = Counter(words[row] for row in training.tolist()).most_common(CATEGORIES)
            for word, _ in sorted(frequent):
                inputs.append(torch.tensor([other == word for other in words], dtype=torch.float64))
                shown.append(f"{name} = {word}" if word else f"{name} is missing")
    return torch.stack(inputs, dim=1).float(), shown


def _kind(values: Tensor) -> Kind:
    """The kind of a column that has these different values, rising."""
    if len(values) <= 2 and (len(values) == 2 or values.tolist() in ([0], [1])):
        return "binary"
    whole = bool((values == values.round()).all())
    return "count" if whole and values[0] in (0, 1) else "real"


def _defaults(
    table: Table, smiles: str | None, features: tuple[str, ...], targets: tuple[str, ...], left: Sequence[str]
) -> Roles:
    same = [name for name in left if _is_identifier(table, name)]
    notes = [f"Left out, since no two rows are equal there: {listed(same)}."] if same else []
    useful = [name for name in left if name not in same]
    if targets:
        chosen = features if features or smiles else tuple(useful)
        if not chosen and not smiles:
            raise ValueError(
                "`features` should name the columns to predict from. Found none left beside the targets "
                f"{listed(targets)} and identifiers."
            )
        return Roles(smiles, chosen, targets, () if features or smiles else tuple(notes))
    found = tuple(
        name for name in useful if name in table.numbers and bool((~table.numbers[name].isnan()).any())
    )
    empty = [name for name in useful if name in table.numbers and name not in found]
    words = [name for name in useful if name in table.texts]
    notes += [f"Left out, since they hold texts: {listed(words)}."] if words else []
    notes += [f"Left out, since they are empty: {listed(empty)}."] if empty else []
    if not found:
        raise ValueError(
            "The table should have a column of numbers to predict. Found none besides "
            f"{listed([name for name in table.names if name not in left])}: name the columns with `targets`."
        )
    return Roles(smiles, features, found, tuple(notes))


def _is_identifier(table: Table, name: str) -> bool:
    if name in table.texts:
        words = table.texts[name]
        return table.rows >= _FEWEST and len(set(words)) == len(words)
    values = table.numbers[name]
    whole = bool((values == values.round()).all())  # NaN is equal to nothing
    return table.rows >= _FEWEST and whole and len(values.unique()) == len(values)
