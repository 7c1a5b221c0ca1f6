"""The checks of test_cuda.py on the CPU, and on a made-up device that tells what a GPU would refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.multiprocessing.spawn import spawn

import device_cases as cases
import equipoise as eq
from elsewhere import Elsewhere, Tape, There, move
from equipoise.engine.deferred import Deferred
from equipoise.engine.memory import MODES


@pytest.mark.parametrize("spec", [*sorted(eq.METHODS), *cases.WRAPPED])
def test_steps_elsewhere_are_those_on_the_cpu(spec: str) -> None:
    expected, found = cases.trained(spec, "cpu"), cases.trained(spec, "meta")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value.nan_to_num(-1.0), expected[name].nan_to_num(-1.0)), name


# A window is a matter of the engine: without one come a plain method, one that learns, one that looks after the step,
# one with groups, and one of two batches.
NO_WINDOW = ["ls", "uw", "famo", "go4align:groups=3", "coba"]


@pytest.mark.parametrize(
    ("spec", "accumulate"), [*((spec, 2) for spec in cases.QUIET), *((spec, 1) for spec in NO_WINDOW)]
)
def test_steps_of_losses_wait_for_no_device(spec: str, accumulate: int) -> None:
    cases.quiet_steps(spec, "meta", accumulate)


@pytest.mark.parametrize("spec", [*cases.GRADIENTS, *cases.CLUSTERINGS])
def test_answers_elsewhere_are_those_on_the_cpu(spec: str) -> None:
    for mine, expected in zip(cases.answers(spec, "meta"), cases.answers(spec, "cpu"), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "auto"])
def test_memory_modes_elsewhere_are_those_on_the_cpu(mode: str) -> None:
    for kind in ("mlp", "attention"):
        gramian, gradients = cases.gramians(mode, "meta", kind)
        expected, others = cases.gramians(mode, "cpu", kind)
        torch.testing.assert_close(gramian, expected, rtol=1e-10, atol=1e-12)
        for mine, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spec", cases.CAPTURED)
def test_a_captured_step_is_replayed(spec: str) -> None:
    found, expected = (cases.captured(spec, "meta", capture=capture) for capture in (True, False))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spec", ["rlw", "coba:window=2:warmup=2"])
def test_a_step_that_needs_python_is_not_replayed(spec: str) -> None:
    found, expected = (cases.captured(spec, "meta", capture=capture) for capture in (True, False))
    assert not torch.allclose(found["parameter 0"], expected["parameter 0"], rtol=1e-6)


@pytest.mark.parametrize("spec", ["ls", "uw", "mgda", "graddrop"])
def test_the_other_checks_run_at_all(spec: str, tmp_path: Path) -> None:
    skipped, with_overflow = cases.scaled_steps(spec, "cpu", overflow=True)
    none, without = cases.scaled_steps(spec, "cpu", overflow=False)
    assert (skipped, none) == (1, 0)
    for name, value in without.items():
        torch.testing.assert_close(with_overflow[name], value, rtol=1e-6, atol=1e-7)
    if not isinstance(eq.build_method(spec, 3), eq.Aggregator):
        mine, plain = cases.autocast_step(spec, "cpu")
        assert float((mine - plain).norm() / plain.norm()) <= 2e-2
    whole, parts = (cases.resumed(spec, "cpu", stop) for stop in (False, True))
    for name, value in whole.items():
        assert torch.equal(parts[name], value)


@pytest.mark.slow
def test_one_rank_alone_is_no_rank(tmp_path: Path) -> None:
    spawn(cases.parallel, (1, "gloo", str(tmp_path), ["ls", "mgda"]))
    found = torch.load(tmp_path / "found0.pt", weights_only=True)
    for spec, parameters in found.items():
        expected = cases.trained(spec, "cpu", steps=5)
        for i, mine in enumerate(parameters):
            torch.testing.assert_close(mine, expected[f"parameter {i}"], rtol=1e-10, atol=1e-12)


def test_the_made_up_device_refuses_what_a_gpu_refuses() -> None:
    x, host = There(torch.ones(3)), torch.ones(3)
    with Elsewhere():
        assert (x * 2.0 + torch.tensor(1.0)).cpu().tolist() == [3.0, 3.0, 3.0]
        with pytest.raises(RuntimeError, match="add.Tensor was given tensors of two devices, one of shape"):
            x + host
    reads: list[Any] = [lambda: x.sum().item(), lambda: bool(x.any()), lambda: x[x > 0], lambda: x.cpu()]
    reads += [lambda: host.to("meta"), lambda: x.copy_(host), lambda: torch.tensor([1.0], device="meta")]
    reads += [lambda: x.nonzero(), lambda: x.tolist()]
    reads += [lambda: torch._foreach_copy_([host.clone()], [x])]
    for read in reads:
        with Elsewhere():
            read()
        with Elsewhere(wait=False), pytest.raises(RuntimeError, match="waits for the device"):
            read()
    with Elsewhere(wait=False):
        assert isinstance(host.to("meta", non_blocking=True), There)


def test_a_tape_knows_nothing_of_python() -> None:
    """What is kept by a new tensor under an old name, or counted in Python, is lost in a replay, as in a graph."""
    x, total, tape = There(torch.ones(2)), There(torch.zeros(2)), Tape()
    kept: Any = total
    count = 0
    with Elsewhere(wait=False, tape=tape):
        total.add_(x)
        kept = kept + x
        count += 1
    for _ in range(2):
        tape.replay()
    assert (total.held.tolist(), kept.held.tolist(), count) == ([3.0, 3.0], [4.0, 4.0], 1)


def test_modules_move() -> None:
    model = torch.nn.BatchNorm1d(2)
    move(model)
    assert {t.device.type for t in model.state_dict().values()} == {"meta"}


def test_flags_are_left_alone_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA allows neither to record an event for later nor to ask for one then."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    kept, event = Deferred(), Mock()
    kept.put(Mock(device=torch.device("cuda")), Mock())
    assert kept.take() is None
    assert not kept._kept
    kept._kept = [(torch.ones(2, dtype=torch.bool), Mock(), event)]
    assert kept.take() is None
    event.query.assert_not_called()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert kept.take() is not None
