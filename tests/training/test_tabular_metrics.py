"""Metrics of one number per sample against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from equipoise.training.tabular_metrics import f1, mae, r2, roc_auc

SEEDS = st.integers(0, 10**6)


def draw(n: int, seed: int, *, levels: int) -> tuple[Tensor, Tensor]:
    """Scores of a few levels, so that many are tied, and labels of both classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < 0.3).float()
    labels[0], labels[1] = 0.0, 1.0
    return torch.randint(levels, (n,), generator=generator) / levels, labels


@given(st.integers(2, 60), SEEDS, st.sampled_from([1, 2, 5, 1000]))
def test_auc_is_that_of_scikit_learn_with_ties(n: int, seed: int, levels: int) -> None:
    scores, labels = draw(n, seed, levels=levels)
    expected = sklearn_metrics.roc_auc_score(labels.numpy(), scores.numpy())
    assert roc_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 60), SEEDS, st.sampled_from([0.2, 0.5, 0.8]))
def test_f1_is_that_of_scikit_learn(n: int, seed: int, threshold: float) -> None:
    scores, labels = draw(n, seed, levels=5)
    called = (scores >= threshold).numpy()
    expected = sklearn_metrics.f1_score(labels.numpy(), called, zero_division=0)
    assert f1(scores, labels, threshold=threshold) == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 60), SEEDS)
def test_r2_and_mae_are_those_of_scikit_learn(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = 1e3 + 50 * torch.randn(n, generator=generator)
    guesses = targets + 30 * torch.randn(n, generator=generator)
    pair = (targets.double().numpy(), guesses.double().numpy())
    assert r2(guesses, targets) == pytest.approx(sklearn_metrics.r2_score(*pair), rel=1e-9)
    assert mae(guesses, targets) == pytest.approx(sklearn_metrics.mean_absolute_error(*pair), rel=1e-9)


def test_a_prediction_that_is_not_a_number_makes_the_metric_none() -> None:
    guesses, labels = torch.tensor([0.1, math.nan, 0.3]), torch.tensor([0.0, 1.0, 1.0])
    for measure in (roc_auc, f1, r2, mae):
        assert math.isnan(measure(guesses, labels))


def test_bad_labels_are_named() -> None:
    three = torch.tensor([0.1, 0.2, 0.3])
    with pytest.raises(
        ValueError, match=r"hold both classes, 0 and 1\. Found 0 ones and 3 zeros: leave this task"
    ):
        roc_auc(three, torch.zeros(3))
    with pytest.raises(ValueError, match=r"hold both classes, 0 and 1\. Found 3 ones and 0 zeros"):
        roc_auc(three, torch.ones(3))
    with pytest.raises(ValueError, match=r"^`labels` should be 0 or 1\. Found 2 among them\.$"):
        roc_auc(three, torch.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"^`labels` should hold at least one 1\. Found 3 zeros"):
        f1(three, torch.zeros(3))
    with pytest.raises(ValueError, match=r"`targets` should not all be equal, .* Found 3 times 7: leave"):
        r2(three, torch.full((3,), 7.0))
    message = r"^`scores` and `labels` should have the same shape \(n,\) .* Found \(3,\) and \(2,\)\.$"
    with pytest.raises(ValueError, match=message):
        roc_auc(three, torch.zeros(2))
    with pytest.raises(ValueError, match=r"`predictions` and `targets` .* Found \(0,\) and \(0,\)\."):
        mae(torch.zeros(0), torch.zeros(0))
