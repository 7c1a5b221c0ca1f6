"""Dense batches against one molecule at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.molecules import Molecules, dense_chunks
from equipoise.data.ragged import starts


def draw_molecules(sizes: list[int], seed: int) -> Molecules:
    """Return molecules of random numbers, each with a chain of bonds of random kinds."""
    generator = torch.Generator().manual_seed(seed)
    atoms = sum(sizes)
    bonds = [(i, i + 1, (i + size) % 4) for size in sizes for i in range(size - 1)]
    return Molecules(
        nodes=torch.randint(0, 9, (atoms, 11), generator=generator, dtype=torch.uint8),
        positions=torch.randn(atoms, 3, generator=generator),
        bonds=torch.tensor(bonds, dtype=torch.uint8).view(-1, 3),
        atom_start=starts(torch.tensor(sizes)),
        bond_start=starts(torch.tensor(sizes) - 1),
        targets=torch.randn(len(sizes), 11, generator=generator),
        number=torch.arange(1, len(sizes) + 1),
        counts={},
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 6), st.data())
def test_chunks_hold_each_molecule_once_and_nothing_else(
    sizes: list[int], chunks: int, data: st.DataObject
) -> None:
    molecules = draw_molecules(sizes, seed=len(sizes))
    index = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=12))
    pieces, order = dense_chunks(molecules, torch.tensor(index), chunks)
    assert len(pieces) == min(chunks, len(index))
    assert sorted(order.tolist()) == list(range(len(index)))
    rows = iter(order.tolist())
    for nodes, edges, mask in pieces:
        largest = int(mask.sum(1).max())
        assert nodes.shape == (len(mask), largest, 11)
        assert edges.shape == (len(mask), largest, largest, 5)
        assert mask.shape[1] == largest
        for b in range(len(mask)):
            check_one(molecules, index[next(rows)], nodes[b], edges[b], mask[b])
    assert next(rows, None) is None


def check_one(
    molecules: Molecules, m: int, nodes: torch.Tensor, edges: torch.Tensor, mask: torch.Tensor
) -> None:
    begin, end = molecules.atom_start[m : m + 2].tolist()
    size = end - begin
    assert mask.tolist() == [k < size for k in range(len(mask))]
    assert torch.equal(nodes[:size], molecules.nodes[begin:end].float())
    expected = torch.zeros_like(edges)
    points = molecules.positions[begin:end].tolist()
    for i in range(size):
        for j in range(size):
            expected[i, j, 4] = math.dist(points[i], points[j])
    for i, j, kind in molecules.bonds[molecules.bond_start[m] : molecules.bond_start[m + 1]].tolist():
        expected[i, j, kind] = expected[j, i, kind] = 1.0
    torch.testing.assert_close(edges, expected, rtol=1e-6, atol=1e-7)
    assert not nodes[size:].any()


def test_padding_goes_down_with_the_number_of_chunks() -> None:
    molecules = draw_molecules([3, 29, 5, 28, 4, 12, 13, 6], seed=0)

    def pairs(chunks: int) -> int:
        return sum(
            chunk.edges[..., 0].numel() for chunk in dense_chunks(molecules, torch.arange(8), chunks)[0]
        )

    assert pairs(1) == 8 * 29**2
    assert pairs(4) == 2 * (4**2 + 6**2 + 13**2 + 29**2)


def test_targets_line_up_by_order() -> None:
    molecules = draw_molecules([5, 2, 7], seed=1)
    index = torch.tensor([2, 0, 1])
    (chunk,), order = dense_chunks(molecules, index, chunks=1)
    assert index[order].tolist() == [1, 0, 2]
    assert chunk.mask.sum(1).tolist() == [2, 5, 7]


def test_to_moves_all_tensors() -> None:
    moved = draw_molecules([2, 3], seed=0).to("meta")
    assert len(moved) == 2
    names = ("nodes", "positions", "bonds", "atom_start", "bond_start", "targets", "number")
    assert {getattr(moved, name).device.type for name in names} == {"meta"}


def test_errors() -> None:
    molecules = draw_molecules([2, 3], seed=0)
    with pytest.raises(ValueError, match=r"^`index` should hold at least 1 molecule\. Found 0\.$"):
        dense_chunks(molecules, torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^`chunks` should be at least 1\. Found 0\.$"):
        dense_chunks(molecules, torch.tensor([0]), chunks=0)
