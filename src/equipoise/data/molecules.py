"""Molecules laid end to end, and batches of them as dense graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.data.ragged import spans

NODE_FEATURES = 11
BOND_KINDS = 4
EDGE_FEATURES = BOND_KINDS + 1


@dataclass(frozen=True, slots=True)
class Molecules:
    """M molecules with A atoms and B bonds in all, laid end to end.

    Args:
        nodes: (A, f) uint8, features of the atoms. Of QM9 f = 11: one-hot H, C, N, O, F; atomic number; aromatic, sp,
            sp2, sp3; hydrogen neighbours.
        positions: (A, 3) float32, Angstrom, to four decimals; (A, 0) for molecules known by their bonds only.
        bonds: (B, 3) uint8 or wider: first atom < second atom, both counted within the molecule; kind 0 single,
            1 double, 2 triple, 3 aromatic.
        atom_start: (M + 1,) int64, first atom of each molecule, and A.
        bond_start: (M + 1,) int64, likewise for bonds.
        targets: (M, t) float32, columns and units as the data set says.
        number: (M,) int64, number of each molecule in the data set's own count, from 1.
        counts: how many of them fall into each category, such as where their bonds come from.
        hops: for molecules without positions (P,) uint8, P the sum of n^2 over their numbers of atoms n: the bonds on
            the shortest way between atoms i and j at n i + j, 0 where there is no way.
        hop_start: (M + 1,) int64, where those of each molecule start, and P.
    """

    nodes: Tensor
    positions: Tensor
    bonds: Tensor
    atom_start: Tensor
    bond_start: Tensor
    targets: Tensor
    number: Tensor
    counts: Mapping[str, int]
    hops: Tensor | None = None
    hop_start: Tensor | None = None

    def __len__(self) -> int:
        return len(self.number)

    def to(self, device: torch.device | str) -> Molecules:
        """Return the molecules with all tensors on a device; 75 MB for all of QM9."""
        names = ["nodes", "positions", "bonds", "atom_start", "bond_start", "targets", "number"]
        names += [] if self.hops is None else ["hops", "hop_start"]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class Chunk(NamedTuple):
    """b molecules padded to the N atoms of the largest.

    ``nodes (b, N, f)`` float32, ``edges (b, N, N, 5)`` float32 and ``mask (b, N)`` bool, true where there is an atom.
    """

    nodes: Tensor
    edges: Tensor
    mask: Tensor


def dense_chunks(molecules: Molecules, index: Tensor, chunks: int = 4) -> tuple[list[Chunk], Tensor]:
    """Lay a batch out densely, in pieces of like size, so that little is padding.

    The batch is sorted by number of atoms and cut into pieces of equal length (give or take one), each padded to its
    own largest molecule. ``edges[i, j]`` holds the kind of bond as one-hot (single, double, triple, aromatic; zero
    where there is none) and the distance, in Angstrom or, without positions, in bonds, for all ordered pairs of atoms:
    the complete graph of the published code, without self loops. Diagonal and padding are zero.

    Args:
        molecules: all of them.
        index: (b,) molecules of the batch, on the same device.
        chunks: number of pieces; a batch of fewer molecules gives as many pieces as molecules.

    Returns:
        The pieces and ``order (b,)``: row k of all pieces, one after another, is molecule ``index[order[k]]``, so its
        targets are ``molecules.targets[index[order]]``.

    Raises:
        ValueError: if the batch is empty or ``chunks`` is below 1.
    """
    if len(index) == 0:
        raise ValueError("`index` should hold at least 1 molecule. Found 0.")
    if chunks < 1:
        raise ValueError(f"`chunks` should be at least 1. Found {chunks}.")
    size = molecules.atom_start[index + 1] - molecules.atom_start[index]
    order = size.argsort(stable=True)
    pieces = index[order].tensor_split(min(chunks, len(index)))
    return [_dense(molecules, piece) for piece in pieces], order


def _dense(molecules: Molecules, index: Tensor) -> Chunk:
    first = molecules.atom_start[index]
    size = molecules.atom_start[index + 1] - first
    place = torch.arange(int(size.max()), device=index.device)
    mask = place < size[:, None]
    atom = first[:, None] + place * mask
    nodes = molecules.nodes[atom] * mask[:, :, None]
    if molecules.hops is None or molecules.hop_start is None:
        positions = molecules.positions[atom]
        distance = torch.linalg.vector_norm(positions[:, :, None] - positions[:, None], dim=-1)
    else:
        pair = place[:, None] * size[:, None, None] + place
        pair = pair * (mask[:, :, None] & mask[:, None])
        distance = molecules.hops[molecules.hop_start[index][:, None, None] + pair].float()
    edges = distance.new_zeros(*distance.shape, EDGE_FEATURES)
    edges[..., BOND_KINDS] = distance * (mask[:, :, None] & mask[:, None])
    bond, row = spans(molecules.bond_start, index)
    i, j, kind = molecules.bonds[bond].long().unbind(1)
    edges[row, i, j, kind] = 1.0
    edges[row, j, i, kind] = 1.0
    return Chunk(nodes.to(edges.dtype), edges, mask)
