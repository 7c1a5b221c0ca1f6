"""QM9: 130,831 small organic molecules with quantum-chemical targets, as dense graphs for the 11-task benchmark."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.data.cache import data_root, load_tensors, save_tensors
from equipoise.data.molecules import Chunk, Molecules, dense_chunks
from equipoise.data.qm9_pyg import PROCESSED_FILE, RAW_FILES, PygProcessed, PygRaw
from equipoise.data.qm9_source import CATEGORIES, Progress, Qm9Pack, Source, take

__all__ = [
    "TARGETS",
    "UNITS",
    "Chunk",
    "Molecules",
    "dense_chunks",
    "find_source",
    "load_qm9",
    "split",
    "standardise",
    "summarise_qm9",
]

TARGETS = ("mu", "alpha", "homo", "lumo", "r2", "zpve", "u0", "u", "h", "g", "cv")
UNITS = ("D", "a0^3", "eV", "eV", "a0^2", "eV", "eV", "eV", "eV", "eV", "cal/(mol K)")
ELEMENTS = (1, 6, 7, 8, 9)
HELD_OUT = 10_000
CITATION = (
    "Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1, 140022 (2014), doi 10.1038/sdata.2014.22"
)


def load_qm9(
    root: str | os.PathLike[str] | None = None,
    *,
    source: str | os.PathLike[str] = "qm9pack",
    molecules: int | None = None,
    seed: int = 0,
    features: str = "pyg",
    progress: Progress | None = None,
) -> Molecules:
    """Load QM9, all of it or some molecules drawn at random.

    The whole set is read once (about half a minute on one core) and kept in a cache. A part is taken from the cache
    where there is one; otherwise just those molecules are read, and nothing is written: 4,000 take some seconds.

    Bonds come from the SMILES strings of qm9pack, which are in Kekule form. ``gdb9.sdf``, from which PyTorch Geometric
    takes them, has bonds that OEChem perceived from the geometry, with known faults: extra bonds at short contacts
    (PyTorch Geometric's issue 10560), charges (DeepChem's issue 4413), about a tenth of the double bonds written as
    single ones (5.99e-3 of all atom pairs are double by DiGress's count of its training part; 6.69e-3 here, while all
    bonds together differ by 0.2 %). For its exact tensors, faults included, give its folder as ``source``. Atoms,
    positions and targets are the same either way, as far as gdb9.sdf has been quoted: its first molecule is a test.

    Args:
        root: folder of the cache; default ``$EQUIPOISE_DATA/qm9``, else ``~/.cache/equipoise/qm9``.
        source: ``"qm9pack"``, the installed package, or a folder of PyTorch Geometric's QM9 that holds ``raw/`` with
            gdb9.sdf, gdb9.sdf.csv, uncharacterized.txt, or at least ``processed/data_v3.pt``.
        molecules: how many to draw without replacement, or ``None`` for all. With one seed, a smaller draw is part of
            every larger one. The order is that of QM9.
        seed: of the draw.
        features: ``"pyg"``: as PyTorch Geometric, which does not sanitise, so that aromatic, sp, sp2 and sp3 are
            always 0; and no bond is aromatic, since none is in gdb9.sdf. ``"chemical"``: as rdkit perceives the
            sanitised molecule, with aromatic bonds.
        progress: called with (done, total) while molecules are read.

    Raises:
        ModuleNotFoundError: if ``qm9pack`` or ``rdkit`` is needed and not installed; it names the extra.
        FileNotFoundError: if the source lacks a file.
        ValueError: if a file of the source is not as expected, or an argument is out of range.
    """
    if features not in ("pyg", "chemical"):
        raise ValueError(f'`features` should be "pyg" or "chemical". Found {features!r}.')
    found = find_source(source)
    if features == "chemical" and not found.chemical:
        raise ValueError(
            f'`features="chemical"` should come with a source that has molecules. Found `{source}`, which has only '
            f"{PROCESSED_FILE}: put the raw files beside it, or use qm9pack."
        )
    path = data_root("qm9", root) / f"{found.name}.pt"
    cached = load_tensors(path, found.fingerprint)
    if molecules is None:
        return _molecules(_whole(found, path, progress) if cached is None else cached, features)
    index = _draw(len(found) if cached is None else len(cached["number"]), molecules, seed)
    return _molecules(
        found.read(index.tolist(), progress) if cached is None else take(cached, index), features
    )


def find_source(source: str | os.PathLike[str]) -> Source:
    """Return what reads a source: see the argument of :func:`load_qm9`."""
    if source == "qm9pack":
        return Qm9Pack()
    folder = Path(source).expanduser()
    if all((folder / "raw" / name).exists() for name in RAW_FILES):
        return PygRaw(folder)
    if (folder / "processed" / PROCESSED_FILE).exists():
        return PygProcessed(folder)
    raise FileNotFoundError(
        f'`source` should be "qm9pack" or a folder of PyTorch Geometric\'s QM9, with raw/ ({", ".join(RAW_FILES)}) or '
        f"processed/{PROCESSED_FILE}. Found neither in `{folder}`."
    )


def split(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split n molecules at random as the published code does.

    A permutation under the seed, the one that ``torch.manual_seed(seed); dataset.shuffle()`` gives in PyTorch
    Geometric; the first 10,000 are the test part, the next 10,000 the validation part, the rest is for training. So
    each seed has a split of its own. Fewer than 100,000 molecules give a tenth to each of the two held-out parts.

    Args:
        n: number of molecules, at least 10.
        seed: of the permutation.

    Returns:
        Training, validation and test indices, int64.

    Raises:
        ValueError: if there are fewer than 10 molecules.
    """
    if n < 10:
        raise ValueError(f"`n` should be at least 10. Found {n}.")
    held_out = min(HELD_OUT, n // 10)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[2 * held_out :], order[held_out : 2 * held_out], order[:held_out]


def standardise(targets: Tensor, train_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each target, from the training part only.

    The published code takes them from ``train_dataset.data``, which in PyTorch Geometric is the whole set, test part
    included. The difference is small, but this one leaks nothing.

    Args:
        targets: (M, t).
        train_index: (n,) molecules of the training part, at least 2.

    Returns:
        Mean (t,) and unbiased standard deviation (t,), in the dtype of the targets.

    Raises:
        ValueError: if a target does not vary over the training part.
    """
    values = targets[train_index].double()
    std = values.std(0)
    if not bool((std > 0).all()):
        raise ValueError(
            f"Every target should vary over the {len(train_index)} molecules of `train_index`. "
            f"Found standard deviations {std.tolist()}."
        )
    return values.mean(0).to(targets.dtype), std.to(targets.dtype)


def summarise_qm9(
    root: str | os.PathLike[str] | None = None, *, source: str | os.PathLike[str] = "qm9pack"
) -> dict[str, Any]:
    """Say where QM9 would be read from and what is there, without reading it; JSON-able.

    Args:
        root: folder of the cache, as in :func:`load_qm9`.
        source: as in :func:`load_qm9`.

    Returns:
        ``source`` (name), ``files`` and whether all are there (``available``, else ``problem`` says what to do),
        ``cache`` (path), ``cached``, ``cache_mb``, ``molecules`` and ``counts`` by category where they are cached,
        ``targets`` with units, ``licence`` and ``citation``.
    """
    summary: dict[str, Any] = {
        "available": False,
        "cached": False,
        "targets": dict(zip(TARGETS, UNITS, strict=True)),
    }
    summary |= {"licence": "QM9: CC0; qm9pack: MIT", "citation": CITATION}
    try:
        found = find_source(source)
        path = data_root("qm9", root) / f"{found.name}.pt"
        summary |= {"source": found.name, "cache": str(path)}
        cached = load_tensors(path, found.fingerprint)
        if cached is not None:
            summary |= {
                "cached": True,
                "cache_mb": round(path.stat().st_size / 1e6, 1),
                "counts": _counts(cached),
            }
            summary["molecules"] = len(cached["number"])
        summary |= {"files": [str(file) for file in found.files()], "available": True}
    except (FileNotFoundError, ModuleNotFoundError) as error:
        summary["problem"] = str(error)
    return summary


def _whole(found: Source, path: Path, progress: Progress | None) -> dict[str, Tensor]:
    tensors = found.read(range(len(found)), progress)
    save_tensors(path, tensors, found.fingerprint)
    return tensors


def _draw(total: int, molecules: int, seed: int) -> Tensor:
    if not 1 <= molecules <= total:
        raise ValueError(f"`molecules` should be between 1 and {total}. Found {molecules}.")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:molecules].sort().values


def _counts(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(n) for name, n in zip(CATEGORIES, tensors["categories"].sum(0), strict=True) if n}


def _molecules(tensors: Mapping[str, Tensor], features: str) -> Molecules:
    """Choose one of the two sets of features, and count the hydrogen neighbours of each atom."""
    atoms, bonds, start = tensors["atoms"], tensors["bonds"], tensors["atom_start"]
    offset = torch.repeat_interleave(start[:-1], tensors["bond_start"].diff())
    first, second = bonds[:, 0] + offset, bonds[:, 1] + offset
    hydrogens = torch.zeros(len(atoms), dtype=torch.uint8)
    hydrogens.index_add_(0, first, (atoms[second] == 1).to(torch.uint8))
    hydrogens.index_add_(0, second, (atoms[first] == 1).to(torch.uint8))
    one_hot = atoms[:, None] == torch.tensor(ELEMENTS)
    strange = sorted(set(atoms[~one_hot.any(1)].tolist()))
    if strange:
        raise ValueError(f"The atoms of QM9 should be H, C, N, O and F. Found atomic numbers {strange}.")
    flags = torch.zeros_like(tensors["flags"]) if features == "pyg" else tensors["flags"]
    return Molecules(
        nodes=torch.cat([one_hot.to(torch.uint8), atoms[:, None], flags, hydrogens[:, None]], 1),
        positions=tensors["positions"],
        bonds=bonds[:, [0, 1, 2 if features == "pyg" else 3]],
        atom_start=start,
        bond_start=tensors["bond_start"],
        targets=tensors["targets"],
        number=tensors["number"],
        counts=_counts(tensors),
    )
