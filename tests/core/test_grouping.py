"""Every clustering as an option of `Grouping`, and of the method and the wrapper that carry it."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

import equipoise as eq
from equipoise.core.grouping import CLUSTERINGS, Grouping
from equipoise.solvers.kmeans import kmeans_1d
from equipoise.wrappers import Grouped

SPECTRAL = tuple(
    f"spectral-{affinity}-{assignment}"
    for affinity in CLUSTERINGS["spectral"][0]
    for assignment in CLUSTERINGS["spectral"][1]
)
AGGLOMERATIVE = tuple(f"agglomerative-{linkage}" for linkage in CLUSTERINGS["agglomerative"][0])
FROM_NUMBERS = ("kmeans", *SPECTRAL, "sdp", *AGGLOMERATIVE, "quantile")
DRAWN = ("random", "shuffled")
EVERY = (*FROM_NUMBERS, *DRAWN, "none", "given")
# The rank-one affinity of the published code sees no groups: see test_spectral.
SEE_GROUPS = tuple(name for name in FROM_NUMBERS if "linear" not in name)


def build(clustering: str, m: int, groups: int | str) -> Grouping:
    k = groups if isinstance(groups, int) else 1
    given = [task % k for task in range(m)] if clustering == "given" else None
    return Grouping(m, groups, clustering=clustering, assignment=given)


def planted(m: int, k: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indicators around 1, 2, ..., k in groups of equal size but for one task, and the groups."""
    truth = torch.arange(m) % k
    spread = torch.randn(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 1.0 + truth + noise * spread, truth


@pytest.mark.parametrize("clustering", SEE_GROUPS)
@pytest.mark.parametrize(("m", "k"), [(3, 2), (6, 2), (11, 5), (24, 4)])
def test_planted_groups_are_recovered_and_weigh_their_means(clustering: str, m: int, k: int) -> None:
    indicators, truth = planted(m, k, 0.02)
    if clustering == "quantile":
        indicators, truth = planted(m - m % k, k, 0.02)
    weights, shown = build(clustering, len(truth), k)(indicators, None)
    assert adjusted_rand_score(shown["assignment"].tolist(), truth.tolist()) == 1.0
    assert shown["assignment"].equal(truth)
    means = torch.stack([indicators[truth == group].mean() for group in range(k)])
    torch.testing.assert_close(shown["group_weights"], means)
    torch.testing.assert_close(weights, means[truth])


@pytest.mark.parametrize("clustering", EVERY)
def test_degenerate_sizes_have_an_answer(clustering: str) -> None:
    """One task, two tasks, as many groups as tasks, one group, equal indicators."""
    assert build(clustering, 1, 1)(torch.tensor([3.0]).double(), None)[0].tolist() == [3.0]
    two = torch.tensor([1.0, 4.0], dtype=torch.float64)
    alone = build(clustering, 2, 2)(two, None)[0]
    assert alone.tolist() == ([1.0, 4.0])
    together = build(clustering, 2, 1)(two, None)[0]
    assert together.tolist() == ([1.0, 4.0] if clustering == "none" else [2.5, 2.5])
    indicators = planted(7, 3, 0.3)[0]
    torch.testing.assert_close(build(clustering, 7, 7)(indicators, None)[0], indicators)
    equal = build(clustering, 6, 2)(torch.full((6,), 0.7, dtype=torch.float64), None)[0]
    assert equal.tolist() == pytest.approx([0.7] * 6)


@pytest.mark.parametrize("clustering", FROM_NUMBERS)
@pytest.mark.parametrize("groups", [3, "auto"])
def test_groups_follow_the_order_of_the_tasks(clustering: str, groups: int | str) -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(4):
        indicators = planted(11, 3, 0.4, seed)[0]
        if seed % 2:
            indicators = indicators.round()  # many equal ones
        order = torch.randperm(11, generator=generator)
        weights, shown = build(clustering, 11, groups)(indicators, None)
        permuted, other = build(clustering, 11, groups)(indicators[order], None)
        torch.testing.assert_close(permuted, weights[order], rtol=1e-12, atol=0)
        assert other["assignment"].equal(shown["assignment"][order])
        for value in indicators:
            assert weights[indicators == value].unique().numel() == 1


@pytest.mark.parametrize("clustering", FROM_NUMBERS)
@pytest.mark.parametrize("groups", [2, "auto"])
@pytest.mark.parametrize("filling", [0.0, torch.inf, torch.nan, 1e30])
def test_absent_tasks_change_nothing_for_the_others(
    clustering: str, groups: int | str, filling: float
) -> None:
    present = torch.tensor([True, False, True, True, False, True, True])
    indicators = planted(7, 2, 0.01, 3)[0]
    masked = torch.where(present, indicators, filling)
    weights, shown = build(clustering, 7, groups)(masked, present)
    alone, labels = build(clustering, 5, groups)(indicators[present], None)
    torch.testing.assert_close(weights[present], alone)
    assert weights[~present].tolist() == [0.0, 0.0]
    assert shown["assignment"][present].equal(labels["assignment"])


@pytest.mark.parametrize("clustering", EVERY)
def test_absent_tasks_weigh_nothing_and_nobody_need_be_there(clustering: str) -> None:
    present = torch.tensor([True, False, True, True, False, True])
    indicators = planted(6, 2, 0.1)[0]
    grouping = build(clustering, 6, 2)
    for _ in range(5):
        weights, shown = grouping(torch.where(present, indicators, torch.nan), present)
        assert weights[~present].tolist() == [0.0, 0.0]
        assert float(weights.sum()) == pytest.approx(float(indicators[present].sum()))
        assert int(shown["assignment"].min()) >= 0
        assert int(shown["assignment"].max()) < len(shown["group_weights"])
    weights, _ = grouping(indicators, torch.zeros(6, dtype=torch.bool))
    assert weights.tolist() == [0.0] * 6


def test_without_grouping_weights_are_the_indicators() -> None:
    indicators = planted(5, 2, 0.3)[0]
    for groups in (1, 2, 99, "auto"):
        weights, shown = Grouping(5, groups, clustering="none")(indicators, None)
        assert weights.equal(indicators) and shown["group_weights"].equal(indicators)
        assert shown["assignment"].tolist() == [0, 1, 2, 3, 4]


def test_shuffled_groups_keep_their_sizes_and_random_ones_have_equal_ones() -> None:
    indicators = torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4, 9.0, 9.1], dtype=torch.float64)
    present = torch.tensor([True, True, False, True, True, True, True])
    for mask, sizes in ((None, [5, 2]), (present, [4, 2])):
        grouping, seen = build("shuffled", 7, 2), set()
        for _ in range(40):
            labels = grouping(indicators, mask)[1]["assignment"]
            labels = labels if mask is None else labels[mask]
            assert torch.bincount(labels).tolist() == sizes
            seen.add(tuple(labels.tolist()))
        assert len(seen) > 10
    for k, sizes in ((2, [4, 3]), (3, [3, 2, 2])):
        drawn = build("random", 7, k)(indicators, None)[1]["assignment"]
        assert torch.bincount(drawn).tolist() == sizes


@pytest.mark.parametrize("clustering", DRAWN)
@pytest.mark.parametrize("groups", [3, "auto"])
def test_drawn_groups_resume_and_differ_by_seed(clustering: str, groups: int | str) -> None:
    indicators = planted(11, 3, 0.05)[0]

    def run(grouping: Grouping, steps: int) -> list[list[int]]:
        return [grouping(indicators, None)[1]["assignment"].tolist() for _ in range(steps)]

    whole = run(build(clustering, 11, groups), 12)
    first = build(clustering, 11, groups)
    assert run(first, 5) == whole[:5]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Grouping(11, groups, clustering=clustering, seed=7)
    other = run(second, 12)
    assert other != whole
    second.load_state_dict(torch.load(file, weights_only=True))
    assert run(second, 7) == whole[5:]


@pytest.mark.parametrize("clustering", [name for name in EVERY if name != "given"])
def test_automatic_number_of_groups_is_that_of_kmeans(clustering: str) -> None:
    """Each clustering gets the number that the criterion finds; the seed makes it the same in every process."""
    indicators, truth = planted(12, 3, 0.02)
    for criterion in ("gap", "bic"):
        grouping = Grouping(12, "auto", clustering=clustering, criterion=criterion)
        weights, shown = grouping(indicators, None)
        labels = shown["assignment"]
        assert int(labels.max()) + 1 == (12 if clustering == "none" else 3)
        if clustering in SEE_GROUPS:
            assert labels.equal(truth)
        assert shown["group_weights"].shape == (12,)
        assert float(weights.sum()) == pytest.approx(float(indicators.sum()))
    assert not [key for key in grouping.state_dict() if "reference" in key]


def test_automatic_number_follows_the_indicators_from_step_to_step() -> None:
    grouping = Grouping(12, "auto")
    for k in (3, 1, 4, 2):
        found = grouping(planted(12, k, 0.0)[0], None)[1]["assignment"]
        assert len(found.unique()) == k


def test_gap_reference_comes_from_the_seed() -> None:
    tables = [Grouping(6, "auto", seed=seed)._reference for seed in (0, 0, 1)]
    assert tables[0] is not None and tables[1] is not None and tables[2] is not None
    rows = [table[:, 5] for table in tables if table is not None]
    assert rows[0].equal(rows[1]) and not rows[0].equal(rows[2])
    assert Grouping(6, 2)._reference is None
    assert Grouping(6, "auto", criterion="bic")._reference is None


def test_short_spellings_stand_for_the_first_options() -> None:
    indicators = torch.tensor([1.0, 2.0, 2.5, 4.0, 4.2, 7.0, 7.1, 7.9, 12.0], dtype=torch.float64)

    def groups(clustering: str) -> list[int]:
        labels: list[int] = Grouping(9, 3, clustering=clustering)(indicators, None)[1]["assignment"].tolist()
        return labels

    assert groups("spectral") == groups("spectral-rbf") == groups("spectral-rbf-cluster_qr")
    assert groups("spectral-linear") == groups("spectral-linear-cluster_qr") != groups("spectral")
    assert groups("agglomerative") == groups("agglomerative-ward")


def test_means_are_of_gamma_where_it_is_given() -> None:
    indicators = torch.tensor([5.0, 0.0, 5.1, 0.1], dtype=torch.float64)
    gamma = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    weights, shown = Grouping(4, 2)(indicators, None, gamma)
    assert weights.tolist() == [2.0, 4.0, 2.0, 4.0]
    assert shown["group_weights"].tolist() == [4.0, 2.0]
    assert shown["indicators"].equal(indicators)
    fixed = Grouping(4, 2, clustering="spectral", group_weights=[0.8, 0.1])
    assert fixed(indicators, None)[0].tolist() == pytest.approx([0.1, 0.8, 0.1, 0.8])


def test_only_the_relaxation_tells_whether_it_converged() -> None:
    indicators = planted(6, 2, 0.1)[0]
    for clustering in EVERY:
        shown = build(clustering, 6, 2)(indicators, None)[1]
        assert ("converged" in shown) == (clustering == "sdp")
    assert bool(build("sdp", 6, 2)(indicators, None)[1]["converged"])


class Doubtful(eq.Weighting):
    """Weights 1, 2, ..., m, and whether they converged."""

    def __init__(self, n_tasks: int, converged: bool) -> None:
        super().__init__(n_tasks)
        self.converged = converged

    def forward(self, stats: eq.TaskStats) -> Tensor:
        self.diagnostics = {"converged": torch.tensor(self.converged)}
        return torch.arange(1.0, self.n_tasks + 1.0, dtype=torch.float64)


def test_a_relaxation_that_is_not_solved_is_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper has converged where both its base and its grouping have."""
    stats = eq.TaskStats(torch.arange(1.0, 6.0))
    for solved in (True, False):
        if not solved:
            monkeypatch.setattr(
                "equipoise.core.grouping.sdp_groups", lambda ordered, k: (ordered.long() % k, False)
            )
        method = eq.build_method("go4align:clustering=sdp", 5)
        method(stats)
        assert bool(method.diagnostics["converged"]) is solved
        for base in (True, False):
            wrapped = Grouped(Doubtful(5, base), clustering="sdp")
            wrapped(stats)
            assert bool(wrapped.diagnostics["converged"]) is (base and solved)
    plain = Grouped(Doubtful(5, False))
    plain(stats)
    assert not bool(plain.diagnostics["converged"])


@pytest.mark.parametrize("clustering", EVERY)
def test_groupings_can_be_copied_and_sent_to_other_processes(clustering: str) -> None:
    grouping, indicators = build(clustering, 6, 2), planted(6, 2, 0.1)[0]
    for other in (copy.deepcopy(grouping), pickle.loads(pickle.dumps(grouping))):
        assert other(indicators, None)[0].equal(copy.deepcopy(grouping)(indicators, None)[0])


def test_the_wrapper_passes_every_option_on() -> None:
    weights = [1.0, 1.1, 4.0, 4.2, 9.0, 9.3]
    stats = eq.TaskStats(torch.ones(6))
    for clustering in FROM_NUMBERS:
        found = eq.build_method(f"constant:weights={weights}+grouped:groups=3:clustering={clustering}", 6)
        expected = Grouping(6, 3, clustering=clustering)(found.base(stats), None)  # type: ignore[operator]
        assert found(stats).equal(expected[0])
    auto = eq.build_method(f"constant:weights={weights}+grouped:groups=auto:criterion=gap", 6)
    assert auto(stats).tolist() == pytest.approx([1.05, 1.05, 4.1, 4.1, 9.15, 9.15])
    given = "clustering=given:assignment=[0,0,0,1,1,1]:group_weights=[0.8,0.1]"
    fixed = eq.build_method(f"constant:weights={weights}+grouped:{given}", 6)
    assert fixed(stats).tolist() == pytest.approx([0.8] * 3 + [0.1] * 3)
    drawn = [
        eq.build_method(f"constant:weights={weights}+grouped:clustering=random:seed={s}", 6) for s in (0, 1)
    ]
    assert drawn[0](stats).tolist() != drawn[1](stats).tolist()


def test_kmeans_is_untouched_by_the_options() -> None:
    indicators = planted(11, 4, 0.5)[0]
    for k in (1, 2, 5):
        assert Grouping(11, k)(indicators, None)[1]["assignment"].equal(kmeans_1d(indicators, k))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "clustering=dbscan",
            "`clustering` should be one of kmeans, spectral, sdp, agglomerative, quantile, given, random, shuffled, "
            "none. Found 'dbscan'",
        ),
        (
            "clustering=spectral-poly",
            r"`clustering` should read spectral-\(rbf\|linear\)-\(cluster_qr\|discretize\|kmeans\)\. "
            "Found 'spectral-poly'",
        ),
        ("clustering=spectral-cluster_qr", "`clustering` should read spectral-"),
        ("clustering=spectral-rbf-kmeans-2", "`clustering` should read spectral-"),
        (
            "clustering=agglomerative-median",
            r"`clustering` should read agglomerative-\(ward\|average\|complete\|single\)\. Found 'agglomerative-",
        ),
        ("clustering=kmeans-10", r"`clustering` should read kmeans\. Found 'kmeans-10'"),
        ("groups=many", "`groups` should be a whole number or \"auto\"\\. Found 'many'"),
        ("groups=1.5", '`groups` should be a whole number or "auto"\\. Found 1.5'),
        ("groups=true", '`groups` should be a whole number or "auto"\\. Found True'),
        ("groups=5", "`groups` should be from 1 to the number of tasks, 4. Found 5"),
        ("groups=auto:criterion=aic", "`criterion` should be one of gap, bic. Found 'aic'"),
        (
            "groups=auto:group_weights=[1,2]",
            '`groups` should be a number with `assignment` or `group_weights`. Found "auto"',
        ),
        (
            "groups=auto:clustering=given:assignment=[0,0,1,1]",
            "`groups` should be a number with `assignment`",
        ),
        (
            "clustering=none:assignment=[0,0,1,1]",
            r'`assignment` should be set with clustering="given" and only then. Found clustering=\'none\'',
        ),
        (
            "clustering=none:group_weights=[1,2]",
            r"`group_weights` should be 4 numbers that are not negative. Found \[1, 2\]",
        ),
    ],
)
def test_bad_options_are_named(options: str, message: str) -> None:
    for text in (f"go4align:{options}", f"constant+grouped:{options}"):
        with pytest.raises(ValueError, match=message):
            eq.build_method(text, 4)


@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_group_weights_are_the_indicators_times_the_right_inverse_of_the_assignment(groups: int) -> None:
    """Eq. 3 of the paper as it is printed: omega = gamma' A' (A A')^-1, with full row rank since no group is empty."""
    gamma = torch.tensor([0.3, 4.0, 0.5, 2.2, 9.0, 2.0], dtype=torch.float64)
    weights, shown = Grouping(6, groups)(gamma, None)
    matrix = torch.nn.functional.one_hot(shown["assignment"], groups).T.double()
    assert int(torch.linalg.matrix_rank(matrix)) == groups
    omega = gamma @ matrix.T @ torch.linalg.inv(matrix @ matrix.T)
    torch.testing.assert_close(omega, gamma @ torch.linalg.pinv(matrix))
    torch.testing.assert_close(shown["group_weights"], omega)
    torch.testing.assert_close(weights, omega @ matrix)
