"""The streamed Gramian, the surrogate of the last layer, and how well updates agree with the exact ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.engine.last_layer import last_layer_gramian
from equipoise.engine.streamed import StreamedGramian
from measured import expected, inputs, network, row, step_of
from networks import count_passes
from networks import network as small
from rank_cases import blown, data, losses_of


def gramian_at(parameters: list[Tensor], losses: list[Tensor]) -> Tensor:
    rows = torch.stack([row(loss, parameters) for loss in losses])
    return rows @ rows.T


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("mlp", ["2.weight", "2.bias"]),
        ("convolutional", ["5.weight", "5.bias"]),
        ("forked", ["last.weight", "last.bias", "short.weight", "short.bias"]),
    ],
)
def test_the_last_layer_is_the_nearest_matrix(kind: str, names: list[str]) -> None:
    model = network(kind)
    step = step_of(model.losses(inputs()))
    chosen = dict(model.encoder.named_parameters())
    wanted = gramian_at([chosen[name] for name in names], step.losses)
    torch.testing.assert_close(last_layer_gramian(step.sources, step.split).gramian, wanted)


def test_a_normalisation_on_top_is_no_layer_of_its_own() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.LayerNorm(16)).double()
    model = network("mlp")
    model.encoder = encoder
    step = step_of(model.losses(inputs()))
    found = last_layer_gramian(step.sources, step.split).gramian
    torch.testing.assert_close(
        found, gramian_at([*encoder[2].parameters(), *encoder[3].parameters()], step.losses)
    )


def many(tasks: int = 5) -> Any:
    torch.manual_seed(0)
    return small("mlp", tasks=tasks)


def several(model: nn.Module, batch: int) -> list[Tensor]:
    """The losses of five tasks on a batch."""
    x, y = data(batch)
    targets = torch.cat([y, y.flip(0)], dim=1)
    return [(10.0**-i) * (out - targets[:, i]).square().mean() for i, out in enumerate(model(x))]


def test_the_stream_begins_with_the_exact_gramian_and_costs_four_passes_afterwards() -> None:
    model = many()
    passes: list[int] = []
    count_passes(model, passes)
    balancer = eq.Balancer(eq.build_method("upgrad", 5), shared=model.encoder, memory="streamed")
    losses = several(model, 0)
    exact = gramian_at(list(model.encoder.parameters()), losses)
    passes.clear()
    record = balancer.backward(losses)
    torch.testing.assert_close(record.gramian, exact)
    assert len(passes) == 5 + 1
    for batch in range(1, 4):
        losses = several(model, batch)
        passes.clear()
        balancer.backward(losses)
        assert len(passes) == 3 + 1


def test_the_stream_on_one_batch_stays_exact_and_follows_a_change() -> None:
    """With nothing but one batch, running means are what they are means of; after a change they move to the new one."""
    model, stream = many(), StreamedGramian(5)
    steps = [step_of(several(model, 0)) for _ in range(3)]
    for step in steps:
        found = stream.measure(step.sources, step.split).gramian
        torch.testing.assert_close(found, expected(step), rtol=1e-7, atol=1e-12)
    other = step_of(several(model, 1))
    scale = expected(other).diagonal().sqrt()
    errors = [
        float(
            ((stream.measure(other.sources, other.split).gramian - expected(other)) / scale / scale[:, None])
            .abs()
            .max()
        )
        for _ in range(400)
    ]
    assert errors[0] > 0.1
    assert errors[-1] < 1e-3


def test_the_running_means_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """An independent loop over the tasks that were drawn."""
    drawn: list[list[int]] = []
    products = StreamedGramian._products

    def watched(self: StreamedGramian, *arguments: Any) -> Tensor:
        drawn.append(arguments[2])
        return products(self, *arguments)

    monkeypatch.setattr(StreamedGramian, "_products", watched)
    model, stream = many(), StreamedGramian(5)
    norms, cosines = [0.0] * 5, [[0.0] * 5 for _ in range(5)]
    for batch in range(12):
        step = step_of(several(model, batch))
        found = stream.measure(step.sources, step.split).gramian
        g = expected(step)
        chosen = list(range(5)) if batch == 0 else drawn[-1]
        for i in chosen:
            new = math.sqrt(float(g[i, i]))
            norms[i] = new if batch == 0 else 0.9 * norms[i] + 0.1 * new
            for j in chosen:
                c = float(g[i, j]) / math.sqrt(float(g[i, i] * g[j, j]))
                cosines[i][j] = c if batch == 0 else 0.9 * cosines[i][j] + 0.1 * c
    assert {i for few in drawn for i in few} == set(range(5))
    assert all(len(few) == 3 for few in drawn)
    values, vectors = torch.linalg.eigh(torch.tensor(cosines, dtype=torch.float64))
    n = torch.tensor(norms, dtype=torch.float64)
    wanted = n[:, None] * ((vectors * values.clamp(min=0)) @ vectors.T) * n
    torch.testing.assert_close(found, wanted)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-12 * float(found.diagonal().max())


def test_a_pair_that_was_never_seen_is_measured_at_once() -> None:
    model, stream = many(), StreamedGramian(5)
    first = step_of(several(model, 0), [True, True, True, True, False])
    found = stream.measure(first.sources, first.split).gramian
    assert found[4].tolist() == [0.0] * 5
    later = step_of(several(model, 1))
    # Task 4 is new, so all are measured, and the means of the others move a tenth of the way.
    stream.measure(later.sources, later.split)
    n = stream.state_dict()["norms"]
    torch.testing.assert_close(n[4], expected(later)[4, 4].sqrt())
    torch.testing.assert_close(n[0], 0.9 * expected(first)[0, 0].sqrt() + 0.1 * expected(later)[0, 0].sqrt())


def test_the_stream_resumes_bit_for_bit() -> None:
    def run(first: int, last: int, state: dict[str, Any] | None) -> tuple[list[Tensor], dict[str, Any]]:
        model = many()
        balancer = eq.Balancer(eq.build_method("mgda", 5), shared=model.encoder, memory="streamed")
        if state is not None:
            model.load_state_dict(state["model"])
            balancer.load_state_dict(state["balancer"])
        for batch in range(first, last):
            model.zero_grad()
            balancer.backward(several(model, batch))
            with torch.no_grad():
                for p in model.parameters():
                    p.sub_(0.05 * (0 if p.grad is None else p.grad))
        return list(model.parameters()), {"model": model.state_dict(), "balancer": balancer.state_dict()}

    whole, _ = run(0, 10, None)
    _, state = run(0, 5, None)
    parts, _ = run(5, 10, state)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_gradient_that_is_not_finite_leaves_the_stream_alone() -> None:
    model, stream = many(), StreamedGramian(5)
    step = step_of(several(model, 0))
    stream.measure(step.sources, step.split)
    before = stream.state_dict()
    losses = several(model, 1)
    bad = step_of([blown(loss) for loss in losses])
    assert not bool(stream.measure(bad.sources, bad.split).gramian.isfinite().all())
    after = stream.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in ("norms", "cosines", "seen"))


@pytest.mark.parametrize("mode", ["rows", "layerwise", "factored"])
def test_exact_modes_have_a_fidelity_of_one_without_a_pass(mode: str) -> None:
    model = many()
    passes: list[int] = []
    count_passes(model, passes)
    balancer = eq.Balancer(eq.build_method("mgda", 5), shared=model.encoder, memory=mode)
    assert float(balancer.fidelity(several(model, 0))) == 1.0
    assert not passes


def test_fidelity_is_nan_where_there_is_none() -> None:
    model = many()
    balancer = eq.Balancer(eq.build_method("aligned_mtl", 5), shared=model.encoder, memory="sketch")
    losses = several(model, 0)
    losses[1] = blown(losses[1])
    assert bool(balancer.fidelity(losses).isnan())
    balancer = eq.Balancer(
        eq.build_method("mgda+every:steps=2", 5), shared=model.encoder, memory="last_layer"
    )
    found = []
    for batch in range(4):
        losses = several(model, batch)
        found.append(bool(balancer.fidelity(losses).isnan()))
        balancer.backward(losses)
    assert found == [False, True, False, True]


@pytest.mark.parametrize("mode", ["features", "last_layer", "sketch"])
@pytest.mark.parametrize("spec", ["mgda", "upgrad", "cagrad"])
def test_fidelity_is_the_cosine_of_the_two_updates(mode: str, spec: str) -> None:
    """The updates themselves, from two Balancers and plain gradients."""
    model = many()
    balancer = eq.Balancer(eq.build_method(spec, 5), shared=model.encoder, memory=mode)
    found = balancer.fidelity(several(model, 0))
    assert all(p.grad is None for p in model.parameters())
    updates = []
    for memory in (mode, "rows"):
        model.zero_grad()
        eq.Balancer(eq.build_method(spec, 5), shared=model.encoder, memory=memory).backward(several(model, 0))
        updates.append(torch.cat([p.grad.reshape(-1) for p in model.encoder.parameters()]))
    wanted = updates[0] @ updates[1] / updates[0].norm() / updates[1].norm()
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)
    assert float(found) < 1 - 1e-9 or mode == "sketch"


@pytest.mark.parametrize("mode", ["streamed", "sketch"])
@pytest.mark.parametrize("spec", ["nashmtl", "moco", "gradvac"])
def test_measuring_fidelity_changes_nothing(mode: str, spec: str) -> None:
    if eq.METHODS[spec](5).reads != eq.Reads.GRAMIAN:
        pytest.skip("reads the Jacobian")

    def run(ask: bool) -> list[Tensor]:
        model = many()
        balancer = eq.Balancer(eq.build_method(spec, 5), shared=model.encoder, memory=mode)
        for batch in range(4):
            losses = several(model, batch)
            if ask:
                assert -1 <= float(balancer.fidelity(losses)) <= 1
            balancer.backward(losses)
        return [p.grad for p in model.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))


def test_fidelity_is_refused_where_it_means_nothing() -> None:
    model = small("mlp")
    losses_only = eq.Balancer(eq.build_method("famo", 3), shared=model.encoder, memory="features")
    with pytest.raises(
        ValueError, match="a method that reads the Gramian. Found FAMO, which reads the losses"
    ):
        losses_only.fidelity(losses_of(model, *data(0)))
