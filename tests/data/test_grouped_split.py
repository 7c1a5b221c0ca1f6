"""Splits of groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.grouped_split import grouped_split

GROUPS = st.lists(st.integers(0, 30), min_size=20, max_size=80)


@given(GROUPS, st.integers(0, 9), st.booleans())
def test_each_sample_is_in_one_part_and_no_group_in_two(groups: list[int], seed: int, large: bool) -> None:
    tensor = torch.tensor(
        [*groups, *range(100, 110)]
    )  # some that are alone, so that each part has one that fits
    parts = grouped_split(tensor, seed, large_to_training=large)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(tensor)))
    owners = [set(tensor[part].tolist()) for part in parts]
    assert sum(len(own) for own in owners) == len(set(tensor.tolist()))
    for part in parts[1:]:
        assert len(part) <= max(1, round(0.1 * len(tensor)))
        assert part.tolist() == sorted(part.tolist())


def test_single_samples_fill_the_parts_and_the_seed_changes_them() -> None:
    first, again, other = (grouped_split(torch.arange(100), seed) for seed in (0, 0, 1))
    assert [len(part) for part in first] == [80, 10, 10]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[2], other[2])


def test_large_groups_go_to_training() -> None:
    """One group of 8 would fill most of a part of 10."""
    groups = torch.cat([torch.zeros(8, dtype=torch.int64), torch.arange(1, 93)])
    found = {int((grouped_split(groups, seed)[0] < 8).sum()) for seed in range(20)}
    assert found == {0, 8}
    for seed in range(20):
        train, validation, test = grouped_split(groups, seed, large_to_training=True)
        assert int((train < 8).sum()) == 8
        assert (len(validation), len(test)) == (10, 10)


def test_a_part_that_would_be_empty_is_refused() -> None:
    message = (
        r"^The 30 samples should make three parts, .* Found 2 groups that give 30, 0, 0: use more samples"
    )
    with pytest.raises(ValueError, match=message):
        grouped_split(torch.arange(30) % 2, 0)
