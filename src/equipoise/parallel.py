"""How many runs at a time, and where: what `--jobs`, `--workers`, `--address` and `--gpus` of a benchmark say."""

from __future__ import annotations

import os

import torch

from equipoise.benchmark.plan import PlanError
from equipoise.benchmark.runner import How
from equipoise.cluster.connection import Place, check_device

RAY = "ray"
_MOST_JOBS = 8  # by default: each holds a copy of torch and of the network


def how(
    jobs: str,
    device: str,
    workers: int | None,
    address: str | None,
    gpus: float,
    *,
    resume: bool,
    retry: bool,
) -> How:
    """How a plan is run.

    Args:
        jobs: a number, "ray", or nothing for as many as the machine has cores, at most 8, and 1 on a GPU.
        device: of the runs.
        workers: runs at a time on Ray; None for as many as the machine has cores, at most 8.
        address: of a Ray cluster, or None.
        gpus: that a run on Ray takes.
        resume: whether to go on in a directory that was begun.
        retry: whether to run again what failed before.

    Raises:
        PlanError: if these do not fit together.
        ClusterError: if a number is out of its range, or device and GPUs do not fit together.
    """
    if jobs == RAY:
        return How(resume, retry, place=_place(device, workers, address, gpus))
    if workers is not None or address is not None or gpus:
        raise PlanError(
            f"`jobs` should be ray with `workers`, `address` or `gpus`. Found {jobs or 'none'}: add --jobs ray."
        )
    return How(resume, retry, _number(jobs, device))


def _number(jobs: str, device: str) -> int:
    if not jobs:
        return 1 if device == "cuda" else min(_cores(), _MOST_JOBS)
    if not jobs.lstrip("-").isdigit():
        raise PlanError(f"`jobs` should be a number or ray. Found {jobs!r}.")
    if int(jobs) < 1:
        raise PlanError(f"`jobs` should be at least 1. Found {jobs}.")
    return int(jobs)


def _place(device: str, workers: int | None, address: str | None, gpus: float) -> Place:
    if workers is None and (address is not None or gpus):
        raise PlanError("`workers` should be given with `address` or `gpus`: runs at a time. Found none.")
    workers = min(_cores(), _MOST_JOBS) if workers is None else workers
    threads = max(1, torch.get_num_threads() // max(workers, 1)) if address is None else 1
    found = Place(workers=workers, address=address, gpus=gpus, threads=threads)
    check_device(found, device)
    return found


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
