"""A user's own table, read into numbers and texts by column. The only file that imports pandas."""

from __future__ import annotations

import csv
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_PACKED = (".gz", ".bz2", ".xz", ".zip")
_DAMAGED = (ValueError, OSError, EOFError, zlib.error, csv.Error)  # the errors of pandas are ValueErrors
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Table:
    """A table of n rows.

    Args:
        names: of the columns, in their order.
        numbers: column -> (n,) float64, NaN where there is nothing. True and false count as 1 and 0.
        texts: every other column -> n texts, "" where there is nothing.
        rows: n.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, Tensor]
    texts: Mapping[str, list[str]]
    rows: int

    def check_known(self, option: str, names: Iterable[str]) -> None:
        """Refuse a column that is not there.

        Raises:
            ValueError: with the nearest name, or the first ones.
        """
        for name in names:
            if name not in self.names:
                near = get_close_matches(name, self.names, n=1, cutoff=0.4)
                hint = f"Did you mean {near[0]!r}?" if near else f"They are {listed(self.names)}."
                raise ValueError(f"`{option}` should name columns of the table. Found {name!r}. {hint}")


def read_table(path: Path) -> Table:
    """Read a csv or tsv file, packed (.gz, .bz2, .xz, .zip) or not, with the names of the columns in its first line.

    Empty cells and the usual words for a missing value (NA, NaN, null, ...) are missing values.

    Args:
        path: the file; .tsv and .tab are separated by tabulators, .csv by commas.

    Raises:
        ModuleNotFoundError: without pandas.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such table, has no rows, or two columns of the same name.
    """
    if not path.is_file():
        near = get_close_matches(path.name, _beside(path), n=1)
        hint = f"Did you mean `{path.with_name(near[0])}`?" if near else "Check the path."
        raise FileNotFoundError(f"`csv` should be a file. Found no file `{path}`. {hint}")
    suffixes = [suffix for suffix in path.suffixes if suffix not in _PACKED]
    separator = _SEPARATORS.get(suffixes[-1] if suffixes else "")
    if separator is None:
        raise ValueError(
            f"`csv` should be a .csv or .tsv file, packed (.gz, .bz2, .xz, .zip) or not. Found `{path.name}`: export "
            "the table in one of these forms."
        )
    frame = _frame(path, separator)
    names = tuple(str(name).strip() for name in frame.columns)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(
            f"The columns of `{path}` should have different names. Found {listed(doubled)} twice."
        )
    if len(frame) == 0:
        raise ValueError(f"`{path}` should have rows below its first line. Found none.")
    numbers, texts = {}, {}
    for name, column in zip(names, (frame.iloc[:, k] for k in range(len(names))), strict=True):
        found = _numbers(column)
        if found is None:
            texts[name] = [
                "" if missing else str(v).strip() for v, missing in zip(column, column.isna(), strict=True)
            ]
        else:
            numbers[name] = found
    return Table(names, numbers, texts, len(frame))


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names separated by commas, the first ones if there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _frame(path: Path, separator: str) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ModuleNotFoundError(
            'Tables need `pandas`, which is not installed. Run `pip install "equipoise[table]"`.'
        ) from error
    options = {"sep": separator, "header": None}
    warning = pandas.errors.ParserWarning  # of rows with more cells than names
    try:
        # The names are read as they stand, since pandas gives the second of two equal ones another name.
        head = pandas.read_csv(path, nrows=1, dtype=str, encoding="utf-8-sig", **options).iloc[0]
        names = [
            f"column {k + 1}" if missing else name
            for k, (name, missing) in enumerate(zip(head, head.isna(), strict=True))
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("error", warning)
            frame = pandas.read_csv(
                path, skiprows=1, names=range(len(names)), low_memory=False, index_col=False, **options
            )
    except (*_DAMAGED, warning) as error:
        if isinstance(error, pandas.errors.EmptyDataError) and path.stat().st_size:
            raise ValueError(f"`{path}` should have rows below its first line. Found none.") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"`{path}` should be a table whose first line holds the names of the columns, in UTF-8. Found: {reason}"
        ) from error
    return frame.set_axis(names, axis=1)


def _numbers(column: Any) -> Tensor | None:
    """A column as numbers, or None if some of it is none."""
    from pandas.api.types import is_numeric_dtype

    if is_numeric_dtype(column):
        return torch.tensor(column.to_numpy(dtype="float64", na_value=float("nan")), dtype=torch.float64)
    words = [
        None if missing else str(v).strip().lower() for v, missing in zip(column, column.isna(), strict=True)
    ]
    if all(word is None or word in _TRUTH for word in words):
        return torch.tensor(
            [float("nan") if word is None else _TRUTH[word] for word in words], dtype=torch.float64
        )
    return None


def _beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
