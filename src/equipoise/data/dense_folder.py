"""NYUv2 and CityScapes from the folders of npy files that the benchmark papers share, one sample at a time.

Layout: ``train|val/{image,label,depth,normal}/<number>.npy``, numbered from 0; CityScapes has ``label_7`` and no
normals. Channels come last in the files and first in the tensors. Nothing is copied to a cache: a sample is read
through a memory map, and the system keeps what it has read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

try:
    import numpy as np
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'Folders of npy files need `numpy`, which is not installed. Run `pip install "equipoise[cli]"`.'
    ) from error

Array = np.ndarray[Any, np.dtype[Any]]
Part = Literal["train", "val"]
Progress = Callable[[int, int], None]

PARTS: tuple[Part, ...] = ("train", "val")
CHANNELS = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
KINDS = {"image": "f", "label": "iuf", "depth": "f", "normal": "f"}  # of numpy's dtypes; images are 0 to 1
LONGEST_NORMAL = 1.001  # a component of a unit vector, with room for rounding
SHOWN = 5


@dataclass(frozen=True)
class Layout:
    """What a published folder looks like.

    Args:
        name: of the data set.
        folders: the folder of each quantity: ``image``, ``label``, ``depth``, ``normal``.
        classes: of the labels, 0 to classes - 1; -1 marks an unlabelled pixel.
        size: (H, W) of the published images; others are read too, if all have the same.
        samples: how many the published parts have.
        inverse_depth: whether ``depth`` is 1 / distance. Either way 0 marks a pixel without.
    """

    name: str
    folders: Mapping[str, str]
    classes: int
    size: tuple[int, int]
    samples: Mapping[str, int]
    inverse_depth: bool


NYUV2 = Layout(
    name="NYUv2",
    folders={"image": "image", "label": "label", "depth": "depth", "normal": "normal"},
    classes=13,
    size=(288, 384),
    samples={"train": 795, "val": 654},
    inverse_depth=False,
)
CITYSCAPES = Layout(
    name="CityScapes",
    folders={"image": "image", "label": "label_7", "depth": "depth"},
    classes=7,
    size=(128, 256),
    samples={"train": 2975, "val": 500},
    inverse_depth=True,
)


class DenseFolder(Dataset[dict[str, Tensor]]):
    """One part of a published folder.

    Sample i is a dict: ``image`` (3, H, W) float32, ``label`` (H, W) int64, ``depth`` (1, H, W) float32, and for NYUv2
    ``normal`` (3, H, W) float32, with the values of the files.

    All files are looked for, and their headers read, when the object is made: a missing, cut or misshapen file shows
    there and then. Values (not finite, labels out of range, negative depth, normals longer than 1) are checked when a
    sample is read.

    Args:
        root: the folder that holds ``train`` and ``val``.
        layout: ``NYUV2`` or ``CITYSCAPES``.
        part: ``"train"`` or ``"val"`` (which the papers test on).
        skip_bad: leave samples with a bad file out instead of raising. All values are then read beforehand. ``bad``
            says which files and why, ``skipped`` how many samples.
        progress: called with (done, total) files while they are looked at.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if there are bad files (unless ``skip_bad``), or no sample at all; when a sample is read, if its
            values are bad.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        layout: Layout,
        part: Part,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.layout = layout
        self.folder = Path(root).expanduser() / part
        facts = inspect_part(self.folder, layout, values=skip_bad, progress=progress)
        self.bad = {file: fact.problem for file, fact in facts.items() if fact.problem}
        if self.bad and not skip_bad:
            raise ValueError(
                f"`{self.folder}` should hold a whole copy of {layout.name}. Found {listed(self.bad)}. "
                "Copy again what is bad, or leave these samples out (`skip_bad`)."
            )
        numbers = {int(Path(file).stem) for file in facts}
        self.numbers = sorted(numbers - {int(Path(file).stem) for file in self.bad})
        self.skipped = len(numbers) - len(self.numbers)
        if not self.numbers:
            found = f"Found {listed(self.bad)}" if self.bad else "Found no npy file"
            raise ValueError(f"`{self.folder}` should hold whole samples of {layout.name}. {found}.")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = self.numbers[index]
        return {
            quantity: _read(self.folder / folder / f"{number}.npy", quantity, self.layout.classes)
            for quantity, folder in self.layout.folders.items()
        }


@dataclass
class FileFacts:
    """What is known of one file: from its header, and, where they were read, from its values.

    Args:
        quantity: ``image``, ``label``, ``depth`` or ``normal``.
        problem: what is wrong with the file, or None.
        shape: of the array.
        dtype: of the array.
        range: its least and greatest value, or none.
        labelled: share of pixels that are not -1 (label) or 0 (others).
    """

    quantity: str
    problem: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    range: tuple[float, ...] = ()
    labelled: float = 1.0


def inspect_part(
    folder: Path, layout: Layout, *, values: bool, progress: Progress | None = None
) -> dict[str, FileFacts]:
    """Look at every file that one part should have.

    Which these are is told by the highest number in any of the folders: a gap below it is a missing file.

    Args:
        folder: of the part.
        layout: ``NYUV2`` or ``CITYSCAPES``.
        values: whether to read the values too, and not only the headers.
        progress: called with (done, total) files.

    Returns:
        The facts by file, such as ``"depth/3.npy"``.

    Raises:
        FileNotFoundError: if a folder is missing.
    """
    missing = [name for name in layout.folders.values() if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"`{folder}` should hold the folders {', '.join(layout.folders.values())} of {layout.name}. "
            f"Found no {', '.join(missing)}."
        )
    stems = [path.stem for name in layout.folders.values() for path in (folder / name).glob("*.npy")]
    total = max((int(stem) for stem in stems if stem.isdecimal()), default=-1) + 1
    facts: dict[str, FileFacts] = {}
    for quantity, name in layout.folders.items():
        for number in range(total):
            file = f"{name}/{number}.npy"
            facts[file] = _inspect(folder / file, quantity, layout.classes if values else None)
            if progress is not None:
                progress(len(facts), total * len(layout.folders))
    _compare_shapes(facts)
    return facts


def listed(bad: Mapping[str, str]) -> str:
    """Say in words how many files are bad, and name the first ones."""
    shown = ", ".join(f"{file} ({why})" for file, why in list(bad.items())[:SHOWN])
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{len(bad)} bad file{'s' if len(bad) > 1 else ''}: {shown}{more}"


def _inspect(path: Path, quantity: str, classes: int | None) -> FileFacts:
    """The facts of one file; of its values only where the number of classes is given."""
    try:
        array = _opened(path)
    except FileNotFoundError:
        return FileFacts(quantity, "missing")
    except ValueError as error:
        return FileFacts(quantity, f"unreadable: {error.__cause__ or error}")
    facts = FileFacts(quantity, None, array.shape, str(array.dtype))
    if array.dtype.kind not in KINDS[quantity]:
        facts.problem = f"{array.dtype} in place of {'numbers' if quantity == 'label' else 'floats'}"
    elif array.size == 0:
        facts.problem = "no pixels"
    elif classes is not None:
        facts.problem = _value_problem(array, quantity, classes)
        facts.range = (float(array.min()), float(array.max()))
        marked = array != (-1 if quantity == "label" else 0)
        facts.labelled = float((marked if quantity == "label" else marked.any(-1)).mean())
    return facts


def _compare_shapes(facts: Mapping[str, FileFacts]) -> None:
    """Every image should have the size that most have."""
    sizes = Counter(fact.shape[:2] for fact in facts.values() if fact.shape)
    for fact in facts.values():
        expected = (*sizes.most_common(1)[0][0], *CHANNELS[fact.quantity]) if fact.shape else ()
        if fact.shape != expected and fact.problem is None:
            fact.problem = f"shape {fact.shape} in place of {expected}"


def _opened(path: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"`{path}` should be a whole npy file. Found that it cannot be read: {error}."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"`{path}` should be a npy file with one array. Found an archive.")
    return array


def _read(path: Path, quantity: str, classes: int) -> Tensor:
    array = _opened(path)
    problem = _value_problem(array, quantity, classes)
    if problem:
        raise ValueError(
            f"`{path}` should hold what was published. Found {problem}. Copy it again, or leave such samples out "
            "(`skip_bad`)."
        )
    if quantity == "label":
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(np.moveaxis(array, -1, 0).astype(np.float32, order="C"))


def _value_problem(array: Array, quantity: str, classes: int) -> str | None:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN is both
        return "values that are not finite"
    if quantity == "label" and (low < -1 or high >= classes):
        return f"labels from {low:g} to {high:g} in place of -1 to {classes - 1}"
    if quantity == "label" and array.dtype.kind == "f" and (array != np.rint(array)).any():
        return "labels that are not whole numbers"
    if quantity == "depth" and low < 0:
        return f"depth from {low:g}, below 0"
    if quantity == "normal" and max(-low, high) > LONGEST_NORMAL:
        return f"normals with components from {low:g} to {high:g} in place of -1 to 1"
    return None
