"""Ray, started on this machine or joined on a cluster. The only file that imports it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_REACH_SECONDS = 30.0
_STORE_BYTES = 80 * 2**20  # of the object store, near Ray's least: what actors are told and tell is small


class ClusterError(ValueError):
    """Ray cannot be started, reached or used; the message says why and what to do."""


@dataclass(frozen=True)
class Place:
    """Where actors work.

    Args:
        workers: actors that work at a time, at least 1.
        address: of a running cluster, such as "10.0.0.1:6379" or "auto"; None starts Ray on this machine.
        cpus: that a worker takes.
        gpus: that a worker takes, 0.25 for four workers on a GPU.
        threads: of torch in a worker.

    Raises:
        ClusterError: on a number out of its range.
    """

    workers: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in {"workers": 1, "threads": 1, "cpus": 0, "gpus": 0}.items():
            if not getattr(self, name) >= least:
                raise ClusterError(f"`{name}` should be at least {least}. Found {getattr(self, name)}.")


def check_device(place: Place, device: str) -> None:
    """Refuse workers that would share GPUs without a count, or take some that they do not use.

    Raises:
        ClusterError: naming `gpus`.
    """
    if (device == "cuda") != (place.gpus > 0):
        raise ClusterError(
            "`gpus` should be above 0 for workers on the device cuda, such as 0.25 for four on a GPU, and 0 on the "
            f"cpu. Found {place.gpus:g} and {device}."
        )


def ray_train() -> Any:
    """The module `ray.train`, for its checkpoints.

    Raises:
        ClusterError: if it is not installed.
    """
    _ray()
    try:
        import ray.train
    except ImportError as error:
        raise ClusterError(f'Checkpoints need Ray Train: pip install "equipoise[search]". {error}') from error
    return ray.train


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    # Workers without a GPU: no warning of it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError('Several workers on Ray need it: pip install "equipoise[search]".') from error
    return ray


def variables(place: Place) -> dict[str, str]:
    """The environment of an actor; what can be imported here can be there, on the same machine."""
    paths = os.pathsep.join(filter(None, sys.path))
    data = {name: os.environ[name] for name in ("EQUIPOISE_DATA",) if name in os.environ}
    return {"OMP_NUM_THREADS": str(place.threads), "PYTHONPATH": paths, **data}


def connect(place: Place) -> Any:
    """Start Ray, or join a cluster.

    Returns:
        The module `ray`.

    Raises:
        ClusterError: if it is not installed, the cluster cannot be reached, or this machine lacks the GPUs.
    """
    ray = _ray()
    with _own_signals():
        _join(ray, place)
    return ray


def _join(ray: Any, place: Place) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if place.address is None:
        _start(ray, place, quiet)
        return
    if place.address != "auto":
        _reach(place.address)
    try:
        ray.init(address=place.address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"A Ray cluster should run at {place.address}. {error}") from error


def _start(ray: Any, place: Place, quiet: dict[str, Any]) -> None:
    ray.init(
        address="local",  # even where another cluster runs on this machine
        num_cpus=max(1, round(place.workers * place.cpus)),
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **quiet,
    )
    found = ray.cluster_resources().get("GPU", 0)
    if found < place.gpus:
        ray.shutdown()
        raise ClusterError(
            f"`gpus` of a worker should be at most the {found:g} of this machine. Found {place.gpus:g}."
        )


def _reach(address: str) -> None:
    """Find out within half a minute whether a Ray cluster answers; Ray itself takes several minutes for that."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"`address` should look like 10.0.0.1:6379, or be auto. Found {address!r}.")
    began = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH_SECONDS):
            pass
        check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        left = _REACH_SECONDS - (time.monotonic() - began)
        subprocess.run(check, timeout=left, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        found = "that something else answers" if isinstance(error, subprocess.SubprocessError) else str(error)
        raise ClusterError(
            f"A Ray cluster should listen at {address}. Found that it cannot be reached ({found}): see `ray status` "
            "there, or leave `address` out to start Ray on this machine."
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of SIGTERM in the place of ours; keep ours, if there is one."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
