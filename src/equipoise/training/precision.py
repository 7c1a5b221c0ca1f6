"""The precision of forward passes: autocast, and the loss scaler that float16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def forward_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Runs what is inside in a precision.

    Args:
        precision: "float32", which changes nothing, "bf16" or "fp16".
        device: where the forward passes run.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision])


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The scaler of a run; one that does nothing unless the precision is "fp16"."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
