"""The cache of decoded images: against decoding afresh, and against every way in which it can be stopped or damaged."""

import json
import shutil
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from equipoise.data import image_cache
from equipoise.data.image_cache import ImageFiles, cached_images, decode_images, load_images
from equipoise.data.images import read_image

SIZE = (6, 5)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Eleven images, in blocks of four."""
    monkeypatch.setattr(image_cache, "BLOCK", 4)
    generator = torch.Generator().manual_seed(0)
    paths = [tmp_path / "images" / f"{number}.png" for number in range(11)]
    paths[0].parent.mkdir()
    for path in paths:
        pixels = torch.randint(0, 256, (9, 8, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    return watched(monkeypatch)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def read(path: Path, **options: Any) -> torch.Tensor:
        names.append(path.name)
        return read_image(path, **options)

    monkeypatch.setattr(image_cache, "read_image", read)
    return names


def one_by_one(files: list[Path]) -> torch.Tensor:
    return torch.stack([read_image(path, size=SIZE) for path in files])


def test_the_cache_holds_what_decoding_gives(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    source = ImageFiles(files, SIZE, "a", progress=lambda *now: seen.append(now))
    first = cached_images(tmp_path / "cache" / "c.u8", source)
    assert torch.equal(first.pixels, one_by_one(files)) and first.bad == {}
    assert sorted(decoded) == sorted(path.name for path in files)
    assert seen == [(4, 11), (8, 11), (11, 11)]
    again = cached_images(tmp_path / "cache" / "c.u8", source)
    assert torch.equal(again.pixels, first.pixels)
    assert len(decoded) == 11, "the second time nothing is decoded"
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == {"c.u8", "c.u8.jsonl", "c.u8.lock"}


def test_decoding_into_memory_gives_the_same_and_writes_nothing(files: list[Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = decode_images(ImageFiles(files, SIZE, threads=2))
    assert torch.equal(found.pixels, one_by_one(files))
    assert sorted(tmp_path.rglob("*")) == before
    assert decode_images(ImageFiles([], SIZE)).pixels.shape == (0, 3, *SIZE)


def test_files_that_cannot_be_read_are_named_and_black(files: list[Path], tmp_path: Path) -> None:
    files[2].write_bytes(b"nothing")
    files[9].unlink()
    source = ImageFiles(files, SIZE)
    for found in (cached_images(tmp_path / "c.u8", source), load_images(tmp_path / "c.u8", source)):
        assert found is not None
        assert list(found.bad) == [2, 9]
        assert "unreadable: cannot identify image file" in found.bad[2]
        assert "unreadable:" in found.bad[9] and "No such file" in found.bad[9]
        assert not found.pixels[[2, 9]].any()
        good = [row for row in range(11) if row not in (2, 9)]
        assert torch.equal(found.pixels[good], one_by_one([files[row] for row in good]))


def stopped_after(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Lets decoding end with Ctrl-C after so many images."""
    done: list[Path] = []

    def read(path: Path, **options: Any) -> torch.Tensor:
        if len(done) == images:
            raise KeyboardInterrupt
        done.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(image_cache, "read_image", read)


def test_a_stop_loses_no_more_than_a_block(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImageFiles(files, SIZE, "a", threads=1)
    stopped_after(monkeypatch, 10)
    with pytest.raises(KeyboardInterrupt):
        cached_images(tmp_path / "c.u8", source)
    assert load_images(tmp_path / "c.u8", source) is None, "half a cache is none"
    names = watched(monkeypatch)
    found = cached_images(tmp_path / "c.u8", source)
    assert names == ["8.png", "9.png", "10.png"]
    assert torch.equal(found.pixels, one_by_one(files))


@pytest.mark.parametrize("harm", ["pixels", "lines", "source", "gone"])
def test_what_a_stop_has_left_is_not_trusted(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    stopped_after(monkeypatch, 10)
    with pytest.raises(KeyboardInterrupt):
        cached_images(tmp_path / "c.u8", ImageFiles(files, SIZE, "a", threads=1))
    names = watched(monkeypatch)
    (part,) = tmp_path.glob("*.part")
    lines = part.with_name(part.name + ".jsonl")
    if harm == "pixels":
        content = bytearray(part.read_bytes())
        content[4 * 3 * 30] ^= 1  # in the second block
        part.write_bytes(content)
    elif harm == "lines":
        lines.write_text(lines.read_text()[:-6])
    elif harm == "gone":
        part.unlink()
    fingerprint = "b" if harm == "source" else "a"
    found = cached_images(tmp_path / "c.u8", ImageFiles(files, SIZE, fingerprint, threads=1))
    assert torch.equal(found.pixels, one_by_one(files))
    assert names[0] == ("4.png" if harm in ("pixels", "lines") else "0.png")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("byte", "its content does not match its checksums"),
        ("cut", r"it cannot be read \(ValueError\)"),
        ("gone", r"it cannot be read \(FileNotFoundError\)"),
        ("no index", r"it cannot be read \(FileNotFoundError\)"),
        ("text", r"it cannot be read \(JSONDecodeError\)"),
        ("short index", "its content does not match its checksums"),
        ("format", "it has format 0, not 1"),
        ("source", "it was made from other files"),
    ],
)
def test_a_damaged_or_stale_cache_is_built_again(
    files: list[Path], tmp_path: Path, decoded: list[str], harm: str, reason: str
) -> None:
    path, index = tmp_path / "c.u8", tmp_path / "c.u8.jsonl"
    cached_images(path, ImageFiles(files, SIZE, "a"))
    header, *lines = index.read_text().splitlines()
    if harm == "byte":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "gone":
        path.unlink()
    elif harm == "no index":
        index.unlink()
    elif harm == "text":
        index.write_text("{")
    elif harm == "short index":
        index.write_text("\n".join([header, *lines[:-1]]) + "\n")
    elif harm == "format":
        index.write_text("\n".join([json.dumps({**json.loads(header), "format": 0}), *lines]) + "\n")
    decoded.clear()
    source = ImageFiles(files, SIZE, "b" if harm == "source" else "a")
    with pytest.warns(UserWarning, match=rf"c\.u8` is not used and will be built again: {reason}\."):
        found = cached_images(path, source)
    assert torch.equal(found.pixels, one_by_one(files))
    assert len(decoded) == 11
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_images(path, source) is not None


def test_the_checksums_are_those_of_the_pixels(files: list[Path], tmp_path: Path) -> None:
    cached_images(tmp_path / "c.u8", ImageFiles(files, SIZE, "a"))
    header, *lines = [json.loads(line) for line in (tmp_path / "c.u8.jsonl").read_text().splitlines()]
    assert header == {"format": 1, "block": 4, "shape": [11, 3, 6, 5], "fingerprint": "a"}
    content = (tmp_path / "c.u8").read_bytes()
    assert [line["crc"] for line in lines] == [zlib.crc32(content[k : k + 360]) for k in range(0, 990, 360)]


def test_two_at_once_decode_once(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    source = ImageFiles(files, SIZE, "a", threads=1)
    ready = threading.Barrier(2)

    def build() -> None:
        ready.wait()
        cached_images(tmp_path / "c.u8", source)

    both = [threading.Thread(target=build) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(decoded) == 11


def test_a_full_disk_is_told_before_anything_is_decoded(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        OSError, match=r"should have 9\.9e-07 GB of room for the decoded images\. Found 5e-07 GB"
    ):
        cached_images(tmp_path / "c.u8", ImageFiles(files, SIZE))
    assert decoded == []
