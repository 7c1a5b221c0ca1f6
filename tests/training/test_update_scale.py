"""SGD, steps of equal length, and the look after the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.problems.colour_presets import DOMAINNET
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome, Progress
from equipoise.training.update_scale import UpdateScale
from toy import Partial, Toy

OFF = torch.amp.GradScaler("cpu", enabled=False)


def config(method: str = "ls", **train: Any) -> RunConfig:
    return RunConfig(
        problem="toy", method=method, lr=0.01, seed=3, train=TrainConfig(**{"epochs": 2, **train})
    )


class Still(Toy):
    """Without dropout, and every loss times `factor`."""

    factor = 1.0

    def model(self, seed: int) -> nn.Module:
        model = super().model(seed)
        model.get_submodule("1").p = 0.0  # type: ignore[assignment]
        return model

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        x, y = batch
        named = (
            y if isinstance(y, dict) else {"a": y[:, 0], "b": y[:, 1]}
        )  # those of the validation part are plain
        return {name: self.factor * loss for name, loss in super().losses(model, (x, named)).items()}


class Large(Still):
    factor = 100.0


def trained(where: Path, how: RunConfig, problem: Toy | None = None) -> Trainer:
    trainer = Trainer(problem or Still(), how, where / "logs", where / "run.pt")
    trainer.advance(how.train.epochs)
    return trainer


def values(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


def batches(problem: Toy, epochs: int) -> Iterator[Any]:
    train = problem.loaders(3).train
    for epoch in range(1, epochs + 1):
        yield from train.epoch(epoch)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_its_definition(tmp_path: Path, momentum: float) -> None:
    problem = Still()
    how = config(optimizer="sgd", momentum=momentum, weight_decay=0.1, schedule="constant")
    found = values(trained(tmp_path, how, problem))
    model = problem.model(3)
    parameters = list(model.parameters())
    speeds = [torch.zeros_like(p) for p in parameters]
    for batch in batches(problem, 2):
        total = torch.stack(list(problem.losses(model, batch).values())).sum()
        gradients = torch.autograd.grad(total, parameters)
        with torch.no_grad():
            for p, g, v in zip(parameters, gradients, speeds, strict=True):
                v.copy_(momentum * v + g + 0.1 * p)
                p.sub_(0.01 * v)
    assert torch.allclose(found, torch.cat([p.detach().reshape(-1) for p in parameters]), atol=1e-6)


def stopped_and_resumed(where: Path, how: RunConfig) -> Outcome:
    asked = iter(range(1, 1_000))
    hooks = Hooks(stop=lambda: next(asked) == 5)
    with pytest.raises(InterruptedRunError):
        Trainer(Still(), how, where / "logs", where / "run.pt", hooks).run()
    return Trainer(Still(), how, where / "logs", where / "run.pt").run()


@pytest.mark.parametrize(
    "how",
    [
        config(optimizer="sgd", momentum=0.9, weight_decay=0.1),
        config("uw", optimizer="sgd", momentum=0.9, update_norm=0.5, schedule="cosine", min_lr=0.0),
        config("famo"),
    ],
    ids=["sgd", "sgd-scaled-uw", "famo-after-step"],
)
def test_a_stopped_run_goes_on_to_the_same_numbers_and_counts(tmp_path: Path, how: RunConfig) -> None:
    whole = Trainer(Still(), how, tmp_path / "a", tmp_path / "a.pt").run()
    again = stopped_and_resumed(tmp_path / "b", how)
    assert again.metrics == whole.metrics
    assert (again.forwards, again.backwards) == (whole.forwards, whole.backwards)


def test_with_sgd_the_learned_weights_do_not_decay(tmp_path: Path) -> None:
    trainer = trained(tmp_path, config("uw", optimizer="sgd", momentum=0.9, weight_decay=0.3))
    groups = trainer._optimizer.param_groups
    assert isinstance(trainer._optimizer, torch.optim.SGD)
    assert [(group["weight_decay"], group["momentum"]) for group in groups] == [(0.3, 0.9), (0.0, 0.9)]


def test_the_published_recipe_of_domainnet_has_sgd() -> None:
    paper = DOMAINNET["paper"]
    train = TrainConfig.read(paper["train"])
    assert (train.optimizer, train.momentum, paper["lrs"]) == ("sgd", 0.9, [0.03])
    assert (train.epochs, train.schedule, train.weight_decay) == (30, "cosine", 1e-4)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "plain sgd": {"optimizer": "sgd"},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
}


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_steps_of_equal_length_do_not_depend_on_the_scale_of_the_losses(
    tmp_path: Path, optimizer: str
) -> None:
    """Nor do the directions: momentum and weight decay weigh the same against gradients of any scale."""
    how = config(**OPTIMIZERS[optimizer], update_norm=1.0, schedule="constant")
    small, large = (values(trained(tmp_path / p.__name__, how, p())) for p in (Still, Large))
    start = torch.cat([p.detach().reshape(-1) for p in Still().model(3).parameters()])
    assert (small - large).norm() < 2e-3 * (small - start).norm()


CASES: list[tuple[str, str, dict[str, Any]]] = [
    (optimizer, method, {}) for optimizer in OPTIMIZERS for method in ("ls", "si", "mgda", "uw")
]
CASES += [("adam", "graddrop", {"accumulate": 2}), ("plain sgd", "ls", {"accumulate": 2})]
CASES += [("adamw", "nashmtl", {"precision": "fp16"}), ("sgd", "ls", {"precision": "fp16"})]


@pytest.mark.parametrize(("optimizer", "method", "changes"), CASES, ids=str)
def test_every_step_has_the_length_that_was_asked_for(
    tmp_path: Path, optimizer: str, method: str, changes: dict[str, Any]
) -> None:
    """Of the parameters themselves, times the learning rate of the step, which falls here; skipped steps have none."""
    rates = {"schedule": "cosine", "min_lr": 0.0}
    how = config(method, **OPTIMIZERS[optimizer], update_norm=0.25, **rates, **changes)
    trainer = Trainer(Still(), how, tmp_path / "logs", tmp_path / "run.pt")
    seen, rate, taken = [values(trainer)], [], []

    def note(now: Progress) -> None:
        seen.append(values(trainer))
        rate.append(trainer._optimizer.param_groups[0]["lr"])

    trainer._optimizer.register_step_pre_hook(lambda *_: taken.append(len(rate)))
    trainer.hooks = Hooks(progress=note)
    trainer.run()
    assert len(rate) == 16 // changes.get("accumulate", 1) and rate[0] == 0.01 and rate[-1] < 0.005
    assert len(taken) >= len(rate) - 3 * ("precision" in changes)
    lengths = [float((b - a).norm()) for a, b in pairwise(seen)]
    asked = [0.25 * lr if step in taken else 0.0 for step, lr in enumerate(rate)]
    assert lengths == pytest.approx(asked, rel=1e-3)


def gradients(*lists: list[float]) -> list[nn.Parameter]:
    found = [nn.Parameter(torch.zeros(len(one))) for one in lists]
    for parameter, one in zip(found, lists, strict=True):
        parameter.grad = torch.tensor(one)
    return found


def test_the_direction_stays_and_learned_weights_are_left_alone() -> None:
    own, learned = gradients([3.0], [4.0, 0.0]), gradients([7.0])
    optimizer = torch.optim.SGD([*own, *learned], lr=1.0)
    UpdateScale(own, 10.0).step(optimizer, OFF)
    assert [p.tolist() for p in (*own, *learned)] == [[-6.0], [-8.0, 0.0], [-7.0]]


@pytest.mark.parametrize("values", [[0.0, 0.0], [torch.nan, 1.0], [torch.inf, 1.0]])
def test_a_gradient_without_a_length_is_left_as_it_is(values: list[float]) -> None:
    parameters = gradients(values)
    UpdateScale(parameters, 2.0).step(torch.optim.SGD(parameters, lr=1.0), OFF)
    found = parameters[0].detach()
    assert torch.equal(found.nan_to_num(5.0), -torch.tensor(values).nan_to_num(-5.0))


def test_no_gradient_and_no_length_change_nothing() -> None:
    empty = [nn.Parameter(torch.zeros(2))]
    UpdateScale(empty, 2.0).step(torch.optim.SGD(empty, lr=1.0), OFF)
    assert empty[0].grad is None and empty[0].tolist() == [0.0, 0.0]
    parameters = gradients([3.0, 4.0])
    UpdateScale(parameters, None).step(torch.optim.SGD(parameters, lr=1.0), OFF)
    assert parameters[0].tolist() == [-3.0, -4.0]


def test_a_loss_scaler_is_taken_out_first_and_still_skips() -> None:
    parameters = gradients([3.0 * 1024, 4.0 * 1024])
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    UpdateScale(parameters, 10.0).step(optimizer, scaler)
    scaler.update()
    assert parameters[0].tolist() == [-6.0, -8.0]
    parameters[0].grad = torch.tensor([torch.inf, 1.0])
    UpdateScale(parameters, 10.0).step(optimizer, scaler)
    scaler.update()
    assert parameters[0].tolist() == [-6.0, -8.0]
    assert scaler.get_scale() == 512.0


def test_half_precision_trains_with_steps_of_equal_length(tmp_path: Path) -> None:
    trainer = Trainer(
        Still(),
        config("nashmtl", optimizer="sgd", update_norm=0.5, precision="fp16"),
        tmp_path,
        tmp_path / "r.pt",
    )
    outcome = trainer.run()
    assert outcome.steps == 16
    assert torch.isfinite(values(trainer)).all()


PASSES = [  # method, settings, forward and backward passes of a step of two tasks
    ("ls", {}, 1, 1),
    ("uw", {}, 1, 1),
    ("gradnorm", {}, 1, 2),
    ("mgda", {}, 1, 2),
    ("graddrop", {}, 1, 2),
    ("modo", {}, 2, 4),
    ("coba", {}, 2, 1),
    ("famo", {}, 2, 1),
    ("famo", {"after_step": False}, 1, 1),
    ("famo", {"accumulate": 2}, 4, 2),
    ("famo+ema:decay=0.9", {}, 2, 1),
    ("mgda", {"accumulate": 2}, 2, 4),
    ("ls", {"accumulate": 2}, 2, 2),
    ("mgda", {"memory": "layerwise"}, 1, 3),
    ("mgda", {"memory": "sketch"}, 1, 3),
    ("mgda", {"memory": "last_layer"}, 1, 1),
    ("nashmtl+every:steps=2", {}, 1, 1.5),
]


@pytest.mark.parametrize(("method", "settings", "forwards", "backwards"), PASSES)
def test_passes_are_counted_where_they_are_made(
    tmp_path: Path, method: str, settings: dict[str, Any], forwards: int, backwards: float
) -> None:
    how = config(method, epochs=1, **settings)
    outcome = Trainer(Still(), how, tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.forwards == forwards * outcome.steps
    assert outcome.backwards == backwards * outcome.steps


def test_forward_passes_are_calls_of_the_network_in_training(tmp_path: Path) -> None:
    """Counted by a hook of the network, which knows nothing of steps."""
    problem = Partial()
    trainer = Trainer(problem, config("mgda"), tmp_path / "logs", tmp_path / "run.pt")
    calls: list[bool] = []
    trainer.model.register_forward_hook(lambda model, *_: calls.append(model.training))
    outcome = trainer.run()
    assert outcome.forwards == sum(calls) > outcome.steps  # batches without any label went through it too
    assert outcome.backwards is not None
    assert outcome.steps < outcome.backwards < 2 * outcome.steps  # most batches lack a task


def test_a_single_task_network_costs_one_pass_each(tmp_path: Path) -> None:
    outcome = Trainer(Toy(), config("stl:task=b"), tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.forwards == outcome.backwards == outcome.steps


def test_a_checkpoint_of_a_version_that_did_not_count_gives_no_count(tmp_path: Path) -> None:
    how = config()
    asked = iter(range(1, 1_000))
    with pytest.raises(InterruptedRunError):
        Trainer(
            Still(), how, tmp_path / "logs", tmp_path / "run.pt", Hooks(stop=lambda: next(asked) == 5)
        ).run()
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    del state["position"]["forwards"], state["position"]["backwards"]
    torch.save(state, tmp_path / "run.pt")
    outcome = Trainer(Still(), how, tmp_path / "logs", tmp_path / "run.pt").run()
    assert (outcome.steps, outcome.forwards, outcome.backwards) == (16, None, None)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_famo_sees_the_losses_after_the_step_on_the_same_batches(tmp_path: Path, accumulate: int) -> None:
    """Its logits move by the fall of each loss on the batches of the step, as in a loop written by hand."""
    import equipoise as eq

    problem = Still()
    how = config("famo", optimizer="sgd", schedule="constant", accumulate=accumulate)
    trainer = trained(tmp_path, how, problem)
    model = problem.model(3)
    balancer = eq.Balancer(eq.build_method("famo", 2), tasks=["a", "b"], accumulate=accumulate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    drawn = list(batches(problem, 2))
    for start in range(0, len(drawn) // accumulate * accumulate, accumulate):
        step = drawn[start : start + accumulate]
        optimizer.zero_grad()
        for batch in step:
            balancer.backward(problem.losses(model, batch))
        optimizer.step()
        with torch.no_grad():
            after = [problem.losses(model, batch) for batch in step]
            balancer.after_step(
                {task: torch.stack([losses[task] for losses in after]).mean() for task in "ab"}
            )
    found, expected = (b.method.state_dict()["xi"] for b in (trainer._balancer, balancer))
    assert torch.allclose(found, expected, atol=1e-9)
    assert expected.abs().max() > 0
