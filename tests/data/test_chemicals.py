"""Measured properties: small tables with every trap, and the real ones looked up by other means."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equipoise.data import chemicals
from equipoise.data.chemicals import clipped, load_chemicals, split_chemicals, summarise_chemicals
from equipoise.data.chemicals_package import PACKAGE
from equipoise.data.chemicals_tables import IDENTIFIERS, PROPERTIES, TABLES, Labels, read_labels
from equipoise.data.packages import DataPackage, locate

NAMES = [item.name for item in PROPERTIES]
ETHANOL, BENZENE = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "UHOVQNZJYSORNB-UHFFFAOYSA-N"
IDENTIFIED = [
    ("64-17-5", "C2H6O", "CCO", ETHANOL),
    ("999-99-9", "C2H6O", "OCC", ETHANOL),  # another number of the same molecule
    ("71-43-2", "C6H6", "C1=CC=CC=C1", BENZENE),
    ("7732-18-5", "H2O", "O", "XLYOFNOQVPJJNP-UHFFFAOYSA-N"),  # no carbon
    ("7647-01-0", "ClH", "Cl", "VEXZGXHMUGYJMC-UHFFFAOYSA-N"),  # chlorine begins with a C
    ("62-54-4", "C4H6CaO4", "CC(=O)[O-].CC(=O)[O-].[Ca+2]", "VSGNNIFQASZAOI-UHFFFAOYSA-L"),  # two pieces
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All tables without rows, and identifiers of six numbers."""
    for table in TABLES:
        path = tmp_path / table
        path.parent.mkdir(exist_ok=True)
        columns = sorted({column for item in PROPERTIES for name, column in item.sources if name == table})
        if path.suffix == ".gz":
            import gzip

            path.write_bytes(gzip.compress("\t".join(["CAS", "Chemical", *columns]).encode() + b"\n"))
        else:
            path.write_text("\t".join(["CAS", "Chemical", *columns]) + "\n")
    (tmp_path / "Identifiers").mkdir()
    for name, rows in zip(IDENTIFIERS, (IDENTIFIED[:2], IDENTIFIED[2:]), strict=True):
        lines = [
            "\t".join(["1", cas, formula, "1.0", smiles, "inchi", key, "name"])
            for cas, formula, smiles, key in rows
        ]
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    return tmp_path


def add(folder: Path, table: str, **values: str) -> None:
    """A row of a table."""
    path = folder / table
    header = path.read_text().splitlines()[0].split("\t")
    with open(path, "a") as file:
        file.write("\t".join(values.get(name, "") for name in header) + "\n")


def of(labels: Labels, key: str, name: str) -> float:
    return float(labels.values[labels.keys.index(key), NAMES.index(name)])


OPEN, COMMON = "Phase Change/OpenNotebook Melting Points.tsv", "Misc/common_chemistry_data.tsv"
YAWS = "Critical Properties/Yaws Collection.tsv"
PSRK = "Critical Properties/Appendix to PSRK Revision 4.tsv"


def test_the_first_table_wins_and_units_are_converted(folder: Path) -> None:
    add(folder, COMMON, CAS="64175", Tm="100", Vml="5.8e-5")
    add(folder, OPEN, CAS="64-17-5", Tm="159.0")
    add(folder, "Reactions/ATcT 1.112 (l).tsv", CAS="64-17-5", Hfl="-276900")
    labels = read_labels(folder)
    assert labels.keys == [ETHANOL]
    assert labels.smiles == ["CCO"]
    assert of(labels, ETHANOL, "melting_point") == 159.0
    assert of(labels, ETHANOL, "liquid_volume") == pytest.approx(58.0)
    assert of(labels, ETHANOL, "liquid_formation_enthalpy") == pytest.approx(-276.9)
    assert int((~labels.values.isnan()).sum()) == 3


def test_pressure_is_a_logarithm_and_labels_of_yaws_come_last_and_are_marked(folder: Path) -> None:
    add(folder, YAWS, CAS="71-43-2", Pc="5000000", Tc="562.0")
    add(folder, PSRK, CAS="71-43-2", Tc="562.2")
    add(folder, PSRK, CAS="64-17-5", Pc="0")
    labels = read_labels(folder)
    assert of(labels, BENZENE, "critical_pressure") == pytest.approx(math.log10(5e6))
    assert of(labels, BENZENE, "critical_temperature") == 562.2
    marked = labels.yaws.nonzero().tolist()
    assert marked == [[labels.keys.index(BENZENE), NAMES.index("critical_pressure")]]
    assert ETHANOL not in labels.keys  # a pressure of 0 has no logarithm


def test_numbers_of_one_molecule_are_merged_and_the_first_row_counts(folder: Path) -> None:
    add(folder, OPEN, CAS="999-99-9", Tm="159.1")
    add(folder, COMMON, CAS="999999", Tb="351.0")
    add(folder, COMMON, CAS="999999", Tb="0.1")
    labels = read_labels(folder)
    assert labels.keys == [ETHANOL]
    assert of(labels, ETHANOL, "melting_point") == 159.1
    assert of(labels, ETHANOL, "boiling_point") == 351.0


def test_only_organic_molecules_of_one_piece_are_kept(folder: Path) -> None:
    for cas, *_ in IDENTIFIED:
        add(folder, OPEN, CAS=cas, Tm="200")
    add(folder, OPEN, CAS="1-23-4", Tm="200")  # not identified
    assert read_labels(folder).keys == [ETHANOL, BENZENE]


def test_a_value_that_is_no_number_is_named(folder: Path) -> None:
    add(folder, OPEN, CAS="64-17-5", Tm="warm")
    with pytest.raises(
        ValueError, match=r"Every value of .*Melting Points\.tsv` should be a number\. Found 'warm'\."
    ):
        read_labels(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    (folder / OPEN).write_text("CAS\tT\n")
    with pytest.raises(ValueError, match=r"should have the column Tm\. Found CAS, T\."):
        read_labels(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Labels]:
    """The real tables, and the cache that was made of them."""
    root = tmp_path_factory.mktemp("chemicals")
    return root, chemicals._labels(root / "chemicals.pt")


def cell(table: str, cas: str, column: str) -> str:
    """Looked up by the csv module."""
    folder = locate(PACKAGE, problem="chemicals", check=False)[0].parents[1]
    with open(folder / table) as file:
        return next(row[column] for row in csv.DictReader(file, delimiter="\t") if row["CAS"] == cas)


def test_the_real_tables_have_about_the_expected_counts(real: tuple[Path, Labels]) -> None:
    """Those that the specification of the benchmark names were counted with the labels of Yaws."""
    _, labels = real
    known = ~labels.values.isnan()
    counts = dict(zip(NAMES, known.sum(dim=0).tolist(), strict=True))
    assert len(labels.keys) == len(set(labels.keys)) == pytest.approx(30_408, rel=0.04)
    assert counts["melting_point"] == pytest.approx(21_381, rel=0.01)
    assert counts["flash_point"] == min(v for k, v in counts.items() if not k.startswith("gas_en")) == 474
    assert float(known.double().mean()) == pytest.approx(0.166, abs=0.005)
    measured = known & ~labels.yaws
    assert int(measured.any(dim=1).sum()) == 28_368
    assert int(measured[:, NAMES.index("gas_entropy")].sum()) == 298


def test_real_values_are_those_of_their_tables(real: tuple[Path, Labels]) -> None:
    _, labels = real
    assert of(labels, ETHANOL, "melting_point") == float(cell(OPEN, "64-17-5", "Tm"))
    critical = "Critical Properties/IUPACOrganicCriticalProps.tsv"
    assert of(labels, BENZENE, "critical_pressure") == pytest.approx(
        math.log10(float(cell(critical, "71-43-2", "Pc")))
    )
    assert of(labels, BENZENE, "critical_volume") == pytest.approx(
        1e6 * float(cell(critical, "71-43-2", "Vc"))
    )
    flash = "Safety/IS IEC 60079-20-1 2010.tsv"
    assert of(labels, ETHANOL, "flash_point") == float(cell(flash, "64-17-5", "T_flash"))
    # Known from elsewhere: 78.3 degrees Celsius; 80.1 degrees Celsius, a logP of 2.13.
    assert of(labels, ETHANOL, "boiling_point") == pytest.approx(351.4, abs=0.5)
    assert of(labels, BENZENE, "boiling_point") == pytest.approx(353.2, abs=0.5)
    assert of(labels, BENZENE, "logp") == pytest.approx(2.13, abs=0.05)


def test_a_sample_is_part_of_a_larger_one_and_keeps_rare_labels(real: tuple[Path, Labels]) -> None:
    root, labels = real
    small, large = (load_chemicals(root, molecules=n, bits=64) for n in (100, 200))
    assert set(small.keys) < set(large.keys)
    assert not bool(large.yaws.any())
    shares = (~large.values.isnan()).double().mean(dim=0)
    assert float(shares[NAMES.index("flash_point")]) > 5 * 474 / len(labels.keys)
    place = labels.keys.index(large.keys[7])
    own = labels.values[place].masked_fill(labels.yaws[place], torch.nan)
    assert torch.equal(large.values[7].nan_to_num(-1), own.nan_to_num(-1))
    with_yaws = load_chemicals(root, molecules=200, bits=64, yaws=True)
    assert bool(with_yaws.yaws.any())
    assert not bool((with_yaws.yaws & with_yaws.values.isnan()).any())


@pytest.mark.parametrize("molecules", [0, 40_000])
def test_a_sample_of_another_size_is_refused(real: tuple[Path, Labels], molecules: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`molecules` should be between 1 and 28368, .* Found {molecules}\."
    ):
        load_chemicals(real[0], molecules=molecules)


def test_no_scaffold_is_in_two_parts(real: tuple[Path, Labels]) -> None:
    from rdkit.Chem.Scaffolds import MurckoScaffold

    root, labels = real
    found = load_chemicals(root, molecules=300, bits=64)
    smiles = dict(zip(labels.keys, labels.smiles, strict=True))
    scaffolds = [MurckoScaffold.MurckoScaffoldSmiles(smiles[key]) for key in found.keys]  # type: ignore[no-untyped-call]
    for seed in (0, 1):
        parts = [part.tolist() for part in split_chemicals(found, seed)]
        assert sorted(k for part in parts for k in part) == list(range(300))
        assert [len(part) for part in parts] == [240, 30, 30]
        own = [{scaffolds[k] or found.keys[k][:14] for k in part} for part in parts]
        assert not own[0] & own[1] | own[0] & own[2] | own[1] & own[2]
    assert split_chemicals(found, 0)[2].tolist() != split_chemicals(found, 1)[2].tolist()


def test_unreadable_molecules_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.full((3, len(NAMES)), torch.nan, dtype=torch.float64)
    values[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    labels = Labels(
        ["CCO", "C1CC", "CCC"], ["A" * 27, "B" * 27, "C" * 27], values, torch.zeros(3, len(NAMES)).bool()
    )
    monkeypatch.setattr(chemicals, "_labels", lambda path: labels)
    found = load_chemicals(tmp_path, bits=64)
    assert (found.unreadable, len(found)) == (1, 2)
    assert found.values[:, 0].tolist() == [1.0, 3.0]
    assert len(found.molecules.packed) == 2


def test_clipping_knows_of_the_training_part_only() -> None:
    training = torch.arange(1000, dtype=torch.float64)[:, None].expand(-1, len(NAMES)).clone()
    training[0] = torch.nan
    values: Tensor = torch.tensor([[-50.0], [500.0], [1e9], [torch.nan]], dtype=torch.float64).expand(
        -1, len(NAMES)
    )
    found = clipped(values, training)[:, 3]
    ranked = sorted(range(1, 1000))
    low, high = (ranked[0] + share * (ranked[-1] - ranked[0]) for share in (0.005, 0.995))
    assert found[:3].tolist() == pytest.approx([low, 500.0, high])
    assert bool(found[3].isnan())


def test_the_cache_is_built_again_when_it_is_damaged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, OPEN, CAS="64-17-5", Tm="159")
    monkeypatch.setattr(chemicals, "locate", lambda package, problem: [folder / IDENTIFIERS[0]])
    path = tmp_path / "cache" / "chemicals.pt"
    first = chemicals._labels(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.warns(UserWarning, match="will be built again"):
        again = chemicals._labels(path)
    assert again.smiles == first.smiles == ["CCO"]
    assert chemicals._labels(path).keys == [ETHANOL]


def test_a_missing_package_or_another_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chemicals, "PACKAGE", DataPackage("no-such-package-of-equipoise", "1", PACKAGE.files))
    with pytest.raises(
        ModuleNotFoundError, match=r"chemicals needs .* Run `equipoise data chemicals --install`"
    ):
        load_chemicals(tmp_path)
    facts = summarise_chemicals(tmp_path)
    assert facts["available"] is False
    assert "not installed" in facts["problem"]
    one = {next(iter(PACKAGE.files)): "0" * 64}
    monkeypatch.setattr(chemicals, "PACKAGE", DataPackage(PACKAGE.name, PACKAGE.version, one))
    with pytest.raises(ValueError, match="should have sha256 0000"):
        load_chemicals(tmp_path)
