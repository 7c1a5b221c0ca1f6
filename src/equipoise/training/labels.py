"""Losses of partly labelled batches, and how many labelled samples each is the mean of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor

_T = TypeVar("_T")

SampleLoss = Callable[[Tensor, Tensor], Tensor]


class LabelledLosses(dict[str, Tensor]):
    """Losses by task name, of the tasks that have a label, which know how many samples each is the mean of.

    A problem's `losses` may return it in place of a plain mapping. The loop then counts samples, not batches: in the
    mean losses of an epoch, and in the windows of micro-batches.

    Args:
        losses: a scalar () for each task that has a label in this batch.
        counts: the labelled samples of each of these tasks, plain numbers above 0.

    Raises:
        ValueError: if the counts are not of the same tasks, or not above 0.
    """

    def __init__(self, losses: Mapping[str, Tensor], counts: Mapping[str, float]) -> None:
        super().__init__(losses)
        if set(losses) != set(counts) or not all(count > 0 for count in counts.values()):
            raise ValueError(
                f"`counts` should give a number above 0 for each of {', '.join(losses) or 'no tasks'}. Found "
                f"{dict(counts)}: leave tasks without a label out of both."
            )
        self.counts = dict(counts)


def labelled_losses(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    loss: SampleLoss | Mapping[str, SampleLoss],
) -> LabelledLosses:
    """The mean loss of each task over the samples that have its label, where NaN stands for no label.

    Samples are selected before the loss is computed. Multiplying a loss by 0 afterwards would not do: the gradient of
    0 x NaN is NaN.

    Args:
        outputs: of each task (b, ...); other tasks than in `targets` are left out.
        targets: of each task (b, ...), floating-point. A sample with a NaN in its target has no label.
        loss: takes the outputs and targets of the k labelled samples (k, ...) and gives a loss per sample, (k,) or
            (k, ...); one for all tasks, or one for each by name. Class numbers come as floating-point: use `.long()`.

    Raises:
        ValueError: if outputs or losses are missing, or a loss is not per sample.
    """
    losses: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for task, target in targets.items():
        output = _of(task, "outputs", outputs)
        measure = loss if callable(loss) else _of(task, "loss", loss)
        if len(output) != len(target):
            raise ValueError(
                f"`outputs` of {task!r} should have a row for each of the {len(target)} targets. Found {len(output)}."
            )
        labelled = ~target.isnan().reshape(len(target), -1).any(dim=1)
        chosen = labelled.nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        values = measure(output[chosen], target[chosen])
        if values.ndim == 0 or len(values) != len(chosen):
            raise ValueError(
                f"`loss` of {task!r} should give one value for each of {len(chosen)} samples. Found shape "
                f"{tuple(values.shape)}: leave out the mean, for example by reduction='none'."
            )
        losses[task], counts[task] = values.mean(), len(chosen)
    return LabelledLosses(losses, counts)


def _of(task: str, name: str, given: Mapping[str, _T]) -> _T:
    if task not in given:
        raise ValueError(f"`{name}` should have an entry for {task!r}. Found {', '.join(given) or 'none'}.")
    return given[task]
