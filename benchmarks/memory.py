"""Extra memory and time of a step with exact or estimated Gramians: `python benchmarks/memory.py [--threads 1]`.

Every variant lives in processes of its own: one for the memory, one for the time. Extra memory is the most that the
process held during the backward part of a first step, beyond what it held just before it (parameters, activations),
over the bytes of the parameters. It includes the gradients that the step leaves in `.grad`; activations that are
freed on the way make room. Time is that of the backward part alone, over one plain backward pass of the sum of the
losses. Everything aggregates by UPGrad, whose solver takes a few milliseconds. The streamed Gramian measures all tasks
in its first step and a few in the next ones: its memory is that of a first step. `--growth 2,10,40` prints extra memory
against the number of tasks instead. Needs Linux, for the peak memory.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import equipoise as eq

# Below this size freed memory may stay with the process and hide part of the peak.
UNMAPPED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17), "MALLOC_TRIM_THRESHOLD_": str(1 << 17)}


class Step(NamedTuple):
    """What a variant is given after the forward pass."""

    encoder: nn.Module
    heads: nn.ModuleList
    balancer: eq.Balancer
    features: Tensor
    losses: list[Tensor]


class Network(NamedTuple):
    """An encoder, the width of its features, and the shape of a batch."""

    encoder: Callable[[int], nn.Module]
    width: int
    shape: tuple[int, ...]


def linear(width: int, layers: int) -> nn.Module:
    parts = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*parts)


def convolutional(width: int) -> nn.Module:
    sizes = [3, width // 8, width // 4, width // 2, width]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(width * 4, width), nn.ReLU())


class Transformer(nn.Module):
    """Four layers of attention and two linear layers, each with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
                )
                for _ in range(4)
            )
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, width), the mean over the sequence."""
        features: Tensor = self.layers(inputs).mean(1)
        return features


NETWORKS = {
    "4 x Linear(2048, 2048), batch 256": Network(lambda width: linear(width, 4), 2048, (256, 2048)),
    "Linear(4096, 4096), batch 256": Network(lambda width: linear(width, 1), 4096, (256, 4096)),
    "convolutional, batch 32": Network(convolutional, 512, (32, 3, 32, 32)),
    "convolutional, 16.2 M parameters, batch 8": Network(convolutional, 1280, (8, 3, 32, 32)),
    "transformer, 4 layers, batch 8 x 32": Network(Transformer, 256, (8, 32, 256)),
}


def plain(step: Step) -> None:
    torch.stack(step.losses).sum().backward()


def balanced(step: Step) -> None:
    step.balancer.backward(step.losses)


def autojac(step: Step) -> None:
    from torchjd.aggregation import UPGrad
    from torchjd.autojac import backward, jac_to_grad

    backward(step.losses)
    for head in step.heads:
        jac_to_grad(head.parameters(), UPGrad())
    jac_to_grad(step.encoder.parameters(), UPGrad())


def mtl_backward(step: Step, chunk: int | None = None) -> None:
    from torchjd.aggregation import UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    mtl_backward(step.losses, features=step.features, parallel_chunk_size=chunk)
    jac_to_grad(step.encoder.parameters(), UPGrad())


def mtl_backward_by_one(step: Step) -> None:
    mtl_backward(step, 1)


def engine(step: Step) -> None:
    from torchjd.aggregation import UPGradWeighting

    losses = torch.stack(step.losses)
    losses.backward(UPGradWeighting()(ENGINES[-1].compute_gramian(losses)))


MODES = ("rows", "rows_bf16", "layerwise", "factored", "sketch", "streamed", "features", "last_layer")
VARIANTS: dict[str, Callable[[Step], None]] = {
    "one plain backward": plain,
    **dict.fromkeys(MODES, balanced),
    "torchjd backward": autojac,
    "torchjd mtl_backward": mtl_backward,
    "torchjd mtl_backward, chunks of 1": mtl_backward_by_one,
    "torchjd autogram Engine": engine,
}
ENGINES: list[Any] = []  # torchjd's hooks have to be there before the forward pass


def build(network: Network, variant: str, tasks: int, width: int | None = None) -> Callable[[], Step]:
    """A function that runs the network forward; with `width`, a small copy of it to warm up on."""
    torch.manual_seed(0)
    narrow = width or network.width
    shape = tuple(
        narrow if size == network.width and len(network.shape) < 4 else size for size in network.shape
    )
    encoder = network.encoder(narrow)
    heads = nn.ModuleList(nn.Linear(narrow, 1) for _ in range(tasks))
    inputs, targets = torch.randn(shape), torch.randn(tasks, shape[0])
    memory = variant if variant in MODES else "rows"
    balancer = eq.Balancer(eq.build_method("upgrad", tasks), shared=encoder, memory=memory)
    if variant == "torchjd autogram Engine":
        from torchjd.autogram import Engine

        ENGINES.append(Engine(encoder, batch_dim=None))

    def forward() -> Step:
        encoder.zero_grad()
        heads.zero_grad()
        features = encoder(inputs)
        outputs = [head(features)[:, 0] for head in heads]
        return Step(
            encoder,
            heads,
            balancer,
            features,
            [(o - t).square().mean() for o, t in zip(outputs, targets, strict=True)],
        )

    return forward


def extra_memory(network: Network, variant: str, tasks: int) -> float:
    """Bytes held at most in a first step beyond those held before, over the bytes of the parameters."""
    run = VARIANTS[variant]
    run(build(network, variant, tasks, 64)())  # so that libraries are loaded
    forward = build(network, variant, tasks)
    step = forward()
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    run(step)
    parameters = sum(p.numel() * p.element_size() for part in step[:2] for p in part.parameters())
    return (status("VmHWM") - before) / parameters


def status(field: str) -> float:
    """Bytes that this process holds (VmRSS), or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def seconds(network: Network, variant: str, tasks: int, rounds: int) -> float:
    """Median time of the backward part, over that of a plain backward pass in turn with it."""
    names = [variant, "one plain backward"]
    forwards = [build(network, name, tasks) for name in names]
    ratios = []
    for _ in range(rounds + 1):
        times = []
        for name, forward in zip(names, forwards, strict=True):
            step = forward()
            start = time.perf_counter()
            VARIANTS[name](step)
            times.append(time.perf_counter() - start)
            del step
        ratios.append(times[0] / times[1])
    return statistics.median(ratios[1:])


def serve(what: str, names: tuple[str, str], options: argparse.Namespace, pipe: Connection) -> None:
    torch.set_num_threads(options.threads)
    network = NETWORKS[names[0]]
    try:
        if what == "memory":
            pipe.send(extra_memory(network, names[1], options.tasks))
        else:
            pipe.send(seconds(network, names[1], options.tasks, options.rounds))
    except Exception as error:  # a peer may refuse a network; the table says so
        print(f"{names[1]} on {names[0]}: {error}", flush=True)
        pipe.send(float("nan"))


def alone(what: str, names: tuple[str, str], options: argparse.Namespace) -> float:
    """The answer of a process that does nothing else."""
    here, there = multiprocessing.Pipe()
    changed = UNMAPPED if what == "memory" else {}
    os.environ |= changed
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(what, names, options, there))
    process.start()
    for name in changed:
        del os.environ[name]
    there.close()
    try:
        answer = float(here.recv())
    except EOFError:  # killed, for example for memory
        answer = float("nan")
    process.join()
    return answer


def print_growth(names: list[str], options: argparse.Namespace) -> None:
    """Extra memory by the number of tasks."""
    sizes = [int(size) for size in options.growth.split(",")]
    print(
        "Extra memory / parameters against the number of tasks\n\n| network | variant | "
        + " | ".join(f"m = {m}" for m in sizes)
        + " |\n|---|---|"
        + "---|" * len(sizes)
    )
    for network in names:
        for variant in VARIANTS:
            found = []
            for m in sizes:
                options.tasks = m
                found.append(f"{alone('memory', (network, variant), options):.2f}")
            print(f"| {network} | {variant} | {' | '.join(found)} |", flush=True)


def print_table(names: list[str], options: argparse.Namespace) -> None:
    """Extra memory and time for one number of tasks."""
    print("| network | variant | extra memory / parameters | time / plain backward |\n|---|---|---|---|")
    for network in names:
        for variant in VARIANTS:
            memory, ratio = (alone(what, (network, variant), options) for what in ("memory", "time"))
            print(f"| {network} | {variant} | {memory:.2f} | {ratio:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of the name of a network")
    parser.add_argument("--growth", default="", help="numbers of tasks, for example 2,10,40")
    options = parser.parse_args()
    load = f"load average {os.getloadavg()[0]:.1f}"
    size = "" if options.growth else f"{options.tasks} tasks, "
    print(f"{size}{options.threads} threads, torch {torch.__version__}, {platform.machine()}, {load}\n")
    names = [name for name in NETWORKS if options.only in name]
    print_growth(names, options) if options.growth else print_table(names, options)


if __name__ == "__main__":
    main()
