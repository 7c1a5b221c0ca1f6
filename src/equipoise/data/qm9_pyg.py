"""QM9 from a folder of PyTorch Geometric: its raw files read again, or its processed file taken over."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import safe_globals

from equipoise.data.chemistry import quiet
from equipoise.data.qm9_graph import SdfFile
from equipoise.data.qm9_source import CATEGORIES, Progress, Record, collect, take

RAW_FILES = ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt")
PROCESSED_FILE = "data_v3.pt"
# The 11 targets among the columns of gdb9.sdf.csv and among the 19 of PyTorch Geometric's y.
CSV_COLUMNS = (
    "mu",
    "alpha",
    "homo",
    "lumo",
    "r2",
    "zpve",
    "u0_atom",
    "u298_atom",
    "h298_atom",
    "g298_atom",
    "cv",
)
Y_COLUMNS = (0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11)


class PygRaw:
    """``raw/`` of a PyTorch Geometric QM9: gdb9.sdf, gdb9.sdf.csv, uncharacterized.txt.

    Args:
        folder: the root that was given to PyTorch Geometric, which holds ``raw/``.
    """

    chemical = True

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / "raw" / name for name in RAW_FILES]
        self.name = _name("raw", folder)
        self.fingerprint = _fingerprint(self._paths)

    def __len__(self) -> int:
        return len(self._kept)

    def files(self) -> list[Path]:
        """Return the three raw files."""
        return self._paths

    def read(self, rows: Sequence[int], progress: Progress | None) -> dict[str, Tensor]:
        """Read the molecules of the given rows; see :class:`~equipoise.data.qm9_source.Source`."""
        with quiet():
            return collect(self._records(rows), len(rows), progress)

    @cached_property
    def _entries(self) -> list[dict[str, str]]:
        with self._paths[1].open(newline="") as file:
            entries = list(csv.DictReader(file))
        missing = [name for name in CSV_COLUMNS if entries and name not in entries[0]]
        if missing or not entries:
            raise ValueError(
                f"`{self._paths[1]}` should have one line a molecule with the columns {', '.join(CSV_COLUMNS)}. "
                f"Found {len(entries)} lines, without {', '.join(missing) or 'any value'}."
            )
        return entries

    @cached_property
    def _kept(self) -> list[int]:
        left_out = set(_uncharacterized(self._paths[2]))
        return [i for i in range(len(self._entries)) if i not in left_out]

    def _records(self, rows: Sequence[int]) -> Iterator[Record]:
        sdf = SdfFile(self._paths[0])
        if len(sdf) != len(self._entries):
            raise ValueError(
                f"`{self._paths[0]}` should hold the {len(self._entries)} molecules of `{self._paths[1].name}`. "
                f"Found {len(sdf)}."
            )
        for row in rows:
            i = self._kept[row]
            atoms, positions, graph = sdf[i]
            targets = [float(self._entries[i][name]) for name in CSV_COLUMNS]
            yield Record(i + 1, atoms, positions, graph, targets)


class PygProcessed:
    """``processed/data_v3.pt`` of a PyTorch Geometric QM9, for a folder that has lost its raw files.

    It is loaded with ``weights_only=True``: no code of the file runs, and torch_geometric need not be installed. It
    holds features in place of molecules, so the chemical features cannot be had from it.

    Args:
        folder: the root that was given to PyTorch Geometric, which holds ``processed/``.
    """

    chemical = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "processed" / PROCESSED_FILE
        self.name = _name("processed", folder)
        self.fingerprint = _fingerprint([self._path])

    def __len__(self) -> int:
        return len(self._tensors["number"])

    def files(self) -> list[Path]:
        """Return the one processed file."""
        return [self._path]

    def read(self, rows: Sequence[int], progress: Progress | None) -> dict[str, Tensor]:
        """Take over the molecules of the given rows; see :class:`~equipoise.data.qm9_source.Source`."""
        if progress is not None:
            progress(len(rows), len(rows))
        return take(self._tensors, torch.tensor(rows))

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        # The file names the class of its data. A stand-in is enough, since none is ever made.
        data_class = (type("Data", (), {}), "torch_geometric.data.data.Data")
        try:
            with safe_globals([data_class]):
                data, slices, _ = torch.load(self._path, weights_only=True)
            return _flatten(data, slices)
        except Exception as error:  # an older or damaged file can fail anywhere in torch's reader
            raise ValueError(
                f"`{self._path}` should be as PyTorch Geometric 2.8 writes it. Found another file "
                f"({type(error).__name__}). Put {', '.join(RAW_FILES)} into `{self._path.parent.parent / 'raw'}`."
            ) from error


def _flatten(data: dict[str, Tensor], slices: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn PyTorch Geometric's collated tensors into those of :func:`~equipoise.data.qm9_source.collect`."""
    if data["x"][:, 6:10].any():
        raise ValueError("The aromatic, sp, sp2 and sp3 features should be 0. Found others.")
    (first, second), kinds = data["edge_index"], data["edge_attr"].argmax(1)
    once = first < second
    return {
        "atoms": data["z"].to(torch.uint8),
        "flags": torch.zeros(len(data["z"]), 4, dtype=torch.uint8),
        "positions": data["pos"],
        "bonds": torch.stack([first, second, kinds, kinds], 1)[once].to(torch.uint8),
        "atom_start": slices["x"],
        "bond_start": slices["edge_index"] // 2,
        "targets": data["y"][:, Y_COLUMNS],
        "number": data["idx"] + 1,
        "categories": torch.tensor([name == "bonds from SDF" for name in CATEGORIES]).expand(
            len(data["y"]), -1
        ),
    }


def _uncharacterized(path: Path) -> Iterator[int]:
    """Yield the rows, counted from 0, of the molecules that failed the consistency check of QM9.

    The file has nine lines of heading and one closing line, as published.
    """
    for line in path.read_text().split("\n")[9:-2]:
        number = line.split()[:1]
        if not number or not number[0].isdecimal():
            raise ValueError(
                f"Lines 10 to the last but one of `{path}` should each begin with a molecule's number. Found {line!r}."
            )
        yield int(number[0]) - 1


def _name(kind: str, folder: Path) -> str:
    return f"pyg-{kind}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"


def _fingerprint(paths: Sequence[Path]) -> str:
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(states).encode()).hexdigest()
