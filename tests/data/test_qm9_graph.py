"""Bonds from a SMILES string laid over a geometry, and what happens when the two disagree."""

import sys
from pathlib import Path

import pytest

from equipoise.data.chemistry import chemistry, quiet
from equipoise.data.qm9_graph import graph_from_smiles
from equipoise.data.qm9_source import Qm9Pack

# Coordinates of molecules 4, 23 and 24 of QM9, which are linear.
ACETYLENE = ([6, 6, 1, 1], [0.5995, 0, 0, -0.5995, 0, 0, -1.6616, 0, 0, 1.6616, 0, 0])
BUTADIYNE = [0.681, 0, 0, -0.681, 0, 0, -1.8877, 0, 0, 1.8877, 0, 0, -2.9496, 0, 0, 2.9496, 0, 0]
CYANOACETYLENE = [0.0151, 0, 0, 1.3823, 0, 0, -1.1886, 0, 0, -2.2518, 0, 0, 2.543, 0, 0]


def test_hydrogens_go_to_the_nearest_atom_whatever_their_order() -> None:
    graph = graph_from_smiles("C#C", *ACETYLENE, "acetylene")
    assert graph.bonds == [(0, 1, 2, 2), (0, 3, 0, 0), (1, 2, 0, 0)]
    assert graph.flags == [(0, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)]
    assert (graph.origin, graph.perceived, graph.charged) == ("SMILES", True, False)


def test_another_order_of_like_atoms_is_found_from_bond_lengths() -> None:
    graph = graph_from_smiles("C#CC#C", [6, 6, 6, 6, 1, 1], BUTADIYNE, "molecule 23")
    assert graph.bonds == [(0, 1, 0, 0), (0, 3, 2, 2), (1, 2, 2, 2), (2, 4, 0, 0), (3, 5, 0, 0)]
    assert graph.origin == "geometry"


def test_another_order_of_elements_is_found() -> None:
    graph = graph_from_smiles("N#CC#C", [6, 6, 6, 1, 7], CYANOACETYLENE, "molecule 24")
    assert graph.bonds == [(0, 1, 0, 0), (0, 2, 2, 2), (1, 4, 2, 2), (2, 3, 0, 0)]
    assert graph.origin == "geometry"


def test_another_hydrogen_count_is_found() -> None:
    # Water, with the string of hydroxide.
    graph = graph_from_smiles("[OH-]", [8, 1, 1], [0, 0, 0, 0.76, 0.59, 0, -0.76, 0.59, 0], "water")
    assert graph.bonds == [(0, 1, 0, 0), (0, 2, 0, 0)]
    assert (graph.origin, graph.charged) == ("geometry", False)


def test_kekule_form_of_the_string_is_kept_and_aromaticity_perceived(
    package_rows: dict[int, dict[str, str]],
) -> None:
    numbers = list(package_rows)
    rows = Qm9Pack().read([numbers.index(214), numbers.index(271)], None)  # benzene and a zwitterion
    start = rows["bond_start"].tolist()
    benzene = rows["bonds"][: start[1]]
    assert sorted(benzene[:, 2].tolist()) == [0] * 9 + [1] * 3
    assert sorted(benzene[:, 3].tolist()) == [0] * 6 + [3] * 6
    assert rows["flags"][:6].tolist() == [[1, 0, 1, 0]] * 6
    assert rows["categories"][:, [0, 3]].tolist() == [[True, False], [True, True]]


def test_a_string_that_is_none() -> None:
    message = r"^The SMILES string of molecule 7 should be readable by rdkit\. Found 'C\(C'\.$"
    with quiet(), pytest.raises(ValueError, match=message):
        graph_from_smiles("C(C", [6, 6], [0.0] * 6, "molecule 7")


def test_a_geometry_without_sense() -> None:
    with pytest.raises(
        ValueError, match=r"^The geometry of molecule 7 should have bonds .* Found: Final molecular charge"
    ):
        graph_from_smiles("CC", [6, 9], [0, 0, 0, 9, 9, 9], "molecule 7")


def test_missing_rdkit_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    chemistry.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ModuleNotFoundError, match=r'Run `pip install "equipoise\[qm9\]"`\.$'):
        chemistry()


def test_rdkit_is_imported_in_one_file_only() -> None:
    source = Path(chemistry.__wrapped__.__code__.co_filename)
    importers = [path.name for path in source.parent.glob("*.py") if "from rdkit" in path.read_text()]
    assert importers == [source.name]
