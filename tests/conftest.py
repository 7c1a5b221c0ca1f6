"""Set-up that every test shares: one thread, float64-friendly tolerances, derandomised Hypothesis."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from functools import cache

import hypothesis
import torch
import typer.testing

torch.set_num_threads(1)
# The command line is put together once and not at each of hundreds of calls, which takes a tenth of a second.
typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]
hypothesis.settings.register_profile("equipoise", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("equipoise")
