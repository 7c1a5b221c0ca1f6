"""The same tensors as PyTorch Geometric makes: from its raw folder, its processed file, and from qm9pack."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.data.molecules import Molecules, dense_chunks
from equipoise.data.qm9 import load_qm9
from equipoise.data.qm9_pyg import PygProcessed, PygRaw
from equipoise.data.qm9_source import HARTREE, REFERENCE_ENERGIES, Qm9Pack

Y_COLUMNS = [0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11]  # mu, alpha, HOMO, LUMO, R2, ZPVE, four atomisation, Cv


def check_against_pyg(molecules: Molecules, data: list[Any]) -> None:
    """Compare with PyTorch Geometric's data objects: bit for bit, distances to float32 rounding."""
    assert len(molecules) == len(data)
    index = torch.arange(len(data))
    pieces, order = dense_chunks(molecules, index, chunks=3)
    rows = [tuple(part[b] for part in piece) for piece in pieces for b in range(len(piece.mask))]
    for m, (nodes, edges, mask) in zip(order.tolist(), rows, strict=True):
        expected, size = data[m], int(mask.sum())
        assert torch.equal(nodes[:size], expected.x)
        begin, end = molecules.atom_start[m : m + 2].tolist()
        assert torch.equal(molecules.positions[begin:end], expected.pos)
        bonds = torch.zeros(size, size, 4)
        bonds[expected.edge_index[0], expected.edge_index[1]] = expected.edge_attr.float()
        assert torch.equal(edges[:size, :size, :4], bonds)
        first, second = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        distance = torch.norm(expected.pos[second] - expected.pos[first], p=2, dim=-1)
        torch.testing.assert_close(edges[:size, :size, 4], distance, rtol=1e-6, atol=0)
        assert torch.equal(molecules.targets[m], expected.y[0, Y_COLUMNS])


def test_raw_folder_gives_pyg_tensors(pyg_folder: Any, tmp_path: Path) -> None:
    molecules = load_qm9(tmp_path, source=pyg_folder.root)
    check_against_pyg(molecules, pyg_folder.data)
    assert [n - 1 for n in molecules.number.tolist()] == [int(d.idx) for d in pyg_folder.data]
    assert molecules.counts["bonds from SDF"] == len(pyg_folder.numbers)
    # Zwitterions, triple bonds and aromatic rings are really among them.
    assert molecules.counts["with charges"] >= 8
    assert molecules.bonds[:, 2].bincount().tolist()[2] >= 5
    assert not molecules.nodes[:, 6:10].any()


def test_raw_folder_with_aromatic_bonds_gives_pyg_tensors(aromatic_folder: Any, tmp_path: Path) -> None:
    molecules = load_qm9(tmp_path, source=aromatic_folder.root)
    check_against_pyg(molecules, aromatic_folder.data)
    assert int((molecules.bonds[:, 2] == 3).sum()) == 5 * 6


def test_qm9pack_gives_pyg_tensors_of_the_same_molecules(
    pyg_folder: Any, package_rows: dict[int, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row, number in enumerate(package_rows) if number in pyg_folder.numbers]
    read = Qm9Pack.read
    monkeypatch.setattr(Qm9Pack, "read", lambda self, _, progress: read(self, rows, progress))
    molecules = load_qm9(tmp_path)
    assert molecules.number.tolist() == pyg_folder.numbers
    check_against_pyg(molecules, pyg_folder.data)


def test_processed_file_gives_pyg_tensors(pyg_folder: Any, tmp_path: Path) -> None:
    shutil.copytree(pyg_folder.root / "processed", tmp_path / "set" / "processed")
    molecules = load_qm9(tmp_path / "cache", source=tmp_path / "set")
    check_against_pyg(molecules, pyg_folder.data)
    assert molecules.counts == {"bonds from SDF": len(pyg_folder.data)}
    again = load_qm9(tmp_path / "cache", source=tmp_path / "set", molecules=7)
    whole = load_qm9(tmp_path / "cache", source=pyg_folder.root, molecules=7)
    assert torch.equal(again.number, whole.number)
    assert torch.equal(again.nodes, whole.nodes)
    assert torch.equal(again.bonds, whole.bonds)
    seen: list[tuple[int, int]] = []
    PygProcessed(tmp_path / "set").read([0, 1], lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]


def test_chemical_features_of_raw_folder_and_qm9pack_agree(
    pyg_folder: Any, package_rows: dict[int, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdf = load_qm9(tmp_path, source=pyg_folder.root, features="chemical")
    rows = [row for row, number in enumerate(package_rows) if number in pyg_folder.numbers]
    read = Qm9Pack.read
    monkeypatch.setattr(Qm9Pack, "read", lambda self, _, progress: read(self, rows, progress))
    smiles = load_qm9(tmp_path, features="chemical")
    assert torch.equal(sdf.nodes, smiles.nodes)
    assert torch.equal(sdf.bonds, smiles.bonds)


def test_reference_energies_are_those_of_pyg() -> None:
    from torch_geometric.datasets.qm9 import HAR2EV, atomrefs

    assert HARTREE == HAR2EV
    for column, energies in zip((7, 8, 9, 10), REFERENCE_ENERGIES.values(), strict=True):
        torch.testing.assert_close(
            torch.tensor(energies, dtype=torch.float64) * HAR2EV,
            torch.tensor(atomrefs[column], dtype=torch.float64),
            rtol=2e-8,  # PyTorch Geometric took the free atoms in eV from another place, with another hartree
            atol=0,
        )


def test_changed_raw_files_make_the_cache_stale(tmp_path: Path, write_raw: Callable[..., None]) -> None:
    write_raw(tmp_path, [1, 2, 3])
    load_qm9(tmp_path / "cache", source=tmp_path)
    (tmp_path / "raw" / "uncharacterized.txt").write_text("\n" * 9 + "  2 C\n====\n")
    with pytest.warns(UserWarning, match="made from another version of the source"):
        assert load_qm9(tmp_path / "cache", source=tmp_path).number.tolist() == [1, 3]


def test_processed_file_has_no_chemical_features(pyg_folder: Any, tmp_path: Path) -> None:
    shutil.copytree(pyg_folder.root / "processed", tmp_path / "processed")
    with pytest.raises(ValueError, match=r'`features="chemical"` should come .* put the raw files beside it'):
        load_qm9(tmp_path, source=tmp_path, features="chemical")


@pytest.mark.parametrize(
    "content", [{"x": torch.zeros(2)}, ({}, {}, None), ({"x": torch.ones(1, 11)}, {}, 0), "code"]
)
def test_another_processed_file_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "processed").mkdir()
    path = tmp_path / "processed" / "data_v3.pt"
    torch.save(Path("anything that is not a tensor") if content == "code" else content, path)
    with pytest.raises(
        ValueError, match=r"should be as PyTorch Geometric 2\.8 writes it\. Found .*\. Put gdb9\.sdf"
    ):
        load_qm9(tmp_path, source=tmp_path)


def test_missing_source_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r'`source` should be "qm9pack" or a folder .* Found neither in'
    ):
        load_qm9(source=tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("gdb9.sdf", "$$$$\n", "", r"should hold the 2 molecules of `gdb9\.sdf\.csv`\. Found 1\."),
        ("gdb9.sdf", "V2000", "V9999", r"Entry 1 of `.*gdb9\.sdf` should be a molecule that rdkit can read"),
        ("gdb9.sdf", "  1  2  1  0", "  1  2  8  0", r"A bond should be single, double, .* Found "),
        (
            "gdb9.sdf",
            " H ",
            " Cl",
            r"The atoms of QM9 should be H, C, N, O and F\. Found atomic numbers \[17\]\.",
        ),
        ("gdb9.sdf.csv", "u298_atom", "other", r"with the columns mu, .* Found 2 lines, without u298_atom\."),
        ("uncharacterized.txt", "=\n", "=\n\n", r"should each begin with a molecule's number\. Found '=+'\."),
    ],
)
def test_damaged_raw_files_are_named(
    tmp_path: Path, write_raw: Callable[..., None], name: str, old: str, new: str, message: str
) -> None:
    write_raw(tmp_path, [1, 10])
    path = tmp_path / "raw" / name
    last = name == "uncharacterized.txt"
    text = path.read_text()
    assert old in text
    path.write_text(new.join(text.rsplit(old, 1)) if last else text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_qm9(tmp_path / "cache", source=tmp_path)


def test_an_empty_table_is_named(tmp_path: Path, write_raw: Callable[..., None]) -> None:
    write_raw(tmp_path, [1])
    (tmp_path / "raw" / "gdb9.sdf.csv").write_text("mol_id,mu\n")
    with pytest.raises(ValueError, match=r"Found 0 lines, without any value\."):
        len(PygRaw(tmp_path))


def test_what_rdkit_cannot_perceive_is_counted(tmp_path: Path, write_raw: Callable[..., None]) -> None:
    write_raw(tmp_path, [214], kekule=False)
    path = tmp_path / "raw" / "gdb9.sdf"
    lines = path.read_text().splitlines(keepends=True)
    # Five CH and an oxygen, all with aromatic bonds: an odd ring, for which there is no Kekule form.
    lines[4] = lines[4].replace(" C ", " O ")
    path.write_text("".join(lines))
    molecules = load_qm9(tmp_path / "cache", source=tmp_path, features="chemical")
    assert molecules.counts["not perceived by rdkit"] == 1
    assert not molecules.nodes[:, 6:10].any()
    assert molecules.bonds[:, 2].bincount().tolist() == [6, 0, 0, 6]
