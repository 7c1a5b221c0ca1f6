"""Census-Income (KDD): three binary tasks on a person's answers, the benchmark of mixture-of-experts recommenders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.core.names import check_known
from equipoise.data.census import PACKAGE, TASKS, load_census, split_census, standardised, summarise_census
from equipoise.data.packages import install
from equipoise.models.architectures import ARCHITECTURES, perceptrons
from equipoise.models.multitask import MultiTaskNet
from equipoise.training.problem import Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.tabular import Column, Columns, TableBatch
from equipoise.training.task import Task

_EVALUATION_BATCH = 4096
_MEANINGS = (
    "income above 50,000 dollars a year",
    "has never been married",
    "has a bachelor's degree or more",
)
_COLUMNS = tuple(Column(name, "binary") for name in TASKS)

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs
        "options": {"rows": 2000, "width": 16, "batch_size": 256},
        "train": {"epochs": 2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # three minutes on two cores, on half of the rows
        "options": {"rows": 100_000, "width": 64, "batch_size": 512},
        "train": {"epochs": 6},
        "methods": _METHODS,
        "lrs": [2e-3],
        "seeds": 3,
    },
    "small": {  # an hour or two: all rows, more methods
        "options": {},
        "train": {"epochs": 10},
        "methods": ["ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "cagrad", "imtl_g", "nashmtl"],
        "lrs": [1e-3],
        "seeds": 2,
    },
    "full": {  # until the validation part stalls
        "options": {"width": 256},
        "train": {"epochs": 50, "patience": 10},
        "methods": [
            "ls", "si", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "famo", "go4align"
        ],
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}  # fmt: skip


class Census:
    """Three binary tasks of Census-Income, on all persons or a sample of them.

    Binary cross-entropy of each task; metric: the area under its ROC curve. Inputs: 31 answers as one-hot, 7 numbers
    standardised by the training part, of money log(1 + dollars). The published test file; a tenth of the training
    file is for validation, by the seed.
    Reference: J. Ma et al., KDD 2018, https://doi.org/10.1145/3219819.3220007, Section 5.2, which takes two tasks at
    a time from the same file.
    Departures: three tasks at once. As published, 2,925 rows of the test file are also in the training file:
    `repeated=False` leaves them out. The survey weights are neither inputs nor weights.

    Args:
        rows: how many of the training file to sample, or None for all 199,523; the test file in proportion. The
            sample does not depend on the seed of a run.
        repeated: whether the test part keeps the rows that are also in the training file.
        architecture: see `equipoise.models.architectures.perceptrons`.
        width: of all layers.
        depth: of an encoder, an expert or a task's network.
        experts: of "mmoe" in all; of the other mixtures shared, and as many of each task.
        dropout: in training, after each layer.
        batch_size: persons per training step.
        root: the folder of the cache, or None for the default one.
        workers: threads that read ahead.

    Raises:
        ModuleNotFoundError: if the data package is missing; the message says what to run.
        ValueError: if an option is out of its range.
    """

    name: ClassVar[str] = "census"
    tasks: ClassVar[tuple[Task, ...]] = tuple(column.task for column in _COLUMNS)
    reference: ClassVar[Mapping[str, float]] = {m.name: 1.0 for task in tasks for m in task.metrics}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = _PRESETS

    def __init__(
        self,
        *,
        rows: int | None = None,
        repeated: bool = True,
        architecture: str = "hps",
        width: int = 128,
        depth: int = 2,
        experts: int = 4,
        dropout: float = 0.0,
        batch_size: int = 1024,
        root: str | None = None,
        workers: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` should be at least 1. Found {batch_size}.")
        check_known("`architecture`", architecture, ARCHITECTURES)
        self._architecture = architecture
        self._shape: dict[str, Any] = {"width": width, "depth": depth, "experts": experts, "dropout": dropout}
        self._batch_size = batch_size
        self._rows, self._repeated, self._workers = rows, repeated, workers
        self.persons = load_census(root)
        slots = self.persons.sizes + 1  # one for values that are not in the training file
        self._offsets = slots.cumsum(0) - slots
        self._answers = int(slots.sum())
        self._inputs = self._answers + self.persons.numbers.shape[1]
        self._split(0)  # refuses `rows` out of range before anything is trained

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """What is installed of Census-Income, where its cache is, and how to get what is missing."""
        return summarise_census()

    @classmethod
    def install(cls) -> str:
        """Install the data package alone, without what it depends on."""
        install([PACKAGE])
        return f"Installed {PACKAGE.pin}."

    def preview(self) -> Preview:
        """The tasks with their shares of positive persons in the parts of seed 0, and what is repeated."""
        parts = self._split(0)
        shares = [self.persons.labels[part].double().mean(dim=0).tolist() for part in parts]
        rows = tuple(
            (name, meaning, *(f"{100 * share[k]:.1f} %" for share in shares))
            for k, (name, meaning) in enumerate(zip(TASKS, _MEANINGS, strict=True))
        )
        train, validation, test = (f"{len(part):,}" for part in parts)
        repeated = int(self.persons.repeated[parts[2]].sum())
        return Preview(
            ("task", "positive if a person", "training", "validation", "test"),
            rows,
            (
                f"{train} persons for training, {validation} for validation, {test} for testing; "
                f"{self._answers - len(self._offsets)} answers to {len(self._offsets)} questions and "
                f"{self.persons.numbers.shape[1]} numbers of each.",
                f"{repeated:,} of the test part are also in the training file, as published"
                + ("." if repeated == 0 else ": `--set repeated=false` leaves them out."),
            ),
        )

    def model(self, seed: int) -> nn.Module:
        """The network of the option `architecture`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return perceptrons(self._architecture, inputs=self._inputs, tasks=len(self.tasks), **self._shape)

    def loaders(self, seed: int) -> Loaders:
        """The published test file, and the training file in two parts by the seed."""
        train, validation, test = self._split(seed)
        numbers = standardised(self.persons, train)

        def read(index: Tensor) -> TableBatch:
            inputs = torch.zeros(len(index), self._inputs)
            inputs.scatter_(1, self.persons.categories[index].long() + self._offsets, 1.0)
            inputs[:, self._answers :] = numbers[index]
            return TableBatch(inputs, self.persons.labels[index].float())

        return Loaders(
            SampleBatches(read, train, size=self._batch_size, seed=seed, workers=self._workers),
            SampleBatches(read, validation, size=_EVALUATION_BATCH),
            SampleBatches(read, test, size=_EVALUATION_BATCH),
        )

    def losses(self, model: nn.Module, batch: TableBatch) -> Mapping[str, Tensor]:
        """Binary cross-entropy of each task, and what the architecture adds to it."""
        assert isinstance(model, MultiTaskNet)
        added = model.regulariser(batch.inputs)
        found = zip(TASKS, model(batch.inputs), batch.targets.unbind(dim=1), added, strict=True)
        return {
            name: binary_cross_entropy_with_logits(output[:, 0], target) + more
            for name, output, target, more in found
        }

    def shared(self, model: nn.Module) -> nn.Module:
        """What several tasks reach: the encoder."""
        assert isinstance(model, MultiTaskNet)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[TableBatch]) -> dict[str, float]:
        """The area under the ROC curve of each task."""
        pairs = [(torch.cat(model(batch.inputs), dim=1).cpu(), batch.targets.cpu()) for batch in loader]
        outputs, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return Columns(_COLUMNS, labels).metrics(outputs, labels)

    def trivial(self, seed: int) -> dict[str, float]:
        """A half for each task, which is the area of any constant guess."""
        train, _, test = (self.persons.labels[part].double() for part in self._split(seed))
        return Columns(_COLUMNS, train).trivial(test)

    def _split(self, seed: int) -> tuple[Tensor, ...]:
        return split_census(self.persons, seed=seed, rows=self._rows, repeated=self._repeated)
