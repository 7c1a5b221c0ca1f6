"""The QM9 benchmark on real molecules: every number is compared with one worked out molecule by molecule."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from equipoise.benchmark.plan import Overrides, make_plan
from equipoise.benchmark.published import published
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.qm9 import TARGETS, split
from equipoise.models.mpnn import MessagePassingNet
from equipoise.problems.qm9 import QM9, Batch

FACTORS = torch.tensor([1, 1, 1000, 1000, 1, 1000, 1000, 1000, 1000, 1000, 1.0]).double()


@pytest.fixture(scope="module")
def qm9(tmp_path_factory: pytest.TempPathFactory) -> QM9:
    root = str(tmp_path_factory.mktemp("qm9"))
    return QM9(molecules=130, batch_size=40, width=8, edge_width=6, rounds=2, root=root)


@pytest.fixture(scope="module")
def model(qm9: QM9) -> nn.Module:
    return qm9.model(0).eval()


def molecule_of(qm9: QM9, batch: Batch) -> list[int]:
    """Which molecule each row of a batch is, found by its atoms and distances."""
    found = []
    for chunk in batch.chunks:
        for nodes, edges, mask in zip(chunk.nodes, chunk.edges, chunk.mask, strict=True):
            n = int(mask.sum())
            distances = edges[:n, :n, 4]
            for i in range(len(qm9.molecules)):
                first, last = qm9.molecules.atom_start[i], qm9.molecules.atom_start[i + 1]
                points = qm9.molecules.positions[first:last]
                apart = torch.linalg.vector_norm(points[:, None] - points, dim=2)
                if last - first == n and torch.allclose(apart, distances, atol=1e-5):
                    found.append(i)
                    assert torch.equal(nodes[:n], qm9.molecules.nodes[first:last].float())
    return found


def one_by_one(qm9: QM9, model: nn.Module, seed: int) -> Iterator[tuple[int, Tensor]]:
    """The prediction for every molecule alone, in the units of the data set."""
    train, _, _ = split(len(qm9.molecules), seed)
    known = qm9.molecules.targets[train].double()
    loaders = qm9.loaders(seed)
    for batches in (loaders.train.epoch(1), loaders.validation, loaders.test):
        for batch in batches:
            place = iter(molecule_of(qm9, batch))
            for chunk in batch.chunks:
                for row in range(len(chunk.mask)):
                    alone = [type(chunk)(*(part[row : row + 1] for part in chunk))]
                    yield next(place), model(alone)[0].double() * known.std(dim=0) + known.mean(dim=0)


def test_tasks_units_and_reference_are_the_published_ones() -> None:
    assert [task.name for task in QM9.tasks] == list(TARGETS)
    names = tuple(metric.name for task in QM9.tasks for metric in task.metrics)
    assert published("qm9").baseline(names) == [QM9.reference[name] for name in names]
    assert [task.metrics[0].unit == "meV" for task in QM9.tasks] == (FACTORS == 1000).tolist()
    assert not any(metric.higher_is_better for task in QM9.tasks for metric in task.metrics)


def test_every_molecule_is_in_one_part_and_comes_once_an_epoch(qm9: QM9) -> None:
    loaders = qm9.loaders(3)
    parts = [list(loaders.train.epoch(1)), list(loaders.validation), list(loaders.test)]
    found = [sorted(m for batch in part for m in molecule_of(qm9, batch)) for part in parts]
    assert found == [sorted(part.tolist()) for part in split(130, 3)]
    assert [len(part) for part in found] == [104, 13, 13]
    assert len(loaders.train) == len(parts[0]) == 3


def test_the_order_of_an_epoch_is_its_own_and_can_be_entered_anywhere(qm9: QM9) -> None:
    train = qm9.loaders(0).train
    first, again, second = ([b.targets for b in train.epoch(n)] for n in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for start in range(4):
        later = [b.targets for b in train.epoch(1, start)]
        assert len(later) == 3 - start
        assert all(torch.equal(a, b) for a, b in zip(later, first[start:], strict=True))
    other = [b.targets for b in qm9.loaders(1).train.epoch(1)]
    assert not torch.equal(other[0], first[0])


def test_losses_are_squared_errors_of_standardised_targets(qm9: QM9, model: nn.Module) -> None:
    train, _, _ = split(len(qm9.molecules), 0)
    known = qm9.molecules.targets[train].double()
    batch = next(qm9.loaders(0).train.epoch(1))
    targets = (qm9.molecules.targets[molecule_of(qm9, batch)].double() - known.mean(dim=0)) / known.std(dim=0)
    assert torch.allclose(batch.targets.double(), targets, atol=1e-4)
    with torch.no_grad():
        losses = qm9.losses(model, batch)
        expected = (model(batch.chunks).double() - targets).square().mean(dim=0)
    assert list(losses) == list(TARGETS)
    assert torch.allclose(torch.stack(list(losses.values())).double(), expected, rtol=1e-4)


def test_each_loss_depends_on_its_own_head(qm9: QM9) -> None:
    model = qm9.model(0)
    assert isinstance(model, MessagePassingNet)
    losses = qm9.losses(model, next(qm9.loaders(0).train.epoch(1)))
    losses["lumo"].backward()
    moved = [head.weight.grad is not None for head in model.heads]
    assert moved == [name == "lumo" for name in TARGETS]


def test_metrics_are_mean_absolute_errors_in_report_units(qm9: QM9, model: nn.Module) -> None:
    with torch.no_grad():
        loaders = qm9.loaders(0)
        found = qm9.evaluate(model, loaders.test)
        alone = dict(one_by_one(qm9, model, 0))
    test = split(len(qm9.molecules), 0)[2].tolist()
    errors = torch.stack([(alone[i] - qm9.molecules.targets[i].double()).abs() * FACTORS for i in test])
    assert list(found) == list(TARGETS)
    assert list(found.values()) == pytest.approx(errors.mean(dim=0).tolist(), rel=1e-3)


def test_the_trivial_guess_is_the_training_mean(qm9: QM9) -> None:
    train, _, test = (part.tolist() for part in split(len(qm9.molecules), 2))
    for k, name in enumerate(TARGETS):
        values = [float(value) for value in qm9.molecules.targets[:, k]]
        mean = sum(values[i] for i in train) / len(train)
        error = sum(abs(values[i] - mean) for i in test) / len(test) * float(FACTORS[k])
        assert qm9.trivial(2)[name] == pytest.approx(error, rel=1e-5)


def test_the_model_depends_on_its_seed_alone(qm9: QM9) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in qm9.model(s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_default_network_is_the_published_one(qm9: QM9) -> None:
    plan = make_plan(QM9, "paper")
    published_one = QM9(**{**plan.config["options"], "molecules": 10}).model(0)
    assert sum(parameter.numel() for parameter in published_one.parameters()) == 617_675
    train = plan.config["train"]
    assert (train["epochs"], plan.lrs, plan.seeds) == (300, (1e-3, 5e-4, 1e-4), (0, 1, 2))
    assert (train["plateau_factor"], train["plateau_patience"], train["min_lr"]) == (0.7, 5, 1e-5)
    assert "go4align:groups=5" in plan.methods


@pytest.mark.parametrize("preset", list(QM9.presets))
def test_every_preset_is_a_plan(preset: str) -> None:
    plan = make_plan(QM9, preset, Overrides(methods=("nashmtl+grouped",)))
    assert plan.methods == ("nashmtl+grouped:groups=5",)


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"`batch_size` should be at least 2\. Found 1\."):
        QM9(molecules=10, batch_size=1)


def test_the_benchmark_runs_on_real_molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a clean directory to the report, with single-task baselines."""
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "qm9",
        "--preset",
        "smoke",
        "--molecules",
        "150",
        "--methods",
        "ls,go4align,nashmtl",
        "--epochs",
        "1",
    ]
    done = CliRunner().invoke(app, [*words, "--jobs", "1"])
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/qm9-smoke"))
    assert [record.method for record in records[:3]] == ["ls", "go4align:groups=5", "nashmtl"]
    assert [record.task for record in records[3:]] == list(TARGETS)
    assert {record.status for record in records} == {"ok"}
    assert "mu (D) ↓" in done.stdout
    assert Path("runs/qm9-smoke/report.html").exists()
