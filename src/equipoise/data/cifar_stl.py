"""CIFAR-10 and STL-10 as two domains with one label space, from the folders of the official binary downloads.

Layout: ``cifar-10-batches-bin/data_batch_1.bin`` ... ``data_batch_5.bin``, ``test_batch.bin`` (records of 1 byte, the
class from 0, and 3072 bytes, the planes of 32 x 32 pixels row by row) and ``batches.meta.txt`` (a name a line);
``stl10_binary/train_X.bin``, ``test_X.bin`` (27,648 bytes an image, the planes of 96 x 96 pixels column by column),
``train_y.bin``, ``test_y.bin`` (a byte a label, from 1) and ``class_names.txt``. The planes are red, green, blue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.data.colour_domain import PARTS, Caps, ColourDomain, check_parts, drawn, split_within_classes

DOMAINS = ("cifar10", "stl10")
FOLDERS = {"cifar10": "cifar-10-batches-bin", "stl10": "stl10_binary"}
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SHARED = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "ship", "truck")
CLASSES = {"shared": SHARED, "all": (*SHARED, "frog", "monkey")}
"""What the option `classes` may be -> the classes, numbered from 0."""
PUBLISHED = {
    "cifar10": {"train": 50_000, "test": 10_000},
    "stl10": {"train": 5_000, "test": 8_000},
}
SIDE = 32
CITATION = (
    "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
    "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf; A. Coates, H. Lee, A. Ng, An Analysis of "
    "Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011, "
    "https://proceedings.mlr.press/v15/coates11a.html"
)
SOURCE = (
    "cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html; stl10_binary.tar.gz from "
    "https://cs.stanford.edu/~acoates/stl10/. Unpack both into one folder."
)
_CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_STL_SIDE = 96
_ALIASES = {"automobile": "car"}
_SPLIT_SEED = 0
_VALIDATION = 0.1  # of the training images of each class
_AT_ONCE = 1000  # images of STL-10 that are reduced in one go


class Labelled(NamedTuple):
    """Images uint8 (n, 3, 32, 32) and their classes (n,), int64, numbered from 0 as in their data set."""

    pixels: Tensor
    labels: Tensor


def load_domain(
    folder: str | os.PathLike[str], domain: str, *, classes: str = "shared", caps: Caps | None = None
) -> ColourDomain:
    """The images of one domain at 32 x 32 pixels in three parts.

    The test part is the official one; of the official training part, 10 % of each class are the validation part, always
    the same. Images of STL-10 are brought from 96 x 96 to 32 x 32 by the mean of each square of 3 x 3 pixels, rounded.
    Its 100,000 images without a label, and the folds of its training part, are not used.

    Args:
        folder: that holds both folders of the layout above, or the one of this domain.
        domain: one of `DOMAINS`.
        classes: "shared" for the nine classes of both, which leaves out frogs of CIFAR-10 and monkeys of STL-10;
            "all" for eleven.
        caps: at most how many images of each part.

    Raises:
        FileNotFoundError: if the folder or a file of it is missing.
        ValueError: if a file is not as expected, or a part has no image.
    """
    names, train, test = _READERS[domain](Path(folder).expanduser() / FOLDERS[domain])
    target = torch.tensor([_number(name, CLASSES[classes]) for name in names])
    numbers = [target[part.labels] for part in (train, test)]
    kept = [(found >= 0).nonzero()[:, 0] for found in numbers]
    learnt, held_out = (
        kept[0][rows] for rows in split_within_classes(numbers[0][kept[0]], [_VALIDATION], _SPLIT_SEED)
    )
    parts = dict(zip(PARTS, (learnt, held_out, kept[1] + len(train.labels)), strict=True))
    parts = {name: drawn(rows, (caps or {}).get(name)) for name, rows in parts.items()}
    check_parts(parts, domain, folder)
    return ColourDomain(torch.cat([train.pixels, test.pixels]), torch.cat(numbers), parts)


def read_cifar(folder: Path) -> tuple[Sequence[str], Labelled, Labelled]:
    """The names of the classes, and the official training and test part, of CIFAR-10.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file has other names, no whole number of records, or a label above 9.
    """
    _check_there(folder, ("batches.meta.txt", *_CIFAR_TRAIN, _CIFAR_TEST), "CIFAR-10")
    names = _names(folder / "batches.meta.txt", CIFAR_CLASSES)
    batches = [_cifar_batch(folder / file) for file in (*_CIFAR_TRAIN, _CIFAR_TEST)]
    train = Labelled(*(torch.cat(parts) for parts in zip(*batches[:-1], strict=True)))
    return names, train, batches[-1]


def read_stl(folder: Path) -> tuple[Sequence[str], Labelled, Labelled]:
    """The names of the classes, and the official training and test part, of STL-10, reduced to 32 x 32 pixels.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file has other names, another size, or a label outside 1 to 10.
    """
    files = [f"{part}_{kind}.bin" for part in ("train", "test") for kind in "Xy"]
    _check_there(folder, ("class_names.txt", *files), "STL-10")
    names = _names(folder / "class_names.txt", STL_CLASSES)
    train, test = (_stl_part(folder, part) for part in ("train", "test"))
    return names, train, test


def reduced(columns: Tensor) -> Tensor:
    """STL-10 images as they are stored, brought to 32 x 32 pixels by rounded means of 3 x 3 (halves go up).

    Args:
        columns: uint8 (n, 3, 96, 96), each plane as a list of columns.

    Returns:
        uint8 (n, 3, 32, 32), each plane as a list of rows.
    """
    pieces = []
    for some in columns.split(_AT_ONCE):
        squares = some.reshape(len(some), 3, SIDE, 3, SIDE, 3)
        total = squares.sum(dim=(3, 5), dtype=torch.int16)
        pieces.append(((total + 4) // 9).to(torch.uint8).transpose(2, 3))
    return torch.cat(pieces).contiguous()


def check_cifar_stl(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a whole folder and compare it with the layout, not with checksums.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (both domains can be read), ``problems`` (why not, in words),
        ``notes`` (other numbers of images than were published), and of each readable domain the number of images of
        the official ``train`` and ``test`` part and of each class in them.
    """
    root = Path(folder).expanduser()
    facts: dict[str, Any] = {"name": "CIFAR-10 and STL-10", "root": str(root)}
    problems, notes = [], []
    for domain in DOMAINS:
        try:
            names, *found = _READERS[domain](root / FOLDERS[domain])
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        for part, images in zip(("train", "test"), found, strict=True):
            counts = images.labels.bincount(minlength=len(names)).tolist()
            facts[f"{domain} {part}"] = {
                "images": len(images.labels),
                "classes": dict(zip(names, counts, strict=True)),
            }
            published = PUBLISHED[domain][part]
            if len(images.labels) != published:
                notes.append(f"{domain}: {len(images.labels)} {part} images; published are {published}")
    return {**facts, "available": not problems, "problems": problems, "notes": notes}


def _number(name: str, classes: Sequence[str]) -> int:
    """The number of a class under its common name, or -1."""
    common = _ALIASES.get(name, name)
    return classes.index(common) if common in classes else -1


def _cifar_batch(path: Path) -> Labelled:
    values = _values(path, 1 + 3 * SIDE * SIDE, "1 label and 3 x 32 x 32 pixels")
    labels = values[:, 0].long()
    _check_labels(path, labels, 0, len(CIFAR_CLASSES) - 1)
    return Labelled(values[:, 1:].reshape(-1, 3, SIDE, SIDE), labels)


def _stl_part(folder: Path, part: str) -> Labelled:
    path = folder / f"{part}_y.bin"
    labels = _values(path, 1, "1 label")[:, 0].long()
    _check_labels(path, labels, 1, len(STL_CLASSES))
    pixels = _values(folder / f"{part}_X.bin", 3 * _STL_SIDE * _STL_SIDE, "3 x 96 x 96 pixels")
    if len(pixels) != len(labels):
        raise ValueError(
            f"`{folder / f'{part}_X.bin'}` should hold as many images as {path.name} has labels, {len(labels)}. Found "
            f"{len(pixels)}: unpack it again."
        )
    return Labelled(reduced(pixels.reshape(-1, 3, _STL_SIDE, _STL_SIDE)), labels - 1)


def _values(path: Path, width: int, record: str) -> Tensor:
    """The records of a file (n, width), uint8, mapped into memory."""
    size = path.stat().st_size
    if size == 0 or size % width:
        raise ValueError(
            f"`{path}` should hold records of {width:,} bytes ({record}), at least 1. Found {size:,} bytes: "
            "unpack it again."
        )
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).reshape(-1, width)


def _check_labels(path: Path, labels: Tensor, low: int, high: int) -> None:
    wrong = ((labels < low) | (labels > high)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"`{path}` should hold labels from {low} to {high}. Found {int(labels[first])} in record {first}: it is "
            "another version, or damaged; unpack it again."
        )


def _names(path: Path, expected: Sequence[str]) -> Sequence[str]:
    names = path.read_text("utf-8", errors="replace").split()
    if names != list(expected):
        raise ValueError(
            f"`{path}` should hold the names {', '.join(expected)}, in this order. Found {', '.join(names) or 'none'}."
        )
    return expected


def _check_there(folder: Path, files: Sequence[str], title: str) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`{folder}` should hold the binary version of {title}: {', '.join(files)}. Found no "
            f"{', '.join(missing)}. `equipoise data cifar_stl` says where to get it."
        )


_READERS: dict[str, Callable[[Path], tuple[Sequence[str], Labelled, Labelled]]] = {
    "cifar10": read_cifar,
    "stl10": read_stl,
}
