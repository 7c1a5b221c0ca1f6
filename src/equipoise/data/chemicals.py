"""Measured properties of organic molecules with most labels missing, kept as tensors and split by scaffold."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.data.cache import data_root, load_tensors, save_tensors
from equipoise.data.chemicals_package import PACKAGE
from equipoise.data.chemicals_tables import PROPERTIES, Labels, read_labels
from equipoise.data.grouped_split import Split, grouped_split
from equipoise.data.packages import locate
from equipoise.data.ragged import starts
from equipoise.data.smiles import SmilesTable, load_smiles

_VERSION = 1  # of what is stored
_CONNECTIVITY = 14  # letters of an InChIKey that leave out the stereochemistry
_TAIL = 0.005
CITATION = "C. Bell and others, chemicals: chemical properties component of ChEDL, https://github.com/CalebBell/chemicals"


@dataclass(frozen=True)
class Chemicals:
    """M molecules.

    Args:
        molecules: their fingerprints and graphs.
        keys: InChIKey of each.
        values: (M, 17) float64 in the units of `PROPERTIES`, NaN where there is no label.
        yaws: (M, 17) bool: there is a label, and it is from a table of Yaws.
        group: (M,) int64, the same number for molecules that no split may part: those of a scaffold, and without a
            ring those that differ by stereochemistry alone.
        unreadable: molecules that were left out, since rdkit cannot read them.
    """

    molecules: SmilesTable
    keys: list[str]
    values: Tensor
    yaws: Tensor
    group: Tensor
    unreadable: int

    def __len__(self) -> int:
        return len(self.values)


def load_chemicals(
    root: str | os.PathLike[str] | None = None,
    *,
    molecules: int | None = None,
    yaws: bool = False,
    bits: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> Chemicals:
    """Load the molecules, all of them or a sample that favours rare labels.

    A sample is drawn without replacement with weights sum_t 1 / n_t over the labels t that a molecule has, n_t of
    which there are in all, so that each property keeps its share of a small sample.

    Args:
        root: folder of the caches; default ``$EQUIPOISE_DATA/chemicals``, else ``~/.cache/equipoise/chemicals``.
        molecules: how many to draw, or None for all. The draw is always the same, and part of every larger one.
        yaws: whether labels from the tables of Yaws count, and molecules that have no others: 31,326 molecules with
            16.3 % of the labels, in place of 28,367 with 12.6 %. Part of these labels is estimated.
        bits: of a fingerprint.
        progress: called with (done, total) while molecules are read for the first time.

    Raises:
        ModuleNotFoundError: if `chemicals` or `rdkit` is needed and not installed; it says what to run.
        FileNotFoundError: if the package lacks a table.
        ValueError: if a table has another checksum, or `molecules` is out of range.
    """
    folder = data_root("chemicals", root)
    labels = _labels(folder / "chemicals.pt")
    values = labels.values if yaws else labels.values.masked_fill(labels.yaws, torch.nan)
    chosen = _draw(~values.isnan(), molecules)
    smiles = [labels.smiles[k] for k in chosen.tolist()]
    table = load_smiles(smiles, folder, bits=bits, extra="chemicals", progress=progress)
    readable = table.readable.nonzero()[:, 0]
    if len(readable) < len(smiles):
        table = load_smiles([smiles[k] for k in readable.tolist()], folder, bits=bits, extra="chemicals")
    chosen = chosen[readable]
    keys = [labels.keys[k] for k in chosen.tolist()]
    unreadable = len(smiles) - len(readable)
    values = values[chosen]
    yaws_only = labels.yaws[chosen] & ~values.isnan()
    return Chemicals(table, keys, values, yaws_only, _groups(table, keys), unreadable)


def split_chemicals(chemicals: Chemicals, seed: int) -> Split:
    """Training, validation and test indices, a tenth each for the latter two, that have no scaffold in common.

    A scaffold of more than half of a held-out part, such as benzene, is always for training.
    """
    return grouped_split(chemicals.group, seed, large_to_training=True)


def clipped(values: Tensor, training: Tensor) -> Tensor:
    """Labels (n, 17), moved into the range from the 0.5th to the 99.5th percentile of those of the training part.

    The tables have errors of transcription, such as liquids of 474 m^3/mol, that would outweigh all else. The bounds
    know of no label but those of the training part, and hold for the other parts too.

    Args:
        values: NaN where there is no label.
        training: the labels of the training part (k, 17).
    """
    low, high = training.nanquantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=values.dtype), dim=0)
    return values.clamp(low, high)


def summarise_chemicals(root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Whether the data can be read, from the cache or the package, and what they are, JSON-able."""
    path = data_root("chemicals", root) / "chemicals.pt"
    facts: dict[str, Any] = {
        "available": True,
        "source": PACKAGE.pin,
        "cache": str(path),
        "cached": path.exists(),
        "properties": {item.name: item.unit for item in PROPERTIES},
        "needs": "rdkit, for fingerprints and scaffolds",
        "licence": PACKAGE.licence,
        "citation": CITATION,
    }
    labels = load_tensors(path, _fingerprint()) if path.exists() else None
    if labels is not None:
        facts["molecules"] = len(labels["values"])
        facts["labels"] = {
            item.name: int(count)
            for item, count in zip(PROPERTIES, (~labels["values"].isnan()).sum(dim=0), strict=True)
        }
        return facts
    try:
        facts["files"] = [str(file) for file in locate(PACKAGE, problem="chemicals")]
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        facts |= {"available": False, "problem": str(error)}
    return facts


def _labels(path: Path) -> Labels:
    tensors = load_tensors(path, _fingerprint())
    if tensors is None:
        first = locate(PACKAGE, problem="chemicals")[0]
        labels = read_labels(first.parents[1])
        tensors = {"values": labels.values, "yaws": labels.yaws, **_stored("smiles", labels.smiles)}
        tensors |= _stored("keys", labels.keys)
        save_tensors(path, tensors, _fingerprint())
    return Labels(_texts(tensors, "smiles"), _texts(tensors, "keys"), tensors["values"], tensors["yaws"])


def _stored(name: str, texts: list[str]) -> dict[str, Tensor]:
    """Texts as bytes laid end to end."""
    content = bytearray("".join(texts).encode("ascii"))
    return {
        name: torch.frombuffer(content, dtype=torch.uint8),
        f"{name}_start": starts(torch.tensor([len(text) for text in texts])),
    }


def _texts(tensors: dict[str, Tensor], name: str) -> list[str]:
    content = tensors[name].numpy().tobytes().decode("ascii")
    bounds = tensors[f"{name}_start"].tolist()
    return [content[first:last] for first, last in pairwise(bounds)]


def _draw(known: Tensor, molecules: int | None) -> Tensor:
    """Numbers of molecules, rising, that have a label in `known` (M, 17)."""
    weights = (known / known.sum(dim=0).clamp(min=1)).sum(dim=1, dtype=torch.float64)
    total = int((weights > 0).sum())
    if molecules is None:
        return (weights > 0).nonzero()[:, 0]
    if not 1 <= molecules <= total:
        raise ValueError(f"`molecules` should be between 1 and {total}, or None for all. Found {molecules}.")
    uniform = torch.rand(len(known), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The largest of log w - log(-log u) are such a draw, whatever their number.
    return (weights.log() - (-uniform.log()).log()).topk(molecules).indices.sort().values


def _groups(table: SmilesTable, keys: list[str]) -> Tensor:
    atoms, bonds = table.graphs.atom_start.diff(), table.graphs.bond_start.diff()
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(key[:_CONNECTIVITY], len(numbers)) for key in keys]
    offset = int(table.scaffold.max()) + 1 if len(keys) else 0
    # A molecule of one piece has no ring where it has one bond less than atoms.
    return torch.where(bonds == atoms - 1, torch.tensor(own, dtype=torch.int64) + offset, table.scaffold)


def _fingerprint() -> str:
    return " ".join([str(_VERSION), *PACKAGE.files.values()])
