"""Cost of one QM9 training step: the dense network against the same network in PyTorch Geometric.

    python benchmarks/qm9_step.py --threads 2

Every variant lives in a process of its own, with the same parameters and the same batches of QM9 molecules. They take
turns, so that a busy moment of the machine hits all of them alike: read the ratios. A step is forward and backward;
making the batches is not counted. Needs Linux, for the peak memory.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.data.qm9 import dense_chunks, load_qm9, standardise
from equipoise.models.mpnn import DenseGraphs, MessagePassingNet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from models.reference_mpnn import FlatGraphs, Graph, ReferenceNet, copy_parameters, flat

Clock = Callable[[], float]


class Variant(NamedTuple):
    """One way to compute a step; 0 chunks stands for PyTorch Geometric."""

    name: str
    width: int
    edge_width: int
    chunks: int
    bfloat16: bool = False


VARIANTS = [
    Variant(name, width, edge_width, chunks, "bfloat16" in name)
    for width, edge_width in ((64, 128), (32, 32))
    for name, chunks in (
        ("PyTorch Geometric", 0),
        ("dense, padded to the largest", 1),
        ("dense, 4 chunks", 4),
        ("dense, 8 chunks", 8),
        ("dense, 4 chunks, bfloat16", 4),
    )
]


class Worker:
    """A variant in its own process, which does a job on a batch when told and answers with a number."""

    def __init__(self, variant: Variant, batches: Path, threads: int, cpu_time: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.variant = variant
        self.found: dict[str, list[float]] = {}
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=serve, args=(variant, batches, threads, cpu_time, there), daemon=True
        )
        self._process.start()
        there.close()

    def ask(self, job: str, batch: int) -> None:
        self._pipe.send((job, batch))
        self.found.setdefault(job, []).append(self._pipe.recv())

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()


def serve(variant: Variant, path: Path, threads: int, cpu_time: bool, pipe: Connection) -> None:
    """Answers requests until there is an empty one."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = network(variant)
    batches = [prepared(batch, variant.chunks) for batch in torch.load(path)]
    clock = time.process_time if cpu_time else time.perf_counter
    baseline = memory("VmRSS")
    jobs: dict[str, Callable[[Any, Tensor], float]] = {
        "loss": lambda graphs, targets: float(losses(net, variant, graphs, targets).sum().detach()),
        "step": lambda graphs, targets: step(net, variant, graphs, targets, clock),
        "memory": lambda graphs, targets: memory("VmHWM") - baseline,
        "gradients": lambda graphs, targets: gradients(net, variant, graphs, targets, clock),
    }
    while (request := pipe.recv()) is not None:
        job, batch = request
        pipe.send(jobs[job](*batches[batch]))


def network(variant: Variant) -> nn.Module:
    """The network of the variant, with the same parameters whatever the variant."""
    reference = ReferenceNet(variant.width, variant.edge_width)
    if variant.chunks == 0:
        return reference
    net = MessagePassingNet(variant.width, variant.edge_width)
    copy_parameters(net, reference)
    return net


def prepared(batch: dict[int, Any], chunks: int) -> tuple[FlatGraphs | list[DenseGraphs], Tensor]:
    """The batch as the variant takes it, and its targets."""
    dense, targets = batch[max(chunks, 1)]
    if chunks:
        return [DenseGraphs(*chunk) for chunk in dense], targets
    return flat([Graph(x[m], e[m][:, m]) for x, e, m in zip(*dense[0], strict=True)]), targets


def losses(net: nn.Module, variant: Variant, graphs: Any, targets: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=variant.bfloat16):
        predictions: Tensor = net(graphs)
    return (predictions - targets).square().mean(dim=0)


def step(net: nn.Module, variant: Variant, graphs: Any, targets: Tensor, clock: Clock) -> float:
    """Seconds of one forward and one backward pass."""
    net.zero_grad()
    start = clock()
    losses(net, variant, graphs, targets).sum().backward()
    return clock() - start


def gradients(net: nn.Module, variant: Variant, graphs: Any, targets: Tensor, clock: Clock) -> float:
    """Seconds of the 11 task gradients of the shared parameters, after one forward pass."""
    heads = {id(p) for name, p in net.named_parameters() if name.startswith("heads.")}
    shared = [p for p in net.parameters() if id(p) not in heads]
    found = losses(net, variant, graphs, targets)
    start = clock()
    for loss in found:
        torch.autograd.grad(loss, shared, retain_graph=True)
    return clock() - start


def memory(field: str) -> float:
    """Megabytes that this process holds (VmRSS), or held at most (VmHWM)."""
    # Not ru_maxrss: after a spawn it starts at the size of the parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def write_batches(path: Path, count: int, size: int) -> None:
    """Random batches of QM9, cut in every way that a variant asks for."""
    molecules = load_qm9(molecules=count * size)
    mean, deviation = standardise(molecules.targets, torch.arange(len(molecules)))
    targets = (molecules.targets - mean) / deviation
    batches = []
    for index in torch.randperm(len(molecules), generator=torch.Generator().manual_seed(0)).split(size):
        batch = {}
        for chunks in {max(variant.chunks, 1) for variant in VARIANTS}:
            dense, order = dense_chunks(molecules, index, chunks)
            batch[chunks] = ([tuple(chunk) for chunk in dense], targets[index[order]])
        batches.append(batch)
    torch.save(batches, path)


def measure(workers: list[Worker], jobs: list[str], turns: int, batches: int) -> None:
    for turn in range(turns):
        for worker in workers:
            for job in jobs:
                worker.ask(job, turn % batches)
            # Idle OpenMP threads spin for a while before they sleep.
            time.sleep(0.3)


def table(workers: list[Worker]) -> str:
    """One line a variant: medians over turns, and the best turn in brackets."""
    lines = [
        "| width / edge width | variant | s a step | times faster | peak MB | share of memory | 11 gradients, s "
        "| times faster | loss off by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for worker in workers:
        width, edge_width = worker.variant.width, worker.variant.edge_width
        first = next(other for other in workers if other.variant.width == width).found
        mine, megabytes = worker.found, worker.found["memory"][0]
        cells = [f"{width} / {edge_width}", worker.variant.name, *times(first["step"], mine["step"])]
        cells += [f"{megabytes:.0f}", f"1 / {first['memory'][0] / megabytes:.1f}"]
        cells += times(first["gradients"], mine["gradients"])
        cells += [f"{abs(mine['loss'][0] / first['loss'][0] - 1):.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def times(first: list[float], mine: list[float]) -> list[str]:
    """Seconds, and how many times faster than PyTorch Geometric in the same turn."""
    ratio = statistics.median(a / b for a, b in zip(first, mine, strict=True))
    return [
        f"{statistics.median(mine):.3f} ({min(mine):.3f})",
        f"**{ratio:.1f}** ({min(first) / min(mine):.1f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=120, help="molecules in a batch")
    parser.add_argument("--batches", type=int, default=4, help="different batches")
    parser.add_argument("--turns", type=int, default=9, help="timed steps of each variant")
    parser.add_argument("--gradient-turns", type=int, default=3, help="timed sets of 11 gradients")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="processor time, not wall time: for a busy machine and 1 thread",
    )
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batches.pt")
        write_batches(path, options.batches, options.batch)
        workers = [Worker(variant, path, options.threads, options.cpu_time) for variant in VARIANTS]
        measure(workers, ["loss"], 1, options.batches)
    measure(workers, ["step"], 1, options.batches)
    for worker in workers:
        worker.found.pop("step")
    measure(workers, ["step"], options.turns, options.batches)
    measure(workers, ["memory"], 1, options.batches)
    measure(workers, ["gradients"], options.gradient_turns, options.batches)
    for worker in workers:
        worker.close()
    load = " to ".join(f"{average:.1f}" for average in (before, os.getloadavg()[0]))
    kind = "processor time" if options.cpu_time else "wall time"
    print(f"{kind}, {cpu()}, {options.threads} threads, load average {load}, torch {torch.__version__}")
    print(table(workers))


if __name__ == "__main__":
    main()
