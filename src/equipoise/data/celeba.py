"""CelebA: 202,599 faces with 40 binary attributes, from the folder of the official download.

Layout: ``img_align_celeba/*.jpg`` (178 x 218), ``list_attr_celeba.txt`` (the number of images, the 40 names, then a
file and 40 times -1 or 1 a line), ``list_eval_partition.txt`` (a file and 0, 1 or 2 a line).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.data.cache import data_root
from equipoise.data.image_cache import ImageFiles, Progress, some_images

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
"""The columns of ``list_attr_celeba.txt``, in their order."""

PARTS = ("train", "validation", "test")  # numbered 0, 1, 2
PUBLISHED = {"train": 162_770, "validation": 19_867, "test": 19_962}
SIZE = (64, 64)
CACHE = "images-64.u8"
FOLDER, LABELS, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
FULL_SIZE = (218, 178)
CITATION = "Liu, Luo, Wang, Tang, Deep Learning Face Attributes in the Wild, ICCV 2015, https://arxiv.org/abs/1411.7766"
LICENCE = "non-commercial research only, and no copies to others; see the page of the data set"
_SHOWN = 5


@dataclass(frozen=True)
class Lists:
    """What the two text files say, a row for each listed image.

    Args:
        files: names, in the order of ``list_attr_celeba.txt``.
        labels: bool (n, 40), in the order of `ATTRIBUTES`.
        part: uint8 (n,), 0 for train, 1 for validation, 2 for test.
    """

    files: tuple[str, ...]
    labels: Tensor
    part: Tensor


@dataclass(frozen=True)
class Faces:
    """Decoded images with their labels.

    Args:
        pixels: uint8 (n, 3, 64, 64).
        labels: bool (n, 40), in the order of `ATTRIBUTES`.
        parts: part -> rows of the two above, int64. Bad files are in none.
        bad: file -> what is wrong with it.
    """

    pixels: Tensor
    labels: Tensor
    parts: Mapping[str, Tensor]
    bad: Mapping[str, str]


def load_celeba(
    folder: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    images: int | None = None,
    skip_bad: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Faces:
    """Load CelebA at 64 x 64 pixels, all of it or a sample.

    The images are decoded once (202,599 take some minutes on two cores) into a cache of 2.5 GB, which is then mapped
    into memory, not read. A sample is taken from the cache where there is one; otherwise just those images are decoded
    and nothing is written. The cache is built again when a file has another name or size.

    Args:
        folder: that holds the layout above.
        root: folder of the cache; default ``$EQUIPOISE_DATA/celeba``, else ``~/.cache/equipoise/celeba``.
        images: how many to draw without replacement, shared out to the parts in proportion to their sizes and at least
            one each; None for all. The draw is always the same, and a smaller one is part of every larger one.
        skip_bad: leave images out whose file is missing or cannot be read, instead of raising.
        threads: that decode, or None for as many as there are cores.
        progress: called with (done, total) images while they are decoded.

    Raises:
        FileNotFoundError: if the folder or a part of the layout is missing.
        ValueError: if a list is not as expected, a file is bad (unless ``skip_bad``), or nothing is left of a part.
        OSError: if the disk has no room for the cache.
    """
    folder = Path(folder).expanduser()
    lists = read_lists(folder)
    sizes = file_sizes(folder / FOLDER)
    bad = {file: "missing" for file in lists.files if file not in sizes}
    _refuse(folder, bad, skip_bad)
    rows = torch.tensor([row for row, file in enumerate(lists.files) if file in sizes], dtype=torch.int64)
    path = data_root("celeba", root) / CACHE
    source = ImageFiles(
        [f"{folder}/{FOLDER}/{lists.files[row]}" for row in rows.tolist()],  # a `Path` each takes seconds
        SIZE,
        _fingerprint(lists.files, sizes),
        threads,
        progress,
    )
    drawn = None if images is None else draw(lists.part[rows], images)
    found, held = some_images(path, source, drawn)
    chosen = torch.arange(len(held)) if drawn is None else torch.searchsorted(held, drawn)
    rows = rows[held]
    bad |= {lists.files[int(rows[row])]: why for row, why in found.bad.items()}
    _refuse(folder, bad, skip_bad)
    good = chosen[~torch.isin(chosen, torch.tensor(list(found.bad), dtype=torch.int64))]
    return Faces(found.pixels, lists.labels[rows], _parts(folder, lists.part[rows], good), bad)


def _parts(folder: Path, part: Tensor, good: Tensor) -> dict[str, Tensor]:
    parts = {name: good[part[good] == number] for number, name in enumerate(PARTS)}
    empty = [name for name, members in parts.items() if len(members) == 0]
    if empty:
        raise ValueError(f"`{folder}` should have images of each part. Found none for {', '.join(empty)}.")
    return parts


def draw(part: Tensor, images: int) -> Tensor:
    """Rows (k,), ascending, of about so many images, from each part in proportion to its size and at least one.

    Args:
        part: uint8 (n,), numbers of parts.
        images: at least 3.

    Raises:
        ValueError: if fewer than 3 images are asked for.
    """
    if images < len(PARTS):
        raise ValueError(f"`images` should be at least {len(PARTS)}, one for each part. Found {images}.")
    generator = torch.Generator().manual_seed(0)
    chosen = []
    for number in range(len(PARTS)):
        members = (part == number).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[: max(1, round(images * len(members) / len(part)))]])
    return torch.cat(chosen).sort().values


def read_lists(folder: Path) -> Lists:
    """Read the two text files of the layout.

    Raises:
        FileNotFoundError: if the folder or a part of the layout is missing.
        ValueError: naming file and line that are not as expected.
    """
    missing = [name for name in (FOLDER, LABELS, PARTITION) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"`{folder}` should hold {FOLDER}, {LABELS} and {PARTITION}. Found no {', '.join(missing)}: "
            "`equipoise data celeba` says where to get them."
        )
    files, labels = _read_labels(folder / LABELS)
    part = _read_partition(folder / PARTITION)
    alone = sorted(set(files) ^ set(part))
    if alone:
        raise ValueError(
            f"`{folder / PARTITION}` should list the same images as {LABELS}. Found {len(alone)} in one of the two "
            f"only: {_some(alone)}."
        )
    return Lists(files, labels, torch.tensor([part[file] for file in files], dtype=torch.uint8))


def file_sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of every jpg file of a folder, by name."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".jpg")}


def listed(bad: Mapping[str, str]) -> str:
    """Say in words how many files are bad, and name the first ones."""
    return (
        f"{len(bad)} bad file{'s' if len(bad) > 1 else ''}: {_some(f'{f} ({why})' for f, why in bad.items())}"
    )


def _read_labels(path: Path) -> tuple[tuple[str, ...], Tensor]:
    lines = path.read_text("utf-8", errors="replace").splitlines()
    first, second = (*lines[:2], "", "")[:2]
    lines = lines[2:]
    names = second.split()
    if sorted(names) != sorted(ATTRIBUTES):
        wrong = sorted(set(names) ^ set(ATTRIBUTES)) or names
        raise ValueError(
            f"`{path}` should have the names of the {len(ATTRIBUTES)} attributes in its second line. Found "
            f"{len(names)} names; missing or unknown: {_some(wrong)}."
        )
    if first.strip() != str(len(lines)):
        raise ValueError(
            f"`{path}` should say in its first line how many images follow. Found {first.strip()!r} and {len(lines)} "
            "lines: copy it again."
        )
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=3)]
    files = _different(path, [file for file, _ in rows])
    signs = torch.frombuffer(bytearray("".join(text for _, text in rows), "ascii"), dtype=torch.uint8)
    order = [names.index(name) for name in ATTRIBUTES]
    return files, (signs == ord("1")).view(len(rows), len(names))[:, order]


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    """The file of a line, and its labels as 40 letters 0 or 1."""
    file, *values = line.split() or [""]
    if len(values) != len(ATTRIBUTES) or not {*values} <= {"1", "-1"}:
        raise ValueError(
            f"`{path}` should have a file and {len(ATTRIBUTES)} times -1 or 1 in line {number}. Found {len(values)} "
            f"values{_odd(values, ('1', '-1'))}."
        )
    return file, "".join(values).replace("-1", "0")


def _read_partition(path: Path) -> dict[str, int]:
    rows = [line.split() for line in path.read_text("utf-8", errors="replace").splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(
                f"`{path}` should have a file and 0, 1 or 2 (for {', '.join(PARTS)}) in line {number}. "
                f"Found {' '.join(row)!r}."
            )
    return dict(zip(_different(path, [file for file, _ in rows]), (int(n) for _, n in rows), strict=True))


def _different(path: Path, files: Sequence[str]) -> tuple[str, ...]:
    if len(set(files)) < len(files):
        seen: set[str] = set()
        again = [file for file in files if file in seen or seen.add(file)]  # type: ignore[func-returns-value]
        raise ValueError(f"`{path}` should list every image once. Found more than once: {_some(again)}.")
    return tuple(files)


def _refuse(folder: Path, bad: Mapping[str, str], skip_bad: bool) -> None:
    if bad and not skip_bad:
        raise ValueError(
            f"`{folder / FOLDER}` should hold every image that is listed. Found {listed(bad)}. Copy again what is bad, "
            "or leave these images out (`skip_bad`)."
        )


def _fingerprint(files: Iterable[str], sizes: Mapping[str, int]) -> str:
    text = "\n".join(f"{file} {sizes[file]}" for file in files if file in sizes)
    return hashlib.sha256(text.encode()).hexdigest()


def _odd(values: Iterable[str], known: Iterable[str]) -> str:
    odd = sorted({*values} - {*known})
    return f", and among them {_some(odd)}" if odd else ""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
