"""Advice names methods that exist, keeps to what was asked, and always offers a reference."""

from __future__ import annotations

import itertools

import pytest

import equipoise as eq
from equipoise.advice import PREFERENCES, advise


@pytest.mark.parametrize("prefer", sorted(PREFERENCES))
def test_every_answer_can_be_built_and_ends_with_a_reference(prefer: str) -> None:
    for tasks, roomy, missing in itertools.product((2, 3, 11, 617), (True, False), (True, False)):
        advice = advise(tasks, roomy=roomy, missing_labels=missing, prefer=prefer)  # type: ignore[arg-type]
        assert 2 <= len(advice) <= 4
        assert all(eq.build_method(item.method, tasks) and item.reason for item in advice)
        assert prefer == "reference" or advice[-1].method == "ls"


def test_cost_means_one_backward_pass() -> None:
    for item in advise(5, roomy=True, missing_labels=False, prefer="cost"):
        assert eq.build_method(item.method, 5).reads == eq.Reads.LOSSES


def test_no_conflict_reads_gradients() -> None:
    for roomy in (True, False):
        first = advise(5, roomy=roomy, missing_labels=False, prefer="no-conflict")[0]
        assert eq.build_method(first.method, 5).reads == eq.Reads.GRAMIAN


def test_bad_questions() -> None:
    with pytest.raises(ValueError, match="at least 2 to be balanced. Found 1"):
        advise(1, roomy=True, missing_labels=False, prefer="cost")
    with pytest.raises(ValueError, match="one of cost, balance, no-conflict, reference. Found 'speed'"):
        advise(3, roomy=True, missing_labels=False, prefer="speed")  # type: ignore[arg-type]
