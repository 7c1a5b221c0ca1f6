"""Aligned-MTL against the singular value decomposition of the gradients, and torchjd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import AlignedMTLWeighting

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.aligned_mtl import AlignedMTL

SCALES = ("min", "median", "rmse")


def weights_for(method: eq.Method, jacobian: Tensor) -> Tensor:
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T))


def aligned(jacobian: Tensor, scale: str, rank: int) -> Tensor:
    """The mean of the gradients whose singular values are all replaced by one."""
    left, values, right = torch.linalg.svd(jacobian, full_matrices=False)
    squares = sorted(float(value) ** 2 for value in values[:rank])
    chosen = {"min": squares[0], "median": squares[(rank - 1) // 2], "rmse": sum(squares) / rank}[scale]
    answer: Tensor = chosen**0.5 * (left[:, :rank] @ right[:rank]).mean(0)
    return answer


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize("scale", SCALES)
def test_all_singular_values_become_one(kind: str, scale: str) -> None:
    for m in (1, 2, 3, 6):
        for seed in range(5):
            jacobian = draw_jacobian(kind, m, 20, seed)
            found = weights_for(AlignedMTL(m, scale=scale, tolerance=1e-13), jacobian) @ jacobian
            torch.testing.assert_close(found, aligned(jacobian, scale, m), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_dependent_gradients_use_the_singular_values_that_there_are(scale: str) -> None:
    for seed in range(5):
        jacobian = draw_jacobian("rank_deficient", 6, 20, seed)
        found = weights_for(AlignedMTL(6, scale=scale), jacobian) @ jacobian
        torch.testing.assert_close(found, aligned(jacobian, scale, 3), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_torchjd_agrees(scale: str) -> None:
    other = AlignedMTLWeighting(scale_mode=scale)
    for m in (2, 3, 11):
        jacobian = draw_jacobian("conflict", m, 60, m)
        weights = weights_for(AlignedMTL(m, scale=scale), jacobian)
        torch.testing.assert_close(weights, other(jacobian @ jacobian.T), rtol=1e-7, atol=1e-10)


def test_tolerance_decides_what_counts_as_zero() -> None:
    for short, kept in ((1e-3, True), (4e-4, False)):
        jacobian = torch.diag(torch.tensor([1.0, short])).double()
        expected = [0.5 * short, 0.5] if kept else [0.5, 0.0]
        assert weights_for(AlignedMTL(2), jacobian).tolist() == pytest.approx(expected)
    assert weights_for(AlignedMTL(2, tolerance=0.0), jacobian).tolist() == pytest.approx([2e-4, 0.5])


def test_zero_gradients_get_equal_weights() -> None:
    assert weights_for(AlignedMTL(4), torch.zeros(4, 3).double()).tolist() == [0.25] * 4


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`scale` should be one of min, median, rmse\. Found 'mean'\."):
        AlignedMTL(2, scale="mean")
    with pytest.raises(ValueError, match=r"`tolerance` should be at least 0\. Found -1\."):
        AlignedMTL(2, tolerance=-1.0)
