"""Census-Income: the real files counted by other means, and small files of the same layout with what can go wrong."""

import csv
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from equipoise.data import census
from equipoise.data.census import (
    CATEGORICAL,
    CONTINUOUS,
    PACKAGE,
    Persons,
    load_census,
    read_census,
    split_census,
    standardised,
    summarise_census,
)
from equipoise.data.packages import DataPackage, locate

HIGH, LOW = "50000+.", "- 50000."


def row(number: int, **columns: str) -> list[str]:
    """A person as in the files; columns by "c" and their number."""
    values = [f"v{column}-{number % 3}" for column in range(42)]
    for place, column in enumerate(CONTINUOUS):
        values[column] = str(number * (place + 1) % 50)
    values[4], values[7], values[24], values[41] = "Children", "Divorced", f"{1000 + number}.5", LOW
    for name, value in columns.items():
        values[int(name[1:])] = value
    return values


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(", ".join(values) + "\n" for values in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Five persons for training, and for testing one of them, one like another but for the weight, and a new one."""
    known = [row(n) for n in range(5)]
    known[1] = row(1, c41=HIGH, c4="Masters degree(MA MS MEng MEd MSW MBA)")
    known[2] = row(2, c7="Never married", c4="Some college but no degree")
    new = [known[3], row(1, c24="7.5", c41=HIGH, c4=known[1][4]), row(9, c1="unheard of", c22="too")]
    return write(tmp_path / "train.csv", known), write(tmp_path / "test.csv", new)


@pytest.mark.slow
def test_the_real_files_have_the_published_counts(tmp_path: Path) -> None:
    """Counted by the csv module and Counter."""
    persons = load_census(str(tmp_path))
    rows: dict[str, list[tuple[str, ...]]] = {}
    for part, path in zip(("train", "test"), locate(PACKAGE, problem="census"), strict=True):
        with open(path, newline="") as file:
            rows[part] = [
                (line[41], line[7], line[4], line[21], line[0], ",".join(line))
                for line in csv.reader(file, skipinitialspace=True)
            ]
    assert (
        (len(rows["train"]), len(rows["test"]))
        == (persons.train, len(persons) - persons.train)
        == (199_523, 99_762)
    )
    both = rows["train"] + rows["test"]
    incomes = Counter(line[0] for line in both)
    assert int(persons.labels[:, 0].sum()) == incomes[HIGH]
    assert round(100 * incomes[HIGH] / len(both), 1) == 6.2
    assert int(persons.labels[:, 1].sum()) == sum(line[1] == "Never married" for line in both)
    degrees = ("Bachelors", "Masters", "Prof school", "Doctorate")
    assert int(persons.labels[:, 2].sum()) == sum(line[2].startswith(degrees) for line in both)
    known = {line[-1] for line in rows["train"]}
    repeated = [line[-1] in known for line in rows["test"]]
    assert sum(repeated) == int(persons.repeated.sum()) == 2925
    assert persons.repeated.tolist() == [False] * persons.train + repeated
    state = persons.categories[:, CATEGORICAL.index(21)]
    pairs = set(zip(state.tolist(), (line[3] for line in both), strict=True))
    assert len(pairs) == len({name for _, name in pairs}) == len({number for number, _ in pairs}) == 51
    assert torch.equal(persons.numbers[:, 0], torch.tensor([float(line[4]) for line in both]))
    assert persons.alike == 26_754
    assert load_census(str(tmp_path)).sizes.tolist() == persons.sizes.tolist()  # now from the cache


def test_the_first_real_rows_are_read_as_by_the_csv_module(tmp_path: Path) -> None:
    heads = []
    for path in locate(PACKAGE, problem="census"):
        with open(path) as file:
            heads.append(tmp_path / path.name)
            heads[-1].write_text("".join(islice(file, 1500)))
    tensors = read_census(*heads)
    rows = [
        line for head in heads for line in csv.reader(head.read_text().splitlines(), skipinitialspace=True)
    ]
    assert tensors["labels"][:, 0].tolist() == [int(line[41] == HIGH) for line in rows]
    assert tensors["numbers"].tolist() == [[float(line[column]) for column in CONTINUOUS] for line in rows]
    for place, column in enumerate(CATEGORICAL):
        known = {line[column] for line in rows[:1500]}
        pairs = set(
            zip(tensors["categories"][:, place].tolist(), (line[column] for line in rows), strict=True)
        )
        assert {number for number, name in pairs if name in known} == set(range(1, len(known) + 1))
        assert len([name for _, name in pairs if name in known]) == len(known) == tensors["sizes"][place]
        assert {number for number, name in pairs if name not in known} <= {0}


def test_values_are_numbered_as_they_come_and_unknown_ones_are_0(files: tuple[Path, Path]) -> None:
    tensors = read_census(*files)
    first = tensors["categories"][:, 0]
    assert first.tolist() == [1, 2, 3, 1, 2, 1, 2, 0]  # v1-0, v1-1, v1-2, ..., and "unheard of"
    assert tensors["categories"][-1].tolist().count(0) == 2
    assert tensors["sizes"].tolist() == [3] * 31
    assert tensors["numbers"][4].tolist() == [4, 8, 12, 16, 20, 24, 28]
    assert tensors["labels"].tolist() == [
        [0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]
    ]  # fmt: skip
    assert tensors["repeated"].tolist() == [False] * 5 + [True, False, False]
    assert int(tensors["alike"]) == 2
    assert int(tensors["train"]) == 5


def test_what_the_tasks_come_from_and_the_weight_are_no_features() -> None:
    assert sorted({*CATEGORICAL, *CONTINUOUS}) == sorted(set(range(42)) - {4, 7, 24, 41})


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (
            ["1", "2", HIGH],
            r"Line 2 of .*bad\.csv` should have 42 columns .* Found 3 columns and '50000\+\.'",
        ),
        (row(1, c41="60000"), r"Line 2 .* `50000\+\.` or `- 50000\.`\. Found 42 columns and '60000'"),
    ],
)
def test_a_row_that_is_none_is_refused(
    files: tuple[Path, Path], tmp_path: Path, values: list[str], found: str
) -> None:
    bad = write(tmp_path / "bad.csv", [row(0), values])
    with pytest.raises(ValueError, match=found):
        read_census(files[0], bad)


def test_the_cache_is_built_again_when_it_is_damaged(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "locate", lambda package, problem: list(files))
    first = load_census(tmp_path / "cache")
    monkeypatch.setattr(census, "locate", lambda package, problem: pytest.fail("read again"))
    assert torch.equal(load_census(tmp_path / "cache").categories, first.categories)
    path = tmp_path / "cache" / "census.pt"
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(census, "locate", lambda package, problem: list(files))
    with pytest.warns(UserWarning, match="will be built again"):
        again = load_census(tmp_path / "cache")
    assert torch.equal(again.labels, first.labels)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = DataPackage("no-such-package-of-equipoise", "1", PACKAGE.files)
    monkeypatch.setattr(census, "PACKAGE", absent)
    with pytest.raises(
        ModuleNotFoundError, match=r"census needs the data package .*equipoise data census --install"
    ):
        load_census(tmp_path)
    facts = summarise_census(tmp_path)
    assert facts["available"] is False
    assert "not installed" in facts["problem"]


def test_another_file_is_refused(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(iter(PACKAGE.files))
    monkeypatch.setattr(census, "PACKAGE", DataPackage(PACKAGE.name, PACKAGE.version, {path: "0" * 64}))
    with pytest.raises(ValueError, match="should have sha256 0000"):
        load_census(tmp_path)


def persons_of(train: int, test: int, repeated: int) -> Persons:
    labels = torch.arange(train + test).remainder(2).to(torch.uint8)[:, None].expand(-1, 3)
    mark = torch.zeros(train + test, dtype=torch.bool)
    mark[train : train + repeated] = True
    numbers = torch.rand(train + test, 7, generator=torch.Generator().manual_seed(0)) * 100
    numbers[:, 6] = 3.0
    return Persons(
        torch.zeros(train + test, 31, dtype=torch.uint8), numbers, labels, torch.ones(31), train, mark, 0
    )


def test_the_test_file_stays_whole_and_the_training_file_is_split() -> None:
    persons = persons_of(200, 50, 5)
    train, validation, test = split_census(persons, seed=0)
    assert test.tolist() == list(range(200, 250))
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(200))
    assert len(validation) == 20
    assert split_census(persons, seed=1)[1].tolist() != validation.tolist()
    assert split_census(persons, seed=0)[0].tolist() == train.tolist()
    assert split_census(persons, seed=0, repeated=False)[2].tolist() == list(range(205, 250))


def test_a_sample_does_not_depend_on_the_seed() -> None:
    persons = persons_of(200, 50, 5)
    parts = [split_census(persons, seed=seed, rows=40) for seed in (0, 1)]
    known = [sorted([*train.tolist(), *validation.tolist()]) for train, validation, _ in parts]
    assert known[0] == known[1]
    assert len(known[0]) == 40
    assert parts[0][2].tolist() == parts[1][2].tolist()
    assert len(parts[0][2]) == 10


@pytest.mark.parametrize("rows", [9, 201])
def test_a_sample_of_another_size_is_refused(rows: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`rows` should be between 10 and 200, or None for all\. Found {rows}\."
    ):
        split_census(persons_of(200, 50, 5), seed=0, rows=rows)


def test_numbers_are_standardised_by_the_training_part_and_money_is_logarithmic() -> None:
    persons = persons_of(200, 50, 5)
    train = torch.arange(0, 150)
    found = standardised(persons, train)
    for place, column in enumerate(CONTINUOUS):
        values = persons.numbers[:, place].double()
        values = (1 + values).log() if column in (5, 16, 17, 18) else values
        own = values[:150]
        deviation = ((own - own.mean()) ** 2).mean().sqrt()
        expected = (values - own.mean()) / deviation if deviation > 0 else torch.zeros_like(values)
        assert torch.allclose(found[:, place].double(), expected, atol=1e-5)
