"""What a search was worth: networks trained anew on the whole training part, and compared on the test part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from equipoise.engine.checks import NotFiniteError
from equipoise.training.checkpoint import remove_checkpoint
from equipoise.training.loop import Trainer
from equipoise.training.outcome import DivergedError, Hooks, Outcome
from equipoise.training.storage import append_line, storing, whole_lines

from .generations import Result, SearchError, best_of, point_of, schedule_of
from .member import Make, Setting
from .ranking import score_of
from .space import Point

FILE = "retrained.jsonl"
Schedule = Sequence[tuple[int, Point]]


@dataclass(frozen=True)
class Anew:
    """A network to train on the whole training part.

    Args:
        variant: "uniform", "constant", "schedule", or "restart" for one more network with uniform weights.
        seed: of the run.
        schedule: (first epoch, point), the first one from epoch 0.
    """

    variant: str
    seed: int
    schedule: Schedule

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"{self.variant} weights, seed {self.seed}"

    @property
    def place(self) -> tuple[str, int]:
        """Variant and seed: no two have the same."""
        return self.variant, self.seed


@dataclass(frozen=True)
class Retrained:
    """One network that was trained on the whole training part.

    Args:
        variant: as `Anew.variant`.
        seed: of the run.
        score: of the test part at the selected epoch, lower is better; None if the network diverged.
        metrics: of the test part, by name.
        seconds: of its steps.
        validation: of the validation part at that epoch, which delta_m has selected.
    """

    variant: str
    seed: int
    score: float | None
    metrics: Mapping[str, float]
    seconds: float
    validation: float | None = None


def variants(history: Sequence[Sequence[Result]], uniform: Point) -> dict[str, list[tuple[int, Point]]]:
    """What is trained anew: uniform weights, the best member's last point, and the schedule that led to it.

    Constant weights or a schedule that are the same as the one before are left out.

    Args:
        history: of the search.
        uniform: the uniform weights, trained with the winner's other settings, so that only the weights differ.
    """
    best = best_of(history)
    uniform = uniform._replace(settings=best.assignment.settings)
    found = {
        "uniform": [(0, uniform)],
        "constant": [(0, point_of(best.assignment))],
        "schedule": _shortened(schedule_of(history, best)),
    }
    return without_repeats(found)


def without_repeats(
    found: Mapping[str, list[tuple[int, Point]]],
) -> dict[str, list[tuple[int, Point]]]:
    """The variants that differ from all before them."""
    kept: dict[str, list[tuple[int, Point]]] = {}
    for name, schedule in found.items():
        if schedule not in kept.values():
            kept[name] = schedule
    return kept


def stretched(schedule: Schedule, epochs: int, whole: int) -> list[tuple[int, Point]]:
    """A schedule of a run of so many epochs, for one that has `whole`: each change at the same part of the run."""
    found: dict[int, Point] = {}
    for begin, point in schedule:
        found[round(begin * whole / epochs)] = point
    return _shortened([(begin, point) for begin, point in sorted(found.items()) if begin < whole])


def _shortened(schedule: Schedule) -> list[tuple[int, Point]]:
    """The same without entries that change nothing."""
    kept = [schedule[0]]
    for entry in schedule[1:]:
        if entry[1] != kept[-1][1]:
            kept.append(entry)
    return kept


def train_anew(
    make: Make, setting: Setting, anew: Anew, directory: Path, hooks: Hooks | None = None
) -> Retrained:
    """Train one network on the whole training part, from wherever a kill has left it, and read the test part.

    Args:
        make: builds the problem from options.
        setting: of the search; the seed is that of `anew`.
        anew: what to train.
        directory: of the search; logs and checkpoint lie in its folder `retrained`.
        hooks: what the caller wants to hear and say.

    Raises: see `retrain`, but for a network that diverged, which is a result.
    """
    config = setting.config.model_copy(update={"seed": anew.seed})
    where = directory / "retrained" / f"{anew.variant}-seed{anew.seed}"
    try:
        outcome = retrain(make, replace(setting, config=config), anew.schedule, where, hooks)
    except (DivergedError, NotFiniteError):
        return Retrained(anew.variant, anew.seed, None, {}, 0.0)
    test = outcome.metrics["test"]
    problem = make(setting.at(anew.schedule[0][1]).options)
    score = score_of(setting.rank, problem, test)
    validation = score_of(setting.rank, problem, outcome.metrics["validation"])
    return Retrained(anew.variant, anew.seed, score, test, outcome.seconds, validation)


def retrain(
    make: Make, setting: Setting, schedule: Schedule, where: Path, hooks: Hooks | None = None
) -> Outcome:
    """Train one network from its beginning to its end, on the whole training part, from wherever a kill has left it.

    Args:
        make: builds the problem from options.
        setting: of the search, with the seed of this run.
        schedule: (first epoch, point), the first one from epoch 0.
        where: a folder for logs and checkpoint.
        hooks: what the caller wants to hear and say.

    Raises:
        SearchError: if the schedule does not begin at epoch 0, or its epochs do not rise.
        InterruptedRunError: if `hooks.stop` said so; it can go on.
        DivergedError, NotFiniteError: as `Trainer.run`.
    """
    begins = [begin for begin, _ in schedule]
    epochs = setting.config.train.epochs
    if begins[:1] != [0] or sorted(set(begins)) != begins or begins[-1] >= epochs:
        raise SearchError(
            f"A schedule should begin at epoch 0 and rise to less than {epochs}. Found changes at epochs {begins}."
        )
    checkpoint = where / "checkpoint.pt"
    for k, (_, point) in enumerate(schedule):
        config = setting.at(point)
        trainer = Trainer(make(config.options), config, where, checkpoint, hooks, adopt=True)
        if k + 1 < len(schedule):
            trainer.advance(begins[k + 1])
    outcome = trainer.run()
    remove_checkpoint(checkpoint)
    return outcome


def read_retrained(directory: Path) -> list[Retrained]:
    """All lines of `retrained.jsonl`; a last one that a kill has cut off is left out."""
    return [Retrained(**json.loads(line)) for line in whole_lines(directory / FILE)]


def append_retrained(directory: Path, found: Retrained) -> None:
    """Add a line and wait until it is on the disk.

    Raises:
        StorageError: if it cannot be written.
    """
    with storing(directory / FILE):
        append_line(directory / FILE, json.dumps(asdict(found)).encode())
