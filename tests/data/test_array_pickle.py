"""Pickles of arrays: numpy's own are read, and nothing that another one names is looked up or called."""

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.data.array_pickle import read_array_pickle


class Malicious:
    """Its pickle asks for a function to be called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def written(path: Path, value: Any, protocol: int = 4) -> Path:
    with gzip.open(path, "wb") as file:
        pickle.dump(value, file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_numpy_are_read(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    floats, whole = rng.random((3, 5), dtype=np.float32), rng.integers(-9, 9, 4)
    found = read_array_pickle(written(tmp_path / "a.gz", ([floats, whole], (floats[:0],)), protocol))
    assert isinstance(found, tuple) and isinstance(found[0], list)
    assert torch.equal(found[0][0], torch.from_numpy(floats))
    assert torch.equal(found[0][1], torch.from_numpy(whole))
    assert found[1][0].shape == (0, 5)


def test_a_malicious_pickle_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "was here"
    path = written(tmp_path / "a.gz", (np.zeros(3, np.float32), Malicious(os.mkdir, str(mark))))
    with pytest.raises(
        ValueError, match=r"a\.gz` should hold numpy arrays and nothing else\. Found the name posix\.mk"
    ):
        read_array_pickle(path)
    assert not mark.exists()
    with gzip.open(path) as file:
        pickle.load(file)
    assert mark.exists()  # the pickle would have done it


@pytest.mark.parametrize("function", [eval, np.fromfile, subprocess.call, getattr, np.dtype.newbyteorder])
def test_no_other_function_is_looked_up(tmp_path: Path, function: Any) -> None:
    with pytest.raises(ValueError, match=r"Found the name [a-z.A-Z_]+, which was not looked up\."):
        read_array_pickle(written(tmp_path / "a.gz", Malicious(function, "1", "2")))


def test_a_module_that_a_pickle_names_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a").write_bytes(gzip.compress(b"cevil_module\nthing\n."))
    with pytest.raises(ValueError, match=r"Found the name evil_module\.thing, which was not looked up\."):
        read_array_pickle(tmp_path / "a")
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 3)), r"type '<f8', where <f4 and <i8 are read"),
        (np.zeros(2, ">f4"), r"type '>f4'"),
        (np.zeros((2, 3), np.float32, order="F"), r"type '<f4' in Fortran order"),
        (np.array([None]), r"type '\|O8'"),
    ],
)
def test_another_array_is_refused(tmp_path: Path, array: Any, found: str) -> None:
    with pytest.raises(ValueError, match=f"nothing else. Found an array of {found}"):
        read_array_pickle(written(tmp_path / "a.gz", array))


def test_an_array_that_lies_about_its_shape_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gz", np.zeros((3, 50), np.float32))
    content = gzip.decompress(path.read_bytes()).replace(b"K\x03K2", b"K\x04K2")
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"Found an array whose bytes do not fill its shape \(4, 50\)\."):
        read_array_pickle(path)


def test_a_value_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing else\. Found a value of type dict\."):
        read_array_pickle(written(tmp_path / "a.gz", ({"x": 1},)))


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gz", np.zeros(300, np.float32))
    whole = path.read_bytes()
    for content in (
        whole[:-12],
        b"no gzip",
        gzip.compress(gzip.decompress(whole)[:-30]),
        gzip.compress(b"0"),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"should be a whole pickle of numpy arrays\. Found one that cannot be"
        ):
            read_array_pickle(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_array_pickle(tmp_path / "a.gz")
