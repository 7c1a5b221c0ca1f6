"""Losses of partly labelled batches against sums written out, and gradients without a NaN."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equipoise.training.labels import LabelledLosses, labelled_losses
from equipoise.training.tally import Tally

NAN = math.nan


def square(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square()


def test_the_mean_is_over_the_labelled_samples() -> None:
    outputs = {
        "a": torch.tensor([1.0, 2.0, 3.0]),
        "b": torch.tensor([5.0, 6.0, 7.0]),
        "other": torch.zeros(3),
    }
    targets = {"a": torch.tensor([0.0, NAN, 5.0]), "b": torch.tensor([NAN, NAN, NAN])}
    found = labelled_losses(outputs, targets, square)
    assert found.keys() == {"a"}
    assert float(found["a"]) == (1.0**2 + 2.0**2) / 2
    assert found.counts == {"a": 2}


def test_a_sample_with_a_nan_anywhere_in_its_target_has_no_label() -> None:
    outputs = {"a": torch.zeros(3, 2)}
    targets = {"a": torch.tensor([[1.0, NAN], [2.0, 4.0], [1.0, 1.0]])}
    found = labelled_losses(outputs, targets, square)
    assert float(found["a"]) == (4.0 + 16.0 + 1.0 + 1.0) / 4
    assert found.counts == {"a": 2}


def test_every_task_may_have_a_loss_of_its_own() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [9.0, 9.0]])
    outputs = {"class": logits, "value": torch.tensor([1.0, 4.0])}
    targets = {"class": torch.tensor([1.0, NAN]), "value": torch.tensor([NAN, 1.0])}
    losses = {
        "class": lambda output, target: cross_entropy(output, target.long(), reduction="none"),
        "value": lambda output, target: (output - target).abs(),
    }
    found = labelled_losses(outputs, targets, losses)
    assert float(found["class"]) == pytest.approx(-math.log(3 / 4))
    assert float(found["value"]) == 3.0


def test_no_gradient_is_nan() -> None:
    """Not even with a loss whose slope is infinite where it is not asked."""
    output = torch.tensor([4.0, 0.0, 9.0], requires_grad=True)
    target = torch.tensor([0.0, NAN, 0.0])
    labelled_losses({"a": output}, {"a": target}, lambda o, t: (o - t).sqrt())["a"].backward()
    assert output.grad is not None
    assert output.grad.tolist() == pytest.approx([0.5 / 2 / 2, 0.0, 0.5 / 3 / 2])


@pytest.mark.parametrize(
    ("outputs", "loss", "message"),
    [
        ({"b": torch.zeros(2)}, square, r"`outputs` should have an entry for 'a'\. Found b\."),
        ({"a": torch.zeros(2)}, {}, r"`loss` should have an entry for 'a'\. Found none\."),
        (
            {"a": torch.zeros(3)},
            square,
            r"`outputs` of 'a' should have a row for each of the 2 targets\. Found 3\.",
        ),
        (
            {"a": torch.zeros(2)},
            lambda output, target: square(output, target).mean(),
            r"`loss` of 'a' should give one value for each of 1 samples\. Found shape \(\): leave out the mean",
        ),
        (
            {"a": torch.zeros(2)},
            lambda output, target: torch.zeros(5),
            r"`loss` of 'a' should give one value for each of 1 samples\. Found shape \(5,\): ",
        ),
    ],
)
def test_what_does_not_fit_is_named(outputs: dict[str, Tensor], loss: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled_losses(outputs, {"a": torch.tensor([1.0, NAN])}, loss)  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [{}, {"a": 0}, {"a": 1, "b": 2}, {"a": NAN}])
def test_counts_that_do_not_fit_the_losses_are_refused(counts: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=r"`counts` should give a number above 0 for each of a\. Found \{.*: leave"
    ):
        LabelledLosses({"a": torch.zeros(())}, counts)


def test_a_tally_weighs_by_samples_where_it_knows_them_and_by_batches_otherwise() -> None:
    tally = Tally(["a", "b", "c"], torch.device("cpu"))
    one, two = torch.tensor(1.0), torch.tensor(4.0)
    tally.add(LabelledLosses({"a": one, "b": two}, {"a": 3, "b": 1}), torch.tensor([1.0, 4.0, 0.0]))
    tally.add(LabelledLosses({"a": two}, {"a": 1}), torch.tensor([4.0, 0.0, 0.0]))
    assert tally.means.tolist()[:2] == [(3 * 1.0 + 4.0) / 4, 4.0]
    assert math.isnan(tally.means[2])
    tally.clear()
    tally.add({"a": one, "c": two}, torch.tensor([1.0, 0.0, 4.0]))
    tally.add({"a": two, "b": one, "c": one}, torch.tensor([4.0, 1.0, 1.0]))
    assert tally.means.tolist() == [2.5, 1.0, 2.5]
