"""Facts of molecules against what is known of them, and of rdkit's own representations."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equipoise.data import smiles as module
from equipoise.data.chemistry import ATOM_FEATURES, ELEMENTS, MoleculeFacts, chemistry, quiet, read_molecules
from equipoise.data.molecules import dense_chunks
from equipoise.data.smiles import SmilesTable, load_smiles

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
TEXTS = ["CCO", "OCC", "c1ccccc1", "Cc1ccccc1", "C(C", ASPIRIN, "[Na+].[Cl-]", "", "C#N", "C"]


def one(text: str) -> MoleculeFacts:
    (found,) = read_molecules([text])
    assert found is not None
    return found


def test_the_same_molecule_has_the_same_canonical_string() -> None:
    assert one("CCO").smiles == one("OCC").smiles == one("C(O)C").smiles
    assert one("CCO").smiles != one("CCN").smiles


def test_the_scaffold_is_the_ring_system_without_what_hangs_on_it() -> None:
    assert one(ASPIRIN).scaffold == one("Cc1ccccc1").scaffold == "c1ccccc1"
    assert one("CCO").scaffold == ""


@pytest.mark.parametrize("text", [ASPIRIN, "CCO", "FC(F)(F)c1ccncc1"])
def test_fingerprint_bits_are_those_that_rdkit_lists(text: str) -> None:
    chem = chemistry()
    generator = chem.fingerprints.GetMorganGenerator(radius=2, fpSize=512)
    expected = set(generator.GetFingerprint(chem.Chem.MolFromSmiles(text)).GetOnBits())
    (found,) = read_molecules([text], bits=512)
    assert found is not None
    packed = found.fingerprint.tolist()
    assert {8 * j + k for j, byte in enumerate(packed) for k in range(8) if byte >> k & 1} == expected


def test_fewer_neighbourhoods_in_a_smaller_radius() -> None:
    def bits(radius: int) -> int:
        (found,) = read_molecules([ASPIRIN], radius=radius)
        assert found is not None
        return sum(byte.bit_count() for byte in found.fingerprint.tolist())

    assert bits(0) < bits(1) < bits(2)


def test_atoms_of_a_zwitterion() -> None:
    """Glycine with its charges: N+ H3, C H2, C, O, O-."""
    atoms = one("[NH3+]CC(=O)[O-]").atoms
    names = [
        *ELEMENTS,
        "other",
        "bonded",
        "hydrogens",
        "plus",
        "minus",
        "aromatic",
        "ring",
        "sp",
        "sp2",
        "sp3",
    ]
    assert atoms.shape == (5, ATOM_FEATURES) == (5, len(names))
    shown = [{name: int(value) for name, value in zip(names, atom, strict=True) if value} for atom in atoms]
    assert shown == [
        {"N": 1, "bonded": 1, "hydrogens": 3, "plus": 1, "sp3": 1},
        {"C": 1, "bonded": 2, "hydrogens": 2, "sp3": 1},
        {"C": 1, "bonded": 3, "sp2": 1},
        {"O": 1, "bonded": 1, "sp2": 1},
        {"O": 1, "bonded": 1, "minus": 1, "sp2": 1},
    ]


def test_an_element_that_is_not_listed() -> None:
    assert one("C[Se]C").atoms[1, len(ELEMENTS)] == 1


def test_bonds_have_their_kinds() -> None:
    bonds = one(ASPIRIN).bonds
    assert Counter(bonds[:, 2].tolist()) == {0: 5, 1: 2, 3: 6}
    assert bool((bonds[:, 0] < bonds[:, 1]).all())
    assert one("C#N").bonds.tolist() == [[0, 1, 2]]
    assert one("[NH3]->[Cu+2]").bonds.tolist() == [[0, 1, 0]]  # a dative bond counts as a single one


def test_hops_are_the_shortest_ways() -> None:
    """Against breadth-first search over the bonds."""
    facts = one("CC1CCCC1C#N.[Cl-]")
    n = len(facts.atoms)
    near: list[set[int]] = [set() for _ in range(n)]
    for i, j, _ in facts.bonds.tolist():
        near[i].add(j)
        near[j].add(i)
    for start in range(n):
        found, level, steps = {start: 0}, {start}, 0
        while level:
            steps += 1
            level = {j for i in level for j in near[i]} - found.keys()
            found |= dict.fromkeys(level, steps)
        assert facts.hops[start].tolist() == [found.get(j, 0) for j in range(n)]


def test_a_chain_longer_than_a_byte_counts() -> None:
    facts = one("C" * 300)
    assert len(facts.atoms) == 300
    assert facts.bonds[-1].tolist() == [298, 299, 0]
    assert facts.hops[0, [254, 255, 256, 299]].tolist() == [254, 255, 255, 255]


@pytest.mark.parametrize("text", ["C(C", "FAIL", "", "C[AlH3](O)O"])
def test_a_string_that_cannot_be_read_is_none(text: str) -> None:
    assert read_molecules([text, "C"])[0] is None


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    read_molecules(["C"] * 501, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(500, 501), (501, 501)]


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^`bits` should be a multiple of 8, at least 8\. Found 100\.$"):
        read_molecules(["C"], bits=100)
    chemistry.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit", None)
    message = r'^Molecules need `rdkit`, .* Run `pip install "equipoise\[table\]"`\.$'
    with pytest.raises(ModuleNotFoundError, match=message):
        read_molecules(["C"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SmilesTable:
    return load_smiles(TEXTS, tmp_path_factory.mktemp("molecules"), bits=64)


def test_unreadable_and_equal_molecules_are_known(table: SmilesTable) -> None:
    assert table.readable.tolist() == [text not in ("C(C", "") for text in TEXTS]
    same = table.molecule
    assert same[0] == same[1]
    assert len(set(same[table.readable].tolist())) == len(TEXTS) - 3
    assert table.scaffold[2] == table.scaffold[3] == table.scaffold[5]
    assert table.scaffold[0] == table.scaffold[8] != table.scaffold[2]


def test_fingerprints_unpack_to_bytes(table: SmilesTable) -> None:
    index = torch.tensor([5, 0])
    found = table.fingerprints(index)
    assert found.shape == (2, 64)
    for row, text in zip(found, (ASPIRIN, "CCO"), strict=True):
        (facts,) = read_molecules([text], bits=64)
        assert facts is not None
        assert row.tolist() == [byte >> k & 1 for byte in facts.fingerprint.tolist() for k in range(8)]


def test_graphs_are_laid_out_densely(table: SmilesTable) -> None:
    index = torch.tensor([5, 6, 9])
    pieces, order = dense_chunks(table.graphs, index, chunks=2)
    rows = iter(order.tolist())
    for nodes, edges, mask in pieces:
        for b in range(len(mask)):
            check_graph(one(TEXTS[int(index[next(rows)])]), nodes[b], edges[b], mask[b])
    assert next(rows, None) is None


def check_graph(facts: MoleculeFacts, nodes: Tensor, edges: Tensor, mask: Tensor) -> None:
    n = len(facts.atoms)
    assert int(mask.sum()) == n
    assert torch.equal(nodes[:n], facts.atoms.float())
    assert not edges[n:].any() and not edges[:, n:].any()
    assert torch.equal(edges[:n, :n, 4], facts.hops.float())
    kinds = torch.zeros(n, n, 4)
    for i, j, kind in facts.bonds.tolist():
        kinds[i, j, kind] = kinds[j, i, kind] = 1
    assert torch.equal(edges[:n, :n, :4], kinds)


def test_graphs_move_with_their_hops(table: SmilesTable) -> None:
    moved = table.graphs.to("meta")
    assert moved.hops is not None and moved.hops.device.type == "meta"
    assert moved.hop_start is not None and moved.hop_start.device.type == "meta"


def test_the_cache_is_read_instead_of_the_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_smiles(["CCO", "CC"], tmp_path)
    module._load.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_molecules", None)
        again = load_smiles(["CCO", "CC"], tmp_path)
    assert torch.equal(first.packed, again.packed)
    assert torch.equal(first.graphs.nodes, again.graphs.nodes)
    other = load_smiles(["CCO", "CN"], tmp_path)
    assert not torch.equal(other.packed, again.packed)
    assert len(list(tmp_path.glob("smiles-*.pt"))) == 2


def test_a_table_without_any_molecule(tmp_path: Path) -> None:
    with quiet():
        found = load_smiles(["", "C(C"], tmp_path, bits=8)
    assert not found.readable.any()
    assert found.graphs.nodes.shape == (0, ATOM_FEATURES)
