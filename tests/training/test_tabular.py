"""Columns of a table: losses task by task in plain torch, gradients of every kind of method, metrics and scales."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn
from torch.nn import functional

import equipoise as eq
from equipoise.models.mlp import MLP
from equipoise.training.tabular import Column, Columns, TableBatch
from equipoise.training.tabular_losses import Kind, head_losses

KINDS: tuple[Kind, ...] = ("binary", "count", "real") * 2
COLUMNS = [Column(f"t{k}", kind, "mg" if kind == "real" else "") for k, kind in enumerate(KINDS)]


def labels(n: int = 40, seed: int = 0, filled: float = 0.6) -> Tensor:
    """Labels (n, 6) of two columns of each kind, part of them missing."""
    generator = torch.Generator().manual_seed(seed)
    columns = {
        "binary": lambda: (torch.rand(n, generator=generator) < 0.4).double(),
        "count": lambda: torch.randint(0, 30, (n,), generator=generator).double(),
        "real": lambda: 300 + 20 * torch.randn(n, generator=generator, dtype=torch.float64),
    }
    values = torch.stack([columns[kind]() for kind in KINDS], dim=1)
    missing = torch.rand(values.shape, generator=generator) > filled
    return values.masked_fill(missing, math.nan)


def setting(seed: int = 0) -> tuple[MLP, TableBatch, Columns]:
    torch.manual_seed(seed)
    model = MLP(7, len(KINDS), width=5, depth=2).double()
    columns = Columns(COLUMNS, labels())
    batch = TableBatch(torch.randn(9, 7, dtype=torch.float64), columns.scaled(labels(9, seed=1)).double())
    return model, batch, columns


def one_by_one(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The losses from each column's labelled samples alone, by the functions of torch."""
    rules: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "binary": functional.binary_cross_entropy_with_logits,
        "count": lambda z, y: 2 * functional.poisson_nll_loss(z, y) + 2 * (torch.xlogy(y, y) - y).mean(),
        "real": functional.mse_loss,
    }
    found = {}
    for k, column in enumerate(COLUMNS):
        chosen = ~targets[:, k].isnan()
        if chosen.any():
            found[column.name] = rules[column.kind](outputs[chosen, k], targets[chosen, k])
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_losses_and_counts_are_those_of_each_column_alone() -> None:
    model, batch, columns = setting()
    batch.targets[:, 3] = math.nan
    found = columns.losses(model, batch)
    expected = one_by_one(model(batch.inputs), batch.targets)
    assert list(found) == list(expected) == ["t0", "t1", "t2", "t4", "t5"]
    for name, loss in found.items():
        assert loss.ndim == 0
        assert loss.item() == pytest.approx(expected[name].item() + 1e-8, rel=1e-10)
    assert found.counts == {name: int((~batch.targets[:, int(name[1])].isnan()).sum()) for name in found}
    assert min(loss.item() for loss in found.values()) >= 0


def test_the_gradient_of_each_loss_is_that_of_the_column_alone() -> None:
    model, batch, columns = setting()
    parameters = list(model.parameters())
    found, expected = columns.losses(model, batch), one_by_one(model(batch.inputs), batch.targets)
    for name in found:
        pair = [
            torch.autograd.grad(losses[name], parameters, retain_graph=True) for losses in (found, expected)
        ]
        for one, other in zip(*pair, strict=True):
            torch.testing.assert_close(one, other)
    weights = torch.arange(1.0, 4.0, dtype=torch.float64)
    pair = [
        torch.autograd.grad(weights @ torch.stack([losses[name] for name in ("t1", "t2", "t4")]), parameters)
        for losses in (found, expected)
    ]
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other)


def test_the_derivatives_are_those_of_the_losses() -> None:
    head = nn.Linear(3, 6).double()
    targets = Columns(COLUMNS, labels()).scaled(labels(4, seed=2)).double()
    kinds = Columns(COLUMNS, labels()).kinds
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def all_losses(inputs: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        moved = nn.Linear(3, 6).double()
        del moved.weight, moved.bias
        moved.weight, moved.bias = weight, bias  # type: ignore[assignment]
        return head_losses(inputs, moved, targets, kinds)

    assert torch.autograd.gradcheck(
        all_losses, (features, head.weight, head.bias), check_undefined_grad=False
    )


@pytest.mark.parametrize("unlabelled", [math.inf, math.nan])
def test_outputs_without_a_label_are_not_looked_at(unlabelled: float) -> None:
    """One column is labelled for the first sample only; the others' outputs there are no numbers."""
    features = torch.tensor([[1.0], [unlabelled]], requires_grad=True)
    head = nn.Linear(1, 1)
    targets = torch.tensor([[1.0], [math.nan]])
    (loss,) = head_losses(features, head, targets, {"count": torch.tensor([0])})
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, features)
    assert gradient[0].isfinite().all()
    assert gradient[1].item() == 0


@pytest.mark.parametrize(
    ("method", "memory"),
    [
        ("ls", "auto"),
        ("uw", "auto"),
        ("famo", "auto"),
        ("mgda", "rows"),
        ("nashmtl", "factored"),
        ("cagrad", "layerwise"),
        ("upgrad", "last_layer"),
        ("upgrad", "features"),
        ("pcgrad", "auto"),
        ("graddrop", "auto"),
    ],
)
@pytest.mark.parametrize("absent", [False, True])
def test_every_family_of_methods_moves_encoder_and_heads_as_with_separate_heads(
    method: str, memory: str, absent: bool
) -> None:
    """The reference computes each loss from its own column, by torch's functions, with a head of its own."""
    model, batch, columns = setting()
    if absent:
        batch.targets[:, 2] = math.nan
    heads = [nn.Linear(5, 1).double() for _ in KINDS]
    for k, head in enumerate(heads):
        head.weight.data.copy_(model.head.weight[k : k + 1])
        head.bias.data.copy_(model.head.bias[k : k + 1])
    found = {}
    for kind in ("one", "separate"):
        model.zero_grad()
        balancer = eq.Balancer(
            eq.build_method(method, len(KINDS)), tasks=columns.names, shared=model.encoder, memory=memory
        )
        if kind == "one":
            record = balancer.backward(columns.losses(model, batch))
            found[kind] = gradients(model)
        else:
            features = model.encoder(batch.inputs)
            outputs = torch.cat([head(features) for head in heads], dim=1)
            record = balancer.backward(one_by_one(outputs, batch.targets))
            found[kind] = {f"encoder.{name}": own for name, own in gradients(model.encoder).items()}
            for part in ("weight", "bias"):
                rows = [getattr(head, part) for head in heads]
                rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in rows]
                found[kind][f"head.{part}"] = torch.cat(rows)
        assert record.losses.shape == (len(KINDS),)
    assert found["one"].keys() == found["separate"].keys()
    for name, own in found["one"].items():
        torch.testing.assert_close(own, found["separate"][name], rtol=1e-6, atol=1e-9)


def test_the_surrogate_of_the_features_sees_through_the_layer_of_all_heads() -> None:
    """Gradients with respect to the encoder's output, not to the losses, which no two tasks share."""
    model, batch, columns = setting()
    balancer = eq.Balancer(
        eq.build_method("upgrad", len(KINDS)), tasks=columns.names, shared=model.encoder, memory="features"
    )
    record = balancer.backward(columns.losses(model, batch))
    features = model.encoder(batch.inputs)
    losses = one_by_one(model.head(features), batch.targets)
    rows = [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses.values()]
    assert record.gramian is not None
    torch.testing.assert_close(record.gramian, torch.stack(rows) @ torch.stack(rows).T)


def test_predictions_are_in_the_units_of_the_table() -> None:
    model, batch, columns = setting()
    training = labels()
    means, deviations = (
        training.nanmean(dim=0),
        (training - training.nanmean(dim=0)).square().nanmean(dim=0).sqrt(),
    )
    outputs = model(batch.inputs)
    found = columns.predictions(outputs)
    assert torch.allclose(found[:, 0], outputs[:, 0].sigmoid())
    assert torch.allclose(found[:, 1], outputs[:, 1].exp() * means[1])
    assert torch.allclose(found[:, 2], outputs[:, 2] * deviations[2] + means[2])
    assert torch.allclose(columns.predictions(torch.zeros(1, 6))[0, [1, 2]], means[[1, 2]])


def test_heads_that_begin_at_the_start_say_the_training_means() -> None:
    columns = Columns(COLUMNS, labels())
    assert torch.allclose(columns.predictions(columns.start[None])[0], labels().nanmean(dim=0))
    assert columns.start.dtype == torch.float32


def test_the_loss_of_a_scaled_label_is_least_at_that_label() -> None:
    _, _, columns = setting()
    label = torch.tensor([[1.0, 12.0, 317.0, 0.0, 5.0, 290.0]], dtype=torch.float64)
    scaled = columns.scaled(label).double()
    outputs = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        identity = nn.Linear(6, 6).double()
        identity.weight.data.copy_(torch.eye(6))
        identity.bias.data.zero_()
        total = torch.stack(head_losses(outputs, identity, scaled, columns.kinds)).sum()
        total.backward()
        return total

    optimizer.step(closure)
    assert torch.allclose(columns.predictions(outputs), label, atol=0.02)


def test_metrics_over_a_loader_are_those_of_scikit_learn() -> None:
    model, _, columns = setting()
    truth = labels(30, seed=5)
    rows = torch.randn(30, 7, dtype=torch.float64)
    batches = [TableBatch(rows[i : i + 8], columns.scaled(truth[i : i + 8])) for i in range(0, 30, 8)]
    with torch.no_grad():
        found = columns.evaluate(model, batches)
        guesses = columns.predictions(model(rows))
    expected = {}
    for k, column in enumerate(COLUMNS):
        known = ~truth[:, k].isnan()
        pair = truth[known, k].numpy(), guesses[known, k].numpy()
        if column.kind == "binary":
            expected[f"t{k} auc"] = sklearn_metrics.roc_auc_score(*pair)
        else:
            expected[f"t{k} r2"] = sklearn_metrics.r2_score(*pair)
            expected[f"t{k} mae"] = sklearn_metrics.mean_absolute_error(*pair)
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == [metric.name for task in columns.tasks for metric in task.metrics]


def test_tasks_name_their_metrics_and_units() -> None:
    tasks = Columns(COLUMNS, labels()).tasks
    shown = [(m.name, m.higher_is_better, m.unit) for task in tasks[:3] for m in task.metrics]
    assert shown == [
        ("t0 auc", True, ""),
        ("t1 r2", True, ""),
        ("t1 mae", False, ""),
        ("t2 r2", True, ""),
        ("t2 mae", False, "mg"),
    ]


def test_the_trivial_guess_is_the_training_mean() -> None:
    columns, test = Columns(COLUMNS, labels()), labels(20, seed=3)
    found = columns.trivial(test)
    mean, known = labels()[:, 2].nanmean(), test[:, 2][~test[:, 2].isnan()]
    assert found["t0 auc"] == 0.5
    assert found["t2 mae"] == pytest.approx((known - mean).abs().mean().item())
    assert found["t2 r2"] <= 0
    reference = columns.reference(test)
    assert reference["t2 mae"] == found["t2 mae"]
    assert reference["t0 auc"] == reference["t1 r2"] == 1


def test_unusable_columns_are_named() -> None:
    column = [Column("dose", "count")]
    with pytest.raises(ValueError, match=r"^`training` should have shape \(n, 1\), .* Found \(3, 2\)\.$"):
        Columns(column, torch.ones(3, 2))
    with pytest.raises(
        ValueError, match=r"^Column 'dose' should have two different labels .* Found 3 times 4: leave"
    ):
        Columns(column, torch.full((3, 1), 4.0))
    with pytest.raises(
        ValueError, match=r"'dose' should have two different labels .* Found none: leave it out"
    ):
        Columns(column, torch.full((3, 1), math.nan))
    with pytest.raises(
        ValueError, match=r"of column 'dose' should be whole numbers of at least 0\. Found 1\.5\."
    ):
        Columns(column, torch.tensor([[1.5], [2.0]]))
    with pytest.raises(ValueError, match=r"of column 'toxic' should be 0 or 1\. Found 3\."):
        Columns([Column("toxic", "binary")], torch.tensor([[1.0], [3.0]]))
    with pytest.raises(ValueError, match=r"of column 'boils' should be finite\. Found inf\."):
        Columns([Column("boils", "real")], torch.tensor([[1.0], [math.inf]]))
    columns = Columns([Column("toxic", "binary")], torch.tensor([[1.0], [0.0]]))
    with pytest.raises(
        ValueError, match=r"^Column 'toxic' cannot be measured here\. `labels` should hold both"
    ):
        columns.metrics(torch.zeros(2, 1), torch.ones(2, 1))


def test_no_loss_is_zero() -> None:
    """One sample that is predicted perfectly, as happens where a batch has one label of a task."""
    head = nn.Linear(1, 3)
    head.weight.data.copy_(torch.tensor([[200.0], [0.0], [0.0]]))
    head.bias.data.zero_()
    kinds: dict[Kind, Tensor] = {
        "binary": torch.tensor([0]),
        "count": torch.tensor([1]),
        "real": torch.tensor([2]),
    }
    losses = head_losses(torch.ones(1, 1), head, torch.tensor([[1.0, 1.0, 0.0]]), kinds)
    assert all(0 < loss.item() < 1e-7 for loss in losses)


def test_targets_of_another_shape_are_refused() -> None:
    message = r"^`targets` should have shape \(2, 4\), .* Found \(2, 3\)\.$"
    with pytest.raises(ValueError, match=message):
        head_losses(torch.ones(2, 5), nn.Linear(5, 4), torch.ones(2, 3), {"real": torch.arange(4)})
