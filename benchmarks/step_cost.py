"""What balancing adds to a training step: `python benchmarks/step_cost.py [--threads 2] [--rounds 9]`.

Prints two tables, each from one run with interleaved measurements and pinned threads:
1. the own work of every loss-only method (microseconds, and as a share of a QM9 training step), m = 2, 3, 11, 40;
2. the step of gradient methods over its limit: forward + m backward passes of the encoder and heads + one
   (m, n) (n, m) product + one pass over the rows, for an MLP (batch 256) and the QM9 network.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.core import gramian_of
from equipoise.data.molecules import dense_chunks
from equipoise.data.qm9 import load_qm9
from equipoise.models.mpnn import DenseGraphs, MessagePassingNet

LOSS_ONLY = ("ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "go4align:groups=5")
GRADIENT = ("mgda", "pcgrad", "graddrop", "cagrad", "imtl_g", "nashmtl")


def median_seconds(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each action, all of them in turn in every round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


class Case(NamedTuple):
    """A network and a function that runs it forward on one batch."""

    encoder: nn.Module
    heads: nn.ModuleList
    losses: Callable[[], list[Tensor]]


class MLP(nn.Module):
    """Three hidden layers of 512 units and m heads."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(512, 512), nn.ReLU())]
        self.encoder = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(512, 1) for _ in range(tasks))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """One output (b,) per task."""
        features = self.encoder(inputs)
        return [head(features)[:, 0] for head in self.heads]


def mlp_losses(tasks: int) -> Case:
    """The network and a function that runs it forward on one batch of 256."""
    torch.manual_seed(0)
    model, inputs, targets = MLP(tasks), torch.randn(256, 512), torch.randn(tasks, 256)
    return Case(
        model.encoder,
        model.heads,
        lambda: [(o - t).square().mean() for o, t in zip(model(inputs), targets, strict=True)],
    )


def qm9_losses(tasks: int, batch: int = 120) -> Case:
    """The published QM9 network on a batch of real molecules, in four chunks sorted by size."""
    torch.manual_seed(0)
    molecules = load_qm9(molecules=4000)
    chunks, _ = dense_chunks(molecules, torch.arange(batch), 4)
    graphs = [DenseGraphs(*chunk) for chunk in chunks]
    model, targets = MessagePassingNet(tasks=tasks), torch.randn(tasks, batch)
    return Case(
        model.encoder,
        model.heads,
        lambda: [(o - t).square().mean() for o, t in zip(model.outputs(graphs), targets, strict=True)],
    )


def limit(case: Case, rows: Tensor) -> None:
    """The least that a method on exact gradients has to do; `rows` (m, n) is its room."""
    encoder = [*case.encoder.parameters()]
    values = case.losses()
    for i, loss in enumerate(values):
        own = [*case.heads[i].parameters()]
        found = torch.autograd.grad(loss, [*encoder, *own], retain_graph=i < len(values) - 1)
        torch.cat([g.reshape(-1) for g in found[: len(encoder)]], out=rows[i])
    gramian_of(rows)
    torch.ones(len(values)) @ rows


def balanced(name: str, m: int, case: Case) -> Callable[[], None]:
    """One step of a method without the optimizer."""
    balancer = eq.Balancer(eq.build_method(name, m), shared=case.encoder)

    def step() -> None:
        case.encoder.zero_grad()
        case.heads.zero_grad()
        balancer.backward(case.losses())

    return step


def own_work(rounds: int) -> dict[int, dict[str, float]]:
    """Seconds of each loss-only method's own work, by the number of tasks."""
    found: dict[int, dict[str, float]] = {}
    for m in (2, 3, 11, 40):
        values = torch.rand(m, dtype=torch.float64) + 0.5
        methods = {
            name: eq.build_method(name, m) for name in LOSS_ONLY if not (name.endswith("=5") and m < 5)
        }

        def many(method: eq.Method, values: Tensor = values) -> Callable[[], None]:
            def run() -> None:
                for _ in range(50):
                    method(eq.TaskStats(values)).detach()

            return run

        times = median_seconds({name: many(method) for name, method in methods.items()}, rounds)
        found[m] = {name: seconds / 50 for name, seconds in times.items()}
    return found


def print_own_work(rounds: int) -> None:
    """The first table."""
    case = qm9_losses(11)
    step = median_seconds({"ls": balanced("ls", 11, case)}, rounds)["ls"]
    print(
        f"\nOwn work of loss-only methods; a QM9 step (11 tasks, batch 120, width 64) with `ls` takes {step:.3f} s\n"
    )
    print("| m | method | microseconds | share of the step |\n|---|---|---|---|")
    for m, row in own_work(rounds).items():
        for name, seconds in row.items():
            print(f"| {m} | {name} | {1e6 * seconds:.0f} | {seconds / step:.3%} |")


def print_over_limit(rounds: int) -> None:
    """The second table."""
    print("\nStep of gradient methods over the limit\n")
    print(
        "| network | m | limit (s) | " + " | ".join(GRADIENT) + " |\n|---|---|---|" + "---|" * len(GRADIENT)
    )
    cases = [("MLP", mlp_losses, (2, 3, 11, 40)), ("QM9", qm9_losses, (2, 3, 11))]
    for network, build, sizes in cases:
        for m in sizes:
            case = build(m)
            rows = torch.empty(m, sum(p.numel() for p in case.encoder.parameters()))
            actions: dict[str, Callable[[], object]] = {"limit": functools.partial(limit, case, rows)}
            actions |= {name: balanced(name, m, case) for name in GRADIENT}
            times = median_seconds(actions, rounds if network == "MLP" else max(3, rounds // 2))
            ratios = " | ".join(f"{times[name] / times['limit']:.2f}" for name in GRADIENT)
            print(f"| {network} | {m} | {times['limit']:.3f} | {ratios} |", flush=True)


def main() -> None:
    """Read the options and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    print_own_work(options.rounds)
    print_over_limit(options.rounds)


if __name__ == "__main__":
    main()
