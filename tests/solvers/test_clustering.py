from functools import partial

import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from equipoise.solvers.clustering import LINKAGES, agglomerative, cluster_1d, quantile_bins


def draw(m: int, seed: int) -> Tensor:
    """Log-normal numbers, so that some are close together and some far apart."""
    return torch.randn(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(1.5).exp()


def in_halves(ordered: Tensor, k: int) -> tuple[Tensor, bool]:
    """A rule that names its groups in falling order and finds nothing."""
    return (torch.arange(len(ordered)) < len(ordered) // 2).long(), False


def test_the_frame_sorts_names_groups_by_their_means_and_passes_on_the_verdict() -> None:
    values = torch.tensor([5.0, -1.0, 3.0, 2.0, 9.0, 8.0])
    labels, converged = cluster_1d(values, 3, in_halves)
    assert labels.tolist() == [1, 0, 0, 0, 1, 1]
    assert (labels.dtype, bool(converged)) == (torch.long, False)


def test_a_rule_sees_the_present_numbers_in_rising_order() -> None:
    seen = []

    def rule(ordered: Tensor, k: int) -> tuple[Tensor, bool]:
        seen.append((ordered.tolist(), k))
        return torch.zeros(len(ordered), dtype=torch.long), True

    present = torch.tensor([True, False, True, True, True])
    labels, converged = cluster_1d(torch.tensor([4.0, 2.0, 1.0, torch.nan, 3.0]), 2, rule, present)
    assert seen == [([0.0, 1.0, 3.0, 4.0], 2)]
    assert labels.tolist() == [0, 0, 0, 0, 0]
    assert bool(converged)


def test_equal_numbers_share_a_group_whatever_the_rule_says() -> None:
    def every_other(ordered: Tensor, k: int) -> tuple[Tensor, bool]:
        return torch.arange(len(ordered)) % k, True

    # Sorted: 1 (label 0), 1 (1), 2 (0), 2 (1), 2 (0), 7 (1); the first of the equal ones decides.
    values = torch.tensor([2.0, 1.0, 7.0, 2.0 + 1e-15, 1.0, 2.0], dtype=torch.float64)
    assert cluster_1d(values, 2, every_other)[0].tolist() == [0, 0, 1, 0, 0, 0]
    # Sorted: 1 (label 0), 2 (1), 2 and a rounding (0), 7 (1).
    values = torch.tensor([2.0 + 1e-15, 1.0, 7.0, 2.0], dtype=torch.float64)
    assert cluster_1d(values, 2, every_other)[0].tolist() == [1, 0, 1, 1]


def test_no_more_distinct_numbers_than_groups_are_their_own_groups() -> None:
    for k in (2, 3, 7):
        values = torch.tensor([4.0, 1.0, 4.0, 1.0, 1.0 + 1e-16], dtype=torch.float64)
        assert cluster_1d(values, k, in_halves)[0].tolist() == [1, 0, 1, 0, 0]
    assert cluster_1d(torch.tensor([3.0, 1.0, 2.0]), 3, in_halves)[0].tolist() == [2, 0, 1]
    assert cluster_1d(torch.tensor([3.0, 1.0, 2.0]), 1, in_halves)[0].tolist() == [0, 0, 0]
    assert cluster_1d(torch.tensor([1e17, 1e17, 2e17]), 2, in_halves)[0].tolist() == [0, 0, 1]
    assert cluster_1d(torch.zeros(0), 2, in_halves)[0].shape == (0,)
    nobody = torch.zeros(3, dtype=torch.bool)
    assert cluster_1d(torch.ones(3), 2, in_halves, nobody)[0].tolist() == [0, 0, 0]


def test_the_frame_names_bad_input() -> None:
    with pytest.raises(ValueError, match=r"`values` should be one-dimensional\. Found shape \(2, 2\)\."):
        cluster_1d(torch.ones(2, 2), 2, in_halves)
    with pytest.raises(ValueError, match=r"`k` should be at least 1\. Found 0\."):
        cluster_1d(torch.ones(2), 0, in_halves)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_agglomeration_is_that_of_scikit_learn(linkage: str) -> None:
    for m in (3, 5, 11, 40):
        for k in range(1, min(m, 8) + 1):
            for seed in range(4):
                ordered = draw(m, seed).sort().values
                labels = agglomerative(ordered, k, linkage)
                theirs = AgglomerativeClustering(k, linkage=linkage).fit(ordered[:, None].numpy()).labels_
                assert adjusted_rand_score(labels.tolist(), theirs) == 1.0
                assert labels.unique(sorted=True).tolist() == list(range(k))
                assert bool((labels.diff() >= 0).all())


def test_the_nearest_pair_makes_chains_and_the_other_linkages_do_not() -> None:
    chain = torch.tensor([0.0, 1.0, 2.1, 3.3, 4.6, 6.4])
    found = {linkage: agglomerative(chain, 2, linkage).tolist() for linkage in LINKAGES}
    assert found["single"] == [0, 0, 0, 0, 0, 1]
    assert found["ward"] == found["average"] == found["complete"] == [0, 0, 0, 0, 1, 1]


def test_bins_of_ranks_have_sizes_that_differ_by_one() -> None:
    for m, k in ((11, 5), (40, 3), (7, 7), (3, 5), (6, 1)):
        labels = quantile_bins(draw(m, 0), k)
        sizes = torch.bincount(labels, minlength=k)
        assert int(sizes.max() - sizes.min()) <= 1
        assert bool((labels[draw(m, 0).argsort()].diff() >= 0).all())
        assert int(labels.max()) < k
    assert quantile_bins(torch.tensor([5.0, 1.0, 3.0, 2.0]), 2).tolist() == [1, 0, 1, 0]
    assert quantile_bins(torch.tensor([1.0, 1.0, 1.0, 4.0]), 2).tolist() == [0, 0, 0, 1]


def test_bins_leave_absent_numbers_out() -> None:
    values = torch.tensor([5.0, torch.nan, 1.0, -torch.inf, 3.0, 2.0])
    present = values.isfinite()
    assert quantile_bins(values, 2, present)[present].tolist() == [1, 0, 1, 0]
    assert quantile_bins(values, torch.tensor(4), present)[present].tolist() == [3, 0, 2, 1]
    assert quantile_bins(values, 3, torch.zeros(6, dtype=torch.bool)).tolist() == [0] * 6


def test_planted_groups_survive_noise_and_order() -> None:
    generator = torch.Generator().manual_seed(3)
    truth = torch.arange(11) % 3
    values = 4.0 * truth + 0.1 * torch.randn(11, generator=generator, dtype=torch.float64)
    order = torch.randperm(11, generator=generator)
    for linkage in LINKAGES:

        def rule(ordered: Tensor, k: int, linkage: str = linkage) -> tuple[Tensor, bool]:
            return agglomerative(ordered, k, linkage), True

        assert cluster_1d(values, 3, rule)[0].equal(truth)
        assert cluster_1d(values[order], 3, rule)[0].equal(truth[order])
    assert partial(quantile_bins, k=3)(torch.arange(9.0)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
