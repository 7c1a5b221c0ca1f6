"""How random weights reach the device of the losses."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise as eq


class Copies(TorchDispatchMode):
    """Notes whether each copy to another device lets the host go on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.non_blocking: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None:
            self.non_blocking.append(bool(kwargs.get("non_blocking")))
        return func(*args, **kwargs)


def test_the_host_does_not_wait_for_the_weights_to_arrive() -> None:
    method = eq.build_method("rlw", 3)
    with Copies() as copies:
        weights = method(eq.TaskStats(torch.ones(3, device="meta")))
    assert weights.device.type == "meta"
    assert copies.non_blocking == [True]
