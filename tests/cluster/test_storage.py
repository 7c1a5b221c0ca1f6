"""Checkpoints in a storage: whole or not there, on several kinds of file systems, and what goes wrong."""

from __future__ import annotations

import errno
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from equipoise.cluster.connection import ClusterError
from equipoise.cluster.storage import Storage, plain
from equipoise.training.storage import StorageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def storages(root: Path) -> dict[str, Storage]:
    mock = fs._MockFileSystem()  # in memory, with directories, as the tests of pyarrow use it
    return {
        "uri": Storage.at(f"file://{root}/shared", "one"),
        "path": Storage.at(f"{root}/path", "one"),
        "below": Storage(fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), "bucket/one"),
        "memory": Storage(mock, "bucket/one"),
    }


@pytest.mark.parametrize("kind", ["uri", "path", "below", "memory"])
def test_a_checkpoint_comes_back_as_it_was_put(kind: str, tmp_path: Path) -> None:
    storage = storages(tmp_path)[kind]
    storage.begin()
    here, there = tmp_path / "here.pt", tmp_path / "scratch" / "there.pt"
    assert not storage.fetch("a", there) and not there.exists()
    for content in (b"first" * 1000, b"second"):  # the second takes the place of the first
        here.write_bytes(content)
        storage.put(here, "a")
        assert storage.fetch("a", there)
        assert there.read_bytes() == content
    assert [path.name for path in there.parent.iterdir()] == ["there.pt"]
    storage.remove("a")
    storage.remove("a")  # there is none any more
    assert not storage.fetch("a", there)
    storage.begin()


def test_a_storage_can_be_sent_to_a_node(tmp_path: Path) -> None:
    storage = storages(tmp_path)["below"]
    storage.begin()
    (tmp_path / "here.pt").write_bytes(b"1")
    pickle.loads(pickle.dumps(storage)).put(tmp_path / "here.pt", "a")
    assert storage.fetch("a", tmp_path / "there.pt")


def test_what_a_killed_worker_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    storage = Storage.at(f"file://{tmp_path}", "one")
    storage.begin()
    left = tmp_path / "one" / "unfinished" / "a-1234"
    left.write_bytes(b"half a checkp")
    assert not storage.fetch("a", tmp_path / "there.pt")
    storage.begin()
    assert not left.exists()


def test_a_checkpoint_that_arrives_cut_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(f"file://{tmp_path}", "one")
    storage.begin()
    (tmp_path / "here.pt").write_bytes(b"12345")

    def cut(source: str, destination: str, **given: Any) -> None:
        Path(destination).write_bytes(Path(source).read_bytes()[:2])

    monkeypatch.setattr("pyarrow.fs.copy_files", cut)
    with pytest.raises(StorageError, match=r"one could not be written: 2 of 5 bytes have arrived\. What was"):
        storage.put(tmp_path / "here.pt", "a")
    assert not storage.fetch("a", tmp_path / "there.pt")


def test_a_full_storage_is_said_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.at(f"file://{tmp_path}", "one")
    storage.begin()
    (tmp_path / "here.pt").write_bytes(b"12345")
    storage.put(tmp_path / "here.pt", "a")

    def full(*args: Any, **given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "here.pt").write_bytes(b"67890")
    monkeypatch.setattr("pyarrow.fs.copy_files", full)
    with pytest.raises(StorageError, match=r"could not be written: \[Errno 28\] No space left on device\."):
        storage.put(tmp_path / "here.pt", "a")
    monkeypatch.undo()
    assert storage.fetch("a", tmp_path / "there.pt")
    assert (tmp_path / "there.pt").read_bytes() == b"12345"


def test_a_storage_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="The storage .*file/one could not be written: .*Not a directory"):
        Storage.at(f"file://{tmp_path}/file", "one").begin()


@pytest.mark.parametrize("uri", ["here", "ftp://server/x", "s3//bucket"])
def test_what_is_no_storage_is_named(uri: str) -> None:
    with pytest.raises(ClusterError, match=f"`storage` should be a URI that pyarrow knows.*Found '{uri}'"):
        Storage.at(uri, "one")


def test_credentials_are_not_shown() -> None:
    assert plain("s3://key:secret@bucket/a/b?region=x&secret_key=y") == "s3://bucket/a/b"
    assert plain("/shared/searches") == "/shared/searches"
    with pytest.raises(ClusterError) as caught:
        Storage.at("nothing://key:secret@bucket/a", "one")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("package", "said"), [("pyarrow.fs", "`storage` needs pyarrow")])
def test_without_the_packages_the_extra_is_named(
    package: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ClusterError, match=said + r'.*pip install "equipoise\[search\]"'):
        Storage.at("file:///x", "one")
