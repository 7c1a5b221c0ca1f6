"""What a benchmark problem offers to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from equipoise.engine.gradients import Shared

from .task import Task


class TrainLoader(Protocol):
    """Training batches whose order is a function of the seed and the epoch, so that a run can go on anywhere.

    It draws no numbers from torch's global stream, which is that of the run. `DataLoader` does, for its workers,
    unless it is given a `generator`. `equipoise.training.domains.Domains` makes one of several.
    """

    def __len__(self) -> int:
        """The number of batches of an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `number` (from 1) from the `start`-th on, without computing those before it."""


@dataclass(frozen=True)
class Loaders:
    """The batches of one split.

    Args:
        train: shuffled anew in each epoch.
        validation: what model selection and the schedule look at.
        test: looked at once, at the selected epoch.
    """

    train: TrainLoader
    validation: Iterable[Any]
    test: Iterable[Any]


class Problem(Protocol):
    """One benchmark: data, model, losses, metrics and published protocol.

    A batch is anything made of tensors, tuples, lists and dicts; the loop moves it to the device.

    Attributes:
        name: its key in the registry.
        tasks: the objectives, in the order of the losses.
        reference: a value for each metric that the selection score is relative to.
        method_defaults: hyper-parameters of methods and wrappers that the protocol sets, by name.
        presets: named settings of the benchmark command; see `equipoise.benchmark.plan.make_plan`.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    reference: ClassVar[Mapping[str, float]]
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """What is installed of the data, as JSON-able facts: at least "available", and "problem" if it is not."""

    def model(self, seed: int) -> nn.Module:
        """A network with the initial parameters of this seed."""

    def loaders(self, seed: int) -> Loaders:
        """The split and the batches of this seed."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        """The loss () of each task on one batch, by task name.

        A task without a label in this batch is left out, and if there is none at all, the batch is passed over.
        `equipoise.training.labels.labelled_losses` does that for targets with NaN, and counts the labelled samples.
        """

    def shared(self, model: nn.Module) -> Shared | None:
        """What `equipoise.Balancer` takes as shared parameters: the encoder, or None to infer them.

        None will do where every batch has labels of all tasks. Else a method that reads gradients should not have to
        guess, since a step with one task does not tell.
        """

    def evaluate(self, model: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
        """Every metric, by name and in report units, over all batches of a loader.

        A loader of several domains, `equipoise.training.domains.OneByOne`, has only those of the run's tasks: the
        metrics of the others may be left out.
        """

    def trivial(self, seed: int) -> dict[str, float]:
        """The test metrics of the best constant guess that the training part gives."""


@dataclass(frozen=True)
class Description:
    """What a problem is before its data are set up.

    Args:
        tasks: the objectives.
        reference: as `Problem.reference`.
    """

    tasks: tuple[Task, ...]
    reference: Mapping[str, float]


@runtime_checkable
class Described(Protocol):
    """A problem class whose tasks depend on its options, such as the columns of a user's table."""

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that these options give. An instance has the same `tasks` and `reference`.

        Raises:
            ValueError: on options that give none; the message says what to write instead.
        """


def description(problem: type[Problem], options: Mapping[str, Any]) -> Description:
    """The tasks and reference values of a problem with these options."""
    if isinstance(problem, Described):
        return problem.describe(options)
    return Description(problem.tasks, problem.reference)


@dataclass(frozen=True)
class Preview:
    """A look at the data before training.

    Args:
        header: of the columns.
        rows: of texts.
        notes: sentences below.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Previewed(Protocol):
    """A problem that shows what it has read before the training begins."""

    def preview(self) -> Preview:
        """What was read: columns or parts with their counts, and how they were split."""


@runtime_checkable
class Reweightable(Protocol):
    """A problem whose sampling weights can be changed without reading its data again."""

    def reweighted(self, weights: Sequence[float]) -> Problem:
        """The same problem, with its data, and the option `weights` set to these; itself unchanged."""


@runtime_checkable
class Separate(Protocol):
    """A problem class each of whose tasks has samples of its own, such as domains: a single-task run sees no others.

    Attributes:
        separate: True. Its training loader is `equipoise.training.domains.Domains`, of domains named as the tasks.
    """

    separate: ClassVar[bool]


@runtime_checkable
class Checkable(Protocol):
    """A problem class whose data the user has in a folder: `equipoise data NAME --data DIR` looks through it."""

    name: ClassVar[str]

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """JSON-able facts: at least "available", "problems" (a list of sentences) and "notes" (likewise)."""


@runtime_checkable
class Installable(Protocol):
    """A problem class whose data come as packages that `equipoise data NAME --install` may install."""

    @classmethod
    def install(cls) -> str:
        """Install what is missing; returns a sentence on what was done.

        Raises:
            RuntimeError: if that failed; the message says what to do.
        """
