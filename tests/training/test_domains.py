"""Several loaders in one: the draws, the passes through each part, and going on anywhere."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import pytest
import torch

from equipoise.training.domains import Domain, Domains


class Numbers:
    """Batches of the numbers 0 to `samples` - 1, shuffled by the epoch; remembers what was computed."""

    def __init__(self, samples: int, size: int, *, drop_last: bool = False) -> None:
        self.samples, self.size, self.drop_last = samples, size, drop_last
        self.computed: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.samples // self.size if self.drop_last else -(-self.samples // self.size)

    def epoch(self, number: int, start: int = 0) -> Iterator[list[int]]:
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(number)).tolist()
        for i in range(start, len(self)):
            self.computed.append((number, i))
            yield order[i * self.size : (i + 1) * self.size]


def parts(*sizes: tuple[int, int]) -> dict[str, Domain]:
    return {"abc"[i]: Domain(Numbers(n, size), n, size) for i, (n, size) in enumerate(sizes)}


def of(batches: list[dict[str, Any]], name: str) -> list[int]:
    """The samples of one domain in their order."""
    return list(chain.from_iterable(batch[name] for batch in batches if name in batch))


@pytest.mark.parametrize("weights", [None, {"a": 1.0, "b": 3.0, "c": 6.0}])
def test_draws_match_the_probabilities(weights: dict[str, float] | None) -> None:
    domains = Domains(parts((40, 4), (120, 4), (50, 5)), seed=0, weights=weights, samples=40_000)
    expected = {"a": 0.1, "b": 0.3, "c": 0.6} if weights else {"a": 0.2, "b": 0.6, "c": 0.2}
    drawn = Counter(name for batch in domains.epoch(1) for name in batch)
    total = sum(drawn.values())
    statistic = sum((drawn[name] - total * p) ** 2 / (total * p) for name, p in expected.items())
    assert total == len(domains)
    assert statistic < 13.8  # the 0.999 quantile of chi-square with 2 degrees of freedom


def test_draws_do_not_follow_from_those_before() -> None:
    """How often a domain follows itself is what independence makes it."""
    domains = Domains(parts((40, 4), (40, 4)), seed=0, samples=40_000)
    names = [next(iter(batch)) for batch in domains.epoch(1)]
    repeats = sum(one == other for one, other in pairwise(names))
    assert abs(repeats - 0.5 * len(names)) < 3.3 * (len(names) / 4) ** 0.5


@pytest.mark.parametrize("together", [False, True])
def test_every_sample_is_seen_once_before_any_is_seen_twice(together: bool) -> None:
    domains = Domains(parts((7, 2), (23, 4)), seed=1, together=together)
    batches = [batch for number in range(1, 9) for batch in domains.epoch(number)]
    for name, samples in (("a", 7), ("b", 23)):
        seen = of(batches, name)
        assert len(seen) > 3 * samples
        passes = [seen[i : i + samples] for i in range(0, len(seen) - samples + 1, samples)]
        assert all(sorted(one) == list(range(samples)) for one in passes)
        assert passes[0] != passes[1]  # a new shuffle


def test_an_epoch_shows_as_many_samples_as_asked() -> None:
    even = parts((40, 4), (120, 4))
    assert len(Domains(even, seed=0)) == 160 / 4
    assert len(Domains(even, seed=0, samples=81)) == 21
    assert len(Domains(even, seed=0, together=True)) == 160 / 8
    uneven = Domains(parts((40, 4), (120, 2)), seed=0)
    assert len(uneven) == 70  # 10 batches and 60 of them make 160 samples
    seen = [sum(len(x) for batch in uneven.epoch(n) for x in batch.values()) for n in range(1, 101)]
    assert sum(seen) / 100 == pytest.approx(160, rel=0.01)


@pytest.mark.parametrize("together", [False, True])
def test_an_epoch_goes_on_anywhere_without_computing_what_was_before(together: bool) -> None:
    for number in (1, 2, 5):
        whole = list(Domains(parts((7, 2), (23, 4)), seed=1, together=together).epoch(number))
        for start in range(len(whole) + 1):
            fresh = parts((7, 2), (23, 4))
            rest = list(Domains(fresh, seed=1, together=together).epoch(number, start))
            assert rest == whole[start:]
            for name, domain in fresh.items():
                assert isinstance(domain.loader, Numbers)
                assert len(domain.loader.computed) == sum(name in batch for batch in rest)


def test_the_order_is_a_function_of_the_seed_and_the_epoch() -> None:
    def names(seed: int, number: int) -> list[str]:
        return [next(iter(b)) for b in Domains(parts((40, 4), (40, 4)), seed=seed).epoch(number)]

    assert names(1, 3) == names(1, 3)
    assert names(1, 3) != names(2, 3)
    assert names(1, 3) != names(1, 4)


def test_no_numbers_are_taken_from_the_global_stream() -> None:
    before = torch.get_rng_state()
    list(Domains(parts((40, 4), (40, 4)), seed=0).epoch(2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("own", [["b"], ["c", "a"]])
def test_some_of_the_domains_have_the_same_batches_and_the_others_are_not_read(
    own: list[str], together: bool
) -> None:
    sizes = ((7, 2), (23, 4), (40, 5))
    for number, start in ((1, 0), (3, 2)):
        whole = list(Domains(parts(*sizes), seed=1, together=together).epoch(number, start))
        fresh = parts(*sizes)
        some = Domains(fresh, seed=1, together=together).only(own)
        found = list(some.epoch(number, start))
        assert found == [{name: x for name, x in batch.items() if name in own} for batch in whole]
        assert len(some) == len(Domains(parts(*sizes), seed=1, together=together)) and any(found)
        read = {name for name, domain in fresh.items() if domain.loader.computed}  # type: ignore[attr-defined]
        assert read == set(own)
    assert [set(batch) for batch in some.first(2)] == [set(own)] * 2


@pytest.mark.parametrize("together", [False, True])
def test_the_shares_of_all_domains_are_those_of_their_samples(together: bool) -> None:
    """The batches of each alone, counted by its share, are together as many as those of all."""
    weights = None if together else {"a": 1.0, "b": 3.0, "c": 6.0}
    domains = Domains(parts((40, 4), (120, 8), (50, 5)), seed=0, weights=weights, together=together)
    assert domains.share == domains.only("abc").share == 1
    shares = [domains.only(name).share for name in "abc"]
    mean = 17 if together else 0.1 * 4 + 0.3 * 8 + 0.6 * 5
    assert shares == pytest.approx([4 / mean, 8 / mean, 5 / mean])
    two = domains.only("ac").share
    assert two == pytest.approx(9 / 17 if together else (0.1 * 4 + 0.6 * 5) / 0.7 / mean)


def test_only_known_domains_can_be_chosen() -> None:
    with pytest.raises(ValueError, match=r"`names`, each of them, should be one of a, b\. Found 'c'\."):
        Domains(parts((4, 2), (4, 2)), seed=0).only(["c"])


def test_a_loader_that_leaves_its_rest_out_is_fine() -> None:
    domains = Domains({"a": Domain(Numbers(7, 2, drop_last=True), 7, 2)}, seed=0)
    assert len(domains) == 4  # 7 samples, of which a batch shows 2
    assert len(of(list(domains.epoch(1)), "a")) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": {}}, r"`domains` should hold at least one domain\. Found none\."),
        (
            {"domains": {"x": Domain(Numbers(9, 2), 20, 2)}},
            r"The loader of 'x' should have 10 batch\(es\).* for 20 samples in batches of 2\. Found 5\.",
        ),
        (
            {"domains": {"x": Domain(Numbers(1, 2, drop_last=True), 1, 2)}},
            r"loader of 'x' should have 1 batch\(es\), or one more for the rest, for 1 samples .* Found 0\.",
        ),
        ({"domains": {"x": Domain(Numbers(4, 2), 4, 0)}}, r"in batches of 0\. Found 2\."),
        (
            {"weights": {"a": 1.0}},
            r"`weights` should give a finite number above 0 for each of a, b\. Found \{'a'",
        ),
        ({"weights": {"a": 1.0, "b": 0.0}}, r"`weights` should give .* Found \{'a': 1\.0, 'b': 0\.0\}\."),
        ({"weights": {"a": 1.0, "b": float("inf")}}, r"`weights` should give a finite .* Found \{.*inf\}\."),
        (
            {"weights": {"a": 1.0, "b": 1.0}, "together": True},
            r"`weights` should be left out with together=True, which draws nothing\. Found weights for a, b\.",
        ),
        ({"samples": 0}, r"`samples` should be at least 1\. Found 0\."),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Domains(**{"domains": parts((4, 2), (4, 2)), "seed": 0, **changes})
