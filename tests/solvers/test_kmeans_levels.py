import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise.solvers import kmeans
from equipoise.solvers.kmeans import DENSE, kmeans_1d
from equipoise.solvers.kmeans_levels import borders_by_levels

SYNCING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")
KINDS = ("uniform", "clustered", "heaps", "tight", "decades", "far from zero")


def draw(kind: str, m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(m, generator=generator, dtype=torch.float64)
    noise = torch.randn(m, generator=generator, dtype=torch.float64)
    match kind:
        case "uniform":
            return values
        case "clustered":
            return (5.0 * values).floor() + 0.1 * noise
        case "heaps":
            return (8.0 * values).floor()
        case "tight":
            return (4.0 * values).floor() + 1e-7 * noise
        case "decades":
            return 10.0 ** (6.0 * values - 3.0)
        case "far from zero":
            return 4e9 + values
        case _:
            raise AssertionError(kind)


def sum_of_squares(group: NDArray[np.float64]) -> float:
    if not len(group):
        return 0.0
    offsets = group - group.min()  # a mean far from zero would be rounded by more than tight values differ
    return math.fsum((offsets - math.fsum(offsets) / len(group)) ** 2)


def cost_of(values: Tensor, labels: Tensor, k: int) -> float:
    points, groups = values.numpy(), labels.numpy()
    return math.fsum(sum_of_squares(points[groups == label]) for label in range(k))


def least_cost(values: Tensor, k: int) -> float:
    """The plain recursion over all last groups, with costs updated value by value around a running mean."""
    points = np.sort(values.numpy())
    m = len(points)
    costs = np.zeros((m, m))  # from i to j
    for i in range(m):
        mean, total = 0.0, 0.0  # of the distances to the first value
        for j in range(i + 1, m):
            offset = points[j] - points[i]
            step = offset - mean
            mean += step / (j - i + 1)
            total += step * (offset - mean)
            costs[i, j] = total
    least = costs[0].copy()
    for _ in range(k - 1):
        least = np.array(
            [min(least[j], (least[:j] + costs[1 : j + 1, j]).min(initial=np.inf)) for j in range(m)]
        )
    return float(least[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "k"), [(301, 3), (340, 9), (617, 5)])
def test_total_cost_is_that_of_the_plain_recursion(kind: str, m: int, k: int) -> None:
    assert m > DENSE
    values = draw(kind, m, m + k)
    labels = kmeans_1d(values, k)
    assert cost_of(values, labels, k) == pytest.approx(least_cost(values, k), rel=1e-10, abs=1e-300)
    ordered = labels[values.argsort(stable=True)]
    assert bool((ordered.diff() >= 0).all())
    assert all(len(labels[values == value].unique()) == 1 for value in values[:50])


@pytest.mark.parametrize("kind", KINDS)
def test_small_sizes_with_absent_values_are_those_of_the_plain_recursion(kind: str) -> None:
    """Sizes around whole blocks, where the last block is full, almost full and almost empty."""
    for m in (7, 64, 65, 80, 81, 95, 129):
        for k in (2, 3, 6):
            values = draw(kind, m, m)
            counts = (torch.rand(m, generator=torch.Generator().manual_seed(k)) < 0.7).double()
            present = values[counts > 0.0]
            ordered, order = torch.where(counts > 0.0, values, present.max()).sort()
            labels = torch.searchsorted(borders_by_levels(ordered, counts[order], k), present)
            expected = least_cost(present, k)
            assert cost_of(present, labels, k) == pytest.approx(expected, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize(("m", "k"), [(65, 3), (200, 5), (617, 5), (1025, 4), (1300, 12)])
def test_both_forms_find_the_same_groups(m: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1,025 values on there are three levels."""
    for kind in ("uniform", "clustered", "decades"):
        values = draw(kind, m, m)
        found = []
        for dense in (0, m):
            monkeypatch.setattr(kmeans, "DENSE", dense)
            found.append(kmeans_1d(values, k))
        assert found[0].equal(found[1])


def test_many_levels_of_equal_groups_are_found() -> None:
    """20,000 values in planted heaps: beyond what all intervals would take, and the answer is known."""
    truth = torch.randint(7, (20_000,), generator=torch.Generator().manual_seed(0))
    noise = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert kmeans_1d(truth + 0.1 * noise, 7).equal(truth)


@pytest.mark.parametrize("filling", [torch.inf, torch.nan, -1e30])
def test_absent_values_change_nothing(filling: float) -> None:
    for kind in KINDS:
        values = draw(kind, 640, 3)
        present = torch.rand(640, generator=torch.Generator().manual_seed(4)) < 0.6
        alone = values[present]
        labels = kmeans_1d(torch.where(present, values, filling), 5, present)
        assert int(labels.min()) >= 0
        assert int(labels.max()) < 5
        expected = cost_of(alone, kmeans_1d(alone, 5), 5)
        assert cost_of(alone, labels[present], 5) == pytest.approx(expected, rel=1e-10, abs=1e-300)
    nobody = kmeans_1d(torch.full((400,), filling), 4, torch.zeros(400, dtype=torch.bool))
    assert 0 <= int(nobody.min()) <= int(nobody.max()) < 4


def test_more_groups_than_distinct_values_cost_nothing() -> None:
    values = draw("heaps", 500, 0)
    for k in (8, 9, 30, 499):
        labels = kmeans_1d(values, k)
        assert cost_of(values, labels, k) == 0.0
        assert int(labels.max()) < k
    assert kmeans_1d(torch.ones(500), 3).unique().numel() == 1


def test_small_groups_are_told_apart_beside_huge_distances() -> None:
    """Sums of squares around one common point would lose them: 1e20 beside 1e-8."""
    fine = torch.cat([torch.full((100,), value, dtype=torch.float64) for value in (0.0, 1e-4, 3e-4, 4e-4)])
    labels = kmeans_1d(torch.cat((fine, torch.tensor([1e10], dtype=torch.float64))), 4)
    assert labels.tolist() == [0] * 100 + [1] * 100 + [2] * 200 + [3]


class NoSync(TorchDispatchMode):
    """Fails at every operation whose result Python would have to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(name in str(func) for name in SYNCING), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("m", [617, 1100])
@pytest.mark.parametrize("masked", [False, True])
def test_no_value_is_sent_to_the_host(m: int, masked: bool) -> None:
    """A meta tensor has no values at all, and refuses to meet a tensor of another device."""
    values = draw("uniform", m, 0)
    present = values > 0.3 if masked else None
    with NoSync():  # type: ignore[no-untyped-call]
        kmeans_1d(values, 5, present)
    nothing = None if present is None else present.to("meta")
    assert kmeans_1d(values.to("meta"), 5, nothing).shape == (m,)
