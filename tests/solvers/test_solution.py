import pytest
import torch

from equipoise.solvers.cagrad import cagrad
from equipoise.solvers.fairness import nash
from equipoise.solvers.min_norm import min_norm
from equipoise.solvers.solution import certified, single_threaded, tolerance


@single_threaded
def threads_inside(fail: bool) -> int:
    if fail:
        raise RuntimeError("inside")
    return torch.get_num_threads()


@pytest.mark.parametrize("outside", [1, 2])
def test_one_thread_inside_and_as_many_as_before_outside(outside: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(outside)
        assert threads_inside(False) == 1
        assert torch.get_num_threads() == outside
        with pytest.raises(RuntimeError, match="inside"):
            threads_inside(True)
        assert torch.get_num_threads() == outside
        min_norm(torch.eye(3))
        assert torch.get_num_threads() == outside
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("solver", [nash, min_norm, cagrad])
def test_a_gramian_of_the_wrong_shape_or_type_is_named(solver) -> None:  # type: ignore[no-untyped-def]
    for shape in ((2, 3), (4,), (0, 0)):
        found = str(shape).replace("(", r"\(").replace(")", r"\)")
        expected = rf"`gramian` should be a square matrix with at least one row\. Found shape {found}\."
        with pytest.raises(ValueError, match=expected):
            solver(torch.ones(shape))
    with pytest.raises(
        ValueError, match=r"`gramian` should hold floating point numbers\. Found torch\.int64\."
    ):
        solver(torch.ones(2, 2, dtype=torch.long))


@pytest.mark.parametrize("solver", [nash, min_norm, cagrad])
def test_a_graph_is_not_kept(solver) -> None:  # type: ignore[no-untyped-def]
    gramian = (2.0 * torch.eye(3)).requires_grad_()
    assert not solver(gramian).weights.requires_grad


def test_tolerance_follows_the_precision_of_the_gramian() -> None:
    assert tolerance(torch.float64) == 1e-8
    assert 1e-7 < tolerance(torch.float32) < 1e-5


def test_an_answer_is_flagged_by_its_gap_and_replaced_where_it_is_not_finite() -> None:
    weights = torch.tensor([0.25, 0.75, 1.0, 2.0], dtype=torch.float64)
    for gap, converged in ((1e-9, True), (1e-8, True), (1e-7, False)):
        found = certified(weights, torch.tensor(gap, dtype=torch.float64), torch.float64)
        assert bool(found.converged) == converged
        assert torch.equal(found.weights, weights)
    weights[2] = torch.nan
    found = certified(weights, torch.tensor(0.0, dtype=torch.float64), torch.float32)
    assert not bool(found.converged)
    assert found.weights.tolist() == [0.25] * 4
    assert found.weights.dtype == torch.float32
