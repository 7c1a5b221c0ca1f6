"""What is measured between two epochs: against plain gradients, and without a trace in the training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from equipoise.study.cell import train_cell
from equipoise.study.plan import Cell, Measure, StudyPlan
from equipoise.study.probe import Probe, gradient_statistics
from equipoise.training.checkpoint import load_checkpoint
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks
from equipoise.training.problem import Problem

from .problems_toy import NAMES, Batch, Tides, Winds

PAIR = ("north", "south")
METRICS = {name: f"{name} accuracy" for name in NAMES}
CPU = torch.device("cpu")


def study(**changes: Any) -> StudyPlan:
    train = TrainConfig(
        epochs=3, schedule="cosine", optimizer="adamw", warmup_epochs=1, report="last", last_epochs=1,
        evaluate_every=3,
    )  # fmt: skip
    config = RunConfig(problem="winds", options={"samples": 40}, method="ls", lr=0.01, seed=0, train=train)
    measures = tuple(
        Measure(name=name, metric=metric, unit="%", higher_is_better=True, reference=100.0)
        for name, metric in METRICS.items()
    )
    given: dict[str, Any] = {
        "config": config, "measures": measures, "act": "sampling", "domains": True, "pairs": (PAIR,),
        "depths": (1,), "widths": (4,), "grid": (0.3, 0.5), "seeds": (0,), "probe": 4,
    }  # fmt: skip
    return StudyPlan(**{**given, **changes})


def by_hand(model: nn.Module, batches: list[dict[str, Batch]]) -> Tensor:
    """Gradients of both losses of each batch (k, 2, n) by plain autograd, in evaluation mode."""
    found = []
    for batch in batches:
        rows = []
        for name in PAIR:
            loss = nn.functional.cross_entropy(model(batch[name].x), batch[name].y)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        found.append(torch.stack(rows))
    return torch.stack(found)


def test_conflict_cosine_and_magnitude_are_those_of_plain_gradients() -> None:
    winds = Winds(domains=PAIR, mixing="sampled", weights=[0.9, 0.1], samples=40)
    model = winds.model(3)
    probe = Probe(cast("Problem", winds), PAIR, METRICS, seed=0, batches=4, device=CPU)
    found = probe.measure(model)
    batches = cast("Any", winds.loaders(0).train).first(4)
    model.eval()
    first, second = by_hand(model, batches).double().unbind(1)
    cosines = torch.nn.functional.cosine_similarity(first, second)
    a, b = first.norm(dim=1), second.norm(dim=1)
    assert found["cosine"] == pytest.approx(float(cosines.mean()), rel=1e-4)
    assert found["conflict"] == float((cosines < 0).double().mean()) > 0  # the labels are opposite
    assert found["magnitude"] == pytest.approx(float((2 * a * b / (a**2 + b**2)).mean()), rel=1e-4)
    for name in PAIR:
        inputs = torch.cat([batch[name].x for batch in batches])
        labels = torch.cat([batch[name].y for batch in batches])
        with torch.no_grad():
            logits = model(inputs)
        assert found["loss"][name] == pytest.approx(
            float(nn.functional.cross_entropy(logits, labels)), rel=1e-5
        )
        assert found["train"][name] == pytest.approx(
            100 * float((logits.argmax(1) == labels).double().mean())
        )


def test_the_samples_are_the_same_for_every_weight_and_belong_to_training() -> None:
    probes = [
        Probe(
            cast("Problem", Winds(domains=PAIR, mixing="sampled", weights=[p, 1 - p], samples=40)),
            PAIR, METRICS, seed=1, batches=3, device=CPU,
        )
        for p in (0.01, 0.5)
    ]  # fmt: skip
    model = Winds().model(0)
    first, second = (probe.measure(model) for probe in probes)
    assert first == second
    alone = Winds(domains=PAIR[:1], mixing="sampled", samples=40)
    single = Probe(cast("Problem", alone), PAIR[:1], METRICS, seed=1, batches=3, device=CPU).measure(model)
    assert single["loss"]["north"] == pytest.approx(first["loss"]["north"])
    assert set(single) == {"loss", "train"}


def test_a_network_is_left_as_it_was() -> None:
    model = Winds().model(0)
    model.train()
    probe = Probe(cast("Problem", Winds(domains=PAIR)), PAIR, METRICS, seed=0, batches=2, device=CPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    random = torch.get_rng_state()
    probe.measure(model)
    assert model.training and all(layer.training for layer in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("act", ["sampling", "losses"])
def test_training_is_the_same_bit_for_bit_with_and_without_a_look(act: str, tmp_path: Path) -> None:
    """Against one uninterrupted run of the trainer, batch normalisation, dropout and optimizer included."""
    plan = study(act=act)
    cell = Cell(PAIR, 0.3, 1, 4, 0)
    looked = train_cell(_winds, plan, cell, tmp_path / "looked", Hooks())
    assert looked.error is None and len(looked.history) == 3
    config = plan.config_of(cell)
    checkpoint = tmp_path / "plain" / "checkpoint.pt"
    plain = Trainer(_winds(config.options), config, tmp_path / "plain", checkpoint).run()
    assert looked.metrics["test"] == {name: plain.metrics["test"][METRICS[name]] for name in PAIR}
    assert looked.score == plain.validation_score
    first = load_checkpoint(tmp_path / "looked" / "checkpoints" / f"{cell.name}.pt", print)
    second = load_checkpoint(checkpoint, print)
    assert first is not None and second is not None
    for name in ("model", "optimizer", "rng"):
        assert_same(first[name], second[name])
    assert any("running_mean" in name for name in first["model"])


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def _winds(options: Any) -> Problem:
    return cast("Problem", Winds(**options))


def test_statistics_of_gramians_by_hand() -> None:
    found = gradient_statistics(
        torch.tensor([[[4.0, -2.0], [-2.0, 1.0]], [[1.0, 0.5], [0.5, 1.0]], [[0.0, 0.0], [0.0, 9.0]]])
    )
    assert found["conflict"] == pytest.approx(1 / 3)
    assert found["cosine"] == pytest.approx((-1 + 0.5) / 2)  # undefined in the third
    assert found["magnitude"] == pytest.approx((2 * 2 / 5 + 1 + 0) / 3)
    zero = gradient_statistics(torch.zeros(2, 2, 2))
    assert zero == {"conflict": 0.0, "cosine": 0.0, "magnitude": 1.0}


def test_tasks_of_one_input_are_probed_through_the_shared_part() -> None:
    tides = Tides()
    model = tides.model(0)
    names, metrics = ("high", "mean"), {task.name: f"{task.name} error" for task in tides.tasks}
    found = Probe(cast("Problem", tides), names, metrics, seed=0, batches=2, device=CPU).measure(model)
    model.eval()
    cosines = []
    for batch in list(tides.loaders(0).train.epoch(1))[:2]:
        rows = [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss, list(tides.shared(model).parameters()), retain_graph=True
                    )
                ]
            )
            for name, loss in tides.losses(model, batch).items()
            if name in names
        ]
        cosines.append(float(rows[0] @ rows[1] / rows[0].norm() / rows[1].norm()))
    assert found["cosine"] == pytest.approx(math.fsum(cosines) / 2, rel=1e-4)
    assert set(found["train"]) == set(names)
