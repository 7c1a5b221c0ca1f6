"""MNIST and Fashion-MNIST: the real ones, small folders of the same layout, and what is wrong with bad ones."""

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.idx_folder import numbers, write_folder, write_idx
from equipoise.data import mnist
from equipoise.data.mnist import (
    FASHION_FOLDER,
    FILES,
    Parts,
    from_pickle,
    load_fashion,
    load_mnist,
    read_folder,
)
from equipoise.data.packages import locate

Pair = tuple[Any, Any]


def pickled(path: Path, pairs: object) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        pickle.dump(pairs, file, protocol=4)
    return path


def pair(n: int, seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (n, 784)) / 256).astype(np.float32), rng.integers(0, 10, n)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def digits(root: str) -> Parts:
    try:
        return load_mnist(root)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def test_mnist_is_the_known_one(digits: Parts) -> None:
    """Counts of the test set and the first labels as published; a stroke is bright, the border is 0."""
    assert [len(part.labels) for part in digits] == [50_000, 10_000, 10_000]
    assert digits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = torch.bincount(digits.test.labels).tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    for part in digits:
        assert part.pixels.shape == (len(part.labels), 28, 28) and part.pixels.dtype == torch.uint8
        assert int(part.pixels.max()) == 255
        assert part.pixels[:, 0, 0].float().mean() == 0
    mean = digits.train.pixels.double().mean() / 255
    assert float(mean) == pytest.approx(0.1307, abs=1e-3)  # the constant that everyone normalises by


def test_the_cache_of_mnist_is_read_instead_of_the_package(
    root: str, digits: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "locate", lambda *_, **__: pytest.fail("the package was asked for"))
    again = load_mnist(root)
    for first, second in zip(digits, again, strict=True):
        assert torch.equal(first.pixels, second.pixels)
        assert torch.equal(first.labels, second.labels)


def test_mnist_looks_as_numpy_reads_the_same_pickle(digits: Parts) -> None:
    (path,) = locate(mnist.MNIST_PACKAGE, problem="multi_mnist", check=False)
    with gzip.open(path) as file:
        _, (pixels, labels), _ = pickle.load(file, encoding="latin1")
    assert torch.equal(digits.validation.pixels.reshape(-1, 784) / 256, torch.from_numpy(pixels))
    assert torch.equal(digits.validation.labels, torch.from_numpy(labels))


@pytest.mark.skipif(not FASHION_FOLDER.exists(), reason="apt-get install dataset-fashion-mnist")
def test_fashion_is_the_known_one() -> None:
    parts = load_fashion()
    assert [len(part.labels) for part in parts] == [50_000, 10_000, 10_000]
    assert parts.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert parts.test.labels[:5].tolist() == [9, 2, 1, 1, 6]
    both = torch.bincount(torch.cat([parts.train.labels, parts.validation.labels])).tolist()
    assert both == [6000] * 10 and torch.bincount(parts.test.labels).tolist() == [1000] * 10
    assert float(parts.train.pixels.double().mean()) / 255 == pytest.approx(0.2860, abs=1e-3)


@pytest.mark.parametrize("ending", [".gz", ""])
def test_a_folder_of_idx_files_is_read(tmp_path: Path, ending: str) -> None:
    pixels, labels, test_pixels, test_labels = write_folder(tmp_path, train=60, test=20, ending=ending)
    parts = read_folder(tmp_path)
    assert [len(part.labels) for part in parts] == [50, 10, 20]
    assert torch.equal(torch.cat([parts.train.pixels, parts.validation.pixels]), pixels)
    assert torch.equal(torch.cat([parts.train.labels, parts.validation.labels]), labels.long())
    assert torch.equal(parts.test.pixels, test_pixels) and torch.equal(parts.test.labels, test_labels.long())
    assert sorted(n for part in parts for n in numbers(part.pixels)) == list(
        range(80)
    )  # no image in two parts
    for loaded in (load_mnist(data=tmp_path), load_fashion(tmp_path)):
        assert torch.equal(loaded.train.pixels, parts.train.pixels)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_and_where_to_get_it(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"should hold .*Missing: {name}\. On Debian .*`apt-get install data"
    ):
        read_folder(tmp_path)


def test_swapped_and_cut_files_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    images, labels = tmp_path / FILES[0], tmp_path / FILES[1]
    whole = images.read_bytes()
    shutil.copy(labels, images)
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte\.gz` should begin with 2051, .* Found 2049\."
    ):
        read_folder(tmp_path)
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(ValueError, match=r"should have 47056 bytes, .*Found 47055 bytes"):
        read_folder(tmp_path)


def test_images_of_another_size_or_number_and_other_labels_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, side=32)
    message = r"and `train-labels-idx1-ubyte\.gz` should hold at least 6 images of 28 x 28 pixels and as many labels\. "
    with pytest.raises(ValueError, match=message + r"Found images \(60, 32, 32\) and labels \(60,\)\."):
        read_folder(tmp_path)
    write_folder(tmp_path)
    write_idx(tmp_path / FILES[1], torch.zeros(59, dtype=torch.uint8))
    with pytest.raises(ValueError, match=message + r"Found images \(60, 28, 28\) and labels \(59,\)\."):
        read_folder(tmp_path)
    write_folder(tmp_path, train=5)
    with pytest.raises(ValueError, match=message + r"Found images \(5, 28, 28\) and labels \(5,\)\."):
        read_folder(tmp_path)
    write_folder(tmp_path)
    write_idx(tmp_path / FILES[3], torch.arange(20, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"`t10k-labels.*should hold labels from 0 to 9\. Found 0 to 19\."):
        read_folder(tmp_path)


def test_debian_files_of_another_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    monkeypatch.setattr(mnist, "FASHION_FOLDER", tmp_path)
    with pytest.raises(
        ValueError, match=r"train-images.* should have sha256 c59f468a.* when unpacked\. Found "
    ):
        load_fashion()


def test_a_pickle_of_pairs_is_read_as_bytes(tmp_path: Path) -> None:
    pairs = (pair(12, 0), pair(3, 1), pair(4, 2))
    parts = from_pickle(pickled(tmp_path / "a.gz", pairs))
    for part, (pixels, labels) in zip(parts, pairs, strict=True):
        assert part.pixels.tolist() == [
            [[int(v * 256) for v in r] for r in p.reshape(28, 28)] for p in pixels
        ]
        assert part.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ((pair(3), pair(3)), r"\[\[2, 1\], \[2, 1\]\] dimensions"),
        ((pair(3), pair(3), pair(3)[0]), r"\[\[2, 1\], \[2, 1\]\] dimensions"),
        ((pair(3), pair(3)[::-1], pair(3)), r"\[\[2, 1\], \[1, 2\], \[2, 1\]\] dimensions"),
        (pair(3)[0], r"\[\] dimensions"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, pairs: object, found: str) -> None:
    with pytest.raises(
        ValueError, match=rf"a\.gz` should hold three pairs of arrays, .*Found arrays with {found}\."
    ):
        from_pickle(pickled(tmp_path / "a.gz", pairs))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda p: p * np.float32(1.5), r"784 pixels from 0 to 1\.4"),
        (lambda p: p - np.float32(1), r"784 pixels from -1 to "),
        (lambda p: p[:, :700], r"700 pixels from 0 to "),
        (lambda p: p * np.float32("nan"), r"784 pixels from nan to nan"),
    ],
)
def test_pixels_of_another_scale_are_refused(
    tmp_path: Path, change: Callable[[Any], Any], found: str
) -> None:
    pixels, labels = pair(3)
    good = pair(3)
    path = pickled(tmp_path / "a.gz", (good, (change(pixels), labels), good))
    with pytest.raises(ValueError, match=rf"multiples of 1/256, from 0 to 255/256\. Found {found}"):
        from_pickle(path)


def test_labels_of_the_pickle_are_checked(tmp_path: Path) -> None:
    pixels, labels = pair(3)
    with pytest.raises(ValueError, match=r"should hold labels from 0 to 9\. Found -1 to"):
        from_pickle(pickled(tmp_path / "a.gz", (pair(3), (pixels, labels - labels.min() - 1), pair(3))))
    with pytest.raises(ValueError, match=r"at least 1 images .*Found images \(3, 28, 28\) and labels \(2,\)"):
        from_pickle(pickled(tmp_path / "a.gz", (pair(3), (pixels, labels[:2]), pair(3))))
