"""The CelebA benchmark on generated faces in the published layout: F1 against scikit-learn, losses by hand."""

import json
import math
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from typer.testing import CliRunner

from celeba_folder import COLOURED, write_celeba
from equipoise.benchmark.plan import Overrides, PlanError, make_plan
from equipoise.benchmark.published import published
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.celeba import ATTRIBUTES
from equipoise.models.celeba_cnn import CelebACNN
from equipoise.problems.celeba import Batch, CelebA
from equipoise.training.problem import description

PROBLEM: Any = CelebA  # its tasks are those of the instance, since they depend on an option
FEW = ["Young", "Bald", "Male"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"), (25, 9, 10))


def problem(folder: Path, **options: Any) -> CelebA:
    return CelebA(data=str(folder), root=str(folder / "cache"), **{"width": 2, "batch_size": 8, **options})


@pytest.fixture(scope="module")
def celeba(folder: Path) -> CelebA:
    return problem(folder)


class Told(nn.Module):
    """Answers with logits that are told beforehand, batch by batch."""

    def __init__(self, logits: Tensor, size: int) -> None:
        super().__init__()
        self._answers = iter(logits.split(size))

    def forward(self, images: Tensor) -> list[Tensor]:
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        return list(next(self._answers).unbind(1))


def batches_of(labels: Tensor, size: int) -> list[Batch]:
    return [Batch(torch.zeros(len(part), 3, 8, 8, dtype=torch.uint8), part) for part in labels.split(size)]


def test_tasks_metrics_and_reference_are_the_published_ones() -> None:
    names = tuple(metric.name for task in CelebA.tasks for metric in task.metrics)
    assert names == ATTRIBUTES == tuple(task.name for task in CelebA.tasks)
    baseline = published("celeba").baseline(names)
    assert len(baseline) == 40 and None not in baseline
    assert sum(value for value in baseline if value) / 40 == pytest.approx(0.697135, abs=1e-6)
    assert all(metric.higher_is_better for task in CelebA.tasks for metric in task.metrics)
    assert dict(CelebA.reference) == dict.fromkeys(ATTRIBUTES, 1.0)


def test_f1_is_that_of_scikit_learn(celeba: CelebA) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(50, 40, generator=generator) < torch.linspace(0.02, 0.98, 40)
    logits = torch.randn(50, 40, generator=generator)
    labels[:, 3] = False
    logits[:, 3] = -1.0  # nothing positive, neither predicted nor labelled
    labels[:, 4] = False
    logits[0, 4] = 1.0
    logits[:, 5] = 0.0  # a probability of 0.5 is not above it
    found = celeba.evaluate(Told(logits, 16), batches_of(labels, 16))
    expected = f1_score(labels.numpy(), (logits.sigmoid() > 0.5).numpy(), average=None, zero_division=0)
    assert list(found) == list(ATTRIBUTES)
    assert list(found.values()) == pytest.approx(list(expected), abs=1e-12)
    assert found[ATTRIBUTES[3]] == found[ATTRIBUTES[4]] == found[ATTRIBUTES[5]] == 0


def test_losses_are_cross_entropies_by_hand(celeba: CelebA) -> None:
    model = celeba.model(0)
    batch = next(celeba.loaders(0).train.epoch(1))
    losses = celeba.losses(model, batch)
    assert list(losses) == list(ATTRIBUTES)
    logits = model(batch.images.float() / 255)
    for task, name in enumerate(ATTRIBUTES):
        terms = []
        for logit, label in zip(logits[task].tolist(), batch.labels[:, task].tolist(), strict=True):
            probability = 1 / (1 + math.exp(-logit))
            terms.append(-math.log(probability if label else 1 - probability))
        assert losses[name].item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    losses["Young"].backward()
    assert isinstance(model, CelebACNN)
    assert [head.weight.grad is not None for head in model.heads] == [n == "Young" for n in ATTRIBUTES]
    assert celeba.shared(model) is model.encoder


def test_an_epoch_shows_every_training_image_once_whatever_the_workers(folder: Path) -> None:
    def epoch(workers: int, number: int, **options: Any) -> list[Batch]:
        return list(problem(folder, workers=workers, **options).loaders(3).train.epoch(number))

    alone, ahead, second = epoch(0, 1), epoch(2, 1), epoch(2, 2)
    for one, two in zip(alone, ahead, strict=True):
        assert torch.equal(one.images, two.images) and torch.equal(one.labels, two.labels)
    assert not torch.equal(ahead[0].images, second[0].images)
    # 25 images: three batches of 8 and a single image, which batch normalisation cannot take
    assert [len(batch.images) for batch in ahead] == [8, 8, 8]
    whole = epoch(2, 1, batch_size=6)
    assert [len(batch.images) for batch in epoch(2, 1, batch_size=7)] == [7, 7, 7, 4]
    assert [len(batch.images) for batch in whole] == [6, 6, 6, 6]
    assert (
        len({bytes(image.numpy().data) for batch in epoch(0, 1, batch_size=7) for image in batch.images})
        == 25
    )


def test_the_parts_are_the_official_ones_for_every_seed(celeba: CelebA) -> None:
    faces = celeba.faces
    for seed in (0, 1):
        loaders = celeba.loaders(seed)
        for loader, part in ((loaders.validation, "validation"), (loaders.test, "test")):
            (batch,) = list(loader)
            assert torch.equal(batch.images, faces.pixels[faces.parts[part]])
            assert torch.equal(batch.labels, faces.labels[faces.parts[part]])
    assert [len(rows) for rows in faces.parts.values()] == [25, 9, 10]


def test_attributes_are_chosen_by_name_in_the_order_given(folder: Path) -> None:
    few = problem(folder, attributes=FEW)
    assert [task.name for task in few.tasks] == FEW and list(few.reference) == FEW
    described = description(PROBLEM, {"attributes": FEW})
    assert described.tasks == few.tasks and described.reference == few.reference
    batch = next(few.loaders(0).train.epoch(1))
    assert list(few.losses(few.model(0), batch)) == FEW
    row = next(i for i, image in enumerate(few.faces.pixels) if torch.equal(image, batch.images[0]))
    assert batch.labels[0].tolist() == [bool(few.faces.labels[row, ATTRIBUTES.index(name)]) for name in FEW]
    assert [task.name for task in problem(folder, attributes="Male, Bald").tasks] == ["Male", "Bald"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            ["Blad"],
            r"`attributes`, each of them, should be one of 5_o.* Found 'Blad'\. Did you mean 'Bald'\?",
        ),
        ([], r"`attributes` should be different names, at least 1\. Found \[\]\."),
        (["Bald", "Bald"], r"different names, at least 1\. Found \['Bald', 'Bald'\]\."),
    ],
)
def test_wrong_attributes_are_refused_before_and_after(
    folder: Path, attributes: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        problem(folder, attributes=attributes)
    with pytest.raises(PlanError, match=message):
        make_plan(PROBLEM, "paper", Overrides(settings={"attributes": attributes}))


def test_an_attribute_of_one_kind_only_is_refused(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, (9, 6, 6))
    path = folder / "list_attr_celeba.txt"
    first, names, *lines = path.read_text().splitlines()
    lines = [
        f"{line[:-2]}-1" if row >= 15 else line for row, line in enumerate(lines)
    ]  # Young in the test part
    path.write_text("\n".join([first, names, *lines]) + "\n")
    with pytest.raises(
        ValueError, match=r"images of the test part have, .* only one kind of Young in 6 images: take more"
    ):
        problem(folder, attributes=["Bald", "Young"])
    assert len(problem(folder, attributes=["Bald"]).tasks) == 1


def test_the_trivial_guess_is_the_better_of_all_and_none(folder: Path, celeba: CelebA) -> None:
    found = celeba.trivial(0)
    parts, labels = celeba.faces.parts, celeba.faces.labels
    for task, name in enumerate(ATTRIBUTES):
        scores = {}
        for guess in (True, False):
            truth = labels[parts["train"], task].numpy()
            scores[guess] = f1_score(truth, [guess] * len(truth), zero_division=0)
        best = max(scores, key=lambda guess: scores[guess])
        truth = labels[parts["test"], task].numpy()
        assert found[name] == pytest.approx(f1_score(truth, [best] * len(truth), zero_division=0))


def test_what_was_read_is_shown(folder: Path, tmp_path: Path) -> None:
    shown = problem(folder, attributes=["Bald"]).preview()
    assert shown.header == ("attribute", "train", "validation", "test")
    assert shown.rows[0] == ("images", "25", "9", "10")
    assert shown.rows[1] == ("Bald", "48.0 %", "44.4 %", "50.0 %")
    assert shown.notes == ()
    spoilt = write_celeba(tmp_path, (9, 6, 6))
    (spoilt / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"Found 1 bad file: 000001\.jpg \(missing\)"):
        problem(spoilt, attributes=["Bald"])
    left = problem(spoilt, attributes=["Bald"], skip_bad=True).preview()
    assert left.rows[0] == ("images", "8", "6", "6")
    assert left.notes == ("1 image(s) left out, whose files are missing or damaged",)


def test_the_network_is_the_published_one_unless_asked_otherwise(folder: Path) -> None:
    plan = make_plan(PROBLEM, "paper")
    model = CelebA(data=str(folder), root=str(folder / "cache"), **plan.config["options"]).model(0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 5_197_160
    text = problem(folder, form="text").model(0)
    assert sum(isinstance(layer, nn.Conv2d) for layer in text.modules()) == 5
    first, again, other = (
        torch.cat([p.flatten() for p in problem(folder).model(s).parameters()]) for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_presets_follow_the_papers() -> None:
    paper, clean = (make_plan(PROBLEM, name) for name in ("paper", "clean"))
    for plan in (paper, clean):
        train = plan.config["train"]
        assert (train["epochs"], train["schedule"], train["report"]) == (15, "constant", "best")
        assert plan.config["options"] == {} and len(plan.tasks) == 40
        assert plan.baselines == "own" and plan.seeds == (0, 1, 2)
        assert "famo:weight_decay=0.001" in plan.methods and len(plan.methods) == 12
    assert (paper.lrs, clean.lrs) == ((1e-3,), (1e-3, 3e-4))
    for preset in CelebA.presets:
        make_plan(PROBLEM, preset, Overrides(methods=("nashmtl+grouped",)))


def test_a_wrong_option_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`batch_size` should be at least 2\. Found 1\."):
        problem(folder, batch_size=1)


def test_data_says_where_to_get_it_and_whether_it_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    facts = CelebA.data()
    assert not facts["available"] and "has no img_align_celeba, list_attr" in facts["problem"]
    assert "mmlab.ie.cuhk.edu.hk" in facts["source"] and facts["cache"].endswith(", not made yet")
    with pytest.raises(FileNotFoundError, match="should hold img_align_celeba"):
        CelebA()
    (tmp_path / "celeba").symlink_to(folder)
    assert CelebA.data()["available"] and "problem" not in CelebA.data()
    assert len(CelebA(attributes=["Bald"]).faces.pixels) == 44
    assert CelebA.data()["cache"].endswith("images-64.u8, of 2.5 GB")
    assert CelebA.check(str(folder))["available"]
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert not CelebA.data()["available"] and "needs `pillow`" in CelebA.data()["problem"]


def test_the_benchmark_runs_and_learns_what_the_colours_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder as published to the table, with single-task baselines; the report is drawn in other tests."""
    drawn: list[Path] = []
    monkeypatch.setattr("equipoise.report.build.write_report", lambda where, **kwargs: drawn.append(where))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path / "cache"))
    write_celeba(tmp_path / "celeba", (72, 16, 16))
    words = ["bench", "celeba", "--preset", "smoke", "--data", "celeba", "--methods", "ls,nashmtl"]
    words += ["--set", f"attributes={json.dumps(COLOURED)}"]
    words += ["--set", "batch_size=12", "--lr", "0.01", "--epochs", "6", "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/celeba-smoke"))
    assert [record.method for record in records[:2]] == ["ls", "nashmtl"]
    assert [record.task for record in records[2:]] == list(COLOURED)
    assert {record.status for record in records} == {"ok"}
    learnt, trivial = (fmean(records[0].metrics[part].values()) for part in ("test", "trivial"))
    assert learnt > trivial + 0.15
    assert "Male (F1) ↑" in done.stdout
    assert drawn == [Path("runs/celeba-smoke")]
