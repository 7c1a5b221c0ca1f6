"""Runs a function in several processes that form a process group on this machine.

Importing torch takes most of the time of such a process. So `run` keeps a server per rank, which has imported it, and
forks a fresh process for each call. Ranks come from different servers, so that the order of their sets differs too.
`start` makes processes of their own, for functions that kill theirs.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_IMPORT = """
import sys
sys.path[:0] = {paths!r}
import ranks
"""
_servers: dict[int, subprocess.Popen[str]] = {}


def start(
    function: Callable[..., Any], number: int, where: Path, *arguments: Any
) -> list[subprocess.Popen[str]]:
    """Start `function(rank, *arguments)` on each of `number` ranks."""
    calls = _calls(function, number, where, arguments)
    return [_python(f"ranks.join(*{call!r})", stderr=subprocess.PIPE) for call in calls]


def run(
    function: Callable[..., Any], number: int, where: Path, *arguments: Any, seconds: float = 240
) -> list[Any]:
    """What `function(rank, *arguments)` returns on each rank."""
    for rank, call in enumerate(_calls(function, number, where, arguments)):
        if rank not in _servers:
            _servers[rank] = _python("ranks.serve()", stdin=subprocess.PIPE, start_new_session=True)
        _write(_servers[rank], json.dumps(call))
    codes = [_read(_servers[rank], seconds) for rank in range(number)]
    for rank in range(number):
        if not codes[rank]:
            os.killpg(_servers[rank].pid, signal.SIGKILL)
            _servers.pop(rank).wait()
    said = [(where / f"said{rank}.txt").read_text() for rank in range(number)]
    assert codes == ["0"] * number, "\n".join([f"exit codes {codes}", *said])
    return [torch.load(where / f"answer{rank}.pt", weights_only=False) for rank in range(number)]


@atexit.register
def _close() -> None:
    while _servers:
        _servers.popitem()[1].communicate()  # its input ends, and so does it


def serve() -> None:
    """The body of a server: forks a rank for each line of its input, and prints the exit code of each."""
    import_module("torch._dynamo")  # as the first optimizer of a process does, in as much time as torch takes
    for line in sys.stdin:
        module, function, rank, number, where = json.loads(line)
        child = os.fork()
        if child == 0:
            said = os.open(f"{where}/said{rank}.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)  # which is the server's, for exit codes
            os.dup2(said, 2)
            join(module, function, rank, number, where)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _calls(
    function: Callable[..., Any], number: int, where: Path, arguments: tuple[Any, ...]
) -> list[tuple[str, str, int, int, str]]:
    """What `join` is to be called with on each rank."""
    where.mkdir(parents=True, exist_ok=True)
    torch.save(arguments, where / "arguments.pt")
    module = Path(sys.modules[function.__module__].__file__ or "").stem
    return [(module, function.__name__, rank, number, str(where)) for rank in range(number)]


def _python(code: str, **options: Any) -> subprocess.Popen[str]:
    """A process that runs a line of code, with warnings as errors."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    script = _IMPORT.format(paths=[str(Path(__file__).parent)]) + code
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def _write(server: subprocess.Popen[str], line: str) -> None:
    assert server.stdin is not None
    server.stdin.write(line + "\n")
    server.stdin.flush()


def _read(server: subprocess.Popen[str], seconds: float) -> str:
    """The line that a server prints next, or nothing if it has ended or that takes too long."""
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], seconds)
    return server.stdout.readline().strip() if ready else ""


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
