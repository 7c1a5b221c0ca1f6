"""QM9 from the package qm9pack: located without importing it, checked, read, and laid out as ragged tensors."""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from equipoise.data.chemistry import quiet
from equipoise.data.qm9_graph import Graph, graph_from_smiles
from equipoise.data.ragged import spans, starts

Progress = Callable[[int, int], None]

HARTREE = 27.211386246  # eV; this and the next as PyTorch Geometric converts
KCAL_PER_MOL = 0.04336414  # eV
KCAL_PER_MOL_OF_HARTREE = 627.509  # with which gdb9.sdf.csv writes atomisation energies
TARGET_UNITS = (1, 1, HARTREE, HARTREE, 1, HARTREE, *4 * [KCAL_PER_MOL], 1)

# Energies in hartree of a free H, C, N, O, F atom at the level of theory of QM9 (atomref.txt of the publication).
ATOMIC_NUMBERS = (1, 6, 7, 8, 9)
REFERENCE_ENERGIES = {
    "InternalEnergy_0K_au": (-0.500273, -37.846772, -54.583861, -75.064579, -99.718730),
    "InternalEnergy_298K_au": (-0.498857, -37.845355, -54.582445, -75.063163, -99.717314),
    "Enthalphy_298K_au": (-0.497912, -37.844411, -54.581501, -75.062219, -99.716370),
    "GibbsFreeEnergy_298K_au": (-0.510927, -37.861317, -54.598897, -75.079532, -99.733544),
}
OTHER_TARGETS = ("Dipole_debye", "Polarizability_bohr3", "HOMO_au", "LUMO_au", "R2_bohr2", "ZPVE_au")

PACKAGE, VERSION = "qm9pack", "1.0.3"
PARTS = {  # lines and sha256
    "qm9_part1.csv": (43_610, "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3"),
    "qm9_part2.csv": (43_611, "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61"),
    "qm9_part3.csv": (43_610, "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43"),
}

CATEGORIES = (
    "bonds from SMILES",
    "bonds from geometry",
    "bonds from SDF",
    "with charges",
    "not perceived by rdkit",
)


@dataclass(frozen=True, slots=True)
class Record:
    """One molecule as a source gives it.

    Args:
        number: in QM9, from 1 to 133,885.
        atoms: atomic numbers (N,).
        positions: x, y, z of each atom in turn (3 N,), Angstrom.
        graph: bonds and flags.
        targets: the 11 values in the units of gdb9.sdf.csv: hartree, kcal/mol for the atomisation energies.
    """

    number: int
    atoms: list[int]
    positions: list[float]
    graph: Graph
    targets: list[float]


class Source(Protocol):
    """Where QM9 is read from."""

    name: str
    fingerprint: str
    chemical: bool  # whether it has molecules, from which the chemical features can be perceived

    def __len__(self) -> int: ...

    def files(self) -> list[Path]:
        """Return the files that are read, or raise an error that says what to install."""
        ...

    def read(self, rows: Sequence[int], progress: Progress | None) -> dict[str, Tensor]:
        """Return the tensors of :func:`collect` for rows counted from 0, rising."""
        ...


class Qm9Pack:
    """The 130,831 molecules of the package qm9pack 1.0.3, which need not be importable.

    Positions are rounded to the four decimals that gdb9.sdf has, so that both sources give the same tensors.
    """

    name = f"{PACKAGE}-{VERSION}"
    fingerprint = f"{PACKAGE}-{VERSION}"
    chemical = True

    def __len__(self) -> int:
        return sum(size for size, _ in PARTS.values())

    def files(self) -> list[Path]:
        """Locate the three csv parts.

        Raises:
            ModuleNotFoundError: if the package is not installed.
        """
        try:
            package = distribution(PACKAGE)
        except PackageNotFoundError as error:
            raise ModuleNotFoundError(
                f'QM9 needs `{PACKAGE}`, which is not installed. Run `pip install "equipoise[qm9]"`, '
                "or give the folder of PyTorch Geometric's QM9 as `source`."
            ) from error
        return [Path(str(package.locate_file(f"{PACKAGE}/data/{name}"))) for name in PARTS]

    def read(self, rows: Sequence[int], progress: Progress | None) -> dict[str, Tensor]:
        """Read the molecules of the given rows; see :class:`Source`."""
        with quiet():
            return collect(self._records(rows), len(rows), progress)

    def _records(self, rows: Sequence[int]) -> Iterator[Record]:
        first = 0
        for path in self.files():
            size, digest = PARTS[path.name]
            here = [row - first for row in rows if first <= row < first + size]
            first += size
            if not here:
                continue
            header, *lines = _checked_text(path, digest).splitlines()
            names = next(csv.reader([header]))
            for values in csv.reader(lines[row] for row in here):
                yield _record(dict(zip(names, values, strict=True)))


def collect(records: Iterable[Record], total: int, progress: Progress | None) -> dict[str, Tensor]:
    """Lay molecules end to end.

    Args:
        records: one at a time.
        total: how many will come.
        progress: called with (done, total) from time to time and at the end.

    Returns:
        ``atoms (A,)`` atomic numbers, ``flags (A, 4)`` aromatic, sp, sp2, sp3 as rdkit perceives them, ``positions
        (A, 3)``, ``bonds (B, 4)`` as in :class:`~equipoise.data.qm9_graph.Graph`, ``atom_start (M + 1,)``,
        ``bond_start (M + 1,)``, ``targets (M, 11)``, ``number (M,)``, ``categories (M, 5)`` bool.
    """
    small = {name: array("B") for name in ("atoms", "flags", "bonds", "categories")}
    positions, targets, number = array("f"), array("d"), array("q")
    atom_start, bond_start = array("q", [0]), array("q", [0])
    for done, record in enumerate(records, start=1):
        graph = record.graph
        small["atoms"].extend(record.atoms)
        small["flags"].extend(flag for flags in graph.flags for flag in flags)
        small["bonds"].extend(entry for bond in graph.bonds for entry in bond)
        positions.extend(record.positions)
        targets.extend(record.targets)
        number.append(record.number)
        atom_start.append(atom_start[-1] + len(record.atoms))
        bond_start.append(bond_start[-1] + len(graph.bonds))
        categories = _categories(graph)
        small["categories"].extend(name in categories for name in CATEGORIES)
        if progress is not None and (done % 500 == 0 or done == total):
            progress(done, total)
    tensors = {name: torch.frombuffer(values, dtype=torch.uint8) for name, values in small.items()}
    tensors |= {name: tensors[name].view(-1, 4) for name in ("flags", "bonds")}
    tensors["categories"] = tensors["categories"].view(-1, len(CATEGORIES)).bool()
    tensors["positions"] = torch.frombuffer(positions, dtype=torch.float32).view(-1, 3)
    # float32 before the conversion and not after, as PyTorch Geometric does: the last bit depends on it.
    raw_targets = torch.frombuffer(targets, dtype=torch.float64).view(-1, 11).float()
    tensors["targets"] = raw_targets * torch.tensor(TARGET_UNITS)
    for name, values in (("atom_start", atom_start), ("bond_start", bond_start), ("number", number)):
        tensors[name] = torch.frombuffer(values, dtype=torch.int64)
    return tensors


def take(tensors: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Return the tensors of :func:`collect` for the molecules ``index`` (b,), in that order."""
    atom, bond = tensors["atom_start"], tensors["bond_start"]
    atoms, bonds = spans(atom, index)[0], spans(bond, index)[0]
    chosen = {name: tensors[name][atoms] for name in ("atoms", "flags", "positions")}
    chosen |= {name: tensors[name][index] for name in ("targets", "number", "categories")}
    chosen["bonds"] = tensors["bonds"][bonds]
    chosen["atom_start"] = starts(atom.diff()[index])
    chosen["bond_start"] = starts(bond.diff()[index])
    return chosen


def _categories(graph: Graph) -> set[str]:
    charges = {"with charges"} if graph.charged else set()
    unknown = set() if graph.perceived else {"not perceived by rdkit"}
    return {f"bonds from {graph.origin}"} | charges | unknown


def _checked_text(path: Path, expected: str) -> str:
    if not path.exists():
        raise FileNotFoundError(
            f"`{path}` should exist. Run `pip install --force-reinstall {PACKAGE}=={VERSION}`."
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"`{path}` should have sha256 {expected}. Found {found}. "
            f"Run `pip install --force-reinstall {PACKAGE}=={VERSION}`."
        )
    return content.decode("ascii")


def _record(row: dict[str, str]) -> Record:
    symbols = row["Elements"].strip("[]").replace("'", "").split(",")
    atoms = [{"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}[symbol] for symbol in symbols]
    numbers = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
    positions = [round(float(number), 4) for number in numbers]
    graph = graph_from_smiles(row["SMILES"], atoms, positions, f"molecule {row['Index']}")
    return Record(int(row["Index"]), atoms, positions, graph, _targets(row, atoms))


def _targets(row: dict[str, str], atoms: list[int]) -> list[float]:
    counts = [atoms.count(number) for number in ATOMIC_NUMBERS]
    values = [float(row[name]) for name in OTHER_TARGETS]
    for name, reference in REFERENCE_ENERGIES.items():
        free = sum(count * energy for count, energy in zip(counts, reference, strict=True))
        values.append(round((float(row[name]) - free) * KCAL_PER_MOL_OF_HARTREE, 9))
    return [*values, float(row["Heatcapacity_Cv_cal_mol_K"])]
