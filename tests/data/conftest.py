"""A folder of PyTorch Geometric's QM9, written in its true layout with other means than the code under test."""

import csv
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

# Numbers in QM9: aromatic rings, nitriles and alkynes, fluorides, and (from 271 on, among others) zwitterions.
NUMBERS = (
    "1 2 3 5 6 7 10 16 25 184 214 215 271 282 827 828 930 949 1642 1670 4015 4018 4208 5804 7654 7699 9986"
)
NUMBERS += " 10240 12345 20000 33333 44000"
SKIPPED = [12, 15]
HEADER = (
    "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,h298_atom,g298_atom"
)
# Free atoms at 0 K, 298.15 K (energy, enthalpy, Gibbs energy), hartree, as atomref.txt of the publication lists them.
FREE_ATOMS = {
    "H": (-0.500273, -0.498857, -0.497912, -0.510927),
    "C": (-37.846772, -37.845355, -37.844411, -37.861317),
    "N": (-54.583861, -54.582445, -54.581501, -54.598897),
    "O": (-75.064579, -75.063163, -75.062219, -75.079532),
    "F": (-99.718730, -99.717314, -99.716370, -99.733544),
}


@dataclass(frozen=True)
class PygFolder:
    """A folder, PyTorch Geometric's own reading of it, and the numbers in QM9 of its molecules, in order."""

    root: Path
    data: list[Any]
    numbers: list[int]


@pytest.fixture(scope="session")
def package_rows() -> dict[int, dict[str, str]]:
    """The rows of qm9pack's first part, by number in QM9."""
    path = Path(str(distribution("qm9pack").locate_file("qm9pack/data/qm9_part1.csv")))
    with path.open(newline="") as file:
        return {int(row["Index"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def write_raw(package_rows: dict[int, dict[str, str]]) -> Callable[..., None]:
    def write(root: Path, numbers: list[int], kekule: bool = True) -> None:
        rows = [package_rows[number] for number in numbers]
        raw = root / "raw"
        raw.mkdir(parents=True)
        (raw / "gdb9.sdf").write_text("".join(_sdf(row, kekule) for row in rows))
        lines = [HEADER, *(f"gdb_{i},{_values(row)}" for i, row in enumerate(rows, start=1))]
        (raw / "gdb9.sdf.csv").write_text("\n".join(lines) + "\n")
        heading = ["", "Molecules whose SMILES string changed", *["=" * 60] * 7]
        skipped = [f"{numbers.index(n) + 1:8d}  A  B  0.1" for n in SKIPPED if n in numbers]
        (raw / "uncharacterized.txt").write_text("\n".join([*heading, *skipped, "=" * 60]) + "\n")

    return write


@pytest.fixture(scope="session")
def pyg_folder(tmp_path_factory: pytest.TempPathFactory, write_raw: Callable[..., None]) -> PygFolder:
    """32 molecules with Kekule bonds, as in gdb9.sdf, and two that count as uncharacterised."""
    root = tmp_path_factory.mktemp("qm9")
    numbers = [int(number) for number in NUMBERS.split()]
    write_raw(root, sorted(numbers + SKIPPED))
    return PygFolder(root, _read_by_pyg(root), numbers)


@pytest.fixture(scope="session")
def aromatic_folder(tmp_path_factory: pytest.TempPathFactory, write_raw: Callable[..., None]) -> PygFolder:
    """Molecules whose SDF file has bonds of type 4, aromatic, which gdb9.sdf has not."""
    root = tmp_path_factory.mktemp("aromatic")
    numbers = [1, 214, 215, 930, 949, 4208]
    write_raw(root, numbers, kekule=False)
    return PygFolder(root, _read_by_pyg(root), numbers)


def _read_by_pyg(root: Path) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.datasets import QM9

        return list(QM9(str(root)))


def _sdf(row: dict[str, str], kekule: bool) -> str:
    from rdkit import Chem

    mol = Chem.MolFromSmiles(row["SMILES"], sanitize=not kekule)
    mol.UpdatePropertyCache(strict=False)
    size = mol.GetNumAtoms()
    in_brackets = [atom.GetNoImplicit() for atom in mol.GetAtoms()]
    mol = Chem.AddHs(mol)
    # The geometries of QM9 have a bracketed atom's hydrogens behind that atom and all others at the end.
    order, last = [], []
    for i in range(size):
        hydrogens = [a.GetIdx() for a in mol.GetAtomWithIdx(i).GetNeighbors() if a.GetIdx() >= size]
        order += [i, *hydrogens] if in_brackets[i] else [i]
        last += [] if in_brackets[i] else hydrogens
    mol = Chem.RenumberAtoms(mol, order + last)
    elements = re.findall(r"[A-Z]", row["Elements"])
    assert [atom.GetSymbol() for atom in mol.GetAtoms()] == elements
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d*(?:E[-+]?\d+)?", row["XYZ_Ang"])]
    conformer = Chem.Conformer(len(elements))
    for i in range(len(elements)):
        conformer.SetAtomPosition(i, numbers[3 * i : 3 * i + 3])
    mol.AddConformer(conformer)
    return str(Chem.MolToMolBlock(mol, kekulize=False)) + "$$$$\n"


def _values(row: dict[str, str]) -> str:
    names = ["RotA_GHz", "RotB_GHz", "RotC_GHz", "Dipole_debye", "Polarizability_bohr3", "HOMO_au", "LUMO_au"]
    names += ["HOMO_LUMO_gap_au", "R2_bohr2", "ZPVE_au"]
    energies = (
        "InternalEnergy_0K_au",
        "InternalEnergy_298K_au",
        "Enthalphy_298K_au",
        "GibbsFreeEnergy_298K_au",
    )
    values = [row[name] for name in (*names, *energies, "Heatcapacity_Cv_cal_mol_K")]
    atoms = re.findall(r"[A-Z]", row["Elements"])
    for k, name in enumerate(energies):
        hartree = float(row[name]) - sum(FREE_ATOMS[atom][k] for atom in atoms)
        values.append(f"{hartree * 627.509:.9f}")
    return ",".join(values)
