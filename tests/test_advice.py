"""Advice names methods that exist, keeps to what was asked, and always offers a reference."""

from __future__ import annotations

import itertools

import pytest
import torch

import equipoise as eq
from draws import draw_jacobian
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


def test_what_is_recommended_against_conflict_lets_no_loss_rise() -> None:
    advice = advise(3, roomy=True, missing_labels=False, prefer="no-conflict")
    promised = [item.method for item in advice if "no loss rises" in item.reason]
    assert promised == ["upgrad", "mgda"]
    scales = torch.tensor([[1.0], [5.0], [25.0]], dtype=torch.float64)
    for seed in range(100):
        jacobian = scales * draw_jacobian("conflict", 3, 4, seed)
        stats = eq.TaskStats(torch.ones(3), jacobian=jacobian)
        for method in promised:
            rise = -(jacobian @ (eq.build_method(method, 3)(stats) @ jacobian))
            assert float(rise.max()) <= 1e-9 * float(jacobian.square().sum())


def test_bad_questions() -> None:
    with pytest.raises(ValueError, match="at least 2 to be balanced. Found 1"):
        advise(1, roomy=True, missing_labels=False, prefer="cost")
    with pytest.raises(ValueError, match="one of cost, balance, no-conflict, reference. Found 'speed'"):
        advise(3, roomy=True, missing_labels=False, prefer="speed")  # type: ignore[arg-type]
