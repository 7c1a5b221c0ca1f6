"""Methods of losses never wait for the device: nothing is read back on the host in a step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise as eq
from equipoise.engine import deferred
from networks import network
from rank_cases import data, losses_of

LOSSES = sorted(name for name, cls in eq.METHODS.items() if cls(3).reads == eq.Reads.LOSSES)
READS_BACK = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
}


class NoReading(TorchDispatchMode):
    """Refuses every operation that would make the host wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in READS_BACK:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("spec", [*LOSSES, "famo+grouped", "go4align:groups=3", "famo+ema"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_reads_nothing_back(spec: str, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        deferred, "on_host", lambda _: False
    )  # reads a copy in host memory, of the step before
    model = network("mlp")
    balancer = eq.Balancer(
        eq.build_method(spec, 3),
        check_finite="defer",
        accumulate=accumulate,
        shared=model.encoder.parameters(),
    )
    for step in range(4 * accumulate):
        losses, second = losses_of(model, *data(step)), losses_of(model, *data(100 + step))
        by_losses = balancer.method.reads == eq.Reads.LOSSES
        with NoReading() if by_losses else nullcontext():  # type: ignore[no-untyped-call]
            if balancer.method.second_batch:
                balancer.measure(second)
            record = balancer.backward(losses)
            _ = record.conflict, record.weights, record.fallback


def test_the_watch_sees_a_wait() -> None:
    with pytest.raises(AssertionError, match="waits for the device"), NoReading():  # type: ignore[no-untyped-call]
        torch.ones(()).item()
