"""QM9 from qm9pack: what the tensors hold, the draw of a part, the cache, the split, the statistics."""

import json
import sys
import warnings
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from equipoise.data import qm9_source
from equipoise.data.molecules import Molecules
from equipoise.data.qm9 import TARGETS, UNITS, load_qm9, split, standardise, summarise_qm9
from equipoise.data.qm9_source import Qm9Pack

TENSORS = ("nodes", "positions", "bonds", "atom_start", "bond_start", "targets", "number")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Molecules:
    return load_qm9(tmp_path_factory.mktemp("none"), molecules=300)


def assert_same(first: Molecules, second: Molecules) -> None:
    for name in TENSORS:
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def only(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the package end after some molecules, so that all of it is read within a second."""
    monkeypatch.setattr(Qm9Pack, "__len__", lambda self: count)


def test_methane_is_as_gdb9_sdf_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 1)
    methane = load_qm9(tmp_path)
    # The first block of gdb9.sdf, as quoted in DeepChem's issue 1568.
    expected = [
        [-0.0127, 1.0858, 0.0080],
        [0.0022, -0.0060, 0.0020],
        [1.0117, 1.4638, 0.0003],
        [-0.5408, 1.4475, -0.8766],
        [-0.5238, 1.4379, 0.9064],
    ]
    assert torch.equal(methane.positions, torch.tensor(expected))
    assert methane.bonds.tolist() == [[0, 1, 0], [0, 2, 0], [0, 3, 0], [0, 4, 0]]
    assert methane.nodes.tolist() == [
        [0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 4],
        *[[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]] * 4,
    ]
    # The first line of gdb9.sdf.csv: mu, alpha, HOMO, LUMO, R2, ZPVE in hartree; atomisation in kcal/mol; Cv.
    hartree, kcal = 27.211386246, 0.04336414
    values = [0.0, 13.21, -0.3877 * hartree, 0.1171 * hartree, 35.3641, 0.044749 * hartree]
    values += [x * kcal for x in (-395.999594594, -398.643290011, -401.014646522, -372.471772148)] + [6.469]
    torch.testing.assert_close(methane.targets, torch.tensor([values]), rtol=1e-6, atol=0)
    assert len(TARGETS) == len(UNITS) == 11


def test_nodes_and_bonds_are_consistent(drawn: Molecules) -> None:
    assert len(drawn) == 300
    assert drawn.nodes[:, :5].sum(1).eq(1).all()
    number = (drawn.nodes[:, :5] * torch.tensor([1, 6, 7, 8, 9])).sum(1)
    assert torch.equal(number, drawn.nodes[:, 5].long())
    assert drawn.nodes[:, 6:10].sum() == 0
    offset = drawn.atom_start[:-1].repeat_interleave(drawn.bond_start.diff())
    ends = drawn.bonds[:, :2].long() + offset[:, None]
    length = (drawn.positions[ends[:, 0]] - drawn.positions[ends[:, 1]]).norm(dim=1)
    assert 0.9 < float(length.min()) < float(length.max()) < 1.9
    hydrogens = torch.zeros(len(drawn.nodes))
    for a, b in ((0, 1), (1, 0)):
        hydrogens.index_add_(0, ends[:, a], drawn.nodes[ends[:, b], 0].float())
    assert torch.equal(hydrogens, drawn.nodes[:, 10].float())
    # Valences of the Kekule form: H and F 1, and for the others 4, 3, 2 but for the charged atoms of zwitterions.
    valence = torch.zeros(len(drawn.nodes))
    for a in (0, 1):
        valence.index_add_(0, ends[:, a], drawn.bonds[:, 2].float() + 1)
    expected = torch.tensor([0, 1, 0, 0, 0, 0, 4, 3, 2, 1])[drawn.nodes[:, 5].long()]
    strange = (valence != expected).sum()
    assert strange <= 2 * drawn.counts["with charges"]
    assert torch.isfinite(drawn.targets).all()


def test_chemical_features_fill_the_four_columns_and_mark_aromatic_bonds(
    drawn: Molecules, tmp_path: Path
) -> None:
    chemical = load_qm9(tmp_path, molecules=300, features="chemical")
    others = [0, 1, 2, 3, 4, 5, 10]
    assert torch.equal(chemical.nodes[:, others], drawn.nodes[:, others])
    assert torch.equal(chemical.bonds[:, :2], drawn.bonds[:, :2])
    heavy = chemical.nodes[:, 0] == 0
    assert chemical.nodes[heavy][:, 7:10].sum(1).eq(1).all()
    assert chemical.nodes[~heavy][:, 6:10].sum() == 0
    aromatic = chemical.bonds[:, 2] == 3
    assert aromatic.any()
    assert torch.equal(chemical.bonds[~aromatic], drawn.bonds[~aromatic])
    assert set(drawn.bonds[aromatic, 2].tolist()) == {0, 1}


def test_the_draw_is_nested_sorted_and_seeded(drawn: Molecules, tmp_path: Path) -> None:
    assert drawn.number.diff().gt(0).all()
    fewer = load_qm9(tmp_path, molecules=20)
    assert set(fewer.number.tolist()) < set(drawn.number.tolist())
    other = load_qm9(tmp_path, molecules=20, seed=1)
    assert set(fewer.number.tolist()) != set(other.number.tolist())
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_the_same_with_and_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 400)
    direct = load_qm9(tmp_path, molecules=50, features="chemical")
    calls: list[tuple[int, int]] = []
    whole = load_qm9(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(400, 400)]
    assert [path.name for path in tmp_path.iterdir()] == ["qm9pack-1.0.3.pt"]
    monkeypatch.setattr(Qm9Pack, "read", None)
    assert_same(load_qm9(tmp_path), whole)
    assert_same(load_qm9(tmp_path, molecules=50, features="chemical"), direct)
    assert whole.counts == {"bonds from SMILES": 398, "bonds from geometry": 2, "with charges": 2}
    assert direct.counts == {"bonds from SMILES": 50}


def test_a_damaged_cache_is_built_again_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 30)
    whole = load_qm9(tmp_path)
    path = tmp_path / "qm9pack-1.0.3.pt"
    content = path.read_bytes()
    path.write_bytes(content[:-300])
    with pytest.warns(UserWarning, match=r"qm9pack-1\.0\.3\.pt` is not used and will be built again"):
        assert_same(load_qm9(tmp_path), whole)
    with warnings.catch_warnings():
        assert_same(load_qm9(tmp_path), whole)


def test_the_package_is_not_imported(drawn: Molecules) -> None:
    assert len(drawn) == 300
    assert "qm9pack" not in sys.modules


@pytest.mark.parametrize("n", [10, 99, 4000, 99_999, 130_831])
def test_split_covers_all_once(n: int) -> None:
    train, validation, test = split(n, seed=3)
    assert len(test) == len(validation) == min(10_000, n // 10)
    assert sorted(torch.cat([train, validation, test]).tolist()) == list(range(n))


def test_split_is_the_shuffle_of_pyg_under_the_seed(pyg_folder: object) -> None:
    data = pyg_folder.data  # type: ignore[attr-defined]
    from torch_geometric.datasets import QM9

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = QM9(str(pyg_folder.root))  # type: ignore[attr-defined]
    torch.manual_seed(5)
    shuffled = [int(item.idx) for item in dataset.shuffle()]
    train, validation, test = split(len(data), seed=5)
    ours = [int(data[k].idx) for part in (test, validation, train) for k in part.tolist()]
    assert ours == shuffled


def test_split_needs_ten() -> None:
    with pytest.raises(ValueError, match=r"^`n` should be at least 10\. Found 9\.$"):
        split(9, seed=0)


def test_statistics_come_from_the_training_part_only(drawn: Molecules) -> None:
    train, validation, _ = split(len(drawn), seed=0)
    mean, std = standardise(drawn.targets, train)
    changed = drawn.targets.clone()
    changed[validation] += 1e6
    for before, after in zip((mean, std), standardise(changed, train), strict=True):
        assert torch.equal(before, after)
    scaled = ((drawn.targets[train] - mean) / std).double()
    torch.testing.assert_close(scaled.mean(0), torch.zeros(11, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std(0), torch.ones(11, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore:std")
def test_a_target_that_does_not_vary_is_refused() -> None:
    message = r"^Every target should vary over the 3 molecules of `train_index`\. Found standard deviations \[0\.0, "
    with pytest.raises(ValueError, match=message):
        standardise(torch.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]]), torch.arange(3))
    with pytest.raises(ValueError, match=r"over the 1 molecules .* Found standard deviations \[nan\]"):
        standardise(torch.tensor([[1.0]]), torch.arange(1))


def test_summary_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 30)
    before = summarise_qm9(tmp_path)
    assert (before["available"], before["cached"]) == (True, False)
    assert [Path(file).name for file in before["files"]] == [f"qm9_part{k}.csv" for k in (1, 2, 3)]
    load_qm9(tmp_path)
    after = json.loads(json.dumps(summarise_qm9(tmp_path)))
    assert after["cached"]
    assert after["molecules"] == 30
    assert after["counts"] == {"bonds from SMILES": 28, "bonds from geometry": 2}
    assert after["cache_mb"] == round(Path(after["cache"]).stat().st_size / 1e6, 1)
    assert after["targets"]["zpve"] == "eV"
    assert "CC0" in after["licence"]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 30)
    whole = load_qm9(tmp_path / "kept")

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(qm9_source, "distribution", missing)
    message = r'^QM9 needs `qm9pack`, which is not installed\. Run `pip install "equipoise\[qm9\]"`, or give the folder'
    with pytest.raises(ModuleNotFoundError, match=message):
        load_qm9(tmp_path)
    assert_same(load_qm9(tmp_path / "kept"), whole)
    assert "pip install" in summarise_qm9(tmp_path)["problem"]
    assert "Found neither in" in summarise_qm9(source=tmp_path)["problem"]


def test_another_content_of_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 1)
    (tmp_path / "qm9_part1.csv").write_text("SMILES\nC\n")
    parts = [tmp_path / f"qm9_part{k}.csv" for k in (1, 2, 3)]
    monkeypatch.setattr(Qm9Pack, "files", lambda self: parts)
    with pytest.raises(
        ValueError, match=r"qm9_part1\.csv` should have sha256 19f0a5.* Found [0-9a-f]{64}\. Run `pip"
    ):
        load_qm9(tmp_path, molecules=1)
    parts[0].unlink()
    with pytest.raises(
        FileNotFoundError, match=r"qm9_part1\.csv` should exist\. Run `pip install --force-reinstall"
    ):
        load_qm9(tmp_path, molecules=1)


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'^`features` should be "pyg" or "chemical"\. Found \'rdkit\'\.$'):
        load_qm9(tmp_path, features="rdkit")
    for count in (0, 130_832):
        with pytest.raises(
            ValueError, match=rf"^`molecules` should be between 1 and 130831\. Found {count}\.$"
        ):
            load_qm9(tmp_path, molecules=count)


@pytest.mark.slow
def test_all_of_qm9(tmp_path: Path) -> None:
    molecules = load_qm9(tmp_path)
    assert len(molecules) == len(set(molecules.number.tolist())) == 130_831
    assert molecules.counts == {"bonds from SMILES": 130_823, "bonds from geometry": 8, "with charges": 443}
    assert torch.isfinite(molecules.targets).all()
    assert torch.isfinite(molecules.positions).all()
    assert int(molecules.atom_start.diff().max()) == 29
    # PyTorch Geometric's documentation: about 18.0 nodes and 37.3 directed bonds a molecule.
    assert round(len(molecules.nodes) / 130_831, 1) == 18.0
    assert round(2 * len(molecules.bonds) / 130_831, 1) == 37.3
    assert round(float(molecules.targets[:, 0].mean()), 2) == 2.67
    # Standard deviations of PyTorch Geometric's QM9 as quoted in microsoft/tf-gnn-samples, issue 13.
    quoted = torch.tensor([1.50, 8.18, 0.60, 1.27, 280.61, 0.90, 10.33, 10.42, 10.50, 9.51, 4.06])
    torch.testing.assert_close(molecules.targets.std(0), quoted, rtol=5e-3, atol=0)
    # The order of the four energies: at 298 K more inner energy than at 0 K, plus RT for H, less TS for G.
    u0, u, h, g = (molecules.targets[:, TARGETS.index(name)].mean() for name in ("u0", "u", "h", "g"))
    assert h < u < u0 < g
    direct = load_qm9(tmp_path / "no cache here", molecules=500, features="chemical")
    assert_same(load_qm9(tmp_path, molecules=500, features="chemical"), direct)
