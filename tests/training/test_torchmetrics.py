"""Our metrics are those of torchmetrics where it has the same definition."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.training.dense_metrics import Segmentation
from equipoise.training.tabular_metrics import f1, mae, r2, roc_auc

CLASSES = 5


@pytest.fixture(scope="module")
def theirs() -> Any:
    """torchmetrics, imported late: it takes seconds of every process that collects tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchmetrics
    return torchmetrics


def drawn(seed: int, n: int = 400) -> tuple[Tensor, Tensor]:
    """Scores with ties, and labels that they tell something of."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (n,), generator=generator).double() / 40
    return scores, (torch.rand(n, generator=generator) < 0.2 + 0.6 * scores).long()


@pytest.mark.parametrize("seed", range(5))
def test_binary_metrics(seed: int, theirs: Any) -> None:
    scores, labels = drawn(seed)
    assert roc_auc(scores, labels) == pytest.approx(
        float(theirs.classification.BinaryAUROC()(scores, labels)), abs=1e-6
    )
    found = f1(scores > 0.5, labels)
    assert found == pytest.approx(
        float(theirs.classification.BinaryF1Score()((scores > 0.5).long(), labels)), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_regression(seed: int, theirs: Any) -> None:
    guesses, _ = drawn(seed)
    targets = guesses + torch.randn(len(guesses), generator=torch.Generator().manual_seed(seed)).double() / 3
    assert r2(guesses, targets) == pytest.approx(
        float(theirs.regression.R2Score()(guesses, targets)), abs=1e-5
    )
    assert mae(guesses, targets) == pytest.approx(
        float(theirs.regression.MeanAbsoluteError()(guesses, targets)), abs=1e-6
    )


def test_segmentation_over_batches_with_unlabelled_pixels(theirs: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = Segmentation(CLASSES)
    iou = theirs.classification.MulticlassJaccardIndex(CLASSES, ignore_index=-1)
    accuracy = theirs.classification.MulticlassAccuracy(CLASSES, average="micro", ignore_index=-1)
    for size in (7, 9):
        prediction = torch.randint(0, CLASSES, (2, size, 6), generator=generator)
        target = torch.randint(-1, CLASSES, (2, size, 6), generator=generator)
        for metric in (iou, accuracy):
            metric.update(prediction, target)
        ours.add(prediction, target)
    found = ours.values()
    assert found["mean_iou"] == pytest.approx(float(iou.compute()), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-6)
