"""What is run on a device and on the CPU, to be compared: "cpu", "cuda", or "meta", the device of elsewhere.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import elsewhere
import equipoise as eq
import networks
from equipoise.engine import deferred
from rank_cases import data, losses_of

LOSSES = sorted(name for name, cls in eq.METHODS.items() if cls(3).reads == eq.Reads.LOSSES)
GRADIENTS = sorted(set(eq.METHODS) - set(LOSSES))
GRAMIAN = [name for name in GRADIENTS if eq.METHODS[name](3).reads == eq.Reads.GRAMIAN]
QUIET = [*LOSSES, "famo+grouped", "go4align:groups=3", "famo+ema", "rlw+grouped:clustering=random"]
WRAPPED = ["nashmtl+every:steps=3", "upgrad+clip_norm", "cagrad+log_losses", "mgda+ema", "famo+grouped"]
CLUSTERINGS = ["go4align:groups=2", "go4align:clustering=random", "famo+grouped"]
# A step of these cannot be captured: RLW draws on the host, and CoBa keeps a history that grows.
UNCAPTURED = ["relobralo", "rlw", "coba", "coba:window=2:warmup=2"]
# The last ones are short, so that what they count and keep matters within the few steps of a test.
CAPTURED = [name for name in LOSSES if name not in UNCAPTURED]
CAPTURED += ["dwa:window=1", "stch:warmup=4", "famo+ema", "go4align:groups=3"]

Found = dict[str, Tensor]  # what a run leaves, on the CPU


@contextmanager
def on(device: str, *, wait: bool = True) -> Iterator[None]:
    """Within it the device can be used; without `wait`, waiting for it is an error."""
    if device == "meta":
        # Flags of a step before are in host memory by then; here they are read from the device.
        with elsewhere.Elsewhere(wait=wait), mock.patch.object(deferred, "on_host", return_value=False):
            yield
        return
    if device == "cuda" and not wait:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def put(tensor: Tensor, device: str) -> Tensor:
    """A copy on the device."""
    return elsewhere.There(tensor.clone()) if device == "meta" else tensor.to(device)


def network(device: str, dtype: torch.dtype = torch.float64, kind: str = "mlp") -> networks.TwoPart:
    """Always the same network of one kind."""
    model = networks.network(kind).to(dtype)
    if device == "meta":
        elsewhere.move(model)
        return model
    return model.to(device)


def batch(step: int, device: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The same data of a step for all devices."""
    x, y = data(step)
    return put(x.to(dtype), device), put(y.to(dtype), device)


def trained(
    spec: str, device: str, dtype: torch.dtype = torch.float64, steps: int = 3, **options: Any
) -> Found:
    """The parameters, last gradients, state and weights after some steps of plain gradient descent."""
    with on(device):
        model = network(device, dtype)
        balancer = eq.Balancer(eq.build_method(spec, 3), **{"shared": model.encoder, **options})
        parameters = [*model.parameters()]
        for step in range(steps):
            for p in parameters:
                p.grad = None
            if balancer.method.second_batch:
                balancer.measure(losses_of(model, *batch(1000 + step, device, dtype)))
            record = balancer.backward(losses_of(model, *batch(step, device, dtype)))
            with torch.no_grad():
                for p in (*parameters, *balancer.parameters()):
                    p.sub_(0.01 * p.grad if p.grad is not None else 0.0)
            balancer.after_step([loss.detach() for loss in losses_of(model, *batch(step, device, dtype))])
        found = {f"parameter {i}": p.detach() for i, p in enumerate(parameters)}
        found |= {f"gradient {i}": p.grad for i, p in enumerate(parameters) if p.grad is not None}
        state = {**dict(balancer.method.named_parameters()), **dict(balancer.method.named_buffers())}
        found |= {f"state {name}": value.detach() for name, value in state.items()} | {
            "weights": record.weights
        }
        away = [name for name, value in found.items() if value.device.type != device]
        assert not away, f"not on the device: {away}"
        return {name: value.cpu() for name, value in found.items()}


def quiet_steps(spec: str, device: str, accumulate: int) -> None:
    """Windows of a loss-only method that fail where they wait for the device; the first two may."""
    model = network(device)
    batches = [batch(i, device) for i in range(4 * accumulate)]
    second = batch(1000, device)
    with on(device):
        balancer = eq.Balancer(
            eq.build_method(spec, 3),
            accumulate=accumulate,
            shared=[*model.encoder.parameters()],
            check_finite="defer" if device == "meta" else None,
        )
    for step, (x, y) in enumerate(batches):
        with on(device):
            losses, other = losses_of(model, x, y), losses_of(model, *second)
        with on(device, wait=step < 2 * accumulate):
            if balancer.method.second_batch:
                balancer.measure(other)
            record = balancer.backward(losses)
            if (step + 1) % accumulate == 0:
                balancer.after_step([loss.detach() for loss in losses])
            _ = record.weights, record.conflict, record.fallback


def draws(tasks: int) -> list[tuple[Tensor, Tensor]]:
    """Losses (m,) and Jacobians (m, 20): plain, badly scaled, of low rank, in conflict, and with a zero row."""
    generator = torch.Generator().manual_seed(tasks)
    plain = torch.randn(tasks, 20, generator=generator, dtype=torch.float64)
    scaled = plain * 10.0 ** torch.linspace(-3, 3, tasks, dtype=torch.float64)[:, None]
    low = plain[:, :2] @ plain[:2]
    opposed = plain.clone()
    opposed[-1] = -0.5 * opposed[0] + 0.1 * opposed[-1]
    gone = plain.clone()
    gone[0] = 0.0
    losses = torch.rand(tasks, generator=generator, dtype=torch.float64) + 0.5
    return [(losses, jacobian) for jacobian in (plain, scaled, low, opposed, gone)]


def answers(spec: str, device: str) -> list[Tensor]:
    """What a method answers to drawn statistics, its solver included, on the CPU."""
    found = []
    for tasks in (2, 11):
        for losses, jacobian in draws(tasks):
            method = eq.build_method(spec, tasks)
            with on(device):
                method.to(device)
                here, rows = put(losses, device), put(jacobian, device)
                other = eq.TaskStats(here, jacobian=rows)
                answer = method(eq.TaskStats(here, jacobian=rows, other=other)).detach()
                assert answer.device.type == device
                # Several weights may be optimal where rows depend on each other: their sums of rows are the same, here
                # beside a 1, since a sum near 0 is to be compared on the scale of the rows.
                answer = answer.cpu()
                if spec == "mgda" and int(torch.linalg.matrix_rank(jacobian)) < tasks:
                    image = answer @ jacobian / jacobian.norm()
                    answer = torch.cat([image, image.new_ones(1)])
                found.append(answer)
    return found


def scaled_steps(spec: str, device: str, overflow: bool) -> tuple[int, Found]:
    """Five steps in float16 with a scaler, gradients of the third one infinite; how many were skipped, and the rest."""
    model = network(device, torch.float32)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=1000)
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters(), scaler=scaler)
    optimizer = torch.optim.SGD([*model.parameters(), *balancer.parameters()], lr=0.01)
    steps = [0, 1, -2, 2, 3] if overflow else [0, 1, 2, 3]  # below 0: of that batch, but infinite
    for step in steps:
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16):
            losses = losses_of(model, *batch(abs(step), device, torch.float32))
            other = losses_of(model, *batch(1000 + abs(step), device, torch.float32))
        if balancer.method.second_batch:
            balancer.measure(other)
        if step < 0:
            losses = [_Blow.apply(loss) for loss in losses]  # type: ignore[no-untyped-call]
        balancer.backward(losses)
        scaler.step(optimizer)
        scaler.update()
    found = {f"parameter {i}": p.detach().cpu() for i, p in enumerate(model.parameters())}
    state = balancer.method.state_dict()
    return balancer.skipped, found | {k: v.cpu() for k, v in state.items() if isinstance(v, Tensor)}


class _Blow(torch.autograd.Function):
    """The loss as it is, with a gradient that overflows."""

    @staticmethod
    def forward(_ctx: object, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        return gradient * torch.inf


def autocast_step(spec: str, device: str) -> tuple[Tensor, Tensor]:
    """The shared gradient of a step under bfloat16 autocast, and the one that plain autograd makes of its weights."""
    model = network(device, torch.float32)
    shared = [*model.encoder.parameters()]
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=shared)
    with torch.autocast(device, torch.bfloat16):
        losses = losses_of(model, *batch(0, device, torch.float32))
        other = losses_of(model, *batch(1000, device, torch.float32))
    if balancer.method.second_batch:
        balancer.measure(other)
    total = torch.stack(losses)
    record = balancer.backward(losses)
    mine = torch.cat([p.grad.reshape(-1) for p in shared if p.grad is not None])
    with torch.autocast(device, torch.bfloat16):
        total = torch.stack(losses_of(model, *batch(0, device, torch.float32)))
    plain = torch.autograd.grad(record.weights.to(total) @ total, shared)
    return mine.cpu(), torch.cat([g.reshape(-1) for g in plain]).cpu()


def gramians(mode: str, device: str, kind: str) -> tuple[Tensor, list[Tensor]]:
    """The Gramian (m, m) of a second step in a memory mode, and its gradients."""
    with on(device):
        model = network(device, kind=kind)
        balancer = eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, memory=mode)
        for step in range(2):
            for p in model.parameters():
                p.grad = None
            record = balancer.backward(losses_of(model, *batch(step, device)))
        assert record.gramian is not None
        return record.gramian.cpu(), [p.grad.cpu() for p in model.parameters() if p.grad is not None]


def resumed(spec: str, device: str, stop: bool) -> Found:
    """Ten steps, saved and loaded after five if asked."""
    model = network(device, torch.float32)
    balancer, optimizer = _made(spec, model)
    for step in range(10):
        if stop and step == 5:
            file = io.BytesIO()
            torch.save([model.state_dict(), balancer.state_dict(), optimizer.state_dict()], file)
            file.seek(0)
            states = torch.load(file, weights_only=True)
            model = network(device, torch.float32)
            balancer, optimizer = _made(spec, model)
            model.load_state_dict(states[0])
            balancer.load_state_dict(states[1])
            optimizer.load_state_dict(states[2])
        optimizer.zero_grad()
        if balancer.method.second_batch:
            balancer.measure(losses_of(model, *batch(1000 + step, device, torch.float32)))
        present = [True, step % 3 != 1, True]
        balancer.backward(losses_of(model, *batch(step, device, torch.float32)), present=present)
        optimizer.step()
    return {name: value.cpu() for name, value in model.state_dict().items()}


def _made(spec: str, model: networks.TwoPart) -> tuple[eq.Balancer, torch.optim.Optimizer]:
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters())
    return balancer, torch.optim.Adam([*model.parameters(), *balancer.parameters()], lr=0.01)


def captured(spec: str, device: str, *, capture: bool) -> Found:
    """The parameters after seven steps on one place for the data, the last of them replays of one capture."""
    with on(device):
        model = network(device, torch.float32)
        balancer = eq.Balancer(
            eq.build_method(spec, 3), shared=[*model.encoder.parameters()], check_finite="defer"
        )
        parameters = [*model.parameters(), *balancer.parameters()]
        optimizer: Any = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
        if device == "cuda":
            optimizer = torch.optim.Adam(parameters, lr=0.01, capturable=True)
        places = [*batch(0, device, torch.float32), *batch(0, device, torch.float32)]
    stream = _side_stream(device)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        _fill(places, number, device)
        one()

    def one() -> None:
        if balancer.method.second_batch:
            balancer.measure(losses_of(model, *places[2:]))
        balancer.backward(losses_of(model, *places[:2]))
        optimizer.step()

    with on(device), stream:
        for number in range(3):
            step(number)
    if not capture:
        with on(device):
            for number in range(3, 7):
                step(number)
    else:
        optimizer.zero_grad(set_to_none=True)
        _fill(places, 3, device)
        replay = _capture(one, device)
        for number in range(3 if device == "cuda" else 4, 7):  # a CUDA capture does not run what it captures
            _fill(places, number, device)
            replay()
    with on(device):
        return {f"parameter {i}": p.detach().cpu() for i, p in enumerate(parameters)}


def _side_stream(device: str) -> Any:
    if device != "cuda":
        return nullcontext()
    torch.cuda.synchronize()
    return torch.cuda.stream(torch.cuda.Stream())


def _fill(places: list[Tensor], number: int, device: str) -> None:
    with on(device), torch.no_grad():
        fresh = [*batch(number, device, torch.float32), *batch(1000 + number, device, torch.float32)]
        for place, tensor in zip(places, fresh, strict=True):
            place.copy_(tensor)


def _capture(one: Any, device: str) -> Any:
    if device == "cuda":
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            one()
        return graph.replay
    tape = elsewhere.Tape()
    with (
        elsewhere.Elsewhere(wait=False, tape=tape),
        mock.patch.object(deferred, "on_host", return_value=False),
    ):
        one()
    return tape.replay


def extra_memory(mode: str, tasks: int = 10, width: int = 2048, layers: int = 4) -> float:
    """What a step adds to the memory in use on a GPU at its peak, gradients included, in units of the parameters."""
    torch.manual_seed(0)
    encoder = nn.Sequential(
        *(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(layers))
    ).cuda()
    heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks)).cuda()
    balancer = eq.Balancer(eq.build_method("mgda", tasks), shared=encoder, memory=mode)
    x = torch.randn(64, width, device="cuda")
    parameters = sum(p.numel() for p in encoder.parameters())
    peak = 0.0
    for _ in range(2):  # the first step allocates what stays
        for p in (*encoder.parameters(), *heads.parameters()):
            p.grad = None
        features = encoder(x)
        losses = [head(features).square().mean() for head in heads]
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        balancer.backward(losses)
        torch.cuda.synchronize()
        peak = (torch.cuda.max_memory_allocated() - before) / (4 * parameters)
    return peak


def parallel(rank: int, number: int, backend: str, where: str, specs: list[str]) -> None:
    """A rank that trains under DistributedDataParallel on its share of the data, and leaves the parameters."""
    device = "cuda" if backend == "nccl" else "cpu"
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f"file://{where}/store", rank=rank, world_size=number)
    found = {}
    for spec in specs:
        model = DistributedDataParallel(network(device))
        shared = list(model.module.encoder.parameters())
        balancer = eq.Balancer(eq.build_method(spec, 3), shared=shared)
        for step in range(5):
            model.zero_grad()
            x, y = (t.chunk(number)[rank] for t in batch(step, device))
            balancer.backward(losses_of(model, x, y))
            with torch.no_grad():
                for p in (*model.parameters(), *balancer.parameters()):
                    p.sub_(0.01 * p.grad if p.grad is not None else 0.0)
            balancer.after_step([loss.detach() for loss in losses_of(model, x, y)])
        found[spec] = [p.detach().cpu() for p in model.module.parameters()]
    torch.save(found, f"{where}/found{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
