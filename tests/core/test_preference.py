"""Preferences and reference points are what was given, or a clear refusal."""

import re

import pytest
import torch

from equipoise.core.preference import preference_vector, reference_point


def test_left_out_is_equal_shares_and_the_origin() -> None:
    assert torch.equal(preference_vector(None, 4), torch.full((4,), 0.25).double())
    assert torch.equal(reference_point(None, 4), torch.zeros(4).double())


def test_given_is_used_as_it_is() -> None:
    assert torch.equal(preference_vector([3, 0, 0.1], 3), torch.tensor([3, 0, 0.1], dtype=torch.float64))
    assert torch.equal(reference_point([-3, 0, 0.1], 3), torch.tensor([-3, 0, 0.1], dtype=torch.float64))


@pytest.mark.parametrize("given", [[1, 2], [1, -1, 2], [0, 0, 0], [1, float("inf"), 1], [1, float("nan"), 1]])
def test_unfit_preference(given: list[float]) -> None:
    message = f"`preference` should be 3 finite numbers, none negative and not all 0. Found {given}."
    with pytest.raises(ValueError, match=re.escape(message)):
        preference_vector(given, 3)


@pytest.mark.parametrize("given", [[1, 2], [1, float("-inf"), 2], [1, float("nan"), 1]])
def test_unfit_reference(given: list[float]) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"`reference` should be 3 finite numbers. Found {given}.")
    ):
        reference_point(given, 3)
