from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise, product

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise.solvers.kmeans import group_means, kmeans_1d

SYNCING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")


def draw_values(kind: str, m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(m, generator=generator, dtype=torch.float64)
    match kind:
        case "uniform":
            return values
        case "equal":
            return (4.0 * values).floor()
        case "decades":
            return 10.0 ** (10.0 * values - 5.0)
        case "signed decades":
            return 10.0 ** (10.0 * values - 5.0) * torch.randn(m, generator=generator, dtype=torch.float64)
        case "far from zero":
            return 4e15 + (8.0 * values).floor()
        case _:
            raise AssertionError(kind)


VALUE_KINDS = ("uniform", "equal", "decades", "signed decades", "far from zero")


def cost(groups: Sequence[Sequence[float]]) -> Fraction:
    """The sum of squares around the group means, in exact arithmetic."""
    total = Fraction(0)
    for group in groups:
        points = [Fraction(value) for value in group]
        if points:
            mean = sum(points, Fraction(0)) / len(points)
            total += sum(((point - mean) ** 2 for point in points), Fraction(0))
    return total


def cost_of(values: Tensor, labels: Tensor, k: int) -> Fraction:
    return cost([values[labels == label].tolist() for label in range(k)])


def least_cost(values: Sequence[float], k: int) -> Fraction:
    """The least cost over all ways to cut the sorted values into k intervals, some of them empty."""
    ordered, m = sorted(values), len(values)
    cuts = combinations(range(1, m), min(k, m) - 1)
    borders = ((0, *cut, m) for cut in cuts)
    return min(cost([ordered[a:b] for a, b in pairwise(ends)]) for ends in borders)


@pytest.mark.parametrize("kind", VALUE_KINDS)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_no_cut_of_the_sorted_values_is_better(kind: str, k: int) -> None:
    for seed in range(40):
        m = 1 + seed % 10
        values = draw_values(kind, m, seed)
        labels = kmeans_1d(values, k)
        assert cost_of(values, labels, k) <= least_cost(values.tolist(), k) * (1 + Fraction(1, 10**9))


def test_no_partition_at_all_is_better() -> None:
    for seed in range(6):
        values = draw_values("uniform", 6, seed)
        found = cost_of(values, kmeans_1d(values, 3), 3)
        best = min(cost_of(values, torch.tensor(labels), 3) for labels in product(range(3), repeat=6))
        assert found <= best * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize(("m", "k"), [(11, 2), (11, 5), (40, 2), (40, 5), (617, 5)])
def test_restarted_lloyd_is_never_better(m: int, k: int) -> None:
    for seed in range(3):
        values = draw_values("decades" if seed == 2 else "uniform", m, seed)
        labels = kmeans_1d(values, k)
        found = float(cost_of(values, labels, k))
        lloyd = KMeans(n_clusters=k, n_init=50, random_state=seed).fit(values[:, None].numpy())
        assert found <= lloyd.inertia_ * (1 + 1e-9)
        if m == 11:
            assert found == pytest.approx(lloyd.inertia_, rel=1e-9)


def test_small_clusters_are_told_apart_beside_huge_values() -> None:
    values = torch.tensor([0.0, 1.0, 3.0, 1e10], dtype=torch.float64)
    assert kmeans_1d(values, 3).tolist() == [0, 0, 1, 2]
    values = torch.tensor([1e-5, 3e-5, 4e-5, 7.0, 1e10], dtype=torch.float64)
    assert kmeans_1d(values, 4).tolist() == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_labels_rise_with_the_values_and_equal_values_share_one(k: int) -> None:
    for seed in range(20):
        values = draw_values("equal" if seed % 2 else "uniform", 12, seed)
        labels = kmeans_1d(values, k)
        assert labels.dtype == torch.long
        assert int(labels.min()) >= 0
        assert int(labels.max()) < k
        ordered = labels[values.argsort(stable=True)]
        assert bool((ordered.diff() >= 0).all())
        assert all(len(labels[values == value].unique()) == 1 for value in values)


@pytest.mark.parametrize("k", [2, 5])
def test_grouping_follows_the_order_the_shift_and_the_scale_of_the_values(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        values = draw_values("uniform", 15, seed)
        labels = kmeans_1d(values, k)
        order = torch.randperm(15, generator=generator)
        assert kmeans_1d(values[order], k).equal(labels[order])
        assert kmeans_1d(1e3 + 1e-4 * values, k).equal(labels)
        assert kmeans_1d(values.float(), k).equal(kmeans_1d(values.float().double(), k))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("filling", [0.0, torch.inf, torch.nan, 1e30])
def test_absent_values_change_nothing(k: int, filling: float) -> None:
    generator = torch.Generator().manual_seed(1)
    for seed in range(60):
        m = 2 + seed % 11
        values = draw_values(VALUE_KINDS[seed % 5], m, seed)
        present = torch.rand(m, generator=generator) < 0.6
        present[seed % m] = True
        labels = kmeans_1d(torch.where(present, values, filling), k, present)
        assert int(labels.min()) >= 0
        assert int(labels.max()) < k
        alone = values[present]
        best = cost_of(alone, kmeans_1d(alone, k), k)
        assert cost_of(alone, labels[present], k) <= best * (1 + Fraction(1, 10**9))


def test_nothing_present_still_gives_valid_labels() -> None:
    for k in (1, 2, 3, 7):
        labels = kmeans_1d(torch.full((5,), torch.nan), k, torch.zeros(5, dtype=torch.bool))
        assert labels.shape == (5,)
        assert int(labels.min()) >= 0
        assert int(labels.max()) < k


def test_more_groups_than_distinct_values_leave_groups_empty() -> None:
    values = torch.tensor([2.0, 1.0, 2.0, 1.0, 2.0, 2.0])
    for k in (2, 3, 4, 5, 6, 9):
        labels = kmeans_1d(values, k)
        assert cost_of(values, labels, k) == 0
    assert kmeans_1d(torch.ones(7), 3).unique().numel() == 1
    assert kmeans_1d(torch.tensor([3.0, 1.0, 2.0]), 3).tolist() == [2, 0, 1]
    assert kmeans_1d(torch.ones(1), 4).tolist() == [0]
    assert kmeans_1d(torch.ones(0), 2).shape == (0,)


class NoSync(TorchDispatchMode):
    """Fails at every operation whose result Python would have to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(name in str(func) for name in SYNCING), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("masked", [False, True])
def test_no_value_is_sent_to_the_host(k: int, masked: bool) -> None:
    values = draw_values("uniform", 40, 0)
    present = values > 0.3 if masked else None
    with pytest.raises(AssertionError), NoSync():  # type: ignore[no-untyped-call]
        values.sum().item()
    with NoSync():  # type: ignore[no-untyped-call]
        labels = kmeans_1d(values, k, present)
        group_means(values, labels, k, present)
    # A meta tensor has no values at all, and refuses to meet a tensor of another device.
    nothing = None if present is None else present.to("meta")
    assert kmeans_1d(values.to("meta"), k, nothing).shape == (40,)


def test_group_means_are_the_means_of_the_present_members() -> None:
    values = torch.tensor([1.0, 5.0, 3.0, 7.0, torch.nan])
    labels = torch.tensor([0, 2, 0, 2, 2])
    present = torch.tensor([True, True, True, True, False])
    weights, centres = group_means(values, labels, 4, present)
    assert weights.tolist() == [2.0, 6.0, 2.0, 6.0, 0.0]
    assert centres.tolist() == [2.0, 0.0, 6.0, 0.0]
    weights, centres = group_means(values[:4], labels[:4], 3)
    assert weights.tolist() == [2.0, 6.0, 2.0, 6.0]
    assert centres.dtype == values.dtype


def test_group_means_without_anyone_present_are_zero() -> None:
    weights, centres = group_means(
        torch.ones(3), torch.zeros(3, dtype=torch.long), 2, torch.zeros(3, dtype=torch.bool)
    )
    assert weights.tolist() == [0.0, 0.0, 0.0]
    assert centres.tolist() == [0.0, 0.0]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`k` should be at least 1\. Found 0\."):
        kmeans_1d(torch.ones(3), 0)
    with pytest.raises(ValueError, match=r"`values` should be one-dimensional\. Found shape \(2, 2\)\."):
        kmeans_1d(torch.ones(2, 2), 2)
