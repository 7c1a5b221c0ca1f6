"""Every method in every precision, with and without micro-batches, compiled and with recomputed activations.

Each case is compared with an engine of a few lines: rows by plain autograd of the same network in the same precision,
put together in float64, the method asked with them, and its answer written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import equipoise as eq
from rank_cases import data

PRECISIONS = {"float32": 1e-5, "bfloat16": 2e-2, "bf16 autocast": 2e-2, "fp16 + scaler": 5e-3}
HOWS = ("plain", "compiled", "checkpointed")
STEPS = 3


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    spec: str
    precision: str
    accumulate: int
    how: str


class Network(nn.Module):
    """An encoder of two layers, its first one recomputed if asked, and three heads."""

    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 8)])
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
        self.recompute = recompute

    def forward(self, x: Tensor) -> list[Tensor]:
        """One output (b,) per task."""
        hidden = self._first(x) if not self.recompute else checkpoint(self._first, x, use_reentrant=False)
        features = torch.tanh(self.encoder[1](hidden))
        return [head(features)[:, 0] for head in self.heads]

    def _first(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encoder[0](x))


@contextmanager
def cast(precision: str) -> Iterator[torch.dtype]:
    """The arithmetic of a precision; gives the type of the data."""
    if precision in ("bf16 autocast", "fp16 + scaler"):
        low = torch.bfloat16 if precision == "bf16 autocast" else torch.float16
        with torch.autocast("cpu", low):
            yield torch.float32
    else:
        yield torch.bfloat16 if precision == "bfloat16" else torch.float32


def losses_of(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> list[Tensor]:
    """Three losses () of different size, above 0."""
    with cast(precision) as dtype:
        outputs = model(x.to(dtype))
    targets = y.to(outputs[0].dtype)
    return [
        s * ((out - targets[:, i]).float().square().mean() + 0.1)
        for i, (s, out) in enumerate(zip((1.0, 3.0, 0.2), outputs, strict=True))
    ]


def network(precision: str, how: str = "plain") -> Network:
    """The same network for every case, before it is compiled."""
    torch.manual_seed(0)
    model = Network(how == "checkpointed")
    return model.bfloat16() if precision == "bfloat16" else model


def error(case: Case, compiled: dict[str, nn.Module]) -> float:
    """The largest relative distance of a step's gradients from those of the plain engine.

    Args:
        case: what to run.
        compiled: networks that are compiled already, by precision: compiling takes longer than all the rest.
    """
    model, plain = network(case.precision, case.how), network(case.precision)
    if case.how == "compiled":
        if case.precision not in compiled:
            compiled[case.precision] = torch.compile(model, backend="aot_eager")  # type: ignore[assignment]
        runs = compiled[case.precision]
        model = runs._orig_mod  # type: ignore[assignment]
        model.load_state_dict(plain.state_dict())
    else:
        runs = model
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12) if case.precision == "fp16 + scaler" else None
    shared = list(model.encoder.parameters())
    balancer = eq.Balancer(
        eq.build_method(case.spec, 3), shared=shared, scaler=scaler, accumulate=case.accumulate
    )
    method, worst = eq.build_method(case.spec, 3), 0.0
    for step in range(STEPS):
        model.zero_grad()
        x, y = data(step)
        pieces = list(zip(x.chunk(case.accumulate), y.chunk(case.accumulate), strict=True))
        second = data(1000 + step)
        if method.second_batch:
            balancer.measure(losses_of(runs, *second, case.precision))
        for piece in pieces:
            balancer.backward(losses_of(runs, *piece, case.precision))
        expected = reference(method, plain, pieces, second, case.precision)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        for mine, wanted in zip(model.parameters(), expected, strict=True):
            assert mine.grad is not None
            distance = float((mine.grad.double() / scale - wanted).norm())
            worst = max(worst, distance / max(float(wanted.norm()), 1e-3))
        with torch.no_grad():
            for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
                moved = other - 0.01 * mine.grad.to(other.dtype) / scale  # type: ignore[union-attr]
                mine.copy_(moved)
                other.copy_(moved)
    return worst


def reference(
    method: eq.Method,
    model: Network,
    pieces: list[tuple[Tensor, Tensor]],
    second: tuple[Tensor, Tensor],
    precision: str,
) -> list[Tensor]:
    """What a step should leave in `.grad`, float64, in the order of the parameters."""
    first, others = rows(model, [pieces[0]], precision), rows(model, pieces, precision)
    other = rows(model, [second], precision) if method.second_batch else None
    by_rows = method.reads > eq.Reads.LOSSES
    losses, gradients, shared = others if by_rows else first
    blocks = [p.numel() for p in model.encoder.parameters()]
    seen = (
        None
        if other is None
        else eq.TaskStats(other[0], jacobian=_flat(other[1], other[2]).float(), blocks=blocks)
    )
    jacobian, sizes = _flat(gradients, shared).float(), [p.numel() for p in shared]
    answer = method(eq.TaskStats(losses, jacobian=jacobian, other=seen, blocks=sizes)).detach()
    if not by_rows:
        return weighted(model, pieces, answer, precision)
    direction = answer.double() if isinstance(method, eq.Aggregator) else answer @ _flat(gradients, shared)
    if method.max_norm > 0:
        direction = direction * min(1.0, method.max_norm / (float(direction.norm()) + 1e-6))
    heads = {"same": answer, "unit": torch.ones(3), "log": 1 / losses}[method.head_weights]
    pieces_of = dict(zip(shared, direction.split([p.numel() for p in shared]), strict=True))
    return [
        pieces_of[p].view(p.shape)
        if p in pieces_of
        else sum((heads[i] * gradients[i][p] for i in range(3)), torch.zeros_like(p, dtype=torch.float64))
        for p in model.parameters()
    ]


def weighted(
    model: Network, pieces: list[tuple[Tensor, Tensor]], weights: Tensor, precision: str
) -> list[Tensor]:
    """The gradients of the weighted sum of the losses, one ordinary backward pass for each micro-batch."""
    model.zero_grad()
    for x, y in pieces:
        losses = torch.stack(losses_of(model, x, y, precision))
        total = (weights.to(losses.dtype) * losses).sum() / len(pieces)
        total.backward()
    return [p.grad.double() for p in model.parameters() if p.grad is not None]


Measured = tuple[
    Tensor, list[dict[Tensor, Tensor]], list[Tensor]
]  # losses (m,), gradient of each task, shared


def rows(model: Network, pieces: list[tuple[Tensor, Tensor]], precision: str) -> Measured:
    """The mean losses and gradients of some micro-batches, in float64."""
    parameters = list(model.parameters())
    total: list[dict[Tensor, Tensor]] = [{} for _ in range(3)]
    mean = torch.zeros(3, dtype=torch.float64)
    for x, y in pieces:
        losses = losses_of(model, x, y, precision)
        for i, loss in enumerate(losses):
            mean[i] += loss.detach().double() / len(pieces)
            found = torch.autograd.grad(
                loss, parameters, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            for parameter, gradient in zip(parameters, found, strict=True):
                part = gradient.double() / len(pieces)
                total[i][parameter] = total[i].get(parameter, 0) + part
    return mean, total, list(model.encoder.parameters())


def _flat(gradients: list[dict[Tensor, Tensor]], shared: list[Tensor]) -> Tensor:
    return torch.stack([torch.cat([gradient[p].reshape(-1) for p in shared]) for gradient in gradients])
