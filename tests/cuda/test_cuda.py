"""What only a CUDA device can show. `make test-cuda` runs it; test_same_on_cpu.py runs the same functions without one.

Run on an H200 (torch 2.11, Python 3.12) in November 2026; docs/design.md says what it found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

import device_cases as cases
import equipoise as eq

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which deterministic algorithms ask for
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing was checked"),
    pytest.mark.filterwarnings("default"),  # those of drivers and devices are not ours
]
SPECS = [*sorted(eq.METHODS), *cases.WRAPPED]
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("spec", cases.QUIET)
def test_steps_of_losses_do_not_wait(spec: str, accumulate: int) -> None:
    cases.quiet_steps(spec, "cuda", accumulate)


def test_the_watch_sees_a_wait() -> None:
    with cases.on("cuda", wait=False), pytest.raises(RuntimeError, match="synchronizing"):
        torch.ones((), device="cuda").item()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("spec", SPECS)
def test_steps_are_those_on_the_cpu(spec: str, dtype: torch.dtype) -> None:
    found = cases.trained(spec, "cuda", dtype)
    if (
        spec == "graddrop"
    ):  # draws as many numbers as there are parameters, where they lie: others than the CPU
        return
    expected = cases.trained(spec, "cpu", dtype)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        other, limit = expected[name].double(), TOLERANCES[dtype]
        scale = max(float(other.abs().nan_to_num().max()), 1e-3) if other.numel() else 1.0
        torch.testing.assert_close(
            value.double(), other, rtol=limit, atol=limit * scale, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("spec", [*cases.GRADIENTS, *cases.CLUSTERINGS])
def test_answers_are_those_on_the_cpu(spec: str) -> None:
    if spec == "graddrop":
        pytest.skip("draws other numbers on another device")
    for mine, expected in zip(cases.answers(spec, "cuda"), cases.answers(spec, "cpu"), strict=True):
        scale = max(float(expected.abs().max()), 1e-300)
        torch.testing.assert_close(mine / scale, expected / scale, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_that_overflows_leaves_no_trace(spec: str) -> None:
    skipped, with_overflow = cases.scaled_steps(spec, "cuda", overflow=True)
    none, without = cases.scaled_steps(spec, "cuda", overflow=False)
    assert (skipped, none) == (1, 0)
    for name, value in without.items():
        torch.testing.assert_close(with_overflow[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_under_bfloat16_autocast(spec: str) -> None:
    mine, plain = cases.autocast_step(spec, "cuda")
    assert bool(mine.isfinite().all())
    if not isinstance(eq.build_method(spec, 3), eq.Aggregator):
        # Clipping and heads' own weights leave the direction as it is.
        assert float(torch.cosine_similarity(mine, plain, dim=0)) > 0.999


def test_which_steps_can_be_captured() -> None:
    """All are tried, so that the message tells the whole list to the first one who runs it."""
    failed: dict[str, str] = {}
    for spec in [*cases.CAPTURED, *cases.UNCAPTURED]:
        try:
            found, expected = (cases.captured(spec, "cuda", capture=capture) for capture in (True, False))
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        except (AssertionError, RuntimeError) as error:
            failed[spec] = str(error).splitlines()[0]
    claimed = {spec: why for spec, why in failed.items() if spec not in cases.UNCAPTURED}
    assert not claimed, f"claimed to be captured, and not: {claimed}; all that failed: {sorted(failed)}"


@pytest.mark.parametrize("kind", ["mlp", "conv no norm", "attention"])
@pytest.mark.parametrize("mode", ["rows_cpu", "layerwise", "factored", "features", "last_layer"])
def test_memory_modes_are_those_on_the_cpu(mode: str, kind: str) -> None:
    gramian, gradients = cases.gramians(mode, "cuda", kind)
    expected, others = cases.gramians(mode if mode in ("features", "last_layer") else "rows", "cpu", kind)
    torch.testing.assert_close(gramian, expected, rtol=1e-8, atol=1e-10)
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


def test_a_sketch_is_near_on_the_device() -> None:
    estimate, exact = (cases.gramians(mode, "cuda", "mlp")[0] for mode in ("sketch", "rows"))
    lengths = exact.diagonal().sqrt()
    assert float(((estimate - exact) / lengths / lengths[:, None]).abs().max()) < 0.15


@pytest.mark.parametrize(("mode", "limit"), [("factored", 1.2), ("sketch", 1.5)])
def test_peak_memory(mode: str, limit: float) -> None:
    """Ten tasks on four linear layers of 2048 x 2048."""
    assert cases.extra_memory(mode) <= limit


@pytest.mark.parametrize("number", [1, 2])
def test_ranks_are_one_with_all_data(number: int, tmp_path: Path) -> None:
    if torch.cuda.device_count() < number:
        pytest.skip(f"needs {number} CUDA devices")
    specs = ["ls", "uw", "famo", "mgda", "nashmtl"]
    spawn(cases.parallel, (number, "nccl", str(tmp_path), specs), number)
    for rank in range(number):
        for spec, parameters in torch.load(tmp_path / f"found{rank}.pt", weights_only=True).items():
            expected = cases.trained(spec, "cpu", steps=5)
            for i, mine in enumerate(parameters):
                torch.testing.assert_close(mine, expected[f"parameter {i}"], rtol=1e-8, atol=1e-10)


@pytest.fixture
def _deterministic() -> Iterator[None]:
    """Two runs of the same steps may differ in a last bit without."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("spec", SPECS)
def test_ten_steps_are_five_and_five(spec: str) -> None:
    whole, parts = (cases.resumed(spec, "cuda", stop) for stop in (False, True))
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
