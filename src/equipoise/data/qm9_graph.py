"""Molecular graphs of QM9: bonds and what chemistry says of the atoms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.chemistry import chemistry

# The longest bond that a SMILES string of QM9 predicts rightly has 1.79 Angstrom; the next longer "bond", of a
# molecule whose relaxed geometry has another skeleton than its SMILES string, has 2.17.
LONGEST_BOND = 1.9

Bond = tuple[int, int, int, int]
Flags = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """One molecule's bonds and atom flags.

    Args:
        bonds: (first, second, kind, chemical kind), first < second, sorted. A kind is 0 single, 1 double,
            2 triple, 3 aromatic; the first as the source writes it, the second as rdkit perceives it.
        flags: per atom, as rdkit perceives it: aromatic, sp, sp2, sp3.
        origin: where the bonds come from: ``"SMILES"``, ``"geometry"`` or ``"SDF"``.
        perceived: whether rdkit could make sense of the molecule; if not, ``flags`` are 0 and the chemical kinds
            those of the source.
        charged: whether an atom of the source carries a formal charge.
    """

    bonds: list[Bond]
    flags: list[Flags]
    origin: str
    perceived: bool
    charged: bool


def graph_from_smiles(smiles: str, atoms: Sequence[int], positions: Sequence[float], name: str) -> Graph:
    """Lay a SMILES string over a geometry.

    The heavy atoms of QM9's SMILES strings come in the order of its geometries, its hydrogens do not always: so
    the string gives the bonds among heavy atoms, and each hydrogen is bound to the nearest heavy atom. The result
    must have the hydrogen counts of the string and no bond above 1.9 Angstrom; otherwise (8 of 130,831 molecules:
    another atom order in six, another relaxed skeleton in two) rdkit finds the bonds from the geometry alone. The
    strings are in Kekule form and are kept so, since gdb9.sdf, which PyTorch Geometric reads, has no aromatic bond.

    Args:
        smiles: of the whole molecule.
        atoms: atomic numbers (N,).
        positions: x, y, z of each atom in turn (3 N,), Angstrom.
        name: of the molecule, for error messages.

    Raises:
        ValueError: if neither way gives a graph.
    """
    chem = chemistry()
    mol = chem.Chem.MolFromSmiles(smiles, sanitize=False)
    if mol is None:
        raise ValueError(f"The SMILES string of {name} should be readable by rdkit. Found {smiles!r}.")
    mol.UpdatePropertyCache(strict=False)
    heavy = [i for i, number in enumerate(atoms) if number != 1]
    hydrogens = _hydrogens(mol, heavy, atoms, positions)
    if hydrogens is None:
        mol = _mol_from_geometry(atoms, positions, name)
        return _read(mol, list(range(len(atoms))), [], len(atoms), "geometry")
    return _read(mol, heavy, hydrogens, len(atoms), "SMILES")


def graph_from_mol(mol: Any) -> Graph:
    """Take a molecule with all atoms, read from an SDF file without sanitisation, as it stands."""
    size = mol.GetNumAtoms()
    return _read(mol, list(range(size)), [], size, "SDF")


class SdfFile:
    """Random access to the molecules of an SDF file, hydrogens kept, not sanitised.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._supplier = chemistry().Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False)
        self.path = path

    def __len__(self) -> int:
        return len(self._supplier)

    def __getitem__(self, row: int) -> tuple[list[int], list[float], Graph]:
        """Return atomic numbers (N,), positions (3 N,) and graph of the molecule in a row counted from 0."""
        mol = self._supplier[row]
        if mol is None:
            raise ValueError(
                f"Entry {row + 1} of `{self.path}` should be a molecule that rdkit can read. Found none."
            )
        positions = mol.GetConformer().GetPositions().reshape(-1).tolist()
        return [atom.GetAtomicNum() for atom in mol.GetAtoms()], positions, graph_from_mol(mol)


def _hydrogens(
    mol: Any, heavy: list[int], atoms: Sequence[int], positions: Sequence[float]
) -> list[tuple[int, int]] | None:
    """Return (heavy atom, hydrogen) pairs, or None where string and geometry disagree."""
    if [atom.GetAtomicNum() for atom in mol.GetAtoms()] != [atoms[i] for i in heavy]:
        return None
    points = list(zip(positions[::3], positions[1::3], positions[2::3], strict=True))
    bonded = [(heavy[bond.GetBeginAtomIdx()], heavy[bond.GetEndAtomIdx()]) for bond in mol.GetBonds()]
    pairs = [(_nearest(points, heavy, i), i) for i, number in enumerate(atoms) if number == 1]
    if any(math.dist(points[i], points[j]) > LONGEST_BOND for i, j in bonded + pairs):
        return None
    found = dict.fromkeys(heavy, 0)
    for owner, _ in pairs:
        found[owner] += 1
    expected = [atom.GetTotalNumHs() for atom in mol.GetAtoms()]
    return pairs if list(found.values()) == expected else None


def _nearest(points: Sequence[tuple[float, ...]], heavy: Sequence[int], i: int) -> int:
    return min(heavy, key=lambda j: math.dist(points[i], points[j]))


def _mol_from_geometry(atoms: Sequence[int], positions: Sequence[float], name: str) -> Any:
    chem = chemistry()
    mol = chem.Chem.RWMol()
    conformer = chem.Chem.Conformer(len(atoms))
    for i, number in enumerate(atoms):
        mol.AddAtom(chem.Chem.Atom(int(number)))
        conformer.SetAtomPosition(i, list(positions[3 * i : 3 * i + 3]))
    mol.AddConformer(conformer)
    try:
        chem.rdDetermineBonds.DetermineBonds(mol, charge=0, embedChiral=False)
    except ValueError as error:
        raise ValueError(
            f"The geometry of {name} should have bonds that rdkit can determine, since its SMILES string does not "
            f"fit it. Found: {error}"
        ) from error
    chem.Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def _read(mol: Any, place: list[int], hydrogens: list[tuple[int, int]], size: int, origin: str) -> Graph:
    """Read bonds and flags of a mol whose atom k is atom ``place[k]`` of the geometry."""
    chem = chemistry()
    perceived = chem.Chem.Mol(mol)
    perceived.UpdatePropertyCache(strict=False)
    failed = chem.Chem.SanitizeMol(perceived, chem.steps, catchErrors=True)
    known = failed == chem.Chem.SanitizeFlags.SANITIZE_NONE
    bonds = [(min(pair), max(pair), 0, 0) for pair in hydrogens]
    for bond, other in zip(mol.GetBonds(), (perceived if known else mol).GetBonds(), strict=True):
        i, j = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
        bonds.append((min(i, j), max(i, j), _kind(bond), _kind(other)))
    flags = [(0, 0, 0, 0)] * size
    for k, atom in zip(place, perceived.GetAtoms() if known else (), strict=known):
        sp, sp2, sp3 = (int(atom.GetHybridization() == hybrid) for hybrid in chem.hybrids)
        flags[k] = (int(atom.GetIsAromatic()), sp, sp2, sp3)
    charged = any(atom.GetFormalCharge() for atom in mol.GetAtoms())
    return Graph(sorted(bonds), flags, origin, known, charged)


def _kind(bond: Any) -> int:
    kind = chemistry().kinds.get(bond.GetBondType())
    if kind is None:
        raise ValueError(f"A bond should be single, double, triple or aromatic. Found {bond.GetBondType()}.")
    return int(kind)
