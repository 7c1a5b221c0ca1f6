"""The networks of `step_cost.py`, what a step on them costs at least, and the same step by hand and by TorchJD."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchjd import aggregation
from torchjd.autogram import Engine
from torchjd.autojac import jac_to_grad, mtl_backward

import equipoise as eq
from equipoise.core import gramian_of
from equipoise.data.molecules import dense_chunks
from equipoise.data.qm9 import load_qm9
from equipoise.models.mpnn import DenseGraphs, MessagePassingEncoder

Step = Callable[[], object]


class Case(NamedTuple):
    """A network, and a function that runs its encoder on one batch."""

    encoder: nn.Module
    heads: nn.ModuleList
    features: Callable[[], Tensor]
    targets: Tensor

    def losses(self) -> tuple[Tensor, list[Tensor]]:
        """The features, and the loss of each task on them; gradients are cleared before."""
        self.encoder.zero_grad()
        self.heads.zero_grad()
        features = self.features()
        outputs = [head(features)[:, 0] for head in self.heads]
        return features, [(o - t).square().mean() for o, t in zip(outputs, self.targets, strict=True)]


class Convolutional(nn.Module):
    """Three convolutions, each with batch normalisation and pooling, and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in ((3, width // 4), (width // 4, width // 2), (width // 2, width)):
            parts += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.layers = nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * width, width), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (b, 3, 32, 32) to features (b, width)."""
        features: Tensor = self.layers(inputs)
        return features


class Transformer(nn.Module):
    """Three layers of attention and two linear layers, each with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(3)
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Sequences (b, length, width) to features (b, width), the mean over the sequence."""
        features: Tensor = self.layers(inputs).mean(1)
        return features


def perceptron(width: int = 512) -> nn.Module:
    layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers)


def case_of(encoder: nn.Module, width: int, inputs: Tensor, tasks: int) -> Case:
    heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))
    return Case(encoder, heads, lambda: encoder(inputs), torch.randn(tasks, len(inputs)))


def mlp(tasks: int, width: int = 512) -> Case:
    """Three hidden layers, batch 256."""
    torch.manual_seed(0)
    return case_of(perceptron(width), width, torch.randn(256, width), tasks)


def convolutional(tasks: int) -> Case:
    """32 images of 32 x 32, 128 channels at the end."""
    torch.manual_seed(0)
    return case_of(Convolutional(128), 128, torch.randn(32, 3, 32, 32), tasks)


def transformer(tasks: int) -> Case:
    """Eight sequences of 32 tokens, width 128."""
    torch.manual_seed(0)
    return case_of(Transformer(128), 128, torch.randn(8, 32, 128), tasks)


def qm9(tasks: int) -> Case:
    """The published QM9 network in the width of the quick preset, 120 real molecules in four chunks sorted by size."""
    torch.manual_seed(0)
    chunks, _ = dense_chunks(load_qm9(molecules=4000), torch.arange(120), 4)
    graphs = [DenseGraphs(*chunk) for chunk in chunks]
    encoder = MessagePassingEncoder(32, 32, 3, 3, node_features=11, edge_features=5)
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(tasks))
    return Case(encoder, heads, lambda: encoder(graphs), torch.randn(tasks, 120))


NETWORKS: dict[str, Callable[[int], Case]] = {
    "mlp": mlp,
    "convolutional": convolutional,
    "transformer": transformer,
    "qm9": qm9,
}


def limit(case: Case) -> Step:
    """The least that a method on exact gradients has to do: rows, one product and one pass over them."""
    encoder = [*case.encoder.parameters()]
    rows = torch.empty(len(case.heads), sum(p.numel() for p in encoder))

    def step() -> None:
        _, losses = case.losses()
        for i, loss in enumerate(losses):
            own = [*case.heads[i].parameters()]
            found = torch.autograd.grad(loss, [*encoder, *own], retain_graph=i < len(losses) - 1)
            torch.cat([g.reshape(-1) for g in found[: len(encoder)]], out=rows[i])
        gramian_of(rows)
        torch.ones(len(losses)) @ rows

    return step


def one_backward(case: Case) -> Step:
    """The least that a loss-only method has to do."""

    def step() -> None:
        _, losses = case.losses()
        torch.stack(losses).sum().backward()

    return step


def plain_loop(case: Case) -> Step:
    """The loop that people write: one `backward` per task, gradients copied out of `.grad`, weights written back."""
    encoder = [*case.encoder.parameters()]

    def step() -> None:
        _, losses = case.losses()
        rows = []
        for i, loss in enumerate(losses):
            for parameter in encoder:
                parameter.grad = None
            loss.backward(retain_graph=i < len(losses) - 1)
            rows.append(torch.cat([p.grad.reshape(-1) for p in encoder if p.grad is not None]))
        jacobian = torch.stack(rows)
        weights = torch.softmax(jacobian @ jacobian.T, 0).mean(1)  # stands for a solver that takes no time
        pieces = (weights @ jacobian).split([p.numel() for p in encoder])
        for parameter, piece in zip(encoder, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    return step


def balanced(name: str, case: Case) -> Step:
    """A step of ours without the optimizer."""
    balancer = eq.Balancer(eq.build_method(name, len(case.heads)), shared=case.encoder)
    return lambda: balancer.backward(case.losses()[1])


THEIRS: dict[
    str, tuple[Callable[[], aggregation.Aggregator], Callable[[], aggregation.Weighting[Tensor]] | None]
] = {
    "upgrad": (aggregation.UPGrad, aggregation.UPGradWeighting),
    "mgda": (aggregation.MGDA, aggregation.MGDAWeighting),
    "pcgrad": (aggregation.PCGrad, aggregation.PCGradWeighting),
    "cagrad": (lambda: aggregation.CAGrad(c=0.4), lambda: aggregation.CAGradWeighting(c=0.4)),
    "imtl_g": (aggregation.IMTLG, aggregation.IMTLGWeighting),
    "aligned_mtl": (aggregation.AlignedMTL, aggregation.AlignedMTLWeighting),
    "graddrop": (aggregation.GradDrop, None),
    "config": (aggregation.ConFIG, None),
}


def torchjd_steps(name: str, build: Callable[[], Case]) -> dict[str, Step]:
    """The steps of TorchJD: its default, without vmap, and by the Gramian where the method allows it."""
    aggregator, weighting = (None if make is None else make() for make in THEIRS[name])
    assert aggregator is not None
    case = build()

    def autojac(chunk: int | None) -> Step:
        def step() -> None:
            features, losses = case.losses()
            mtl_backward(losses, features=features, parallel_chunk_size=chunk)
            jac_to_grad(case.encoder.parameters(), aggregator)

        return step

    steps = {"default": autojac(None), "chunks of 1": autojac(1)}
    if weighting is not None:
        other = build()  # its hooks would slow down the others
        engine = Engine(other.encoder, batch_dim=None)

        def autogram() -> None:
            losses = torch.stack(other.losses()[1])
            losses.backward(weighting(engine.compute_gramian(losses)))

        steps["autogram"] = autogram
    return steps
