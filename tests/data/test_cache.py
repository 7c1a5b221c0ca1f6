"""Caches: what comes back, what is refused, and what a crash leaves behind."""

import os
from pathlib import Path

import pytest
import torch

from equipoise.data import cache
from equipoise.data.cache import data_root, load_tensors, save_tensors

TENSORS = {"a": torch.arange(5000), "b": torch.rand(30, 7), "c": torch.tensor([True, False])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "er" / "set.pt"
    save_tensors(path, TENSORS, "one")
    return path


def test_what_was_saved_comes_back(saved: Path) -> None:
    loaded = load_tensors(saved, "one")
    assert loaded is not None
    assert list(loaded) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert os.listdir(saved.parent) == ["set.pt"]


def test_readable_by_others_as_the_umask_says(saved: Path) -> None:
    plain = saved.parent / "plain"
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


def test_no_file_is_no_cache(tmp_path: Path) -> None:
    assert load_tensors(tmp_path / "none.pt", "one") is None


def test_another_source_makes_it_stale(saved: Path) -> None:
    with pytest.warns(
        UserWarning, match="set.pt` is not used and will be built again: it was made from another version"
    ):
        assert load_tensors(saved, "two") is None


def test_another_format_makes_it_stale(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FORMAT", 99)
    with pytest.warns(UserWarning, match="it has format 1, not 99"):
        assert load_tensors(saved, "one") is None


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.warns(UserWarning, match=r"it cannot be read \(\w+\)"):
        assert load_tensors(saved, "one") is None


def test_one_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    where = content.find(torch.arange(100, 110).numpy().tobytes())
    assert where > 0
    content[where] ^= 1
    saved.write_bytes(content)
    with pytest.warns(UserWarning, match="its content does not match its checksum"):
        assert load_tensors(saved, "one") is None


def test_a_failed_write_leaves_the_old_file_and_no_other(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(saved, {"a": torch.zeros(3)}, "one")
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["set.pt"]


def test_root_given_else_environment_else_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    assert data_root("qm9") == tmp_path / ".cache" / "equipoise" / "qm9"
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path / "data"))
    assert data_root("qm9") == tmp_path / "data" / "qm9"
    assert data_root("qm9", "~/here") == tmp_path / "here"
