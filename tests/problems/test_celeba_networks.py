"""CelebA with a vision transformer or a residual network, and measured by accuracy, as Royer et al. have it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from celeba_folder import COLOURED, write_celeba
from equipoise.benchmark.plan import Overrides, make_plan
from equipoise.benchmark.published import published
from equipoise.models.resnet import HardSharing
from equipoise.models.vit import ViT
from equipoise.problems.celeba import CelebA
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.problem import description

PROBLEM: Any = CelebA
TINY = {"model": "vit", "width": 16, "depth": 1, "patch": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"), (24, 8, 8))


def problem(folder: Path, **options: Any) -> CelebA:
    given = {"attributes": list(COLOURED), "batch_size": 8, "workers": 0, **options}
    return CelebA(data=str(folder), root=str(folder / "cache"), **given)


def test_the_transformer_of_the_preset_is_vit_s_4(folder: Path) -> None:
    """Its parameters as `ViT` counts them, and a logit for each of 40 attributes."""
    plan = make_plan(PROBLEM, "vit")
    assert [metric.name for metric in plan.tasks[0].metrics] == ["5_o_Clock_Shadow accuracy"]
    train = plan.config["train"]
    assert (train["optimizer"], train["weight_decay"]) == ("adamw", 1e-4)
    assert (train["warmup_epochs"], train["schedule"]) == (5, "cosine")
    made = problem(folder, **plan.config["options"], attributes=None)
    with torch.device("meta"):
        found = made._network.build(40)
    assert isinstance(found, HardSharing) and isinstance(found.encoder, ViT)
    width, tokens = 384, (64 // 4) ** 2 + 1
    expected = 12 * (12 * width**2 + 13 * width) + (16 * 3 + tokens + 4) * width
    assert sum(p.numel() for p in found.encoder.parameters()) == expected
    assert sum(p.numel() for p in found.heads.parameters()) == 40 * (width + 1)


@pytest.mark.parametrize("options", [TINY, {"model": "resnet", "width": 2, "depth": 18}])
def test_losses_reach_the_encoder_and_their_own_head(folder: Path, options: dict[str, Any]) -> None:
    found = problem(folder, **options)
    model, again = found.model(1), found.model(1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    batch = next(iter(found.loaders(0).train.epoch(1)))
    losses = found.losses(model, batch)
    logits = [one[:, 0].tolist() for one in model(batch.images.float() / 255)]
    for task, (name, loss) in enumerate(losses.items()):
        assert name == COLOURED[task]
        chances = [1 / (1 + math.exp(-logit)) for logit in logits[task]]
        terms = [
            -math.log(p if y else 1 - p) for p, y in zip(chances, batch.labels[:, task].tolist(), strict=True)
        ]
        assert float(loss.detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    losses["Smiling"].backward()
    assert isinstance(model, HardSharing)
    assert [head.weight.grad is not None for head in model.heads] == [name == "Smiling" for name in COLOURED]
    assert found.shared(model) is model.encoder
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_accuracy_counts_what_is_right(folder: Path) -> None:
    found = problem(folder, metric="accuracy", **TINY)
    model = found.model(0)
    with torch.no_grad():
        measured = found.evaluate(model.eval(), found.loaders(0).test)
        rows = found.faces.parts["test"]
        logits = torch.cat(model(found.faces.pixels[rows].float() / 255), dim=1)
    right = (logits > 0) == found._labels[rows]
    expected = {
        f"{name} accuracy": 100 * float(right[:, t].double().mean()) for t, name in enumerate(COLOURED)
    }
    assert measured == pytest.approx(expected)
    assert found.reference == dict.fromkeys(expected, 100.0)
    assert description(PROBLEM, {"attributes": list(COLOURED), "metric": "accuracy"}).tasks == found.tasks
    assert found.trivial(0) == dict.fromkeys(
        expected, 50.0
    )  # half of the images of each part have an attribute
    assert published("celeba").baseline(tuple(expected)) == [None] * 3  # the published values are F1


def test_a_transformer_learns_what_the_colours_show(tmp_path: Path) -> None:
    """A whole run by the recipe of the preset, of a small transformer with few patches."""
    folder = write_celeba(tmp_path / "celeba", (72, 16, 16))
    options: dict[str, Any] = {**TINY, "metric": "accuracy", "attributes": list(COLOURED), "batch_size": 12}
    options |= {"data": str(folder), "root": str(tmp_path / "cache")}
    recipe = {**CelebA.presets["vit"]["train"], "epochs": 12, "warmup_epochs": 1}
    how = RunConfig(
        problem="celeba", options=options, method="uw", lr=1e-2, seed=0, train=TrainConfig(**recipe)
    )
    problem: Any = CelebA(**options)
    outcome = Trainer(problem, how, tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.steps == 72
    assert all(value > 70 for value in outcome.metrics["test"].values()), outcome.metrics["test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "vgg"}, r"`model` should be one of cnn, vit, resnet\. Found 'vgg'\."),
        ({"depth": 3}, r"`depth` should be left out with model='cnn'\. Found 3\."),
        ({"model": "resnet", "patch": 4}, r"`patch` should be left out with model='resnet'\. Found 4\."),
        ({"model": "vit", "form": "text"}, r"`form` should be left out with model='vit'\. Found 'text'\."),
        ({"form": "txt"}, r"`form` should be one of code, text\. Found 'txt'\."),
        ({"model": "vit", "patch": 5}, r"`image` should be a multiple of `patch`, 5\. Found 64\."),
        ({"metric": "auc"}, r"`metric` should be one of f1, accuracy\. Found 'auc'\."),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CelebA(data="/nowhere", **options)


def test_the_preset_runs_with_other_sizes() -> None:
    settings = {"width": 48, "depth": 3, "patch": 8, "attributes": "Male,Bald"}
    plan = make_plan(PROBLEM, "vit", Overrides(settings=settings))
    assert plan.config["options"] == {"model": "vit", "metric": "accuracy", **settings}
