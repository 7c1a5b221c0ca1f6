"""NYUv2 and CityScapes on folders in the published layout: protocols, parts, losses, metrics, errors, whole runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from dense_folders import write
from equipoise.benchmark.execute import Files
from equipoise.benchmark.plan import Overrides, make_plan, pending
from equipoise.benchmark.published import published
from equipoise.benchmark.records import read_records
from equipoise.benchmark.runner import run_plan
from equipoise.cli import app
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import SegNet
from equipoise.problems.cityscapes import CityScapes
from equipoise.problems.dense import DenseBenchmark
from equipoise.problems.nyuv2 import NYUv2
from equipoise.training.dense_evaluation import DenseBatch
from equipoise.training.dense_metrics import DepthErrors, NormalAngles, Segmentation
from equipoise.training.labels import LabelledLosses
from equipoise.training.pictures import load_pictures
from shown import Shown

SIZE = (32, 48)
SAMPLES = {"train": 7, "val": 5}
PROBLEMS = [NYUv2, CityScapes]
both = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)

Folders = dict[str, Path]
Make = Callable[..., DenseBenchmark]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("dense")
    return {cls.name: write(root / cls.name, cls.layout, size=SIZE, samples=SAMPLES) for cls in PROBLEMS}


@pytest.fixture
def make(folders: Folders) -> Make:
    def made(problem: type[DenseBenchmark], **options: Any) -> DenseBenchmark:
        return problem(data=str(folders[problem.name]), **{"width": 2, "workers": 0, **options})

    return made


def stored(folders: Folders, problem: type[DenseBenchmark], part: str, quantity: str) -> np.ndarray:
    """All files of a quantity, as they are."""
    folder = folders[problem.name] / part / problem.layout.folders[quantity]
    return np.stack([np.load(folder / f"{number}.npy") for number in range(SAMPLES[part])])


def images(batches: Any) -> Tensor:
    return torch.cat([batch.image for batch in batches])


def numbers(batches: Any, folders: Folders, problem: type[DenseBenchmark], part: str) -> list[int]:
    """Which files the images of some batches are."""
    known = torch.tensor(stored(folders, problem, part, "image")).movedim(-1, 1).float()
    return [int((known == image).flatten(1).all(1).nonzero()) for image in images(batches)]


@both
def test_metrics_units_and_reference_are_the_published_ones(problem: type[DenseBenchmark]) -> None:
    metrics = [metric for task in problem.tasks for metric in task.metrics]
    table = published(problem.name)
    assert list(problem.reference) == [metric.name for metric in metrics] == [m.name for m in table.metrics]
    assert table.baseline(tuple(problem.reference)) == list(problem.reference.values())
    assert [metric.higher_is_better for metric in metrics] == [m.higher_is_better for m in table.metrics]
    percent = {metric.name for metric in metrics if metric.unit == "%"}
    assert percent == {metric.name for metric in table.metrics if metric.unit == "%"}
    assert [len(task.metrics) for task in problem.tasks] == ([2, 2, 5] if problem is NYUv2 else [2, 2])


@pytest.mark.parametrize(
    ("problem", "model", "count", "heads"),
    [
        (NYUv2, "segnet", 25_055_185, 111_889),
        (NYUv2, "mtan", 44_229_073, 111_889),
        (CityScapes, "segnet", 25_017_672, None),
        (CityScapes, "mtan", 41_206_984, None),
    ],
)
def test_the_default_networks_are_the_published_ones(
    problem: type[DenseBenchmark], model: str, count: int, heads: int | None, make: Make
) -> None:
    benchmark = make(problem, model=model, width=64)
    with torch.device("meta"):
        network = benchmark.model(0)
    shared = benchmark.shared(network)
    assert isinstance(shared, nn.Module)
    total, encoder = (sum(p.numel() for p in module.parameters()) for module in (network, shared))
    assert total == count and heads in (None, total - encoder)
    own = {id(p) for name, p in network.named_parameters() if name.startswith("heads")}
    assert own | {id(p) for p in shared.parameters()} == {id(p) for p in network.parameters()}


def test_the_paper_preset_is_the_published_protocol(make: Make) -> None:
    for problem, batch, methods in ((NYUv2, 2, 13), (CityScapes, 8, 12)):
        plan = make_plan(problem, "paper")
        train = plan.config["train"]
        assert (train["epochs"], plan.lrs, plan.seeds) == (200, (1e-4,), (0, 1, 2))
        assert (train["schedule"], train["step_epochs"], train["step_factor"]) == ("step", 100, 0.5)
        assert (train["report"], train["last_epochs"], train["patience"]) == ("last", 10, None)
        assert (train["method_lr"], train["weight_decay"], train["precision"]) == (0.025, 0, "float32")
        assert len(plan.methods) == methods == len(published(problem.name).methods)
        assert "go4align:groups=2" in plan.methods
        benchmark = make(problem, **{**plan.config["options"], "width": 2})
        loaders = benchmark.loaders(0)
        assert loaders.validation is loaders.test
        assert next(iter(loaders.train.epoch(1))).image.shape[0] == min(batch, SAMPLES["train"])
        assert isinstance(benchmark.model(0), MTAN)


@pytest.mark.parametrize("preset", list(NYUv2.presets))
@both
def test_every_preset_is_a_plan(problem: type[DenseBenchmark], preset: str) -> None:
    plan = make_plan(problem, preset)
    assert plan.baselines == "own"
    for method in plan.methods:
        assert preset in ("smoke", "quick") or published(problem.name).find(method) is not None, method
    clean = plan.config["options"]["protocol"] == "clean"
    assert (plan.config["train"]["report"] == "best") == clean == (preset != "paper")


@both
def test_the_parts_are_the_folders(problem: type[DenseBenchmark], make: Make, folders: Folders) -> None:
    paper = make(problem, augment=False).loaders(0)
    assert sorted(numbers(paper.train.epoch(1), folders, problem, "train")) == list(range(7))
    assert numbers(paper.test, folders, problem, "val") == list(range(5))
    batch = next(iter(make(problem, batch_size=5).loaders(0).test))
    for task, quantity in (("segmentation", "label"), ("depth", "depth"), ("normal", "normal")):
        if task in batch.targets:
            array = torch.tensor(stored(folders, problem, "val", quantity))
            array = array.long() if quantity == "label" else array.movedim(-1, 1).float()
            assert torch.equal(batch.targets[task], array)


@both
def test_the_clean_validation_part_is_split_off_the_training_part(
    problem: type[DenseBenchmark], make: Make, folders: Folders
) -> None:
    seen = []
    for seed in (0, 1):
        loaders = make(problem, protocol="clean", validation=0.3, augment=False).loaders(seed)
        train = sorted(numbers(loaders.train.epoch(1), folders, problem, "train"))
        held = numbers(loaders.validation, folders, problem, "train")
        assert len(held) == 2 and sorted(train + held) == list(range(7))
        assert numbers(loaders.test, folders, problem, "val") == list(range(5))
        seen.append(held)
    assert seen[0] == seen[1]
    assert len(make(problem, protocol="clean", validation=0.01).validation) == 1


def test_the_order_of_an_epoch_is_its_own_and_can_be_entered_anywhere(make: Make) -> None:
    train = make(NYUv2, workers=2).loaders(0).train
    first, second = (list(train.epoch(number)) for number in (1, 2))
    assert len(train) == len(first) == 4 and len(first[-1].image) == 1  # the last batch is kept
    assert not torch.equal(images(first), images(second))
    for start in range(5):
        later = list(make(NYUv2).loaders(0).train.epoch(1, start))
        assert len(later) == 4 - start
        for found, expected in zip(later, first[start:], strict=True):
            assert all(torch.equal(found.targets[name], expected.targets[name]) for name in found.targets)
            assert found.labelled == expected.labelled and torch.equal(found.image, expected.image)
    assert not torch.equal(images(make(NYUv2).loaders(1).train.epoch(1)), images(first))


@pytest.mark.parametrize(
    ("problem", "protocol", "power"),
    [(NYUv2, "paper", -1), (NYUv2, "clean", -1), (CityScapes, "paper", -1), (CityScapes, "clean", 1)],
)
def test_depth_follows_the_zoom_as_the_protocol_has_it(
    problem: type[DenseBenchmark], protocol: str, power: int, make: Make, tmp_path: Path
) -> None:
    root = write(tmp_path, problem.layout, size=SIZE, samples={"train": 12, "val": 1})
    for path in (root / "train" / "depth").iterdir():
        np.save(path, np.full((*SIZE, 1), 2.0))
    benchmark = problem(data=str(root), protocol=protocol, width=2, workers=0, validation=0.1)
    depths = torch.cat([b.targets["depth"] for e in range(1, 5) for b in benchmark.loaders(0).train.epoch(e)])
    found = sorted({round(value, 4) for value in depths.unique().tolist()})
    assert found == sorted(round(2 * scale**power, 4) for scale in (1.0, 1.2, 1.5))
    assert next(iter(benchmark.loaders(0).validation)).targets["depth"].unique().numel() > 0


def test_only_training_images_are_augmented(make: Make, folders: Folders) -> None:
    benchmark = make(NYUv2, protocol="clean")
    loaders = benchmark.loaders(0)
    known = torch.tensor(stored(folders, NYUv2, "train", "image")).movedim(-1, 1).float()
    train = images(loaders.train.epoch(1))
    assert sum(bool((known == image).flatten(1).all(1).any()) for image in train) < len(train)
    assert numbers(loaders.validation, folders, NYUv2, "train") == benchmark.validation.tolist()


@both
def test_losses_are_those_of_the_heads(problem: type[DenseBenchmark], make: Make) -> None:
    benchmark = make(problem, model="segnet")
    model = benchmark.model(0)
    assert isinstance(model, SegNet)
    batch = next(iter(benchmark.loaders(0).train.epoch(1)))
    losses = benchmark.losses(model, batch)
    assert list(losses) == [task.name for task in problem.tasks]
    labels = batch.targets["segmentation"]
    logs = model(batch.image)[0].log_softmax(1)
    picked = logs.gather(1, labels.clamp(min=0)[:, None])[:, 0][labels >= 0]
    assert losses["segmentation"].item() == pytest.approx(-picked.mean().item(), rel=1e-4)
    losses["depth"].backward()
    moved = [any(p.grad is not None for p in head.parameters()) for head in model.heads]
    assert moved == [name == "depth" for name in losses]
    assert isinstance(losses, LabelledLosses) and losses.counts == batch.labelled


def test_a_batch_without_a_label_of_a_task_leaves_it_out(make: Make, tmp_path: Path) -> None:
    root = write(tmp_path, NYUv2.layout, size=SIZE, samples=SAMPLES)
    for path in (root / "train" / "depth").iterdir():
        np.save(path, np.zeros((*SIZE, 1)))
    benchmark = NYUv2(data=str(root), width=2)
    batch = next(iter(benchmark.loaders(0).train.epoch(1)))
    assert list(benchmark.losses(benchmark.model(0), batch)) == ["segmentation", "normal"]
    with pytest.raises(ValueError, match="The task 'depth' should have a label in the training part"):
        benchmark.trivial(0)


@pytest.mark.parametrize("protocol", ["paper", "clean"])
def test_metrics_are_averaged_as_the_protocol_has_it(protocol: str, make: Make) -> None:
    benchmark = make(NYUv2, protocol=protocol, batch_size=2)
    model = benchmark.model(0).eval()
    average: Any = "batches" if protocol == "paper" else "pixels"
    meters: list[Any] = [Segmentation(13), DepthErrors(average=average), NormalAngles(average=average)]
    with torch.no_grad():
        found = benchmark.evaluate(model, benchmark.loaders(0).test)
        for batch in benchmark.loaders(0).test:
            seg, depth, normal = model(batch.image)
            for meter, output, task in zip(
                meters, (seg.argmax(1), depth, normal), batch.targets, strict=True
            ):
                meter.add(output, batch.targets[task])
    values = [value for meter in meters for value in meter.values().values()]
    percent = [100, 100, 1, 1, 1, 1, 100, 100, 100]
    assert list(found) == list(NYUv2.reference)
    assert list(found.values()) == pytest.approx([v * p for v, p in zip(values, percent, strict=True)])


@both
def test_the_trivial_guess_is_a_constant_of_the_training_part(
    problem: type[DenseBenchmark], make: Make, folders: Folders
) -> None:
    found = make(problem, batch_size=2).trivial(0)
    assert list(found) == list(problem.reference)
    grid = (slice(None), slice(None, None, 4), slice(None, None, 4))
    labels = stored(folders, problem, "train", "label")[grid].astype(int)
    frequent = np.bincount(labels[labels >= 0]).argmax()
    truth = stored(folders, problem, "val", "label").astype(int)
    assert found["pix_acc"] == pytest.approx(100 * float((truth[truth >= 0] == frequent).mean()))
    depths = stored(folders, problem, "train", "depth")[grid]
    depths = np.sort(depths[depths > 0].astype(np.float32))
    guess = depths[(len(depths) - 1) // 2]
    truth = stored(folders, problem, "val", "depth").astype(np.float32)
    errors = [np.abs(part[part > 0] - guess).mean() for part in (truth[:2], truth[2:4], truth[4:])]
    assert found["abs_err"] == pytest.approx(float(np.mean(errors)), rel=1e-5)


def test_pictures_are_of_validation_images(make: Make, folders: Folders) -> None:
    for protocol, part in (("paper", "val"), ("clean", "train")):
        benchmark = make(NYUv2, protocol=protocol, validation=0.8)
        pictures = benchmark.pictures(benchmark.model(0).eval(), torch.device("cpu"))
        assert [p.name for p in pictures] == ["input", "segmentation", "depth", "normal"]
        assert [p.kind for p in pictures] == ["colour", "classes", "scalar", "normal"]
        found = numbers([DenseBatch(pictures[0].truth, {}, {})], folders, NYUv2, part)
        assert len(found) == 4 and set(found) <= set(benchmark.validation.tolist())
        shapes = [(4, 32, 48), (4, 32, 48), (4, 3, 32, 48)]
        assert [tuple(p.prediction.shape) for p in pictures[1:] if p.prediction is not None] == shapes
        assert len(pictures[1].classes) == 13


def test_fewer_images_are_spread_over_the_parts(make: Make) -> None:
    benchmark = make(NYUv2, images=3)
    assert (benchmark.train.tolist(), benchmark.test.tolist()) == ([0, 2, 4], [0, 1, 3])
    assert make(NYUv2, images=100).train.tolist() == list(range(7))


def test_the_model_depends_on_its_seed_alone(make: Make) -> None:
    benchmark = make(CityScapes)
    before = torch.get_rng_state()
    first, again, other = (
        torch.cat([p.flatten() for p in benchmark.model(seed).parameters()]) for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)


@both
def test_missing_data_say_where_to_get_them(problem: type[DenseBenchmark], tmp_path: Path) -> None:
    message = (
        f"`data` should be the folder of {problem.layout.name} that holds train and val. Found no folder "
        f"`{tmp_path}/none`. Researchers get it as"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(message)) as raised:
        problem(data=str(tmp_path / "none"))
    assert f"--data; `equipoise data {problem.name}`" in str(raised.value)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/train` should hold the folders image, label"):
        problem(data=str(tmp_path))


@both
def test_the_data_command_says_what_the_folder_must_look_like(
    problem: type[DenseBenchmark], folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    facts = problem.data()
    assert not facts["available"] and f"`{tmp_path}/{problem.name}` has no train and val" in facts["problem"]
    assert "lorenmt/mtan" in facts["source"] and json.loads(json.dumps(facts)) == facts
    wanted = {"nyuv2": "train|val/image|label|depth|normal/", "cityscapes": "train|val/image|label_7|depth/"}
    assert wanted[problem.name] in facts["layout"]
    monkeypatch.setenv("EQUIPOISE_DATA", str(folders[problem.name].parent))
    facts = problem.data()
    assert facts["available"] and "problem" not in facts
    assert len(problem(width=2).train_files) == 7  # found in the default place


def test_the_check_reads_the_folder(folders: Folders, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = NYUv2.check(str(folders["nyuv2"]), lambda done, total: calls.append((done, total)))
    assert report["available"] and report["problems"] == [] and len(calls) == 4 * 12
    assert "train: 7 samples; published are 795" in report["notes"]
    assert "val: 5 samples; published are 654" in report["notes"]
    assert not CityScapes.check(str(tmp_path))["available"]


def test_bad_files_are_told_or_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, NYUv2.layout, size=SIZE, samples=SAMPLES)
    (root / "train" / "normal" / "2.npy").unlink()
    np.save(root / "val" / "label" / "1.npy", np.full(SIZE, 13))
    with pytest.raises(ValueError, match=r"Found 1 bad file: normal/2.npy \(missing\)"):
        NYUv2(data=str(root))
    calls: list[tuple[int, int]] = []
    benchmark = NYUv2(
        data=str(root), width=2, skip_bad=True, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [*((i + 1, 28) for i in range(28)), *((i + 1, 20) for i in range(20))]
    assert (len(benchmark.train), len(benchmark.test)) == (6, 4)
    preview = benchmark.preview()
    assert preview.header == ("part", "folder", "images")
    assert preview.rows == (("training", "train", "6"), ("validation", "val", "4"), ("test", "val", "4"))
    assert preview.notes == (
        "train: 7 samples; published are 795.",
        "val: 5 samples; published are 654.",
        "train: 1 samples with a bad file are left out (normal/2.npy).",
        "val: 1 samples with a bad file are left out (label/1.npy).",
        "No validation part, as published: the test part is looked at after every epoch.",
    )
    (root / "train" / "normal" / "2.npy").write_bytes((root / "train" / "normal" / "1.npy").read_bytes())
    benchmark = NYUv2(data=str(root), width=2, protocol="clean")
    assert benchmark.preview().rows == (
        ("training", "train", "6"),
        ("validation", "train", "1"),
        ("test", "val", "5"),
    )
    with pytest.raises(ValueError, match=r"val/label/1.npy` should hold what was published. Found labels"):
        list(benchmark.loaders(0).test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "unet"}, "`model` should be one of mtan, segnet. Found 'unet'."),
        ({"protocol": "papers"}, "`protocol` should be one of paper, clean. Found 'papers'."),
        ({"validation": 1.0}, "`validation` should be between 0 and 1. Found 1."),
        ({"width": 0}, "`width` should be at least 1. Found 0."),
        ({"batch_size": 0}, "`batch_size` should be at least 1. Found 0."),
        ({"images": 0}, "`images` should be at least 1. Found 0."),
        (
            {"protocol": "clean", "images": 1},
            "should hold more samples than the 1 of the validation part. Found 1.",
        ),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(NYUv2, **options)


@both
def test_the_benchmark_runs(problem: type[DenseBenchmark], folders: Folders, tmp_path: Path) -> None:
    """A method that reads losses, one that reads gradients, and the single-task baselines."""
    settings = {"data": str(folders[problem.name]), "images": 4, "epochs": 1}
    plan = make_plan(problem, "smoke", Overrides(methods=("go4align", "nashmtl"), settings=settings))
    shown = Shown()
    records = run_plan(plan, problem, tmp_path / "run", shown)
    assert [record.error for record in records] == [None] * (2 + len(problem.tasks))
    assert [record.method for record in records[:2]] == ["go4align:groups=2", "nashmtl"]
    assert [record.task for record in records[2:]] == [task.name for task in problem.tasks]
    assert set(records[0].metrics["test"]) == set(problem.reference)
    assert [len(record.metrics["test"]) for record in records[2:]] == [len(t.metrics) for t in problem.tasks]
    assert shown.previews[0].rows[0] == ("training", "train", "3")
    pictures = load_pictures(Files.of(tmp_path / "run", next(iter(pending(plan, [])))).folder)
    assert [picture.name for picture in pictures] == ["input", *(task.name for task in problem.tasks)]


def test_the_paper_protocol_runs_on_the_test_part(folders: Folders, tmp_path: Path) -> None:
    settings = {"data": str(folders["cityscapes"]), "width": 2, "epochs": 3, "last_epochs": 2}
    overrides = Overrides(methods=("uw",), seeds=(0,), baselines="published", settings=settings)
    (record,) = run_plan(make_plan(CityScapes, "paper", overrides), CityScapes, tmp_path / "run", Shown())
    assert record.error is None
    assert record.metrics["test"] == record.metrics["validation"]
    assert (record.steps, record.best_epoch) == (3, 3)


@pytest.mark.slow
def test_the_command_ends_with_a_report(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bench", "nyuv2", "--preset", "smoke", "--data", str(folders["nyuv2"]), "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert {record.status for record in read_records(Path("runs/nyuv2-smoke"))} == {"ok"}
    assert "mIoU (%) ↑" in done.stdout and "train: 7 samples; published are 795." in done.output
    assert Path("runs/nyuv2-smoke/report.html").exists()
    checked = CliRunner().invoke(app, ["data", "nyuv2", "--data", str(folders["nyuv2"])])
    assert checked.exit_code == 0 and "nyuv2: available" in checked.stdout
