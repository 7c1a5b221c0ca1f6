"""The chemicals benchmark on real tables: scales, losses and metrics worked out label by label."""

from pathlib import Path
from statistics import quantiles

import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from torch import Tensor, nn
from typer.testing import CliRunner

from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.chemicals import split_chemicals
from equipoise.data.chemicals_tables import PROPERTIES
from equipoise.problems import chemicals as problem
from equipoise.problems.chemicals import Batch, Chemicals

NAMES = [item.name for item in PROPERTIES]
MOLECULES = 600


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("data") / "chemicals")


@pytest.fixture(scope="module")
def chemicals(root: str) -> Chemicals:
    return Chemicals(molecules=MOLECULES, bits=128, width=16, batch_size=64, root=root)


@pytest.fixture(scope="module")
def model(chemicals: Chemicals) -> nn.Module:
    return chemicals.model(0).eval()


def labels_of(chemicals: Chemicals, seed: int, task: int) -> list[dict[int, float]]:
    """Molecule -> label of one property, clipped, in each part."""
    column = chemicals.chemicals.values[:, task].tolist()
    parts = [
        [k for k in part.tolist() if column[k] == column[k]]
        for part in split_chemicals(chemicals.chemicals, seed)
    ]
    ranked = sorted(column[k] for k in parts[0])

    low, high = (quantiles(ranked, n=200, method="inclusive")[k] for k in (0, -1))
    return [{k: min(max(column[k], low), high) for k in part} for part in parts]


def joined(batches: list[Batch]) -> Batch:
    return Batch(
        torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches]), batches[0].scale
    )


def test_targets_are_standardised_by_the_training_labels(chemicals: Chemicals) -> None:
    loaders = chemicals.loaders(1)
    batch = joined(list(loaders.validation))
    order = split_chemicals(chemicals.chemicals, 1)[1].tolist()
    for task in (0, 2, 4, 12):
        train, validation, _ = labels_of(chemicals, 1, task)
        mean = sum(train.values()) / len(train)
        deviation = (sum((value - mean) ** 2 for value in train.values()) / len(train)) ** 0.5
        assert batch.scale[:, task].tolist() == pytest.approx([mean, mean + deviation], rel=1e-5)
        for row, molecule in enumerate(order):
            found = float(batch.targets[row, task])
            if molecule in validation:
                assert found == pytest.approx((validation[molecule] - mean) / deviation, abs=1e-4)
            else:
                assert found != found


def test_losses_are_squared_errors_of_the_labelled_molecules(chemicals: Chemicals, model: nn.Module) -> None:
    batch = next(chemicals.loaders(0).train.epoch(1))
    with torch.no_grad():
        losses = chemicals.losses(model, batch)
        outputs = model(batch.inputs)
    for task, name in enumerate(NAMES):
        known = [
            row
            for row in range(len(outputs))
            if float(batch.targets[row, task]) == float(batch.targets[row, task])
        ]
        if not known:
            assert name not in losses
            continue
        terms = [(float(outputs[row, task]) - float(batch.targets[row, task])) ** 2 for row in known]
        assert float(losses[name]) == pytest.approx(sum(terms) / len(terms), rel=1e-4)
        assert losses.counts[name] == len(known)


def test_a_batch_without_a_label_of_a_property_leaves_it_out(chemicals: Chemicals, model: nn.Module) -> None:
    batch = next(chemicals.loaders(0).train.epoch(1))
    targets = batch.targets.clone()
    targets[:, 3:] = torch.nan
    assert list(chemicals.losses(model, batch._replace(targets=targets))) == NAMES[:3]


def test_metrics_are_those_of_scikit_learn_in_report_units(chemicals: Chemicals, model: nn.Module) -> None:
    loaders = chemicals.loaders(0)
    with torch.no_grad():
        found = chemicals.evaluate(model, loaders.test)
        batch = joined(list(loaders.test))
        outputs = model(batch.inputs).double()
    order = split_chemicals(chemicals.chemicals, 0)[2].tolist()
    trivial = chemicals.trivial(0)
    assert list(found) == [metric.name for task in Chemicals.tasks for metric in task.metrics]
    assert list(found) == list(trivial) == list(Chemicals.reference)
    for task, name in enumerate(NAMES):
        train, _, test = labels_of(chemicals, 0, task)
        zero, one = batch.scale[:, task].tolist()
        guesses = [float(outputs[order.index(k), task]) * (one - zero) + zero for k in test]
        truth = list(test.values())
        assert found[f"{name} r2"] == pytest.approx(r2_score(truth, guesses), abs=1e-4)
        assert found[f"{name} mae"] == pytest.approx(mean_absolute_error(truth, guesses), rel=1e-4)
        mean = sum(train.values()) / len(train)
        assert trivial[f"{name} mae"] == pytest.approx(
            mean_absolute_error(truth, [mean] * len(truth)), rel=1e-6
        )
        assert trivial[f"{name} r2"] <= 1e-12


def test_graphs_go_through_the_message_passing_network(root: str, chemicals: Chemicals) -> None:
    graphs = Chemicals(
        molecules=MOLECULES, bits=128, model="mpnn", width=8, depth=1, batch_size=64, root=root
    )
    model = graphs.model(0).eval()
    batch = next(graphs.loaders(0).train.epoch(1))
    plain = next(chemicals.loaders(0).train.epoch(1))
    assert sum(len(chunk.mask) for chunk in batch.inputs) == len(plain.targets) == 64

    def content(targets: Tensor) -> list[list[float]]:
        return sorted(targets.nan_to_num(-9).tolist())

    assert content(batch.targets) == content(plain.targets)
    sizes = [int(size) for chunk in batch.inputs for size in chunk.mask.sum(dim=1)]
    assert sizes == sorted(sizes)
    assert set(graphs.losses(model, batch)) == set(chemicals.losses(chemicals.model(0), plain))
    with torch.no_grad():
        assert len(graphs.evaluate(model, graphs.loaders(0).test)) == 34
    assert graphs.shared(model) is model.encoder


def test_the_preview_counts_the_labels_of_each_part(chemicals: Chemicals) -> None:
    preview = chemicals.preview()
    for task, row in enumerate(preview.rows):
        counts = [f"{len(part):,}" for part in labels_of(chemicals, 0, task)]
        assert row == (NAMES[task], PROPERTIES[task].unit, *counts, "0")
    notes = " ".join(preview.notes)
    assert "600 molecules (480, 60, 60)" in notes
    assert "0 molecules were left out" in notes


def test_the_model_depends_on_its_seed_alone(chemicals: Chemicals) -> None:
    state = torch.get_rng_state()
    first, again, other = (
        torch.cat([p.flatten() for p in chemicals.model(s).parameters()]) for s in (1, 1, 2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"batch_size": 0}, r"`batch_size` should be at least 1\. Found 0\."),
        ({"model": "mpn"}, r"`model` should be one of mlp, mpnn\. Found 'mpn'\. Did you mean 'mpnn'\?"),
        (
            {"molecules": 40},
            r"`molecules` should be enough for two different labels of \w+ in the (validation|test) part\. Found [01]:",
        ),
    ],
)
def test_a_wrong_option_is_named(root: str, options: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Chemicals(root=root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", list(Chemicals.presets))
def test_every_preset_is_a_plan(preset: str) -> None:
    plan = make_plan(Chemicals, preset)
    assert set(plan.methods) >= {"ls", "uw", "famo", "nashmtl"}
    assert plan.config["options"].items() >= Chemicals.presets[preset]["options"].items()


def test_the_package_is_installed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(problem, "install", lambda packages: asked.extend(p.pin for p in packages))
    assert Chemicals.install() == "Installed chemicals==1.5.2."
    assert asked == ["chemicals==1.5.2"]
    assert Chemicals.data()["source"] == asked[0]


@pytest.mark.slow
def test_the_benchmark_runs_from_a_clean_directory(
    root: str, chemicals: Chemicals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`chemicals` has made the cache of `root`."""
    monkeypatch.setenv("EQUIPOISE_DATA", str(Path(root).parent))
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "chemicals",
        "--preset",
        "smoke",
        "--methods",
        "ls,famo",
        "--epochs",
        "1",
        "--jobs",
        "1",
    ]
    words += ["--baselines", "none"]  # seventeen runs less
    settings = (f"molecules={MOLECULES}", "bits=128")
    done = CliRunner().invoke(app, [*words, *(word for s in settings for word in ("--set", s))])
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/chemicals-smoke"))
    assert [record.method.split(":")[0] for record in records] == ["ls", "famo"]
    assert {record.status for record in records} == {"ok"}
    assert "flash_point mae (K) ↓" in done.stdout
    assert Path("runs/chemicals-smoke/report.html").exists()
