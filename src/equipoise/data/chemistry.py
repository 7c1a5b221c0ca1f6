"""What chemistry says of a SMILES string: its canonical form, scaffold, fingerprint and graph.

The only file that imports rdkit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

ELEMENTS = ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I")  # any other one has a place of its own
ATOM_FEATURES = len(ELEMENTS) + 10
_FARTHEST = 255  # bonds between two atoms, as far as they are counted

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MoleculeFacts:
    """One molecule.

    Args:
        smiles: canonical, by which the same molecule is found again.
        scaffold: its Bemis-Murcko scaffold as canonical SMILES, "" for a molecule without a ring.
        fingerprint: (bits / 8,) uint8; bit k of byte j stands for place 8 j + k.
        atoms: (N, 21) uint8: one-hot B, C, N, O, F, Si, P, S, Cl, Br, I, other; bonded heavy atoms; hydrogens; charge
            above 0; charge below 0; aromatic; in a ring; sp, sp2, sp3. Hydrogens are no atoms of their own.
        bonds: (B, 3) int16: first atom < second atom; kind 0 single (and what is none of the others), 1 double,
            2 triple, 3 aromatic.
        hops: (N, N) uint8, bonds on the shortest way between two atoms, 255 at most; 0 where there is no way.
    """

    smiles: str
    scaffold: str
    fingerprint: Tensor
    atoms: Tensor
    bonds: Tensor
    hops: Tensor


def read_molecules(
    smiles: Sequence[str],
    *,
    bits: int = 1024,
    radius: int = 2,
    extra: str = "table",
    progress: Progress | None = None,
) -> list[MoleculeFacts | None]:
    """Read SMILES strings; None stands for one that rdkit cannot read, or without any atom.

    Fingerprints are circular (Morgan) ones: a bit for each neighbourhood of up to `radius` bonds that occurs, hashed.
    Reference: D. Rogers and M. Hahn, Extended-connectivity fingerprints, J. Chem. Inf. Model. 50 (2010),
    https://doi.org/10.1021/ci100050t; scaffolds: G. W. Bemis and M. A. Murcko, J. Med. Chem. 39 (1996),
    https://doi.org/10.1021/jm9602928.

    Args:
        smiles: the strings.
        bits: of a fingerprint, a multiple of 8.
        radius: of the largest neighbourhood, in bonds.
        extra: what the message names where rdkit is missing.
        progress: called with (done, total).

    Raises:
        ModuleNotFoundError: without rdkit.
        ValueError: if `bits` is no multiple of 8 above 0.
    """
    if bits < 8 or bits % 8:
        raise ValueError(f"`bits` should be a multiple of 8, at least 8. Found {bits}.")
    chem = chemistry(extra)
    generator = chem.fingerprints.GetMorganGenerator(radius=radius, fpSize=bits)
    found: list[MoleculeFacts | None] = []
    with quiet():
        for text in smiles:
            mol = chem.Chem.MolFromSmiles(text)
            found.append(_facts(mol, generator) if mol is not None and mol.GetNumAtoms() else None)
            if progress is not None and (len(found) % 500 == 0 or len(found) == len(smiles)):
                progress(len(found), len(smiles))
    return found


def quiet() -> AbstractContextManager[Any]:
    """Hold back rdkit's remarks on molecules that it cannot perceive: they are counted instead."""
    block: AbstractContextManager[Any] = chemistry().rdBase.BlockLogs()
    return block


@cache
def chemistry(extra: str = "qm9") -> SimpleNamespace:
    """Import rdkit, or say what to install.

    Args:
        extra: of this package, which the message names.

    Raises:
        ModuleNotFoundError: if rdkit is missing.
    """
    try:
        from rdkit import Chem, DataStructs, rdBase
        from rdkit.Chem import rdDetermineBonds, rdFingerprintGenerator
        from rdkit.Chem.Scaffolds import MurckoScaffold
    except ImportError as error:
        raise ModuleNotFoundError(
            f'Molecules need `rdkit`, which is not installed. Run `pip install "equipoise[{extra}]"`.'
        ) from error
    flags, kinds, hybrids = Chem.SanitizeFlags, Chem.BondType, Chem.HybridizationType
    return SimpleNamespace(
        Chem=Chem,
        rdBase=rdBase,
        rdDetermineBonds=rdDetermineBonds,
        fingerprints=rdFingerprintGenerator,
        packed=DataStructs.BitVectToBinaryText,
        scaffold=MurckoScaffold.MurckoScaffoldSmiles,
        # Valences are not checked: about one per cent of gdb9.sdf breaks them.
        steps=flags.SANITIZE_ALL ^ flags.SANITIZE_PROPERTIES ^ flags.SANITIZE_CLEANUP,
        kinds={kinds.SINGLE: 0, kinds.DOUBLE: 1, kinds.TRIPLE: 2, kinds.AROMATIC: 3},
        hybrids=(hybrids.SP, hybrids.SP2, hybrids.SP3),
    )


def _facts(mol: Any, generator: Any) -> MoleculeFacts:
    chem = chemistry()
    packed = bytearray(chem.packed(generator.GetFingerprint(mol)))
    bonds = [
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), chem.kinds.get(bond.GetBondType(), 0))
        for bond in mol.GetBonds()
    ]
    hops = torch.from_numpy(chem.Chem.GetDistanceMatrix(mol))
    return MoleculeFacts(
        chem.Chem.MolToSmiles(mol),
        chem.scaffold(mol=mol),
        torch.frombuffer(packed, dtype=torch.uint8),
        torch.tensor([_atom(atom) for atom in mol.GetAtoms()], dtype=torch.uint8),
        torch.tensor(bonds, dtype=torch.int16).reshape(-1, 3),
        torch.where(hops > len(hops), 0, hops.clamp(max=_FARTHEST)).to(torch.uint8),
    )


def _atom(atom: Any) -> list[int]:
    symbol, charge, hybrid = atom.GetSymbol(), atom.GetFormalCharge(), atom.GetHybridization()
    element = [int(symbol == other) for other in ELEMENTS]
    return [
        *element,
        1 - sum(element),
        atom.GetDegree(),
        atom.GetTotalNumHs(),
        max(charge, 0),
        max(-charge, 0),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
        *(int(hybrid == other) for other in chemistry().hybrids),
    ]
