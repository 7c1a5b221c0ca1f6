"""Your own table as a problem, on small tables of real molecules and of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from typer.testing import CliRunner

from equipoise.benchmark.plan import Overrides, PlanError, make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.chemistry import read_molecules
from equipoise.models.mlp import OneHead
from equipoise.problems.registry import problem_class
from equipoise.problems.table import Table
from equipoise.training.problem import Described, Previewed
from equipoise.training.tabular import TableBatch

RINGS = ["c1ccccc1", "c1ccncc1", "c1ccoc1", "c1ccsc1", "C1CCNCC1", *(f"C1{'C' * k}1" for k in range(2, 12))]
CHAINS = ["C", "CO", "N#C", "CC", "FC", "ClC", "CC(=O)", "OC(=O)"]
MOLECULES = [f"{chain}{ring}" for ring in RINGS for chain in CHAINS]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of 120 molecules: has it an oxygen, a nitrogen (partly unknown), how many atoms, and a real number."""
    lines = ["smiles,oxygen,nitrogen,carbons,mass"]
    for k, text in enumerate(MOLECULES):
        carbons = sum(letter in "cC" for letter in text.replace("Cl", ""))
        nitrogen = "" if k % 3 == 0 else int("n" in text.lower())
        lines.append(
            f"{text},{int('o' in text.lower())},{nitrogen},{carbons - 2},{12.01 * carbons + 0.1 * k}"
        )
    file = tmp_path_factory.mktemp("own") / "own.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@pytest.fixture(scope="module")
def make(path: str) -> Callable[..., Table]:
    def made(**options: Any) -> Table:
        root = str(Path(path).parent / "cache")
        return Table(
            **{"csv": path, "smiles": "smiles", "batch_size": 16, "width": 16, "root": root, **options}
        )

    return made


def test_an_instance_is_what_its_options_describe(make: Callable[..., Table], path: str) -> None:
    assert isinstance(Table, Described)
    assert problem_class("table") is Table
    table = make()
    described = Table.describe({"csv": path, "smiles": "smiles", "root": str(Path(path).parent / "cache")})
    assert described.tasks == table.tasks
    assert described.reference == table.reference
    assert [task.name for task in table.tasks] == ["oxygen", "nitrogen", "carbons", "mass"]
    assert [column.kind for column in table.columns.columns] == ["binary", "binary", "real", "real"]
    assert list(table.reference) == [m.name for task in table.tasks for m in task.metrics]


def test_batches_hold_fingerprints_and_scaled_labels(make: Callable[..., Table]) -> None:
    table = make(bits=64)
    batch = next(table.loaders(0).train.epoch(1))
    order = torch.Generator().manual_seed(1)
    train = table.table.parts[0]
    index = train[torch.randperm(len(train), generator=order)][:16]
    for row, inputs, targets in zip(
        table.table.rows[index].tolist(), batch.inputs, batch.targets, strict=True
    ):
        (facts,) = read_molecules([MOLECULES[row]], bits=64)
        assert facts is not None
        assert inputs.tolist() == [byte >> k & 1 for byte in facts.fingerprint.tolist() for k in range(8)]
        assert targets[0] == int("o" in MOLECULES[row].lower())
        assert bool(targets[1].isnan()) == (row % 3 == 0)


def test_each_sample_is_in_one_part_and_the_seed_moves_the_order_only(make: Callable[..., Table]) -> None:
    table = make()
    counts = [
        sum(len(batch.targets) for batch in part)
        for part in (table.loaders(0).validation, table.loaders(0).test)
    ]
    first, other = (
        torch.cat([batch.inputs for batch in table.loaders(seed).train.epoch(1)]) for seed in (0, 1)
    )
    assert len(first) + sum(counts) == len(MOLECULES)
    assert not torch.equal(first, other)
    assert torch.equal(first.sum(dim=0), other.sum(dim=0))


@pytest.mark.parametrize("model", ["mlp", "mpnn"])
def test_losses_are_those_of_each_column(make: Callable[..., Table], model: str) -> None:
    table = make(model=model, dropout=0.0)
    network = table.model(0)
    batch = next(table.loaders(0).train.epoch(1))
    found = table.losses(network, batch)
    outputs = network(batch.inputs)
    known = ~batch.targets[:, 1].isnan()
    expected = {
        "oxygen": functional.binary_cross_entropy_with_logits(outputs[:, 0], batch.targets[:, 0]),
        "nitrogen": functional.binary_cross_entropy_with_logits(outputs[known, 1], batch.targets[known, 1]),
        "mass": functional.mse_loss(outputs[:, 3], batch.targets[:, 3]),
    }
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-5)
    assert found.counts["nitrogen"] == int(known.sum()) < 16
    encoder = table.shared(network)
    assert encoder is network.encoder
    torch.stack(list(found.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_graph_has_the_same_outputs_in_any_batch(make: Callable[..., Table]) -> None:
    """Whatever it is padded to, and whatever stands beside it."""
    table = make(model="mpnn")
    network = table.model(0).eval()
    together = table._read(torch.arange(40))
    _, order = zip(*sorted((len(MOLECULES[table.table.rows[k]]), k) for k in range(40)), strict=True)
    with torch.no_grad():
        outputs = network(together.inputs)
        alone = torch.cat([network(table._read(torch.tensor([k])).inputs) for k in range(40)])
        targets = torch.cat([table._read(torch.tensor([k])).targets for k in range(40)])
    place = [(together.targets[:, 3] == target).nonzero()[0].item() for target in targets[:, 3]]
    assert sorted(place) == sorted(order)
    torch.testing.assert_close(outputs[place], alone, rtol=1e-4, atol=1e-5)
    assert {len(chunk.mask) for chunk in together.inputs} <= {13, 14}


def test_metrics_are_those_of_scikit_learn(make: Callable[..., Table]) -> None:
    table = make()
    network = table.model(0).eval()
    with torch.no_grad():
        found = table.evaluate(network, table.loaders(0).test)
        batches: list[TableBatch] = list(table.loaders(0).test)
        scores = torch.cat([network(batch.inputs) for batch in batches])[:, 1]
    labels = torch.cat([batch.targets for batch in batches])[:, 1]
    known = ~labels.isnan()
    assert found["nitrogen auc"] == pytest.approx(roc_auc_score(labels[known].numpy(), scores[known].numpy()))
    assert found.keys() == table.reference.keys() == table.trivial(0).keys()
    assert table.trivial(0)["oxygen auc"] == 0.5


def test_the_network_begins_at_the_training_means_and_depends_on_its_seed_alone(
    make: Callable[..., Table],
) -> None:
    table = make()
    before = torch.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in table.model(s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    network = table.model(0)
    assert isinstance(network, OneHead)
    rate = float(table.table.training_labels[:, 0].mean())
    near = 1 / math.sqrt(16)  # the bias of a linear layer of 16 inputs
    assert float(network.head.bias[0].detach()) == pytest.approx(math.log(rate / (1 - rate)), abs=near)


def test_the_message_passing_network_learns_on_small_graphs(make: Callable[..., Table]) -> None:
    table = make(model="mpnn", targets="carbons,mass", dropout=0.0)
    network = table.model(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for epoch in range(1, 9):
        for batch in table.loaders(0).train.epoch(epoch):
            optimizer.zero_grad()
            torch.stack(list(table.losses(network, batch).values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        found = table.evaluate(network.eval(), table.loaders(0).test)
    assert found["mass mae"] < 0.6 * table.trivial(0)["mass mae"]
    assert found["carbons r2"] > 0.6


def test_a_table_of_numbers_and_texts(tmp_path: Path) -> None:
    lines = ["city,rooms,price,sold,visits"]
    for k in range(100):
        lines.append(f"{'ABC'[k % 3]},{k % 5 + 1},{100.5 + k},{int(k % 4 == 0)},{k % 7}")
    (tmp_path / "own.csv").write_text("\n".join(lines))
    table = Table(csv=str(tmp_path / "own.csv"), features="city, rooms", targets=["price", "sold", "visits"])
    assert next(table.model(0).encoder.parameters()).shape[1] == 4  # three cities and a number
    assert [column.kind for column in table.columns.columns] == ["real", "binary", "count"]
    assert [m.name for task in table.tasks for m in task.metrics] == [
        "price r2",
        "price mae",
        "sold auc",
        "visits r2",
        "visits mae",
    ]
    assert "2 features make 4 inputs." in table.preview().notes


def test_the_preview_counts_labels_and_positives(make: Callable[..., Table]) -> None:
    table = make()
    assert isinstance(table, Previewed)
    preview = table.preview()
    assert preview.header == ("target", "kind", "training labels", "validation labels", "test labels", "mean")
    oxygen, nitrogen, _, mass = preview.rows
    assert oxygen[:2] == ("oxygen", "binary")
    counts = [int(cell.split()[0]) for cell in nitrogen[2:5]]
    assert sum(counts) == sum(k % 3 != 0 for k in range(120))
    positives = sum(int(cell.split("(")[1].split()[0]) for cell in oxygen[2:5])
    assert positives == sum("o" in text.lower() for text in MOLECULES)
    assert mass[2:5] == ("96", "12", "12")
    assert preview.notes[0] == (
        "120 samples (96 training, 12 validation, 12 test) and 4 targets; 91.7 % of the labels are there."
    )


def test_a_long_preview_is_cut(tmp_path: Path) -> None:
    lines = [",".join(["x", *(f"t{k}" for k in range(43))])]
    lines += [",".join([str(row), *(str((row + k) % 7) for k in range(43))]) for row in range(110)]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    preview = Table(csv=str(tmp_path / "own.csv"), features=["x"]).preview()
    assert len(preview.rows) == 40
    assert preview.notes[0] == "and 3 targets more."


@pytest.mark.parametrize("preset", list(Table.presets))
def test_every_preset_is_a_plan(preset: str, path: str) -> None:
    settings = {"csv": path, "smiles": "smiles", "root": str(Path(path).parent / "cache")}
    plan = make_plan(Table, preset, Overrides(settings=settings))
    assert [task.name for task in plan.tasks] == ["oxygen", "nitrogen", "carbons", "mass"]


def test_wrong_options_are_named(make: Callable[..., Table], path: str) -> None:
    with pytest.raises(
        ValueError, match=r"^`csv` should be the path of your table\. Found none: write --csv FILE"
    ):
        Table()
    with pytest.raises(
        ValueError, match=r"^`model` should be one of mlp, mpnn\. Found 'mlpp'\. Did you mean 'mlp'\?"
    ):
        make(model="mlpp")
    with pytest.raises(ValueError, match=r"^`batch_size` should be at least 1\. Found 0\.$"):
        make(batch_size=0)
    with pytest.raises(
        ValueError, match=r"^`model` should be mlp for a table without `smiles`\. Found mpnn\.$"
    ):
        Table(csv=path, features=["carbons"], targets=["oxygen", "mass"], model="mpnn")
    with pytest.raises(ValueError, match=r"at least 2 targets, each of them a task\. Found mass: name more"):
        make(targets="mass")
    with pytest.raises(PlanError, match=r"Found no file `nowhere\.csv`"):
        make_plan(Table, "smoke", Overrides(settings={"csv": "nowhere.csv"}))


def test_what_is_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Table.data()["available"] is True
    assert "problem" not in Table.data()
    monkeypatch.setattr("equipoise.problems.table.find_spec", lambda package: None)
    facts = Table.data()
    assert facts["available"] is False
    assert facts["problem"] == 'pandas and rdkit missing: pip install "equipoise[table]"'


def test_the_benchmark_runs_on_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """From a clean directory to the report, with single-task baselines."""
    monkeypatch.chdir(tmp_path)
    words = ["bench", "table", "--preset", "smoke", "--set", f"csv={path}", "--set", "smiles=smiles"]
    words += ["--set", "root=cache", "--methods", "ls,go4align,nashmtl", "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/table-smoke"))
    assert [record.method for record in records[:3]] == ["ls", "go4align", "nashmtl"]
    assert [record.task for record in records[3:]] == ["oxygen", "nitrogen", "carbons", "mass"]
    assert {record.status for record in records} == {"ok"}
    assert "oxygen auc ↑" in done.stdout
    assert Path("runs/table-smoke/report.html").exists()
