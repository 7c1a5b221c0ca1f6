"""What balancing adds to a training step: `OMP_NUM_THREADS=1 python benchmarks/step_cost.py`.

Every number is the median of ratios within a round: in each round all contestants make one step, in an order that
moves on by one from round to round, so that what else the machine does falls on all of them. In brackets the
interval that holds the true median in 95 of 100 runs. Five tables, of which `--tables` takes some:

- `gradient`: the step over its limit (forward, a backward pass per task through encoder and head, one (m, n)(n, m)
  product, one pass over the rows), a plain loop and TorchJD's modes over the step.
- `loss`: the own work of loss-only methods, and their step over forward plus one backward pass.
- `growth`: the step over its limit from m = 2 to 512, on an MLP of width 256.
- `many`: 617 tasks that are outputs of one layer.
- `batched`: the step with passes batched over the tasks over the step with one pass per task.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

import equipoise as eq
import step_networks as networks
from equipoise.engine import rows
from equipoise.engine.batched import Batched
from step_networks import NETWORKS, Case, Step

GRADIENT = (*networks.THEIRS, "nashmtl")
LOSS_ONLY = ("ls", "si", "rlw", "dwa", "uw", "famo", "go4align")
GROWTH = ("mgda", "upgrad", "go4align")
SECONDS = 0.2  # what a loss-only step is repeated for at least, in one round
Ratios = list[float]
CLOCK = [time.perf_counter]


def rounds_of(actions: Mapping[str, Step], rounds: int, repeats: int = 1) -> dict[str, list[float]]:
    """The seconds of each action in each round, the first of which is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    for turn in range(rounds + 1):
        gc.collect()
        gc.disable()
        order = names[turn % len(names) :] + names[: turn % len(names)]
        actions[order[0]]()  # the collection has emptied the caches
        for name in order:
            start = CLOCK[-1]()
            for _ in range(repeats):
                actions[name]()
            times[name].append((CLOCK[-1]() - start) / repeats)
        gc.enable()
    return {name: found[1:] for name, found in times.items()}


def ratios(times: Mapping[str, list[float]], name: str, base: str) -> Ratios:
    return sorted(a / b for a, b in zip(times[name], times[base], strict=True))


def shown(found: Ratios, digits: int = 2) -> str:
    """The median and the interval of order statistics that holds it with a probability of at least 95 %."""
    middle = f"{statistics.median(found):.{digits}f}"
    n, tail, chance = len(found), -1, 0.5 ** len(found)
    below = chance
    while below <= 0.025:
        tail += 1
        chance *= (n - tail) / (tail + 1)
        below += chance
    if tail < 0:
        return f"{middle} [{found[0]:.{digits}f}-{found[-1]:.{digits}f}, all]"
    return f"{middle} [{found[tail]:.{digits}f}-{found[n - 1 - tail]:.{digits}f}]"


def works(step: Step, what: str) -> bool:
    """Whether a contestant can make this step at all; the output says why not."""
    try:
        step()
    except RuntimeError as error:
        print(f"<!-- {what}: {str(error).splitlines()[0][:150]} -->")
        return False
    return True


def verdict(network: str, m: int, over: float, faster: Mapping[str, float]) -> str:
    """Which goals are missed: 1.05 or 1.10 times the limit, no slower than TorchJD, twice as fast on large m."""
    least = 1.10 if network == "mlp" else 1.05
    missed = [f"limit {least}"] if over > least else []
    if faster and min(faster.values()) < 1:
        missed.append("TorchJD")
    if m >= 40 and network in ("convolutional", "transformer") and faster.get("default", 2.0) < 2:
        missed.append("2x")
    return ", ".join(missed) or "-"


def gradient_row(network: str, m: int, method: str, rounds: int) -> str:
    build = NETWORKS[network]
    case = build(m)

    def fresh() -> Case:
        return build(m)

    actions: dict[str, Step] = {
        "limit": networks.limit(case),
        "ours": networks.balanced(method, case),
        "plain loop": networks.plain_loop(case),
    }
    theirs = networks.torchjd_steps(method, fresh) if method in networks.THEIRS else {}
    actions |= {k: step for k, step in theirs.items() if works(step, f"{method}, {network}, m = {m}, {k}")}
    times = rounds_of(actions, rounds)
    over = ratios(times, "ours", "limit")
    cells = [f"{1e3 * statistics.median(times['limit']):.1f}", shown(over)]
    faster = {k: statistics.median(ratios(times, k, "ours")) for k in actions if k in theirs}
    cells.append(f"{statistics.median(ratios(times, 'plain loop', 'ours')):.2f}")
    cells += [f"{faster[k]:.2f}" if k in faster else "-" for k in ("default", "chunks of 1", "autogram")]
    missed = verdict(network, m, statistics.median(over), faster)
    return f"| {network} | {m} | {method} | " + " | ".join(cells) + f" | {missed} |"


def gradient_table(options: argparse.Namespace) -> None:
    print("\n### Methods on exact gradients\n")
    print("| network | m | method | limit, ms | step / limit | plain loop / step | ", end="")
    print("TorchJD default / step | chunks of 1 / step | autogram / step | goals missed |\n|" + "---|" * 10)
    for network in options.only:
        for m in options.tasks:
            for method in (name for name in GRADIENT if name in options.methods):
                print(gradient_row(network, m, method, options.rounds), flush=True)


def own_work(name: str, m: int, rounds: int) -> float:
    """Seconds of a loss-only method's own work, the best of some turns."""
    method, values = eq.build_method(name, m), torch.rand(m) + 0.5

    def ask() -> None:
        method(eq.TaskStats(values)).detach()

    return min(rounds_of({"own": ask}, max(5, rounds), 50)["own"])


def loss_table(options: argparse.Namespace) -> None:
    print("\n### Loss-only methods\n")
    print(
        "The own work is that of the method alone (goal: at most 1 % of the step); the step has the goal 1.01.\n"
    )
    print(
        "| network | m | method | limit, ms | own work, us | share | step / limit | goals missed |\n|"
        + "---|" * 8
    )
    for network in options.only:
        for m in options.tasks:
            case = NETWORKS[network](m)
            names = [name for name in LOSS_ONLY if name in options.methods]
            actions = {"limit": networks.one_backward(case), **{n: networks.balanced(n, case) for n in names}}
            once = statistics.median(rounds_of({"limit": actions["limit"]}, 3)["limit"])
            times = rounds_of(actions, 4 * options.rounds, max(1, round(SECONDS / len(actions) / once)))
            for name in names:
                base, own = statistics.median(times["limit"]), own_work(name, m, options.rounds)
                over = ratios(times, name, "limit")
                missed = [
                    k
                    for k, bad in (("own", own / base > 0.01), ("step", statistics.median(over) > 1.01))
                    if bad
                ]
                cells = [f"{1e3 * base:.1f}", f"{1e6 * own:.0f}", f"{own / base:.2%}", shown(over, 3)]
                print(
                    f"| {network} | {m} | {name} | " + " | ".join(cells) + f" | {', '.join(missed) or '-'} |",
                    flush=True,
                )


def growth_table(options: argparse.Namespace) -> None:
    print("\n### Growth with the number of tasks, MLP of width 256, batch 256\n")
    print("| m | method | limit, ms | step, ms | step / limit |\n|" + "---|" * 5)
    for m in (2**k for k in range(1, 10)):
        case = networks.mlp(m, 256)
        exact, once = networks.limit(case), networks.one_backward(case)
        for method in (name for name in GROWTH if name in options.methods):
            least = once if method in LOSS_ONLY else exact
            rounds = max(3, options.rounds if m < 256 else options.rounds // 2)
            times = rounds_of({"limit": least, "step": networks.balanced(method, case)}, rounds)
            base, step = (1e3 * statistics.median(times[name]) for name in ("limit", "step"))
            print(
                f"| {m} | {method} | {base:.1f} | {step:.1f} | {shown(ratios(times, 'step', 'limit'))} |",
                flush=True,
            )


def many_table(options: argparse.Namespace) -> None:
    """617 tasks as outputs of one layer; `every:steps=10` asks in one step of ten, so ten steps are timed as one."""
    torch.manual_seed(0)
    encoder, head, m = networks.perceptron(), nn.Linear(512, 617), 617
    inputs, targets = torch.randn(256, 512), torch.randn(256, 617)

    def losses() -> Tensor:
        encoder.zero_grad()
        head.zero_grad()
        outputs: Tensor = head(encoder(inputs))
        return (outputs - targets).square().mean(0)

    def ours(spec: str) -> Step:
        balancer = eq.Balancer(eq.build_method(spec, m))
        return lambda: balancer.backward(losses())

    names = ("ls", "go4align+every:steps=10", "go4align", "go4align:groups=5")
    actions: dict[str, Step] = {"plain backward": lambda: losses().sum().backward()}
    times = rounds_of(actions | {name: ours(name) for name in names}, 2 * options.rounds, 10)
    print("\n### 617 tasks, an MLP of width 512, batch 256; goal: go4align+every:steps=10 below 1.15 of ls\n")
    print("| method | ms a step | over ls | over a plain backward |\n|" + "---|" * 4)
    for name in times:
        cells = [shown(ratios(times, name, base), 3) for base in ("ls", "plain backward")]
        print(f"| {name} | {1e3 * statistics.median(times[name]):.2f} | " + " | ".join(cells) + " |")


def batched_table(options: argparse.Namespace) -> None:
    """What `engine.batched` would bring where it is forced; on a CPU it is not even tried."""
    print("\n### MGDA with passes batched over 16 tasks, over the same with one pass per task\n")
    print("| network | m | loop, ms | batched / loop |\n|" + "---|" * 4)
    small: dict[str, Callable[[int], Case]] = {
        f"mlp of width {w}": functools.partial(networks.mlp, width=w) for w in (32, 64)
    }
    for network, build in [*((name, NETWORKS[name]) for name in options.only), *small.items()]:
        for m in options.tasks:
            batched, case = Batched(("cpu",), 0.0), build(m)
            with mock.patch.object(rows, "Batched", lambda batched=batched: batched):
                forced = networks.balanced("mgda", case)
            actions = {"loop": networks.balanced("mgda", case), "batched": forced}
            actions["batched"]()
            times = rounds_of(actions, options.rounds)
            works = any(batched._choices.values())
            cell = shown(ratios(times, "batched", "loop")) if works else "cannot be batched"
            print(f"| {network} | {m} | {1e3 * statistics.median(times['loop']):.1f} | {cell} |", flush=True)


TABLES: dict[str, Callable[[argparse.Namespace], None]] = {
    "gradient": gradient_table,
    "loss": loss_table,
    "growth": growth_table,
    "many": many_table,
    "batched": batched_table,
}


def names(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Reads a list of names separated by commas."""

    def read(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(f"should be of {', '.join(allowed)}. Found {', '.join(unknown)}")
        return found

    return read


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    methods = tuple(dict.fromkeys((*GRADIENT, *LOSS_ONLY)))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tables", type=names(tuple(TABLES)), default=list(TABLES))
    parser.add_argument("--only", type=names(tuple(NETWORKS)), default=list(NETWORKS), help="networks")
    parser.add_argument(
        "--tasks", type=lambda text: [int(m) for m in text.split(",")], default=[2, 3, 11, 40]
    )
    parser.add_argument("--methods", type=names(methods), default=list(methods))
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other work")
    options = parser.parse_args()
    if options.cpu_time:
        CLOCK.append(time.process_time)
    torch.set_num_threads(options.threads)
    here, asked = Path(__file__).parent, ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, capture_output=True, text=True, cwd=here).stdout
    print(f"`{' '.join(['python', *sys.argv])}`\n")
    print(f"Commit {commit.strip()}, torch {torch.__version__}, ", end="")
    print(
        f"torchjd {importlib.metadata.version('torchjd')}, {options.threads} threads, {options.rounds} rounds, ",
        end="",
    )
    print(f"{platform.machine()}, load average {os.getloadavg()[0]:.1f}")
    for table in options.tables:
        TABLES[table](options)


if __name__ == "__main__":
    main()
