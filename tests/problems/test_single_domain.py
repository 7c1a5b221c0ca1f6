"""Single-task runs on one of several domains: its own images alone go through the network, and are what they cost."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from data.digits_folder import write_digits
from equipoise.benchmark.cost import Cost, costs
from equipoise.benchmark.overrides import Overrides
from equipoise.benchmark.plan import make_plan
from equipoise.benchmark.runner import How, run_plan
from equipoise.benchmark.statistics import summarise
from equipoise.data.mnist import Images, Parts
from equipoise.problems.digits import Digits
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome
from shown import Shown

NAMES = ("mnist", "optdigits", "pendigits")
MIXINGS: dict[str, dict[str, Any]] = {
    "together": {},
    "drawn": {"mixing": "sampled", "weights": "0.2,0.3,0.5"},
}
PROBLEM: Any = Digits  # its tasks are those of the instance


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50, 10 and 20 images of MNIST, 70, 10 and 20 optdigits, 140, 20 and 40 pendigits."""
    root = tmp_path_factory.mktemp("digits")
    write_digits(root)
    return root


def problem(folder: Path, **options: Any) -> Digits:
    return Digits(data=str(folder), **{"width": 2, "batch_size": 8, **options})


@dataclass
class Run:
    """A trained network, what went through it, and what was found."""

    model: nn.Module
    outcome: Outcome
    images: Counter[bool] = field(default_factory=Counter)

    @property
    def state(self) -> Tensor:
        """Parameters and statistics of batches."""
        return torch.cat([value.double().flatten() for value in self.model.state_dict().values()])


def trained(where: Path, digits: Any, method: str, **train: Any) -> Run:
    settings = TrainConfig(**{"epochs": 2, "schedule": "constant", "optimizer": "sgd", **train})
    how = RunConfig(problem="digits", method=method, lr=0.05, seed=3, train=settings)
    trainer = Trainer(digits, how, where / method, where / f"{method}.pt")
    images: Counter[bool] = Counter()

    def count(model: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        images[model.training] += len(inputs[0])

    trainer.model.register_forward_hook(count)
    return Run(trainer.model, trainer.run(), images)


@pytest.mark.parametrize("mixing", list(MIXINGS))
def test_without_batch_norm_it_is_a_loop_over_the_batches_of_its_domain(
    tmp_path: Path, folder: Path, mixing: str
) -> None:
    """And gives what it gave when the images of all domains went through the network beside its own."""
    digits = problem(folder, **MIXINGS[mixing])
    run = trained(tmp_path, digits, "stl:task=pendigits", report="last", last_epochs=1)
    alone, beside = digits.model(3), digits.model(3)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in (alone, beside)]
    steps = 0
    for epoch in (1, 2):
        for batch in digits.loaders(3).train.epoch(epoch):
            if "pendigits" not in batch:
                continue
            images, labels = batch["pendigits"]
            losses = (
                functional.cross_entropy(alone(images), labels),
                digits.losses(beside, batch)["pendigits"],
            )
            for optimizer, loss in zip(optimizers, losses, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            steps += 1
    assert run.outcome.steps == steps > 5
    for p, own, old in zip(run.model.parameters(), alone.parameters(), beside.parameters(), strict=True):
        assert torch.equal(p, own)
        assert torch.allclose(p, old, atol=1e-6)


@pytest.mark.parametrize("batch_size", [8, 64], ids=["batches alike", "mnist has fewer images than a batch"])
@pytest.mark.parametrize("mixing", list(MIXINGS))
def test_passes_are_counted_by_the_images_that_went_through_the_network(
    tmp_path: Path, folder: Path, mixing: str, batch_size: int
) -> None:
    """The networks of all domains take the images and the passes of one joint network."""
    digits = problem(folder, **MIXINGS[mixing], batch_size=batch_size)
    epochs = 1 if batch_size == 8 else 3  # a domain that is never drawn has no step
    joint = trained(tmp_path, digits, "ls", epochs=epochs)
    single = [trained(tmp_path, digits, f"stl:task={name}", epochs=epochs) for name in NAMES]
    images = [run.images[True] for run in single]
    assert sum(images) == joint.images[True] and min(images) > 0
    for run, count in zip(single, images, strict=True):
        passes = run.outcome.forwards or 0.0
        if mixing == "together":
            assert passes / (joint.outcome.forwards or 0.0) == pytest.approx(count / joint.images[True])
        assert passes == run.outcome.backwards
        assert passes / run.outcome.steps == pytest.approx(count / run.outcome.steps / mean(digits))


def mean(digits: Digits) -> float:
    """Images of a batch of a joint run, on average."""
    mixture = digits._mixture
    sizes = [min(mixture.batch_size, len(digits.labels(name, 0))) for name in NAMES]
    weights = mixture.weights or [1.0] * len(NAMES)
    return sum(weight * size for weight, size in zip(weights, sizes, strict=True))


def test_statistics_of_batches_are_those_of_its_own_domain(tmp_path: Path, folder: Path) -> None:
    """Other images in the other domains change nothing, where they change the joint network."""
    sizes = {"model": "resnet", "width": 4, "images": 16}
    digits = problem(folder, **sizes)
    other = copy.copy(digits)
    other.parts = {
        name: parts if name == "mnist" else Parts(*(Images(255 - p.pixels, p.labels) for p in parts))
        for name, parts in digits.parts.items()
    }
    for method in ("stl:task=mnist", "ls"):
        one, two = (trained(tmp_path / str(k), d, method, epochs=1) for k, d in enumerate((digits, other)))
        assert torch.equal(one.state, two.state) == (method != "ls")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_on_a_drawn_domain_goes_on_to_the_same_numbers(
    tmp_path: Path, folder: Path, accumulate: int
) -> None:
    digits: Any = problem(folder, **MIXINGS["drawn"])
    train = TrainConfig(epochs=2, accumulate=accumulate)
    how = RunConfig(problem="digits", method="stl:task=pendigits", lr=0.01, seed=3, train=train)
    whole = Trainer(digits, how, tmp_path / "a", tmp_path / "a.pt")
    outcome, asked = whole.run(), iter(range(1, 100))
    hooks = Hooks(stop=lambda: next(asked) == 3)
    with pytest.raises(InterruptedRunError):
        Trainer(digits, how, tmp_path / "b", tmp_path / "b.pt", hooks).run()
    again = Trainer(digits, how, tmp_path / "b", tmp_path / "b.pt")
    found = again.run()
    assert (found.metrics, found.steps) == (outcome.metrics, outcome.steps)
    assert (found.forwards, found.backwards) == (outcome.forwards, outcome.backwards)
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_domain_that_is_never_drawn_is_said(tmp_path: Path, folder: Path) -> None:
    digits = problem(folder, mixing="sampled", weights="0.000001,0.499999,0.5")
    with pytest.raises(
        ValueError, match=r"A run should make at least 1 step\. Found none in 2 epoch\(s\), since"
    ):
        trained(tmp_path, digits, "stl:task=mnist")


def test_the_evaluation_looks_at_its_own_domain_alone(tmp_path: Path, folder: Path) -> None:
    digits = problem(folder)
    run = trained(tmp_path, digits, "stl:task=optdigits")
    assert run.images[False] == 2 * 10 + 20  # the validation part of each epoch, the test part once
    assert set(run.outcome.metrics["test"]) == {"optdigits accuracy"} == set(run.outcome.metrics["trivial"])
    found = problem(folder).evaluate(run.model.eval(), digits.loaders(0).test)
    assert found["optdigits accuracy"] == run.outcome.metrics["test"]["optdigits accuracy"]


def test_the_table_of_passes_has_what_single_task_networks_take(tmp_path: Path, folder: Path) -> None:
    """Three networks of a domain each: three times the parameters, the passes of one."""
    settings = {"data": str(folder), "width": 2, "batch_size": 8, "epochs": 2}
    made = make_plan(PROBLEM, "smoke", Overrides(methods=("ls",), seeds=(0,), lrs=(0.01,), settings=settings))
    run_plan(made, PROBLEM, tmp_path, Shown(), How())
    found: dict[str, Cost] = {cost.name: cost for cost in costs(summarise(tmp_path))}
    single, one = found["3 single-task networks"], found["ls"]
    assert single.units == pytest.approx(one.units)
    assert (single.parameters, one.forwards) == (3 * one.parameters, 1.0)
    assert [single.forwards, single.backwards] == pytest.approx([1 / 3, 1 / 3])
