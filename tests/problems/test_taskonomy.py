"""Taskonomy as a problem on a made-up folder: losses and metrics by hand, mirroring, and a whole run."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.images import read_image
from equipoise.data.taskonomy import QUANTITIES, read_target
from equipoise.problems.registry import problem_class
from equipoise.problems.taskonomy import Taskonomy
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.dense_evaluation import DenseBatch
from equipoise.training.loop import Trainer
from equipoise.training.pictures import Pictured
from equipoise.training.problem import Checkable, Described, Previewed, description
from taskonomy_folder import write_taskonomy

PROBLEM: Any = Taskonomy  # its tasks are those of the instance, since they depend on an option
ALL = list(QUANTITIES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_taskonomy(tmp_path_factory.mktemp("taskonomy"))


def problem(root: Path, **options: Any) -> Taskonomy:
    given = {"side": 32, "batch_size": 2, "width": 2, "levels": 2, "workers": 0, **options}
    return Taskonomy(data=str(root), **given)


class Told(nn.Module):
    """Answers with the same maps for every image."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self._maps = maps

    def forward(self, images: Tensor) -> list[Tensor]:
        return [one.expand(len(images), *one.shape) for one in self._maps]


def test_batches_hold_the_files_of_their_views(root: Path) -> None:
    found = problem(root)
    views = found._views
    (first, second) = list(found.loaders(0).validation)
    assert isinstance(first, DenseBatch) and len(first.image) == 2 and len(second.image) == 1
    for place, image in enumerate(torch.cat([first.image, second.image])):
        view = views.views[int(views.parts["validation"][place])]
        assert torch.equal(image, read_image(views.file(view, "rgb")).float() / 255)
        for task in ALL:
            target = torch.cat([first.targets[task], second.targets[task]])[place]
            assert torch.equal(target, read_target(views.file(view, task), task, 32))


def test_losses_and_metrics_are_those_of_the_field(root: Path) -> None:
    """A constant answer, pixel by pixel in plain arithmetic."""
    found = problem(root, batch_size=3)
    (batch,) = list(found.loaders(0).test)
    logits = torch.linspace(-1, 1, 17)
    normal = torch.tensor([0.6, 0.0, 0.8])
    answers = {"segment_semantic": logits, "normal": normal, "depth_euclidean": torch.tensor([2.0])}
    maps = [answers.get(task, torch.tensor([0.25]))[:, None, None].expand(-1, 32, 32) for task in ALL]
    losses = found.losses(Told(maps), batch)
    measured = found.evaluate(Told(maps), [batch])
    target = batch.targets["segment_semantic"]
    chances = logits.double().softmax(0)
    expected = -chances[target[target >= 0]].log().mean()
    assert float(losses["segment_semantic"]) == pytest.approx(float(expected), rel=1e-5)
    assert measured["semantic_pix_acc"] == pytest.approx(
        100 * float((target[target >= 0] == 16).double().mean())
    )
    for task, guess in (("depth_euclidean", 2.0), ("depth_zbuffer", 0.25)):
        depth = batch.targets[task][batch.targets[task] > 0].double()
        assert float(losses[task]) == pytest.approx(float((depth - guess).abs().mean()), rel=1e-5)
        assert measured[f"{task}_abs_err"] == pytest.approx(float((depth - guess).abs().mean()), rel=1e-5)
        relative = ((depth - guess).abs() / depth).mean()
        assert measured[f"{task}_rel_err"] == pytest.approx(float(relative), rel=1e-5)
    vectors = batch.targets["normal"].movedim(1, -1).flatten(0, 2).double()
    cosines = (vectors[vectors.norm(dim=1) > 0] @ normal.double()).clamp(-1, 1)
    assert float(losses["normal"]) == pytest.approx(float(1 - cosines.mean()), rel=1e-5)
    assert measured["normal_mean"] == pytest.approx(float(cosines.acos().rad2deg().mean()), rel=1e-4)
    for task in ("edge_texture", "keypoints2d", "reshading"):
        error = float((batch.targets[task].double() - 0.25).abs().mean())
        assert error > 0.05 and float(losses[task]) == pytest.approx(error, rel=1e-5)
        assert measured[f"{task}_abs_err"] == pytest.approx(error, rel=1e-5)
    assert list(measured) == list(found.reference)


def test_mirroring_turns_the_x_of_normals(root: Path) -> None:
    plain, mirrored = (
        next(iter(problem(root, batch_size=6, flip=flip).loaders(2).train.epoch(1))) for flip in (0, 1)
    )
    same = [torch.equal(a, b) for a, b in zip(plain.image, mirrored.image, strict=True)]
    assert 0 < sum(same) < 6
    for place, as_it_was in enumerate(same):
        for name in ("image", *ALL):
            before, after = (b.image if name == "image" else b.targets[name] for b in (plain, mirrored))
            expected = before[place] if as_it_was else before[place].flip(-1)
            if name == "normal" and not as_it_was:
                expected = expected * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
            assert torch.equal(after[place], expected)
    assert mirrored.labelled == plain.labelled


@pytest.mark.parametrize("model", ["mtan", "segnet", "unet"])
def test_every_network_trains_all_tasks(root: Path, model: str) -> None:
    found = problem(root, model=model)
    net = found.model(0)
    losses = found.losses(net, next(iter(found.loaders(0).train.epoch(1))))
    assert list(losses) == ALL
    torch.stack(list(losses.values())).sum().backward()
    reached = {id(p) for p in net.parameters() if p.grad is not None}
    assert {id(p) for p in net.parameters()} == reached
    assert {id(p) for p in found.shared(net).parameters()} < reached


def test_a_task_without_a_labelled_pixel_is_left_out_of_the_step(root: Path) -> None:
    found = problem(root, tasks="depth_zbuffer,reshading")
    batch = next(iter(found.loaders(0).validation))
    empty = batch._replace(
        targets={**batch.targets, "depth_zbuffer": torch.zeros_like(batch.targets["depth_zbuffer"])},
        labelled={**batch.labelled, "depth_zbuffer": 0},
    )
    assert list(found.losses(found.model(0), empty)) == ["reshading"]


def test_some_tasks_and_some_images(root: Path) -> None:
    options = {"tasks": "normal, segment_semantic", "images": 3, "validation": 2, "test": 1}
    found = problem(root, **options)
    assert [task.name for task in found.tasks] == ["segment_semantic", "normal"]
    assert description(PROBLEM, options).tasks == found.tasks
    assert [len(rows) for rows in found.parts.values()] == [3, 2, 1]
    assert isinstance(found, Previewed)
    assert found.preview().rows[1] == ("validation", "2", "1")
    assert isinstance(found, Pictured)
    pictures = found.pictures(found.model(0), torch.device("cpu"))
    assert [picture.name for picture in pictures] == ["input", "segment_semantic", "normal"]
    assert len(problem(root).pictures(problem(root).model(0), torch.device("cpu"))) == 8


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    folder = write_taskonomy(tmp_path)
    (folder / "reshading/taskonomy/almena/point_10_view_0_domain_reshading.png").unlink()
    for file in (folder / "rgb/taskonomy/cauthron").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"leave these images out \(`skip_bad`\)"):
        problem(folder)
    assert problem(folder, skip_bad=True).preview().notes == (
        "train: 1 building(s) of the split have no image in the folder, such as cauthron.",
        "1 file(s) missing, for which 1 image(s) or more are left out.",
    )


def test_the_trivial_guess_is_measured(root: Path) -> None:
    found = problem(root).trivial(0)
    assert list(found) == list(Taskonomy.reference) and 30 < found["semantic_pix_acc"] < 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "normals"}, r"`tasks`, each of them, should be one of .* Did you mean 'normal'\?"),
        ({"tasks": ""}, r"`tasks` should be different names, at least 1\. Found \[\]\."),
        ({"split": "small"}, r"`split` should be one of tiny, medium, full, fullplus\. Found 'small'\."),
        ({"model": "vit"}, r"`model` should be one of mtan, segnet, unet\."),
        ({"side": 3}, r"`side` should be at least 4, since the network halves it 2 times\. Found 3\."),
        ({"levels": 6}, r"`levels` should be from 1 to 5\. Found 6\."),
        ({"images": 0}, r"`images` should be at least 1\. Found 0\."),
        ({"batch_size": 0}, r"`batch_size` should be at least 1\."),
        ({"workers": -1}, r"`workers` should be at least 0\. Found -1\."),
    ],
)
def test_a_wrong_option_is_named(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(root, **options)


def test_it_is_registered_with_facts_and_plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problem_class("taskonomy") is Taskonomy
    assert all(isinstance(Taskonomy, kind) for kind in (Described, Checkable))
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    facts = Taskonomy.data()
    assert not facts["available"] and "no split file" in facts["problem"]
    write_taskonomy(tmp_path / "taskonomy", views=1)
    assert Taskonomy.data()["available"]
    json.dumps(facts)
    for preset in Taskonomy.presets:
        assert {"ls", "uw"} <= set(make_plan(PROBLEM, preset).methods)
        options = {**Taskonomy.presets[preset]["options"], "width": 2}
        Taskonomy(data=str(tmp_path / "taskonomy"), **options)


def test_a_run_trains_saves_and_tests(tmp_path: Path, root: Path) -> None:
    """All seven tasks, with a method that reads gradients."""
    options: dict[str, Any] = {"data": str(root), "side": 32, "batch_size": 2, "width": 2, "levels": 2}
    how = RunConfig(
        problem="taskonomy", options=options, method="nashmtl", lr=1e-2, seed=0, train=TrainConfig(epochs=2)
    )
    problem: Any = Taskonomy(**options)
    outcome = Trainer(problem, how, tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.steps == 6 and set(outcome.metrics["test"]) == set(Taskonomy.reference)
    assert all(math.isfinite(value) for value in outcome.metrics["test"].values())


@pytest.mark.slow
def test_the_benchmark_runs_from_a_folder(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of each kind, a method that reads gradients, pictures in the report."""
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "taskonomy",
        "--preset",
        "smoke",
        "--methods",
        "nashmtl",
        "--jobs",
        "1",
        "--baselines",
        "none",
    ]
    done = CliRunner().invoke(app, [*words, "--data", str(root)])
    assert done.exit_code == 0, done.output
    (record,) = read_records(Path("runs/taskonomy-smoke"))
    assert record.status == "ok" and set(record.metrics["test"]) == set(
        description(PROBLEM, Taskonomy.presets["smoke"]["options"]).reference
    )
    assert Path("runs/taskonomy-smoke/report.html").exists()
