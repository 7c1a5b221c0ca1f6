"""Checkpoints: whole, or the one before, or none; never half a one."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.training.checkpoint import load_checkpoint, previous, remove_checkpoint, save_checkpoint
from equipoise.training.storage import StorageError


def state(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "score": float("inf"),
        "model": {"w": torch.full((1000,), float(step))},
        "none": None,
    }


def quiet(text: str) -> None:
    raise AssertionError(text)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ls-lr0.001-seed0.pt"
    save_checkpoint(path, state(7))
    found = load_checkpoint(path, quiet)
    assert found is not None
    assert found["step"] == 7
    assert found["score"] == float("inf")
    assert torch.equal(found["model"]["w"], state(7)["model"]["w"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_nothing_saved_is_nothing_found(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "a.pt", quiet) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_file_is_said_and_the_one_before_used(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(2))
    content = bytearray(path.read_bytes())
    middle = content.index(torch.full((4,), 2.0).numpy().tobytes()) + 401
    content[middle] ^= 1
    broken = {"cut": content[:2000], "empty": b"", "flipped": content, "text": b"not a checkpoint"}
    path.write_bytes(bytes(broken[damage]))
    said: list[str] = []
    found = load_checkpoint(path, said.append)
    assert found is not None
    assert found["step"] == 1
    assert len(said) == 1
    assert said[0].startswith(f"The checkpoint {path} is damaged (")
    assert said[0].endswith("). The one before it is used.")


def test_two_damaged_files_start_the_run_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    previous(path).write_bytes(b"y")
    said: list[str] = []
    assert load_checkpoint(path, said.append) is None
    assert [text.rsplit(". ", 1)[-1] for text in said] == [
        "The one before it is used.",
        "The run starts again.",
    ]


def test_one_damaged_file_alone_starts_the_run_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    said: list[str] = []
    assert load_checkpoint(path, said.append) is None
    assert said[0].endswith("The run starts again.")


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state(1))
    real, calls = os.replace, []

    def killed(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state(2))
    found = load_checkpoint(path, quiet)
    assert found is not None
    assert found["step"] == 1


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        StorageError, match=r"a\.pt could not be written: No space left on device\. What was finished"
    ):
        save_checkpoint(path, state(2))
    found = load_checkpoint(path, quiet)
    assert found is not None
    assert found["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_a_write_that_fails_inside_torch_is_an_os_error(tmp_path: Path, monkeypatch: Any) -> None:
    def full(state: Any, file: Any) -> None:
        raise RuntimeError("[enforce fail] unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(StorageError, match=r"a\.pt could not be written: .enforce fail. unexpected pos"):
        save_checkpoint(tmp_path / "a.pt", state(1))
    assert not list(tmp_path.iterdir())


def test_removed_means_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(2))
    path.with_suffix(".tmp").touch()
    remove_checkpoint(path)
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())
