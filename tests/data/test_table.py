"""Tables of a user's own: reading, roles, kinds, splits, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.data import table_task
from equipoise.data.table import Table, listed, read_table
from equipoise.data.table_columns import CATEGORIES, encoded, roles_of, targets_of
from equipoise.data.table_parts import split_by_column, split_by_groups, without_copies
from equipoise.data.table_task import TableData, TableSource, load_table

RINGS = ["c1ccccc1", "c1ccncc1", "c1ccoc1", "c1ccsc1", "C1CCNCC1", *(f"C1{'C' * k}1" for k in range(2, 17))]
CHAINS = ["C", "CO", "N#C"]
MOLECULES = [f"{chain}{ring}" for ring in RINGS for chain in CHAINS]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a table of columns, or a text, to a file and returns its path."""

    def written(columns: dict[str, list[Any]] | str | bytes, name: str = "own.csv") -> Path:
        path = tmp_path / name
        if isinstance(columns, dict):
            rows = zip(*columns.values(), strict=True)
            columns = (
                "\n".join([",".join(columns), *(",".join(str(cell) for cell in row) for row in rows)]) + "\n"
            )
        path.write_bytes(columns if isinstance(columns, bytes) else columns.encode())
        return path

    return written


def molecules(**more: list[Any]) -> dict[str, list[Any]]:
    """Sixty different molecules with two binary targets, one of them partly missing, and a name."""
    n = len(MOLECULES)
    own: dict[str, list[Any]] = {
        "smiles": MOLECULES,
        "name": [f"M{k}" for k in range(n)],
        "ring": [k % 2 for k in range(n)],
        "toxic": [("", 0, 1, 1)[k % 4] for k in range(n)],
    }
    return own | more


def load(path: Path, root: Path | None = None, **options: Any) -> TableData:
    return load_table(TableSource(str(path), **options), str(root or path.parent / "cache"))


# Reading


def test_cells_are_read_by_column(write: Write) -> None:
    table = read_table(write("a,b,c,d\n1,true, x ,0.5\n,False,,NA\n3,TRUE,y,1e3\n"))
    assert table.names == ("a", "b", "c", "d")
    assert table.numbers["a"].nan_to_num(nan=-1).tolist() == [1, -1, 3]
    assert table.numbers["b"].tolist() == [1, 0, 1]
    assert table.texts == {"c": ["x", "", "y"]}
    assert table.numbers["d"].nan_to_num(nan=-1).tolist() == [0.5, -1, 1000]
    assert table.rows == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.tsv", b"a\tb\n1,5\t2\n"),
        ("own.csv.gz", gzip.compress(b'a,b\n"1,5",2\n', mtime=0)),
        ("own.csv", b'\xef\xbb\xbfa,b\r\n"1,5",2\r\n'),
    ],
)
def test_forms_of_a_table(write: Write, name: str, content: bytes) -> None:
    table = read_table(write(content, name))
    assert table.names == ("a", "b")
    assert table.texts == {"a": ["1,5"]}
    assert table.numbers["b"].tolist() == [2]


def test_a_column_without_a_name_gets_one(write: Write) -> None:
    assert read_table(write("a,,c\n1,2,3\n")).names == ("a", "column 2", "c")


def test_files_that_are_none(tmp_path: Path, write: Write) -> None:
    write("a\n1\n", "mine.csv")
    message = r"`csv` should be a file\. Found no file `.*/mien\.csv`\. Did you mean `.*/mine\.csv`\?$"
    with pytest.raises(FileNotFoundError, match=message):
        read_table(tmp_path / "mien.csv")
    with pytest.raises(FileNotFoundError, match=r"Found no file `.*`\. Check the path\.$"):
        read_table(tmp_path / "nowhere" / "mine.csv")
    with pytest.raises(ValueError, match=r"should be a \.csv or \.tsv file, .* Found `own\.parquet`: export"):
        read_table(write("a", "own.parquet"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (bytes(range(200, 256)) * 9, "codec can't decode"),
        (b"", "No columns"),
        (b'a,b\n"1,2\n3,4\n', "EOF inside string"),
        (b"a,b\n1,2,3\n4,5,6\n", "Length of header"),
        (b"a,b\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
    ],
)
def test_content_that_is_no_table(write: Write, content: bytes, found: str) -> None:
    message = (
        rf"`.*own\.csv` should be a table whose first line holds the names .* Found: .*{re.escape(found)}"
    )
    with pytest.raises(ValueError, match=message):
        read_table(write(content))


def test_a_packed_file_that_is_none(write: Write) -> None:
    with pytest.raises(ValueError, match=r"should be a table .* Found: Not a gzipped file"):
        read_table(write(b"a,b\n1,2\n", "own.csv.gz"))
    with pytest.raises(ValueError, match=r"should be a table .* Found: (Compressed file ended|Error|EOF)"):
        read_table(write(gzip.compress(b"a,b\n1,2\n" * 999, mtime=0)[:40], "own.csv.gz"))


def test_a_table_without_rows_or_with_equal_names(write: Write) -> None:
    with pytest.raises(ValueError, match=r"should have rows below its first line\. Found none\."):
        read_table(write("a,b\n"))
    with pytest.raises(ValueError, match=r"should have different names\. Found b twice\."):
        read_table(write("a,b,b\n1,2,3\n"))


def test_missing_pandas_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r'Run `pip install "equipoise\[table\]"`\.$'):
        read_table(write("a\n1\n"))


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdef"), 2) == "a, b and 4 more"


# Roles and kinds


def roles(path: Path, **given: Any) -> Any:
    defaults: dict[str, Any] = {"smiles": None, "features": (), "targets": (), "split_column": None}
    return roles_of(read_table(path), **(defaults | given))


def test_molecules_predict_all_other_numbers_but_identifiers(write: Write) -> None:
    n = len(MOLECULES)
    extra: dict[str, list[Any]] = {
        "row": list(range(n)),
        "note": ["same"] * n,
        "empty": [""] * n,
        "mass": [k + 0.5 for k in range(n)],
    }
    found = roles(write(molecules(**extra)), smiles="smiles")
    assert (found.smiles, found.features, found.targets) == ("smiles", (), ("ring", "toxic", "mass"))
    assert found.notes == (
        "Left out, since no two rows are equal there: name, row.",
        "Left out, since they hold texts: note.",
        "Left out, since they are empty: empty.",
    )


def test_named_columns_are_never_left_out(write: Write) -> None:
    path = write(molecules(row=list(range(60))))
    assert roles(path, smiles="smiles", targets=["row"]).targets == ("row",)
    found = roles(path, targets=["ring"])
    assert (found.features, found.targets) == (("toxic",), ("ring",))
    assert found.notes == ("Left out, since no two rows are equal there: smiles, name, row.",)
    found = roles(path, features=["row", "ring"])
    assert (found.features, found.targets) == (("row", "ring"), ("toxic",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"smiles": "smile"},
            r"^`smiles` should name columns of the table\. Found 'smile'\. Did you mean 'smiles'\?",
        ),
        (
            {"targets": ["zz"]},
            r"^`targets` should name .* Found 'zz'\. They are smiles, name, ring, toxic\.$",
        ),
        ({"features": ["ring"], "targets": ["ring"]}, r"Found 'ring' in `features` and `targets`\.$"),
        ({"smiles": "smiles", "features": ["ring"]}, r"Found both: 'smiles' and ring\.$"),
        ({}, r"Found none of them; the columns of the table are smiles, name, ring, toxic\.$"),
        (
            {"features": ["ring", "toxic"]},
            r"a column of numbers to predict\. Found none besides ring, toxic:",
        ),
        ({"targets": ["ring", "toxic"]}, r"to predict from\. Found none left beside the targets ring, toxic"),
    ],
)
def test_roles_that_do_not_fit(write: Write, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roles(write(molecules()), **given)


def test_kinds_are_inferred(write: Write) -> None:
    columns = {
        "binary": [0, 1, "", 1],
        "two": [3, 5, 5, ""],
        "count": [0, 7, 2, 1],
        "whole": [40, 50, 60, 70],
        "real": [0.5, 1, 2, 3],
        "below": [-1, 0, 1, 2],
        "one": [1, 1, "", 1],
    }
    found = targets_of(read_table(write(columns)), list(columns))
    assert found.kinds == ("binary", "binary", "count", "real", "real", "real", "binary")
    assert found.labels[:, 1].nan_to_num(nan=-1).tolist() == [0, 1, 1, -1]
    assert found.notes == ("two: 5 counts as 1 and 3 as 0.",)


def test_labels_that_are_none(write: Write) -> None:
    table = read_table(write("a,b,c\nactive,,1\ninactive,,inf\nactive,,2\n"))
    message = (
        r"^Labels should be 0 and 1, or other numbers\. Found 'active', 'inactive' in column 'a': code them"
    )
    with pytest.raises(ValueError, match=message):
        targets_of(table, ["a"])
    with pytest.raises(
        ValueError, match=r"^Column 'b' should hold finite numbers .* Found no label at all: leave"
    ):
        targets_of(table, ["b"])
    with pytest.raises(
        ValueError, match=r"^Column 'c' should hold finite numbers .* Found an infinite number"
    ):
        targets_of(table, ["c"])


def test_features_are_scaled_by_the_training_part(write: Write) -> None:
    table = read_table(write("x,city,same\n1,A,3\n3,B,3\n,,3\n100,C,3\n"))
    rows, training = torch.tensor([3, 0, 1, 2]), torch.tensor([1, 2, 3])
    inputs, names = encoded(table, ["x", "city", "same"], rows, training)
    assert names == ["x", "x is missing", "city is missing", "city = A", "city = B", "same"]
    assert inputs.dtype == torch.float32
    assert inputs.tolist() == [
        [98, 0, 0, 0, 0, 0],
        [-1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 0],
    ]


def test_rare_texts_share_no_input(write: Write) -> None:
    words = [f"w{k:02}" for k in range(CATEGORIES + 5)] + ["w24"] * 2
    table = read_table(write({"x": words}))
    inputs, names = encoded(table, ["x"], torch.arange(len(words)), torch.arange(len(words)))
    assert len(names) == CATEGORIES
    assert "x = w24" in names and "x = w23" not in names
    assert inputs.sum() == len(words) - 5


# Splits


def test_copies_and_scaffolds_stay_together(write: Write) -> None:
    doubled = molecules()
    doubled = {name: column + column for name, column in doubled.items()}
    path = write(doubled)
    by_copy = load(path, smiles="smiles", skip_bad=True)
    by_scaffold = load(path, smiles="smiles", split="scaffold", skip_bad=True, targets=("toxic",))
    assert by_copy.molecules is not None and by_scaffold.molecules is not None
    for data, groups in (
        (by_copy, by_copy.molecules.molecule),
        (by_scaffold, by_scaffold.molecules.scaffold),
    ):
        parts = [set(groups[data.rows[part]].tolist()) for part in data.parts]
        assert parts[0] and parts[1] and parts[2]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert sorted(torch.cat(data.parts).tolist()) == list(range(len(data.rows)))


def test_the_split_depends_on_its_seed_only(write: Write) -> None:
    path = write(molecules())
    first, other = (load(path, smiles="smiles", split_seed=seed, skip_bad=True) for seed in (0, 1))
    again = load(path, path.parent / "another", smiles="smiles", skip_bad=True)
    assert all(torch.equal(a, b) for a, b in zip(first.parts, again.parts, strict=True))
    assert not torch.equal(first.parts[0], other.parts[0])


def split(path: Path, groups: Tensor | None = None) -> Any:
    table = read_table(path)
    rows = torch.arange(table.rows)
    return split_by_column(table, "part", rows, rows if groups is None else groups, 0)


def test_a_column_tells_the_parts(write: Write) -> None:
    parts, notes = split(write({"part": ["Train", "test", "valid", "training", "val", "dev"]}))
    assert [part.tolist() for part in parts] == [[0, 3], [2, 4, 5], [1]]
    assert notes == ()
    parts, _ = split(write({"part": [3, 1, 2, 5, 1, 9]}))
    assert [part.tolist() for part in parts] == [[0, 3, 5], [2], [1, 4]]


def test_a_validation_part_is_made_where_there_is_none(write: Write) -> None:
    groups = torch.arange(30) // 2
    parts, notes = split(write({"part": ["train"] * 27 + ["test"] * 3}), groups)
    train, validation, test = (part.tolist() for part in parts)
    assert sorted(train + validation) == list(range(27)) and test == [27, 28, 29]
    assert 2 <= len(validation) <= 3
    assert not set(groups[train].tolist()) & set(groups[validation].tolist())
    assert notes[0].startswith(
        f"'part' tells no validation part: {len(validation)} rows of the training part"
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["train", "tset", "valid"],
            r"^Column 'part' should say train, validation or test in each row, .* 'tset'\.$",
        ),
        (["train", "test", "NA"], r"should say train, validation or test in each row, .* Found ''\.$"),
        ([1, 2, 1], r"whole numbers of at least 3 folds, or say .* Found 1, 2\.$"),
        ([1, 2, 0.5], r"whole numbers of at least 3 folds, .* Found 0\.5, 1, 2\.$"),
        (
            ["train", "valid", "train"],
            r"^Column 'part' should have rows of each part\. Found none for test\.$",
        ),
    ],
)
def test_a_column_that_does_not_tell_the_parts(write: Write, cells: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(write({"part": cells, "other": [1, 2, 3]}))


def test_copies_across_parts_are_refused_or_left_out() -> None:
    parts = (torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5]))
    molecule = torch.tensor([7, 8, 8, 9, 9, 7])
    texts = list("abcdef")
    message = (
        r"Found 3 rows of the .* whose molecule is in another part too, such as 'c': .* with --skip-bad\.$"
    )
    with pytest.raises(ValueError, match=message):
        without_copies(parts, molecule, texts, skip_bad=False)
    with pytest.raises(ValueError, match=r"Found 1 rows"):
        without_copies(parts, torch.tensor([7, 8, 8, 9, 5, 6]), texts, skip_bad=False)
    kept, notes = without_copies(parts, molecule, texts, skip_bad=True)
    assert [part.tolist() for part in kept] == [[0, 1], [3], []]
    assert notes == ("3 rows left out, since their molecule is in an earlier part.",)


def test_splits_that_do_not_fit(write: Write) -> None:
    path = write(molecules())
    with pytest.raises(
        ValueError, match=r"^`split` should be one of random, scaffold, column\. Found 'time'\.$"
    ):
        load(path, smiles="smiles", split="time")
    with pytest.raises(
        ValueError, match=r"`split_column` should name a column .* Found 'name' with split random\.$"
    ):
        load(path, smiles="smiles", split="random", split_column="name")
    with pytest.raises(ValueError, match=r"Found None with split column\.$"):
        load(path, smiles="smiles", split="column")
    with pytest.raises(ValueError, match=r"should be random or column for a table without molecules"):
        split_by_groups("scaffold", 0, None, None, 5)


# The whole


def test_unreadable_molecules_are_named_or_left_out(write: Write) -> None:
    columns = molecules()
    columns["smiles"] = ["C(C", "", *columns["smiles"][2:]]
    path = write(columns)
    message = (
        r"should be readable by rdkit\. Found 2 of 60 that are not: 'C\(C' in row 1, '' in row 2\. Mend them"
    )
    with pytest.raises(ValueError, match=message):
        load(path, smiles="smiles")
    data = load(path, smiles="smiles", skip_bad=True)
    assert data.rows.min() == 2
    assert any(
        note.startswith("2 rows left out, since rdkit cannot read them: 'C(C' in row 1")
        for note in data.notes
    )


def test_a_column_of_other_texts_is_not_of_molecules(write: Write) -> None:
    path = write(molecules(words=["no molecule"] * 60))
    with pytest.raises(
        ValueError, match=r"The SMILES strings in 'words' should be readable .* Found 60 of 60"
    ):
        load(path, smiles="words", skip_bad=True)
    with pytest.raises(
        ValueError, match=r"^`smiles` should name a column of SMILES strings\. Found numbers in 'ring'"
    ):
        load(path, smiles="ring")


def test_targets_of_one_class_are_named_or_left_out(write: Write) -> None:
    part = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    rare = [int(k in (0, 45)) for k in range(60)]
    sparse = [k % 5 if k < 50 else "" for k in range(60)]
    path = write(molecules(part=part, rare=rare, sparse=sparse))
    with pytest.raises(
        ValueError,
        match=r"two different labels in each part of the split\. Found 2 of 4 without: rare \(10 labels, all 0, in the "
        r"test part\), sparse \(no label in the test part\)\. Leave them out with --skip-bad",
    ):
        load(path, smiles="smiles", split_column="part")
    data = load(path, smiles="smiles", split_column="part", skip_bad=True)
    assert data.targets.names == ("ring", "toxic")
    assert data.targets.labels.shape == (60, 2)
    assert any(
        note.startswith("2 targets left out, since they cannot be measured: rare") for note in data.notes
    )
    with pytest.raises(ValueError, match=r"Found 1 of 1 without: rare"):
        load(path, smiles="smiles", split_column="part", targets=("rare",), skip_bad=True)


def test_labels_stay_with_their_rows(write: Write) -> None:
    columns = molecules(size=[float(len(text)) + 0.5 for text in MOLECULES])
    for name in ("ring", "toxic", "size"):
        columns[name][7] = ""
    data = load(write(columns), smiles="smiles", targets=("size",))
    assert "1 rows left out, since they have no label." in data.notes
    assert data.targets.labels[:, 0].tolist() == [len(MOLECULES[row]) + 0.5 for row in data.rows.tolist()]
    assert 7 not in data.rows.tolist()
    assert data.training_labels.shape == (len(data.parts[0]), 1)


def test_a_table_is_read_once_until_it_changes(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({"x": list(range(40)), "y": [k % 2 for k in range(40)], "z": [k / 3 for k in range(40)]})
    reads: list[Path] = []

    def watched(path: Path) -> Table:
        reads.append(path)
        return read_table(path)

    monkeypatch.setattr(table_task, "read_table", watched)
    first = load(path, features=("x",))
    assert load(path, features=("x",)) is first
    assert len(reads) == 1
    write({"x": list(range(50)), "y": [k % 2 for k in range(50)], "z": [k / 3 for k in range(50)]})
    assert len(load(path, features=("x",)).rows) == 50
    assert first.molecules is None and first.inputs is not None
    assert first.inputs.shape == (40, 1)
    assert not math.isnan(float(first.inputs.sum()))
