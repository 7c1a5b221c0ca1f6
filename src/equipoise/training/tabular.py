"""What problems with one number per task and sample share: losses, metrics and scales of columns of a table.

Everything is computed for all columns at once, so that hundreds of tasks cost about as much as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .labels import LabelledLosses
from .tabular_losses import Kind, head_losses
from .tabular_metrics import mae, r2, roc_auc
from .task import Metric, Task

_BINARY, _COUNT, _REAL = "binary", "count", "real"


class TableBatch(NamedTuple):
    """b samples: what the encoder takes, and scaled targets (b, m) with NaN where there is no label."""

    inputs: Any
    targets: Tensor


class Headed(Protocol):
    """A network with one linear layer for the heads of all tasks, such as `equipoise.models.mlp.OneHead`."""

    encoder: nn.Module
    head: nn.Linear


@dataclass(frozen=True)
class Column:
    """A target column.

    Its metrics are called "NAME auc" (binary), or "NAME r2" and "NAME mae" (count, real).

    Args:
        name: of the task.
        kind: "binary" (0 or 1), "count" (whole numbers of at least 0) or "real".
        unit: of a count or real column, as printed behind its mean absolute error.
    """

    name: str
    kind: Kind
    unit: str = ""

    @property
    def task(self) -> Task:
        """The task and how it is measured."""
        if self.kind == _BINARY:
            return Task(self.name, (Metric(f"{self.name} auc", higher_is_better=True, unit=""),))
        error = Metric(f"{self.name} mae", higher_is_better=False, unit=self.unit)
        return Task(self.name, (Metric(f"{self.name} r2", higher_is_better=True, unit=""), error))


class Columns:
    """The target columns of a problem, and the scales in which they are learnt.

    With output z and target y of a sample, a loss is the mean over the labelled samples of the batch of

        binary:  log(1 + e^z) - y z                          cross-entropy of logits,
        count:   2 (y log(y / e^z) - y + e^z),  y in means   the Poisson deviance, at least 0 and 0 at e^z = y,
        real:    (z - y)^2,                     y in standard deviations from the mean,

    where mean and deviation are those of the labels of the training part. So a network that begins with outputs near
    `start` begins near the mean, and no loss is below 0. A Poisson likelihood without its constant would be, which
    methods that take logarithms of losses cannot do with; nor with 0, so 1e-8 is added to every loss.

    Args:
        columns: in the order of the outputs.
        training: labels of the training part (n, m), in the units of the table, NaN where there is none.

    Raises:
        ValueError: if the shapes do not fit, a column of the training part has no two different labels, or its labels
            are not of its kind.
    """

    def __init__(self, columns: Sequence[Column], training: Tensor) -> None:
        if training.ndim != 2 or training.shape[1] != len(columns):
            raise ValueError(
                f"`training` should have shape (n, {len(columns)}), a column for each task. "
                f"Found {tuple(training.shape)}."
            )
        self.columns = tuple(columns)
        self.tasks = tuple(column.task for column in columns)
        wide = training.double()
        self._check(wide)
        self.means = wide.nanmean(dim=0)
        kinds = [column.kind for column in columns]
        self.kinds = {
            kind: torch.tensor([k for k, other in enumerate(kinds) if other == kind])
            for kind in dict.fromkeys(kinds)
        }
        deviations = (wide - self.means).square().nanmean(dim=0).sqrt()
        real, count = (torch.tensor([kind == wanted for kind in kinds]) for wanted in (_REAL, _COUNT))
        self._shift = torch.where(real, self.means, 0.0)
        self._factor = torch.where(real, deviations, torch.where(count, self.means, 1.0))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(column.name for column in self.columns)

    @property
    def start(self) -> Tensor:
        """The outputs (m,) that stand for the mean of the training labels, for the biases of the heads.

        From outputs of 0, a network on mostly negative labels first learns to say so of each sample, the more the
        larger its inputs: for a while, positive samples with large inputs rank below all others.
        """
        places = self.kinds.get("binary", torch.zeros(0, dtype=torch.int64))
        start = torch.zeros(len(self.columns))
        start[places] = self.means[places].logit().float()
        return start

    def scaled(self, values: Tensor) -> Tensor:
        """Labels (n, m) in the scales in which they are learnt, float32; NaN stays NaN."""
        return ((values.double() - self._shift) / self._factor).float()

    def predictions(self, outputs: Tensor) -> Tensor:
        """What outputs (n, m) say in the units of the table, float64: probability, expected count, or value."""
        found = outputs.detach().cpu().to(torch.float64, copy=True)
        for kind, places in self.kinds.items():
            if kind == _BINARY:
                found[:, places] = found[:, places].sigmoid()
            elif kind == _COUNT:
                found[:, places] = found[:, places].exp()
        return found * self._factor + self._shift

    def losses(self, model: Headed, batch: TableBatch) -> LabelledLosses:
        """The loss of each task that has a label in the batch, computed for all of them at once."""
        features = model.encoder(batch.inputs)
        losses = head_losses(features, model.head, batch.targets, self.kinds)
        counts = (~batch.targets.isnan()).sum(dim=0).tolist()
        chosen = [(name, loss, n) for name, loss, n in zip(self.names, losses, counts, strict=True) if n > 0]
        return LabelledLosses(
            {name: loss for name, loss, _ in chosen}, {name: float(n) for name, _, n in chosen}
        )

    def evaluate(self, model: nn.Module, loader: Iterable[TableBatch]) -> dict[str, float]:
        """The metrics of all tasks over all batches, by metric name."""
        pairs = [(model(batch.inputs).detach().cpu(), batch.targets.cpu()) for batch in loader]
        outputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return self.metrics(outputs, targets.double() * self._factor + self._shift)

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """The metrics of all tasks over their labelled samples.

        Args:
            outputs: of the network (n, m).
            labels: (n, m) in the units of the table, NaN where there is none.

        Raises:
            ValueError: if a task has no two different labels here; the message names it.
        """
        guesses = self.predictions(outputs)
        found: dict[str, float] = {}
        for k, column in enumerate(self.columns):
            chosen = (~labels[:, k].isnan()).nonzero()[:, 0]
            # A probability may be rounded to 1 where the logits still differ.
            guess = (outputs if column.kind == _BINARY else guesses)[chosen, k].cpu()
            found |= _measured(column, guess, labels[chosen, k].cpu())
        return found

    def trivial(self, labels: Tensor) -> dict[str, float]:
        """The metrics on these labels (n, m) of guessing the mean of the training part."""
        found: dict[str, float] = {}
        for column, mean, own in zip(self.columns, self.means, labels.double().unbind(dim=1), strict=True):
            known = own[~own.isnan()]
            found |= _measured(column, mean.expand(len(known)), known)
        return found

    def reference(self, labels: Tensor) -> dict[str, float]:
        """A positive scale for each metric: 1 for AUC and R2, and the error of guessing the training mean for MAE.

        Args:
            labels: on which that error is taken (n, m).
        """
        guesses = self.trivial(labels)
        names = [metric.name for task in self.tasks for metric in task.metrics if not metric.higher_is_better]
        metrics = [metric.name for task in self.tasks for metric in task.metrics]
        return {name: guesses[name] if name in names else 1.0 for name in metrics}

    def _check(self, training: Tensor) -> None:
        for column, own in zip(self.columns, training.unbind(dim=1), strict=True):
            known = own[~own.isnan()]
            if len(known) == 0 or bool((known == known[0]).all()):
                found = "none" if len(known) == 0 else f"{len(known)} times {float(known[0]):g}"
                raise ValueError(
                    f"Column {column.name!r} should have two different labels in the training part. Found {found}: "
                    "leave it out, or split the samples otherwise."
                )
            fits = {_BINARY: (known == 0) | (known == 1), _COUNT: (known >= 0) & (known == known.round())}
            if not bool(fits.get(column.kind, known.isfinite()).all()):
                raise ValueError(
                    f"Labels of column {column.name!r} should be {_ALLOWED[column.kind]}. Found "
                    f"{float(known[~fits.get(column.kind, known.isfinite())][0]):g}."
                )


_ALLOWED = {_BINARY: "0 or 1", _COUNT: "whole numbers of at least 0", _REAL: "finite"}


def _measured(column: Column, guess: Tensor, labels: Tensor) -> Mapping[str, float]:
    try:
        if column.kind == _BINARY:
            return {f"{column.name} auc": roc_auc(guess, labels)}
        return {f"{column.name} r2": r2(guess, labels), f"{column.name} mae": mae(guess, labels)}
    except ValueError as error:
        raise ValueError(f"Column {column.name!r} cannot be measured here. {error}") from error
