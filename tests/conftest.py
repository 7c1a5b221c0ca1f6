"""Set-up that every test shares: one thread, float64-friendly tolerances, derandomised Hypothesis."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("equipoise", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("equipoise")
