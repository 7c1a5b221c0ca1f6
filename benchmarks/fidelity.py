"""How near updates from estimated and surrogate Gramians are to the exact ones: `python benchmarks/fidelity.py`.

The published QM9 network (narrower: `--width`), 11 tasks, real molecules, trained by one method with exact rows. Every
few steps each method is shown the exact Gramian, the one of each memory mode, and for comparison that of another batch
and equal weights; the table gives the cosine of its update with the exact one, mean and range over the steps. The
streamed Gramian is measured in every step, as it would be in training.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import equipoise as eq
from equipoise.problems.qm9 import QM9

MODES = ("sketch", "streamed", "features", "last_layer")
METHODS = ("mgda", "upgrad", "cagrad", "imtl_g", "nashmtl")
TASKS = len(QM9.tasks)
Cosines = dict[tuple[str, str], list[float]]


def batches(problem: QM9, seed: int) -> Iterator[Any]:
    """Training batches, epoch after epoch."""
    train = problem.loaders(seed).train
    epoch = 1
    while True:
        yield from train.epoch(epoch)
        epoch += 1


def cosine(gramian: Tensor, one: Tensor, other: Tensor) -> float:
    """Of the updates with two weights (m,), by the exact Gramian."""
    product = one @ gramian @ other
    return float(product / ((one @ gramian @ one) * (other @ gramian @ other)).sqrt())


def weights(method: str, losses: Tensor, gramian: Tensor) -> Tensor:
    """What a new method makes of a Gramian."""
    return eq.build_method(method, TASKS)(eq.TaskStats(losses, gramian=gramian)).detach()


class Watch:
    """Measures at one network, and keeps the cosines."""

    def __init__(self, shared: Any) -> None:
        def balancer(mode: str) -> eq.Balancer:
            return eq.Balancer(
                eq.build_method("ls+clip_norm:max_norm=1e30", TASKS), shared=shared, memory=mode
            )

        self.modes = {mode: balancer(mode) for mode in MODES}
        self.exact = balancer("rows")
        self.found: Cosines = {}

    def follow(self, losses: Callable[[], list[Tensor]], clear: Callable[[], None]) -> Tensor | None:
        """A step of the streamed Gramian."""
        gramian = self.modes["streamed"].backward(losses()).gramian
        clear()
        return gramian

    def look(
        self, losses: Callable[[], list[Tensor]], other: list[Tensor], clear: Callable[[], None]
    ) -> None:
        """Compare everything with the exact Gramian of a batch."""
        estimates = {"streamed": self.follow(losses, clear)}
        for mode in ("sketch", "features", "last_layer"):
            estimates[mode] = self.modes[mode].backward(losses()).gramian
            clear()
        estimates["another batch"] = self.exact.backward(other).gramian
        clear()
        values = torch.stack(losses()).detach()
        gramian = self.exact.backward(losses()).gramian
        clear()
        assert gramian is not None
        for method in METHODS:
            best = weights(method, values, gramian)
            for mode, estimate in estimates.items():
                assert estimate is not None
                found = cosine(gramian, best, weights(method, values, estimate))
                self.found.setdefault((method, mode), []).append(found)
            self.found.setdefault((method, "equal weights"), []).append(
                cosine(gramian, best, torch.ones(TASKS, dtype=torch.float64))
            )


def run(options: argparse.Namespace) -> Cosines:
    """Train, and look every `options.every` steps."""
    problem = QM9(molecules=options.molecules, width=options.width, edge_width=options.width)
    model: Any = problem.model(options.seed)
    own = eq.Balancer(eq.build_method(options.train, TASKS), shared=model.encoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watch, others = Watch(model.encoder), batches(problem, options.seed + 1)
    for step, batch in zip(range(options.steps), batches(problem, options.seed), strict=False):

        def losses(batch: Any = batch) -> list[Tensor]:
            return list(problem.losses(model, batch).values())

        if step % options.every == options.every - 1:
            watch.look(losses, list(problem.losses(model, next(others)).values()), optimizer.zero_grad)
        else:
            watch.follow(losses, optimizer.zero_grad)
        own.backward(losses())
        optimizer.step()
        optimizer.zero_grad()
    return watch.found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("steps", 300), ("every", 10), ("molecules", 4000), ("width", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--train", default="upgrad", help="the method that trains the network")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {vars(options)}\n")
    found = run(options)
    columns = ["sketch", "streamed", "features", "last_layer", "another batch", "equal weights"]
    print(f"| method | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for method in METHODS:
        cells = [found[method, column] for column in columns]
        shown = [f"{statistics.mean(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in cells]
        print(f"| {method} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
