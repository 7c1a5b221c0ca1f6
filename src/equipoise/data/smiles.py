"""Many SMILES strings as tensors: read once, then from a cache that belongs to their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .cache import data_root, load_tensors, save_tensors
from .chemistry import ATOM_FEATURES, MoleculeFacts, chemistry, read_molecules
from .molecules import Molecules
from .ragged import starts

_VERSION = 1  # of what is stored
_RADIUS = 2
# For each value of a byte its eight bits, lowest first, a byte each; looked up as one number, in half the time.
_EIGHT = (torch.arange(256)[:, None] >> torch.arange(8) & 1).to(torch.uint8).view(torch.int64)[:, 0]


@dataclass(frozen=True, slots=True)
class SmilesTable:
    """What is known of M SMILES strings.

    Args:
        readable: (M,) bool; all else is 0 or empty where it is false.
        molecule: (M,) int64, the same number for strings of the same molecule.
        scaffold: (M,) int64, the same number for molecules of the same Bemis-Murcko scaffold; those without a ring
            share one.
        packed: (M, bits / 8) uint8, the circular fingerprints; see `fingerprints`.
        graphs: the molecules, without positions and targets.
    """

    readable: Tensor
    molecule: Tensor
    scaffold: Tensor
    packed: Tensor
    graphs: Molecules

    def fingerprints(self, index: Tensor) -> Tensor:
        """The fingerprints of some molecules (b,), one byte a bit (b, bits) uint8."""
        return _EIGHT[self.packed[index].int()].view(torch.uint8)


def load_smiles(
    smiles: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    *,
    bits: int = 1024,
    extra: str = "table",
    progress: Callable[[int, int], None] | None = None,
) -> SmilesTable:
    """Read SMILES strings, or the cache of them.

    Args:
        smiles: the strings; "" counts as unreadable.
        root: folder of the cache; see `data_root`.
        bits: of a fingerprint, a multiple of 8.
        extra: what the message names where rdkit is missing.
        progress: called with (done, total) while they are read for the first time.

    Raises:
        ModuleNotFoundError: without rdkit.
        ValueError: if `bits` is no multiple of 8 above 0.
    """
    return _load(tuple(smiles), str(data_root("molecules", root)), bits, extra, progress)


@lru_cache(maxsize=2)
def _load(
    smiles: tuple[str, ...], root: str, bits: int, extra: str, progress: Callable[[int, int], None] | None
) -> SmilesTable:
    version = f"{_VERSION} {chemistry(extra).rdBase.rdkitVersion} {bits} {_RADIUS}"
    key = hashlib.sha256("\n".join([version, *smiles]).encode()).hexdigest()
    path = data_root("molecules", root) / f"smiles-{key[:16]}.pt"
    tensors = load_tensors(path, key)
    if tensors is None:
        facts = read_molecules(smiles, bits=bits, radius=_RADIUS, extra=extra, progress=progress)
        tensors = _laid_out(facts, bits)
        save_tensors(path, tensors, key)
    names = ("nodes", "bonds", "atom_start", "bond_start", "hops", "hop_start")
    count = len(smiles)
    graphs = Molecules(
        **{name: tensors[name] for name in names},
        positions=torch.zeros(len(tensors["nodes"]), 0),
        targets=torch.zeros(count, 0),
        number=torch.arange(1, count + 1),
        counts={},
    )
    facts_of = {name: tensors[name] for name in ("readable", "molecule", "scaffold", "packed")}
    return SmilesTable(**facts_of, graphs=graphs)


def _laid_out(facts: Sequence[MoleculeFacts | None], bits: int) -> dict[str, Tensor]:
    known = [fact for fact in facts if fact is not None]
    sizes, bonds = (
        torch.tensor([0 if fact is None else len(getattr(fact, name)) for fact in facts], dtype=torch.int64)
        for name in ("atoms", "bonds")
    )
    packed = torch.zeros(len(facts), bits // 8, dtype=torch.uint8)
    readable = torch.tensor([fact is not None for fact in facts], dtype=torch.bool)
    if known:
        packed[readable] = torch.stack([fact.fingerprint for fact in known])
    empty = {"nodes": torch.zeros(0, ATOM_FEATURES), "bonds": torch.zeros(0, 3), "hops": torch.zeros(0)}
    return {
        "readable": readable,
        "molecule": _numbered(["" if fact is None else fact.smiles for fact in facts]),
        "scaffold": _numbered(["" if fact is None else fact.scaffold for fact in facts]),
        "packed": packed,
        "nodes": torch.cat([empty["nodes"].byte(), *(fact.atoms for fact in known)]),
        "bonds": torch.cat([empty["bonds"].short(), *(fact.bonds for fact in known)]),
        "hops": torch.cat([empty["hops"].byte(), *(fact.hops.flatten() for fact in known)]),
        "atom_start": starts(sizes),
        "bond_start": starts(bonds),
        "hop_start": starts(sizes.square()),
    }


def _numbered(texts: Sequence[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts], dtype=torch.int64)
