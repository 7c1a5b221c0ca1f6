import math

import pytest
import torch
from scipy.linalg import eigh
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.cluster._spectral import cluster_qr as cluster_qr_of_sklearn
from sklearn.cluster._spectral import discretize as discretize_of_sklearn
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from equipoise.solvers.spectral import (
    AFFINITIES,
    ASSIGNMENTS,
    cluster_qr,
    discretize,
    embedding,
    kmeans_rows,
    linear_affinity,
    rbf_affinity,
    spectral,
)


def draw(m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if seed % 2:
        return torch.rand(m, generator=generator, dtype=torch.float64).sort().values
    return torch.randn(m, generator=generator, dtype=torch.float64).mul(1.5).exp().sort().values


CASES = [(5, 2), (5, 3), (11, 2), (11, 5), (40, 3), (40, 5)]


def rows_of(m: int, k: int, seed: int) -> Tensor:
    return embedding(rbf_affinity(draw(m, seed), k), torch.ones(m), k, loops=True)


@pytest.mark.filterwarnings("ignore:Array is not writeable")
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize(("m", "k"), CASES)
def test_linear_affinity_is_the_published_variant(assignment: str, m: int, k: int) -> None:
    """The authors call scikit-learn with affinity="linear" and each assignment on gamma (m, 1)."""
    for seed in range(4):
        ordered = draw(m, seed)
        theirs = SpectralClustering(k, affinity="linear", assign_labels=assignment, random_state=0)
        ours = spectral(ordered, k, "linear", assignment)
        labels = theirs.fit(ordered[:, None].numpy()).labels_
        assert adjusted_rand_score(ours.tolist(), labels) == pytest.approx(1.0)


def test_linear_affinity_holds_no_groups() -> None:
    """Ten tasks in two groups far apart: the smallest number is split off, the groups are not seen."""
    ordered = torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4, 9.0, 9.1, 9.2, 9.3, 9.4], dtype=torch.float64)
    assert spectral(ordered, 2, "rbf").tolist() in ([0] * 5 + [1] * 5, [1] * 5 + [0] * 5)
    linear = spectral(ordered, 2, "linear")
    assert int(torch.bincount(linear).amin()) < 5


def test_rbf_width_is_half_of_the_gap_that_k_groups_keep() -> None:
    ordered = torch.tensor([0.0, 1.0, 4.0, 5.0, 11.0], dtype=torch.float64)  # gaps 1, 3, 1, 6
    assert rbf_affinity(ordered, 2)[0, 1].item() == pytest.approx(math.exp(-1.0 / (2 * 3.0**2)))
    assert rbf_affinity(ordered, 3)[1, 2].item() == pytest.approx(math.exp(-2.0))
    assert rbf_affinity(ordered, 3)[3, 4].item() == pytest.approx(math.exp(-36.0 / (2 * 1.5**2)))
    assert rbf_affinity(1e-6 * ordered + 3.0, 3).allclose(rbf_affinity(ordered, 3), rtol=1e-8)


@pytest.mark.parametrize("loops", [True, False])
def test_embedding_is_that_of_the_whole_graph(loops: bool) -> None:
    """The generalised eigenvectors of (A, D) for a graph that holds every copy, by scipy's solver."""
    distinct, counts = draw(5, 1), torch.tensor([1, 3, 1, 2, 1])
    place = torch.repeat_interleave(torch.arange(5), counts)
    affinity = rbf_affinity(distinct, 3)
    whole = affinity[place][:, place].clone()
    if not loops:
        whole.fill_diagonal_(0.0)
    vectors = eigh(whole.numpy(), torch.diag(whole.sum(1)).numpy())[1][:, -3:]
    rows = embedding(affinity, counts, 3, loops=loops)[place]
    # Vectors are unique up to sign, so compare what does not depend on it.
    torch.testing.assert_close(rows @ rows.T, torch.from_numpy(vectors @ vectors.T), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("m", "k"), CASES)
def test_cluster_qr_is_that_of_scikit_learn(m: int, k: int) -> None:
    for seed in range(8):
        rows = rows_of(m, k, seed)
        assert cluster_qr(rows).tolist() == cluster_qr_of_sklearn(rows.numpy()).tolist()


@pytest.mark.parametrize(("m", "k"), CASES)
def test_discretisation_fits_as_well_as_scikit_learn_does(m: int, k: int) -> None:
    """Both climb to a local optimum of the same sum of singular values, theirs from a random row."""
    fits = []
    for seed in range(8):
        rows = rows_of(m, k, seed)
        unit = rows / rows.norm(dim=1, keepdim=True)

        def fit(labels: Tensor, unit: Tensor = unit) -> float:
            members = torch.nn.functional.one_hot(labels, k).double()
            return float(torch.linalg.svdvals(members.T @ unit).sum())

        theirs = discretize_of_sklearn(rows.numpy().copy(), random_state=0)
        fits.append(fit(discretize(rows)) / fit(torch.from_numpy(theirs).long()))
    assert min(fits) > 0.99
    assert sum(fits) >= len(fits) - 1e-9


@pytest.mark.parametrize(("m", "k"), CASES)
def test_kmeans_of_rows_is_close_to_ten_random_starts(m: int, k: int) -> None:
    for seed in range(8):
        rows = rows_of(m, k, seed)
        members = torch.nn.functional.one_hot(kmeans_rows(rows), k).double()
        means = (members.T @ rows) / members.sum(0).clamp(min=1.0)[:, None]
        cost = float((rows - members @ means).square().sum())
        assert cost <= 1.05 * KMeans(k, n_init=10, random_state=0).fit(rows.numpy()).inertia_ + 1e-12


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_planted_groups_of_one_and_more_are_found(assignment: str) -> None:
    """Groups of 1, 2 and 8, spaced evenly or by four decades."""
    truth = torch.tensor([0] + [1] * 2 + [2] * 8)
    for centres in ([0.0, 1.0, 2.0], [-1e-4, 0.0, 3.0], [1e-3, 0.1, 10.0]):
        noise = 0.02 * (torch.tensor(centres).diff().min()) * draw(11, 1)
        ordered = torch.tensor(centres, dtype=torch.float64)[truth] + noise
        assert adjusted_rand_score(spectral(ordered, 3, "rbf", assignment).tolist(), truth.tolist()) == 1.0


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_odd_numbers_get_finite_groups(affinity: str, assignment: str) -> None:
    """Zeros, both signs, ten decades, and copies of one number."""
    for numbers in (
        [0.0, 1.0, 2.0],
        [-2.0, -1.0, 0.0, 3.0, 4.0],
        [1e-5, 2e-5, 1.0, 1e5, 1.1e5],
        [1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 7.0],
    ):
        ordered = torch.tensor(numbers, dtype=torch.float64)
        labels = spectral(ordered, 2, affinity, assignment)
        assert labels.shape == ordered.shape
        assert 0 <= int(labels.min()) <= int(labels.max()) <= 1
        assert all(labels[ordered == number].unique().numel() == 1 for number in ordered)


def test_negative_products_tie_nothing() -> None:
    assert linear_affinity(torch.tensor([-2.0, 1.0, 2.0])).tolist() == [
        [1, 0, 0],
        [0, 0.25, 0.5],
        [0, 0.5, 1],
    ]
    assert spectral(torch.tensor([-2.0, -1.0, 1.0, 3.0]).double(), 2, "linear").tolist() in (
        [0, 0, 1, 1],
        [1, 1, 0, 0],
    )
