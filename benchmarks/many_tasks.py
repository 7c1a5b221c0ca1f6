"""Steps of the trainer on hundreds of tasks: `OMP_NUM_THREADS=1 python benchmarks/many_tasks.py [toxcast.csv.gz]`.

Without a file, made-up data of the shape of toxcast: 8,000 fingerprints of 1,024 bits, 617 binary tasks, 29 % of the
labels there, most of them in a few hundred tasks. A step is that of the trainer, from reading the batch to the row of
its log.

The first table has the time of a step over that of `ls`: in each round all methods make ten steps, in an order that
moves on by one from round to round; median of the rounds, in brackets the lower and upper quartile. The second one has
methods that read the Gramian, each in a process of its own: seconds of a step, its ratio to `ls`, and the most memory
that the process held beyond that of `ls`.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.core import MethodSpec
from equipoise.models.mlp import MLP
from equipoise.problems.table import Table
from equipoise.training.batches import StepBatches
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.labels import LabelledLosses
from equipoise.training.logs import RunLog
from equipoise.training.position import Position
from equipoise.training.precision import loss_scaler
from equipoise.training.problem import Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.setup import optimizer_of
from equipoise.training.stepping import Stepper
from equipoise.training.tabular import Column, Columns, TableBatch

LOSS_ONLY = ("ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "go4align+every:steps=10")
GRADIENT = ("mgda", "cagrad", "nashmtl")
MODES = ("factored", "sketch", "features", "last_layer")
STEPS = 10  # of a method in a round
CLOCK = [time.perf_counter]
CPU = torch.device("cpu")


class MadeUp:
    """Random fingerprints and labels, of the shape of toxcast; nothing to be learnt."""

    def __init__(self, tasks: int, samples: int = 8000, bits: int = 1024, batch_size: int = 128) -> None:
        draw = torch.Generator().manual_seed(0)
        self.inputs = (torch.rand(samples, bits, generator=draw) < 0.05).byte()
        filled = 0.05 + 0.9 * torch.rand(tasks, generator=draw).pow(2.8)
        labels = (torch.rand(samples, tasks, generator=draw) < 0.1).double()
        labels[torch.rand(samples, tasks, generator=draw) > filled] = torch.nan
        self.columns = Columns([Column(f"task{k}", "binary") for k in range(tasks)], labels)
        self.targets = self.columns.scaled(labels)
        self.tasks = self.columns.tasks
        self._size = batch_size

    def read(self, index: Tensor) -> TableBatch:
        return TableBatch(self.inputs[index], self.targets[index])

    def loaders(self, seed: int) -> Loaders:
        part = torch.arange(len(self.inputs))
        train = SampleBatches(self.read, part, size=self._size, seed=seed)
        return Loaders(train, train, train)

    def model(self, seed: int) -> MLP:
        torch.manual_seed(seed)
        return MLP(self.inputs.shape[1], len(self.tasks), 256, 2, 0.2)

    def losses(self, model: MLP, batch: TableBatch) -> LabelledLosses:
        return self.columns.losses(model, batch)

    def shared(self, model: MLP) -> nn.Module:
        return model.encoder


def problem_of(given: argparse.Namespace) -> Any:
    if given.csv is None:
        return MadeUp(given.tasks)
    return Table(csv=given.csv, smiles="smiles", skip_bad=True)


class Contestant:
    """One method in training: each call makes one step, in epochs one after another."""

    def __init__(self, problem: Any, label: str, folder: Path, memory: str = "auto") -> None:
        config = RunConfig(problem="table", method=label, lr=1e-3, seed=0, train=TrainConfig(memory=memory))
        names = [task.name for task in problem.tasks]
        method = eq.build_method(MethodSpec.parse(label), len(names))
        model = problem.model(0).train()
        balancer = eq.Balancer(method, tasks=names, shared=problem.shared(model), memory=memory)
        optimizer, _ = optimizer_of(list(model.parameters()), list(balancer.parameters()), config, 1, STEPS)
        self._batches = StepBatches(problem.loaders(0), method.second_batch, CPU, 1)
        self._stepper = Stepper(
            problem,
            model,
            balancer,
            optimizer,
            self._batches,
            scaler=loss_scaler("float32", CPU),
            train=config.train,
        )
        # The trainer keeps a row of every so many steps, so that a run has at most 100,000 numbers.
        self._log = RunLog(folder / label.replace(":", "-"), names, every=max(1, 10 * len(names) // 617))
        self._at = Position()
        self._epoch = self._batches.epoch(1, 0)

    def __call__(self) -> None:
        record = self._stepper.step(self._epoch, self._at)
        if record is None:
            self._at.epoch, self._at.batch = self._at.epoch + 1, 0
            self._epoch = self._batches.epoch(self._at.epoch, 0)
            record = self._stepper.step(self._epoch, self._at)
            assert record is not None
        self._log.step(self._at.step, self._at.epoch, record)


def seconds(step: Callable[[], None], steps: int = STEPS) -> float:
    gc.collect()
    start = CLOCK[-1]()
    for _ in range(steps):
        step()
    return (CLOCK[-1]() - start) / steps


def loss_only(problem: Any, rounds: int, folder: Path) -> list[str]:
    """The rows of the first table."""
    contestants = {label: Contestant(problem, label, folder) for label in LOSS_ONLY}
    times: dict[str, list[float]] = {label: [] for label in LOSS_ONLY}
    for step in contestants.values():
        seconds(step)
    for turn in range(rounds):
        start = turn % len(LOSS_ONLY)
        for label in (*LOSS_ONLY[start:], *LOSS_ONLY[:start]):
            times[label].append(seconds(contestants[label]))
    rows = ["| method | ms a step | over ls |", "|---|---|---|"]
    for label in LOSS_ONLY:
        ratios = [a / b for a, b in zip(times[label], times["ls"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            f"| {label} | {1e3 * statistics.median(times[label]):.1f} | {middle:.2f} [{low:.2f}-{high:.2f}] |"
        )
    return rows


def alone(given: argparse.Namespace, label: str, memory: str, answer: Any) -> None:
    """The seconds of a step and the peak memory in MB, in a process of its own."""
    torch.set_num_threads(given.threads)
    if given.cpu:
        CLOCK.append(time.process_time)
    problem = problem_of(given)
    with tempfile.TemporaryDirectory() as folder:
        step = Contestant(problem, label, Path(folder), memory)
        seconds(step, 1)
        answer.put((seconds(step, given.steps), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(given: argparse.Namespace, label: str, memory: str) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    answer: Any = context.Queue()
    process = context.Process(target=alone, args=(given, label, memory, answer))
    process.start()
    found: tuple[float, float] = answer.get()
    process.join()
    return found


def gradient(given: argparse.Namespace) -> list[str]:
    """The rows of the second table."""
    base, used = measured(given, "ls", "auto")
    rows = ["| method | memory | s a step | over ls | MB beyond ls |", "|---|---|---|---|---|"]
    for label in GRADIENT:
        for memory in given.modes.split(","):
            took, held = measured(given, label, memory)
            rows.append(f"| {label} | {memory} | {took:.2f} | {took / base:.0f} | {held - used:.0f} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", nargs="?", help="a table with a column `smiles`")
    parser.add_argument("--tasks", type=int, default=617, help="of the made-up data")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3, help="that each process of the second table times")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", default="loss,gradient")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--cpu", action="store_true", help="CPU time, for a machine that does other work too")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.cpu:
        CLOCK.append(time.process_time)
    what = given.csv or f"{given.tasks} made-up tasks"
    clock = "CPU time" if given.cpu else "wall time"
    print(f"torch {torch.__version__}, {given.threads} thread(s), {clock}, {what}\n")
    if "loss" in given.tables:
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(loss_only(problem_of(given), given.rounds, Path(folder))), end="\n\n")
    if "gradient" in given.tables:
        print("\n".join(gradient(given)))


if __name__ == "__main__":
    main()
