"""idx files, written byte by byte after the description of the format."""

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from equipoise.data.idx import read_idx


def idx(shape: tuple[int, ...], values: bytes, magic: int | None = None) -> bytes:
    header = struct.pack(">I", 0x0800 + len(shape) if magic is None else magic)
    return header + b"".join(struct.pack(">I", length) for length in shape) + values


@pytest.mark.parametrize("packed", [True, False])
def test_images_and_labels_are_read(tmp_path: Path, packed: bool) -> None:
    values = bytes(range(2 * 3 * 4))
    path = tmp_path / ("images.gz" if packed else "images")
    content = idx((2, 3, 4), values)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_idx(path, 3, hashlib.sha256(content).hexdigest())
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[12 * i + 4 * j + k for k in range(4)] for j in range(3)] for i in range(2)]
    labels = tmp_path / "labels"
    labels.write_bytes(idx((3,), b"\x07\x00\xff"))
    assert read_idx(labels, 1).tolist() == [7, 0, 255]


def test_labels_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx((3,), b"abc"))
    with pytest.raises(
        ValueError, match=r"labels` should begin with 2051, .* 3 dimensions does\. Found 2049\."
    ):
        read_idx(path, 3)


@pytest.mark.parametrize(
    ("content", "found"), [(idx((3,), b"abc", 0x0D01), "3329"), (b"\x00\x00", "too few bytes")]
)
def test_another_beginning_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"should begin with 2049, .* 1 dimension does\. Found {found}\."):
        read_idx(path, 1)


@pytest.mark.parametrize("change", [-1, 1, -5])
def test_a_file_of_another_length_than_it_says_is_refused(tmp_path: Path, change: int) -> None:
    path = tmp_path / "labels"
    content = idx((3,), b"abc") + b"d"
    path.write_bytes(content[: 11 + change])
    message = rf"should have 11 bytes, of which 8 for the header, .*\(3,\)\. Found {11 + change} bytes: copy"
    with pytest.raises(ValueError, match=message if change > -4 else "Found 6 bytes"):
        read_idx(path, 1)


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx((300,), bytes(300)))[:-9])
    with pytest.raises(
        ValueError, match=r"labels\.gz` should be a whole gzip file\. Found .*: copy it again"
    ):
        read_idx(path, 1)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match=r"should be a whole gzip file\. Found .*Not a gzipped file"):
        read_idx(path, 1)


def test_another_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx((3,), b"abc"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(idx((3,), b"abd"))
    with pytest.raises(ValueError, match=rf"should have sha256 {digest} when unpacked\. Found .*install"):
        read_idx(path, 1, digest)
