"""The engine against plain autograd, on several architectures."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise as eq
from networks import ENCODERS, TwoPart, batch, count_passes, gradients, losses_of, network

METHODS = ["ls", "si", "uw", "famo", "go4align", "mgda", "nashmtl", "cagrad", "imtl_g", "pcgrad", "graddrop"]
METHODS += [
    "nashmtl+grouped",
    "nashmtl+every:steps=1",
    "cagrad+ema",
    "ls+clip_norm:max_norm=0.01",
    "cagrad+every",
]


def naive(method: eq.Method, model: TwoPart, losses: list[Tensor], head_weights: str) -> dict[str, Tensor]:
    """The balanced gradients by the definition: all rows of the Jacobian of the encoder, then each head alone."""
    shared = [p for p in model.encoder.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    jacobian = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
    values = torch.stack(losses).detach()
    answer = method(eq.TaskStats(values, jacobian=jacobian)).detach()
    aggregated = isinstance(method, eq.Aggregator)
    flat = answer if aggregated else answer @ jacobian
    if method.max_norm:
        flat = flat * min(1.0, method.max_norm / (flat.norm().item() + 1e-6))
    pieces = flat.split([p.numel() for p in shared])
    expected = {id(p): piece.view_as(p) for p, piece in zip(shared, pieces, strict=True)}
    for i, head in enumerate(model.heads):
        scale = 1.0 if head_weights == "unit" else float(answer[i])
        grads = torch.autograd.grad(losses[i], list(head.parameters()), retain_graph=True)
        expected |= {id(p): scale * g for p, g in zip(head.parameters(), grads, strict=True)}
    return {name: expected[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("name", METHODS)
def test_equals_plain_autograd(kind: str, name: str) -> None:
    model, data = network(kind), batch()
    expected = naive(
        eq.build_method(name, 3), model, losses_of(model, data), eq.build_method(name, 3).head_weights
    )
    # The draws of GradDrop follow the order of the parameters, which inference takes from the graph.
    shared = model.encoder if name == "graddrop" else None
    if kind != "partly frozen":
        eq.Balancer(eq.build_method(name, 3), shared=shared).backward(losses_of(model, data))
    else:
        trained = [p for p in model.encoder.parameters() if p.requires_grad]
        eq.Balancer(eq.build_method(name, 3), shared=shared and trained).backward(losses_of(model, data))
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("head_weights", ["same", "unit"])
@pytest.mark.parametrize("name", ["si", "nashmtl", "cagrad", "famo"])
def test_head_weights_are_an_option(name: str, head_weights: Any) -> None:
    model, data = network("mlp"), batch()
    expected = naive(eq.build_method(name, 3), model, losses_of(model, data), head_weights)
    eq.Balancer(eq.build_method(name, 3), head_weights=head_weights).backward(losses_of(model, data))
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("name", ["go4align", "nashmtl", "pcgrad", "uw"])
@pytest.mark.parametrize("form", ["mapping", "other order", "stacked", "tuple", "given", "module", "named"])
def test_forms_of_losses_and_shared_agree(name: str, form: str) -> None:
    model, data, names = network("conv"), batch(), ["a", "b", "c"]
    eq.Balancer(eq.build_method(name, 3)).backward(losses_of(model, data))
    expected = gradients(model)
    model.zero_grad()
    shared: Any = {
        "given": model.encoder.parameters(),
        "module": model.encoder,
        "named": model.encoder.named_parameters(),
    }.get(form)
    losses = losses_of(model, data)
    given: Any = {
        "mapping": dict(zip(names, losses, strict=True)),
        "other order": dict(reversed(list(zip(names, losses, strict=True)))),
        "stacked": torch.stack(losses),
        "tuple": tuple(losses),
    }.get(form, losses)
    eq.Balancer(eq.build_method(name, 3), tasks=names, shared=shared).backward(given)
    assert_same(gradients(model), expected)


def test_vector_of_losses_from_one_output_layer() -> None:
    """Without heads of their own all parameters are shared, and the rows are those of the whole network."""
    layer = torch.nn.Linear(6, 3).double()
    inputs, targets = batch()
    losses = (layer(inputs) - targets.T).square().mean(0)
    rows = [
        torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(x, [layer.weight, layer.bias], retain_graph=True)]
        )
        for x in losses
    ]
    record = eq.Balancer(eq.build_method("nashmtl", 3, max_norm=0)).backward(losses)
    assert record.gramian is not None and layer.weight.grad is not None and layer.bias.grad is not None
    found = torch.cat([layer.weight.grad.reshape(-1), layer.bias.grad])
    torch.testing.assert_close(found, record.weights @ torch.stack(rows))


@pytest.mark.parametrize(
    "name", ["ls", "si", "go4align", "famo", "uw", "nashmtl", "mgda", "pcgrad", "graddrop"]
)
@pytest.mark.parametrize("form", ["mapping", "present"])
def test_absent_task_gets_no_gradient_and_weight_0(name: str, form: str) -> None:
    model, data, names = network("mlp"), batch(), ["a", "b", "c"]
    balancer = eq.Balancer(eq.build_method(name, 3), tasks=names, shared=model.encoder)
    losses = losses_of(model, data)
    if form == "mapping":
        record = balancer.backward({"c": losses[2], "a": losses[0]})
    else:
        losses[1] = losses[1] * torch.nan
        record = balancer.backward(torch.stack(losses), present=[True, False, True])
    assert model.heads[1].weight.grad is None
    assert record.losses[1] == 0
    assert model.heads[0].weight.grad is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.encoder.parameters())
    if name != "graddrop":
        assert record.weights[1] == 0
        assert (record.weights[[0, 2]] != 0).any()


def test_one_backward_pass_for_losses_and_one_per_task_for_rows() -> None:
    for name, passes in [("go4align", 1), ("uw", 1), ("nashmtl", 3), ("graddrop", 3), ("cagrad", 3)]:
        model, data = network("mlp"), batch()
        count: list[int] = []
        count_passes(model, count)
        eq.Balancer(eq.build_method(name, 3)).backward(losses_of(model, data))
        assert len(count) == passes, name


def test_gradients_accumulate_and_are_not_overwritten_by_the_next_step() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3))
    balancer.backward(losses_of(model, batch(seed=1)))
    first = [p.grad for p in model.parameters()]
    kept = gradients(model)
    model.zero_grad(set_to_none=True)
    balancer.backward(losses_of(model, batch(seed=2)))
    second = gradients(model)
    for before, now in zip(first, kept.values(), strict=True):
        torch.testing.assert_close(before, now, rtol=0, atol=0)
    model.zero_grad(set_to_none=True)
    for seed in (1, 2):
        eq.Balancer(eq.build_method("mgda", 3)).backward(losses_of(model, batch(seed=seed)))
    assert_same(gradients(model), {name: kept[name] + second[name] for name in kept})


def test_partly_shared_parameters_are_shared() -> None:
    """A layer that two of three tasks use has a zero row for the third, and is no part of a head."""
    torch.manual_seed(0)
    trunk, side = torch.nn.Linear(6, 8).double(), torch.nn.Linear(8, 8).double()
    heads = [torch.nn.Linear(8, 1).double() for _ in range(3)]
    inputs, targets = batch()

    def losses() -> list[Tensor]:
        hidden = trunk(inputs).tanh()
        features = [side(hidden).tanh(), side(hidden).tanh(), hidden]
        return [(h(f)[:, 0] - t).square().mean() for h, f, t in zip(heads, features, targets, strict=True)]

    shared = [*trunk.parameters(), *side.parameters()]
    rows = [torch.autograd.grad(x, shared, retain_graph=True, materialize_grads=True) for x in losses()]
    jacobian = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
    record = eq.Balancer(eq.build_method("mgda", 3)).backward(losses())
    assert record.gramian is not None
    torch.testing.assert_close(record.gramian, jacobian @ jacobian.T)
    found = torch.cat([p.grad.reshape(-1) for p in shared if p.grad is not None])
    torch.testing.assert_close(found, record.weights @ jacobian)


def test_record_tells_conflict_and_fallback() -> None:
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    record = eq.Balancer(eq.build_method("nashmtl", 3), shared=[x]).backward([x[0] + 1, 1 - x[0], x[1] + 1])
    assert record.conflict == pytest.approx(1 / 3)
    assert bool(record.fallback)
    record = eq.Balancer(eq.build_method("nashmtl", 2), shared=[x]).backward([x[0] + 1, x[1] + 1])
    assert record.conflict == 0
    assert not bool(record.fallback)
    assert eq.Balancer(eq.build_method("ls", 2)).backward([x[0] + 1, x[1] + 1]).conflict is None


def train(
    name: str, steps: range, balancer: eq.Balancer, model: TwoPart, optimizer: torch.optim.Optimizer
) -> None:
    for seed in steps:
        optimizer.zero_grad()
        balancer.backward(dict(zip("abc", losses_of(model, batch(seed=seed)), strict=True)))
        optimizer.step()


@pytest.mark.parametrize(
    "name", [*METHODS, "rlw", "dwa:window=3", "stl:task=1", "rlw+grouped:clustering=random"]
)
def test_resumes_bit_for_bit(name: str) -> None:
    """10 steps = 5 + save + load + 5."""

    def build() -> tuple[TwoPart, eq.Balancer, torch.optim.Optimizer]:
        model, balancer = network("mlp"), eq.Balancer(eq.build_method(name, 3), tasks=["a", "b", "c"])
        return model, balancer, torch.optim.Adam([*model.parameters(), *balancer.parameters()], lr=0.01)

    model, balancer, optimizer = build()
    train(name, range(10), balancer, model, optimizer)
    first, keeper, adam = build()
    train(name, range(5), keeper, first, adam)
    file = io.BytesIO()
    torch.save([first.state_dict(), keeper.state_dict(), adam.state_dict()], file)
    file.seek(0)
    second, other, adam = build()
    parts: tuple[Any, ...] = (second, other, adam)
    for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(name, range(5, 10), other, second, adam)
    for found, expected in zip(second.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_learned_weights_reach_their_optimum_when_stepped() -> None:
    """For UW the best weight is 0.5 / L."""
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    balancer = eq.Balancer(eq.build_method("uw", 2))
    optimizer = torch.optim.Adam([{"params": balancer.parameters(), "lr": 0.05, "weight_decay": 0.0}])
    for _ in range(600):
        optimizer.zero_grad()
        record = balancer.backward([0 * x + 4.0, 0 * x + 0.25])
        optimizer.step()
    torch.testing.assert_close(record.weights, torch.tensor([0.125, 2.0]).double(), rtol=1e-3, atol=0)


def test_learned_weights_that_never_move_are_warned_about() -> None:
    x = torch.zeros((), requires_grad=True)
    balancer = eq.Balancer(eq.build_method("uw", 2))
    with pytest.warns(UserWarning, match=r"log_variances\) have not moved in 10 steps: add a group"):
        for _ in range(12):
            balancer.backward([x + 1.0, x + 2.0])
    moved = eq.Balancer(eq.build_method("uw", 2))
    optimizer = torch.optim.SGD(moved.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(12):
            moved.backward([x + 1.0, x + 2.0])
            optimizer.step()


def test_float32_and_bfloat16_parameters() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = network("mlp").to(dtype)
        inputs, targets = batch()
        data = (inputs.to(dtype), targets.to(dtype))
        eq.Balancer(eq.build_method("nashmtl", 3)).backward(losses_of(model, data))
        assert all(p.grad is not None and p.grad.dtype == dtype for p in model.parameters())


def test_measure_leaves_gradients_and_state_alone_and_shows_the_next_step_a_second_batch() -> None:
    class Watch(eq.Weighting):
        seen: eq.TaskStats | None = None

        @property
        def reads(self) -> eq.Reads:
            return eq.Reads.JACOBIAN

        def forward(self, stats: eq.TaskStats) -> Tensor:
            type(self).seen = stats
            return stats.losses * 0 + 1

    model = network("mlp")
    balancer = eq.Balancer(Watch(3))
    measured = balancer.measure(losses_of(model, batch(seed=2)))
    assert all(p.grad is None for p in model.parameters())
    balancer.backward(losses_of(model, batch(seed=1)))
    assert Watch.seen is not None
    assert Watch.seen.other is measured
    assert sorted(Watch.seen.blocks) == sorted(p.numel() for p in model.encoder.parameters())
    shared = list(model.encoder.parameters())
    second = [torch.autograd.grad(x, shared, retain_graph=True) for x in losses_of(model, batch(seed=2))]
    rows = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in second])
    torch.testing.assert_close(measured.gramian, rows @ rows.T)
    balancer.backward(losses_of(model, batch(seed=1)))
    with pytest.raises(eq.MissingStatisticError, match="call balancer.measure"):
        _ = Watch.seen.other


def test_a_loss_only_method_needs_no_graph_for_its_second_batch() -> None:
    class Second(eq.Weighting):
        def forward(self, stats: eq.TaskStats) -> Tensor:
            return stats.other.losses

    def named() -> dict[str, Tensor]:
        return dict(zip("abc", losses_of(model, batch()), strict=True))

    model = network("mlp")
    balancer = eq.Balancer(Second(3), tasks=["a", "b", "c"])
    balancer.measure({"b": torch.tensor(4.0), "c": torch.tensor(5.0)})
    assert balancer.backward(named()).weights.tolist() == [0.0, 4.0, 5.0]
    balancer.measure(torch.tensor([1.0, torch.nan, 3.0]), present=[True, False, True])
    assert balancer.backward(named()).weights.tolist() == [1.0, 0.0, 3.0]
    with pytest.raises(eq.MissingStatisticError, match="call balancer.measure"):
        balancer.backward(named())
    with pytest.raises(ValueError, match="Every loss should be finite for Second"):
        balancer.measure([torch.tensor(1.0), torch.tensor(torch.nan), torch.tensor(1.0)])


def test_a_resumed_run_that_infers_needs_all_losses_once() -> None:
    """Which parameters two losses have reached is not in the state; a shared one could pass for that of a head."""

    def resumed() -> eq.Balancer:
        model = network("mlp")
        balancer = eq.Balancer(eq.build_method("mgda", 3))
        balancer.backward(losses_of(model, batch()))
        again = eq.Balancer(eq.build_method("mgda", 3))
        again.load_state_dict(balancer.state_dict())
        return again

    model = network("mlp")
    balancer = resumed()
    with pytest.raises(
        ValueError, match="the first step should have the losses of all tasks where the shared"
    ):
        balancer.backward(losses_of(model, batch()), present=[True, False, True])
    balancer.backward(losses_of(model, batch()))
    balancer.backward(losses_of(model, batch()), present=[True, False, True])


def test_a_step_that_does_not_ask_tells_of_no_fallback() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("nashmtl+every:steps=2", 3), shared=model.encoder)
    found = [balancer.backward(losses_of(model, batch())).fallback for _ in range(4)]
    assert [fallback is None for fallback in found] == [False, True, False, True]
    balancer = eq.Balancer(
        eq.build_method("nashmtl", 3), shared=model.encoder, accumulate=2, memory="layerwise"
    )
    found = [balancer.backward(losses_of(model, batch())).fallback for _ in range(4)]
    assert [fallback is None for fallback in found] == [False, True, False, True]
