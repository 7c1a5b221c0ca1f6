"""What the ranks of a run tell each other in one step of each method, counted at torch's own collectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from networks import TwoPart, encoder
from rank_cases import data

TASKS = 7
SHARED = 128  # parameters of the encoder
HEAD = 9  # parameters of each head
_COLLECTIVES = (
    "all_gather",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "barrier",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "send",
)
_REDUCED_BY_FSDP = "c10d::_reduce_scatter_base_"


@dataclass
class Counted:
    """The collectives of one step.

    Args:
        sizes: how many numbers a rank puts into each of the Balancer's own.
        hidden: how many of them went on while the next one began.
        passes: of backward that `fully_shard` reduced the gradients of.
        own: how many numbers DistributedDataParallel reduced by itself.
    """

    sizes: list[int] = field(default_factory=list)
    hidden: int = 0
    passes: int = 0
    own: int = 0


class Summed(TwoPart):
    """A network whose outputs are no views, which `fully_shard` warns about."""

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """One output (b,) per task."""
        features = self.encoder(inputs)
        return [head(features).sum(1) for head in self.heads]


def network() -> Summed:
    """Always the same."""
    torch.manual_seed(0)
    return Summed(encoder("mlp"), 8, TASKS).double()


def losses_of(model: nn.Module, step: int, rank: int) -> list[Tensor]:
    """The losses () of a rank."""
    x, y = (t.chunk(2)[rank] for t in data(step))
    return [(out - y[:, i % 3]).square().mean() + 0.1 for i, out in enumerate(model(x))]


@contextmanager
def counting() -> Iterator[Counted]:
    """Counts all collectives that are called from Python."""
    counted, running = Counted(), [0]
    kept = {name: getattr(dist, name) for name in _COLLECTIVES}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tensor = (
                args[1] if name == "all_gather" else next((a for a in args if isinstance(a, Tensor)), None)
            )
            counted.sizes.append(0 if tensor is None else tensor.numel())
            counted.hidden += running[0] > 0
            work = kept[name](*args, **kwargs)
            return _Watched(work, running) if kwargs.get("async_op") else work

        return call

    try:
        for name in _COLLECTIVES:
            setattr(dist, name, wrapped(name))
        yield counted
    finally:
        for name, function in kept.items():
            setattr(dist, name, function)


class _Watched:
    """A collective that goes on until somebody waits for it."""

    def __init__(self, work: Any, running: list[int]) -> None:
        self._work, self._running = work, running
        running[0] += 1

    def wait(self) -> Any:
        self._running[0] -= 1
        return self._work.wait()


def one_step(balancer: eq.Balancer, model: nn.Module, step: int, rank: int, told: dict[str, Any]) -> Counted:
    """What a step exchanges, the second batch included where the method needs one."""
    model.zero_grad()
    second = losses_of(model, 1000 + step, rank) if balancer.method.second_batch else None
    with counting() as counted:
        if second is not None:
            balancer.measure(second, **told)
    losses = losses_of(model, step, rank)
    with counting() as more:
        balancer.backward(losses, **told)
    counted.sizes += more.sizes
    counted.hidden += more.hidden
    return counted


def under_ddp(spec: str, rank: int, told: dict[str, Any]) -> list[Counted]:
    """The first two steps."""
    model = DistributedDataParallel(network())
    seen = [0]
    model.register_comm_hook(seen, lambda state, bucket: _reduced(state, bucket))
    balancer = eq.Balancer(eq.build_method(spec, TASKS), shared=model.module.encoder.parameters())
    found = []
    for step in range(2):
        seen[0] = 0
        found.append(one_step(balancer, model, step, rank, told))
        found[-1].own = seen[0]
    return found


def _reduced(seen: list[int], bucket: Any) -> Any:
    """Reduces as DistributedDataParallel does, and counts."""
    seen[0] += bucket.buffer().numel()
    work: Any = dist.distributed_c10d.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0] / dist.get_world_size())


def under_fsdp(spec: str, rank: int) -> Counted:
    """The second step, parameters sharded at once."""
    from torch.distributed.fsdp import fully_shard
    from torch.profiler import ProfilerActivity, profile

    model = network()
    fully_shard(model)
    balancer = eq.Balancer(eq.build_method(spec, TASKS), shared=model.encoder.parameters())
    one_step(balancer, model, 0, rank, {})
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        counted = one_step(balancer, model, 1, rank, {})
    counted.passes = sum(e.count for e in seen.key_averages() if e.key == _REDUCED_BY_FSDP)
    return counted


def on_rank(rank: int, specs: list[str]) -> dict[str, list[Counted]]:
    """For each method: a first step and a second one, one with `counts`, and one in shards if it works there."""
    found = {}
    for spec in specs:
        first, second = under_ddp(spec, rank, {})
        counts = under_ddp(spec, rank, {"counts": [4] * TASKS})[1]
        found[spec] = [first, second, counts]
        if eq.build_method(spec, TASKS).reads < eq.Reads.JACOBIAN:
            found[spec].append(under_fsdp(spec, rank))
        dist.barrier()
    return found


def alone(rank: int, specs: list[str]) -> dict[str, list[int]]:
    """What one rank exchanges with itself."""
    found: dict[str, list[int]] = {}
    for spec in specs:
        model = network()
        balancer = eq.Balancer(eq.build_method(spec, TASKS))
        found[spec] = []
        for step in range(2):
            found[spec] += one_step(balancer, model, step, rank, {"counts": [4] * TASKS}).sizes
            losses = [loss.detach() for loss in losses_of(model, step, rank)]
            with counting() as counted:
                balancer.after_step(losses)
            found[spec] += counted.sizes
    return found


_NAMES = {
    2 * TASKS: "2 m",
    SHARED: "n",
    TASKS * HEAD: "m h",
    SHARED + TASKS * HEAD: "n + m h",
    TASKS**2: "m^2",
    4: "4",
}


def terms(sizes: list[int]) -> str:
    """Numbers in units of the tasks m, shared parameters n and parameters h of each head."""
    parts = []
    for size, number in sorted(Counter(sizes).items(), key=lambda item: list(_NAMES).index(item[0])):
        times = {1: "", TASKS: "m ", 2 * TASKS: "2 m "}.get(number, f"{number} x ")
        parts.append(times + _NAMES[size])
    return " + ".join(parts) or "0"


def times_m(number: int) -> str:
    """A number of collectives in units of the tasks m."""
    factor = (number + TASKS // 2) // TASKS
    rest = number - factor * TASKS
    if factor == 0:
        return str(number)
    many = "m" if factor == 1 else f"{factor} m"
    return many if rest == 0 else f"{many} {'+' if rest > 0 else '-'} {abs(rest)}"


def row(spec: str, found: list[Counted]) -> str:
    """A line of the table of docs/distributed.md."""
    first, second, counts = found[:3]
    own = "yes" if second.own == SHARED + TASKS * HEAD else "no" if second.own == 0 else f"{second.own}"
    shards = f"{terms(found[3].sizes)}; {times_m(found[3].passes)}" if len(found) > 3 else "refused"
    extra = terms((Counter(first.sizes) - Counter(second.sizes)).elements())  # type: ignore[arg-type]
    cells = [
        terms(second.sizes),
        times_m(len(second.sizes)),
        times_m(second.hidden),
        own,
        terms(counts.sizes),
        extra,
        shards,
    ]
    return f"| `{spec}` | {' | '.join(cells)} |"
