"""Members on Ray: actors that are used again and again, on this machine or a cluster. The only file that knows Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from equipoise.training.problem import Problem

from .generations import Result, SearchError
from .member import Setting, keeping
from .retrain import Retrained
from .work import Task, Work, work

_TRIES = 5  # of an assignment, before a worker that dies again and again ends the search
_REACH_SECONDS = 30.0
_LOOK_SECONDS = 60.0  # that a worker may take to start, while others are idle, before there is no room for it


@dataclass(frozen=True)
class Place:
    """Where members are trained.

    Args:
        workers: members that are trained at a time, at least 1.
        address: of a running cluster, such as "10.0.0.1:6379" or "auto"; None starts Ray on this machine.
        cpus: that a worker takes.
        gpus: that a worker takes, 0.25 for four workers on a GPU.
        threads: of torch in a worker.

    Raises:
        SearchError: on a number out of its range.
    """

    workers: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in {"workers": 1, "threads": 1, "cpus": 0, "gpus": 0}.items():
            if not getattr(self, name) >= least:
                raise SearchError(f"`{name}` should be at least {least}. Found {getattr(self, name)}.")


@dataclass(frozen=True)
class Job:
    """What every worker of a search needs to know.

    Args:
        problem: the class; its module must be importable where workers run.
        setting: of the search.
        directory: of the search, which every node of a cluster has to see.
    """

    problem: type[Problem]
    setting: Setting
    directory: Path


class Worker:
    """Trains one member after the other in a process of its own; the problem is kept while its options are the same.

    Args:
        problem: the class.
        setting: of the search.
        directory: of the search.
        threads: of torch.
    """

    def __init__(self, problem: type[Problem], setting: Setting, directory: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._make = keeping(problem)
        self._setting = setting
        self._directory = Path(directory)

    def work(self, task: Task) -> Result | Retrained:
        """What came of a task."""
        return work(self._make, self._setting, task, self._directory)


@contextmanager
def workers(job: Job, place: Place, say: Callable[[str], None] = lambda text: None) -> Iterator[Work]:
    """Start Ray, or join a cluster, and give what does tasks there.

    A worker that dies, with its node or alone, is replaced, and its member goes on from its last checkpoint.

    Args:
        job: what the workers need to know.
        place: where to train.
        say: told of each worker that died.

    Raises:
        SearchError: if Ray is not installed or the cluster cannot be reached; from the training, if a member killed
            its worker three times.
    """
    ray = _ray()
    _connect(ray, place)
    pool = _Pool(ray, job, place, say)
    try:
        yield pool.work
    finally:
        pool.close()
        ray.shutdown()


class _Hand(NamedTuple):
    """An actor, and what is done once it has started."""

    actor: Any
    started: Any


class _Pool:
    """The actors of a search; at most `workers` of them, started when they are needed."""

    def __init__(self, ray: Any, job: Job, place: Place, say: Callable[[str], None]) -> None:
        variables = {
            "OMP_NUM_THREADS": str(place.threads),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        environment = {"env_vars": variables}  # what can be imported here can be there, on the same machine
        self._ray = ray
        self._actor = ray.remote(num_cpus=place.cpus, num_gpus=place.gpus, runtime_env=environment)(Worker)
        self._arguments = (job.problem, job.setting, str(job.directory.resolve()), place.threads)
        self._most = place.workers
        self._say = say
        self._idle: list[_Hand] = []

    def work(self, waiting: list[Any]) -> Iterator[Any]:
        """Each result as it comes; see `work.Work`."""
        tries: dict[str, int] = {}
        running: dict[Any, tuple[Task, _Hand]] = {}
        while waiting or running:
            while waiting and len(running) < self._most:
                task = waiting.pop(0)
                hand = self._idle.pop() if self._idle else self._new()
                running[hand.actor.work.remote(task)] = (task, hand)
            done = self._next(running)
            task, hand = running.pop(done)
            try:
                found = self._ray.get(done)
            except self._ray.exceptions.RayActorError as error:
                if "creation task" in str(error):  # it could not begin, and no other would
                    raise SearchError(f"A worker should be able to start. {error}") from error
                tries[task.label] = tries.get(task.label, 0) + 1
                self._lost(task.label, tries[task.label], error)
                waiting.insert(0, task)
                continue
            except self._ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            self._idle.append(hand)
            yield found

    def _new(self) -> _Hand:
        actor = self._actor.remote(*self._arguments)
        return _Hand(actor, actor.__ray_ready__.remote())

    def _next(self, running: Mapping[Any, tuple[Task, _Hand]]) -> Any:
        """What is done first; idle workers make room where one cannot start, on a cluster that has lost a node."""
        while True:
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=_LOOK_SECONDS)
            if done:
                return done[0]
            hands = [hand for _, hand in running.values()]
            if self._idle and not all(self._ray.wait([hand.started], timeout=0)[0] for hand in hands):
                self._most = max(self._most - 1, 1)
                self._say(f"There is no room for another worker; {self._most} go on.")
                self.close()

    def _lost(self, name: str, tries: int, error: Exception) -> None:
        if tries >= _TRIES:
            raise SearchError(
                f"A worker should outlive its task. The one of {name} died {tries} times: {error}. If memory is "
                "short, take fewer workers or a smaller network; then resume."
            ) from error
        self._say(f"The worker of {name} died; that goes on from its last checkpoint.")

    def close(self) -> None:
        """Let the idle actors go."""
        for hand in self._idle:
            self._ray.kill(hand.actor)
        self._idle.clear()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # workers without a GPU: no warning of it
    try:
        import ray
    except ImportError as error:
        raise SearchError('Searches on several workers need Ray: pip install "equipoise[search]".') from error
    return ray


def _connect(ray: Any, place: Place) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if place.address is None:
        cores = max(1, round(place.workers * place.cpus))
        ray.init(
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return
    if place.address != "auto":
        _reach(place.address)
    try:
        ray.init(address=place.address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise SearchError(f"A Ray cluster should run at {place.address}. {error}") from error


def _reach(address: str) -> None:
    """Find out within half a minute whether anything listens, which Ray takes much longer for."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SearchError(f"`address` should look like 10.0.0.1:6379, or be auto. Found {address!r}.")
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH_SECONDS):
            return
    except OSError as error:
        raise SearchError(
            f"A Ray cluster should listen at {address}. Found that it cannot be reached ({error}): see `ray status` "
            "there, or leave `address` out to start Ray on this machine."
        ) from error
