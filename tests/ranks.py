"""Runs a function in several processes that form a process group on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_START = """
import sys
sys.path[:0] = {paths!r}
import ranks
ranks.join({module!r}, {function!r}, {rank}, {number}, {where!r})
"""


def start(
    function: Callable[..., Any], number: int, where: Path, *arguments: Any
) -> list[subprocess.Popen[str]]:
    """Start `function(rank, *arguments)` on each of `number` ranks."""
    where.mkdir(parents=True, exist_ok=True)
    torch.save(arguments, where / "arguments.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    module = Path(sys.modules[function.__module__].__file__ or "").stem
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                _START.format(
                    paths=[str(Path(__file__).parent)],
                    module=module,
                    function=function.__name__,
                    rank=rank,
                    number=number,
                    where=str(where),
                ),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]


def run(
    function: Callable[..., Any], number: int, where: Path, *arguments: Any, seconds: float = 240
) -> list[Any]:
    """What `function(rank, *arguments)` returns on each rank."""
    processes = start(function, number, where, *arguments)
    said = [process.communicate(timeout=seconds)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(said)
    return [torch.load(where / f"answer{rank}.pt", weights_only=False) for rank in range(number)]


def join(module: str, function: str, rank: int, number: int, where: str) -> None:
    """The body of one rank.

    It ends without clean-up: at exit, threads of collectives that an error has left behind abort the process.
    """
    code = 0
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{where}/store", rank=rank, world_size=number)
        arguments = torch.load(Path(where) / "arguments.pt", weights_only=False)
        answer = getattr(__import__(module), function)(rank, *arguments)
        torch.save(answer, Path(where) / f"answer{rank}.pt")
        dist.barrier()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)
