import math
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise.solvers.auto_k import (
    CRITERIA,
    Reference,
    kmeans_auto,
    most_groups,
    partitions,
    uniform_reference,
)
from equipoise.solvers.kmeans import kmeans_1d

SYNCING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")


def uniform(m: int, seed: int) -> Tensor:
    return torch.rand(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(m: int, k: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers around 0, 1, ..., k - 1, in groups that differ in size by one at most, and their groups."""
    truth = torch.arange(m) % k
    spread = torch.randn(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return truth + noise * spread, truth


def reference_of(criterion: str, m: int) -> Reference | None:
    return uniform_reference(m, torch.Generator().manual_seed(0)) if criterion == "gap" else None


def cost(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def all_costs(values: Tensor, most: int) -> list[tuple[float, list[int]]]:
    """The least cost in 1, 2, ... groups and the sizes of these groups, over all cuts of the sorted values."""
    ordered, m = sorted(values.tolist()), len(values)
    best = []
    for k in range(1, most + 1):
        cuts = [(0, *cut, m) for cut in combinations(range(1, m), k - 1)]
        found = min(cuts, key=lambda ends: math.fsum(cost(ordered[a:b]) for a, b in pairwise(ends)))
        sizes = [b - a for a, b in pairwise(found)]
        best.append((math.fsum(cost(ordered[a:b]) for a, b in pairwise(found)), sizes))
    return best


def by_hand(values: Tensor, reference: Reference | None) -> int:
    """The number of groups from the formulas of the docstring."""
    n, most = len(values), most_groups(len(values))
    found = all_costs(values, most)
    if reference is None:
        scores = [
            n * math.log(w / (n - k))
            + (n - k)
            + 2 * sum(s * math.log(n / s) for s in sizes)
            + 2 * k * math.log(n)
            for k, (w, sizes) in enumerate(found, 1)
        ]
        return scores.index(min(scores)) + 1
    width = float(values.max() - values.min())
    gaps = [
        float(reference.mean[n - 1, k]) + math.log(width**2) - math.log(w) for k, (w, _) in enumerate(found)
    ]
    best = gaps.index(max(gaps))
    return next(
        k + 1 for k, gap in enumerate(gaps) if gap >= gaps[best] - float(reference.error[n - 1, best])
    )


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("m", [3, 4, 7, 10])
def test_choice_is_the_formula_over_all_partitions(criterion: str, m: int) -> None:
    reference = reference_of(criterion, m)
    chosen = set()
    for seed in range(30):
        values = uniform(m, seed) if seed % 2 else planted(m, 2 + seed % 3, 0.1, seed)[0]
        labels = kmeans_auto(values, None, reference)
        k = by_hand(values, reference)
        chosen.add(k)
        assert int(labels.max()) + 1 == k
        assert labels.equal(kmeans_1d(values, k))
    assert len(chosen) > 1


@pytest.mark.parametrize("kind", ["uniform", "decades"])
def test_costs_are_the_least_of_all_partitions(kind: str) -> None:
    for m in (1, 2, 5, 9):
        values = uniform(m, m) if kind == "uniform" else 10.0 ** (8.0 * uniform(m, m) - 4.0)
        found = partitions(values.sort().values, torch.ones(m, dtype=torch.float64), m).costs[:, -1]
        expected = [least for least, _ in all_costs(values, m)]
        assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12 * expected[0] + 1e-300)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_planted_numbers_of_groups_are_found(criterion: str) -> None:
    """The share that the docstring states, and without a bias the groups themselves."""
    hits = []
    for m, ks in ((11, (2, 3, 5)), (40, (2, 5, 8))):
        reference = reference_of(criterion, m)
        for k in ks:
            for seed in range(10):
                values, truth = planted(m, k, 0.05, seed)
                labels = kmeans_auto(values, None, reference)
                hits.append(labels.equal(truth))
    assert sum(hits) >= 0.7 * len(hits)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_groups_without_noise_are_found_and_equal_numbers_are_one(criterion: str) -> None:
    reference = reference_of(criterion, 12)
    for k in (2, 3, 4):
        truth = torch.arange(12) % k
        assert kmeans_auto(0.1 + 3.0 * truth.double(), None, reference).equal(truth)
        assert kmeans_auto(1e9 + 3.0 * truth.double(), None, reference).equal(truth)
    jitter = torch.arange(12).double() * 1e-16
    for equal in (torch.ones(12), torch.zeros(12), 1.0 + jitter, -1e6 * (1.0 + jitter)):
        assert kmeans_auto(equal, None, reference).unique().numel() == 1


@pytest.mark.parametrize("criterion", CRITERIA)
def test_differences_below_a_millionth_of_the_spread_make_no_groups(criterion: str) -> None:
    """Without that floor the four heaps of equal numbers would fit without any error."""
    values = torch.tensor([0.0, 1e-9, 1.0, 1.0 + 1e-9], dtype=torch.float64).repeat(3)
    labels = kmeans_auto(values, None, reference_of(criterion, 12))
    assert labels.tolist() == [0, 0, 1, 1] * 3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_and_two_numbers_are_one_group_and_three_may_be_two(criterion: str) -> None:
    for m in (0, 1, 2):
        assert (
            kmeans_auto(uniform(m, 0), None, reference_of(criterion, max(m, 1)) if m else None).tolist()
            == [0] * m
        )
    three = torch.tensor([1.0, 5.0, 1.01])
    assert kmeans_auto(three, None, reference_of(criterion, 3)).tolist() == [0, 1, 0]
    assert [most_groups(m) for m in (1, 2, 3, 4, 11, 40)] == [1, 1, 2, 2, 6, 20]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("filling", [0.0, torch.inf, torch.nan, 1e30])
def test_absent_numbers_change_nothing(criterion: str, filling: float) -> None:
    """A mask gives what the present numbers give alone, with the reference for as many."""
    reference = reference_of(criterion, 11)
    for seed in range(12):
        values = planted(11, 2 + seed % 2, 0.02, seed)[0]
        present = uniform(11, seed) < 0.7
        present[0] = True
        n = int(present.sum())
        row = None if reference is None else Reference(*(table[:n, : most_groups(n)] for table in reference))
        alone = kmeans_auto(values[present], None, row)
        assert kmeans_auto(torch.where(present, values, filling), present, reference)[present].equal(alone)
    nobody = kmeans_auto(
        torch.full((5,), filling), torch.zeros(5, dtype=torch.bool), reference_of(criterion, 5)
    )
    assert nobody.shape == (5,)
    assert 0 <= int(nobody.min()) <= int(nobody.max()) < 5


@pytest.mark.parametrize("criterion", CRITERIA)
def test_order_shift_and_scale_do_not_matter(criterion: str) -> None:
    reference = reference_of(criterion, 15)
    for seed in range(10):
        values = planted(15, 3, 0.1, seed)[0]
        labels = kmeans_auto(values, None, reference)
        order = uniform(15, seed).argsort()
        assert kmeans_auto(values[order], None, reference).equal(labels[order])
        assert kmeans_auto(50.0 + 1e-3 * values, None, reference).equal(labels)


def test_reference_is_that_of_separate_draws_for_every_count() -> None:
    """Prefixes of one draw have the distribution of draws of their own."""
    reference = uniform_reference(9, torch.Generator().manual_seed(1), draws=2000)
    generator = torch.Generator().manual_seed(2)
    for n in (3, 5, 9):
        drawn = []
        for _ in range(2000):
            values = torch.rand(n, generator=generator, dtype=torch.float64).sort().values
            drawn.append(
                partitions(values, torch.ones(n, dtype=torch.float64), most_groups(n)).costs[:, -1].log()
            )
        apart = torch.stack(drawn)
        standard_error = apart.std(0) / 2000**0.5
        assert bool(
            ((reference.mean[n - 1, : most_groups(n)] - apart.mean(0)).abs() < 6 * standard_error).all()
        )
        spread = reference.error[n - 1, : most_groups(n)]
        torch.testing.assert_close(spread, apart.std(0), rtol=0.15, atol=0)


def test_reference_is_the_same_for_the_same_seed() -> None:
    first, second, other = (uniform_reference(5, torch.Generator().manual_seed(s), 10) for s in (0, 0, 1))
    assert first.mean.equal(second.mean)
    assert first.error[4].equal(second.error[4])
    assert bool(first.error[4].isfinite().all())
    assert not first.mean[4].equal(other.mean[4])


class NoSync(TorchDispatchMode):
    """Fails at every operation whose result Python would have to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(name in str(func) for name in SYNCING), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("masked", [False, True])
def test_no_value_is_sent_to_the_host(criterion: str, masked: bool) -> None:
    """A meta tensor has no values at all, and refuses to meet a tensor of another device."""
    values, reference = uniform(11, 0), reference_of(criterion, 11)
    present = values > 0.3 if masked else None
    with NoSync():  # type: ignore[no-untyped-call]
        kmeans_auto(values, present, reference)
    there = None if reference is None else Reference(*(table.to("meta") for table in reference))
    nothing = None if present is None else present.to("meta")
    assert kmeans_auto(values.to("meta"), nothing, there).shape == (11,)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`values` should be one-dimensional\. Found shape \(2, 2\)\."):
        kmeans_auto(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"`reference` should be for 4 values\. Found one for 3\."):
        kmeans_auto(torch.ones(4), None, reference_of("gap", 3))
