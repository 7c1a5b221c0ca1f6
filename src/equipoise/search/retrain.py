"""What a search was worth: networks trained anew on the whole training part, and compared on the test part."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.training.checkpoint import remove_checkpoint
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, Outcome
from equipoise.training.storage import append_line, storing, whole_lines

from .generations import Result, SearchError, best_of, schedule_of
from .member import Make, Setting
from .weights import Weights, uniform

FILE = "retrained.jsonl"
Schedule = Sequence[tuple[int, Weights]]
# 97.5 % points of Student's t with 1, 2, ... degrees of freedom; Abramowitz and Stegun, table 26.10.
_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
_T_LARGE = 1.960


@dataclass(frozen=True)
class Retrained:
    """One network that was trained on the whole training part.

    Args:
        variant: "uniform", "constant" or "schedule".
        seed: of the run.
        score: of the validation part at the selected epoch, lower is better.
        metrics: of the test part, by name.
        seconds: of its steps.
    """

    variant: str
    seed: int
    score: float
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two variants over the same seeds, with its 95 % interval.

    Args:
        mean: of the differences.
        half: of the interval's width; infinite with one seed.
    """

    mean: float
    half: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.half


def variants(history: Sequence[Sequence[Result]]) -> dict[str, list[tuple[int, Weights]]]:
    """What is trained anew: uniform weights, the best member's last ones, and the schedule that led to it."""
    best = best_of(history)
    weights = best.assignment.weights
    return {
        "uniform": [(0, uniform(len(weights)))],
        "constant": [(0, weights)],
        "schedule": _shortened(schedule_of(history, best)),
    }


def _shortened(schedule: Schedule) -> list[tuple[int, Weights]]:
    """The same without entries that change nothing."""
    kept = [schedule[0]]
    for entry in schedule[1:]:
        if entry[1] != kept[-1][1]:
            kept.append(entry)
    return kept


def retrain(
    make: Make, setting: Setting, schedule: Schedule, where: Path, hooks: Hooks | None = None
) -> Outcome:
    """Train one network from its beginning to its end, on the whole training part, from wherever a kill has left it.

    Args:
        make: builds the problem from options.
        setting: of the search, with the seed of this run.
        schedule: (first epoch, weights), the first one from epoch 0.
        where: a folder for logs and checkpoint.
        hooks: what the caller wants to hear and say.

    Raises:
        SearchError: if the schedule does not begin at epoch 0, or its epochs do not rise.
        InterruptedRunError: if `hooks.stop` said so; it can go on.
    """
    begins = [begin for begin, _ in schedule]
    epochs = setting.config.train.epochs
    if begins[:1] != [0] or sorted(set(begins)) != begins or begins[-1] >= epochs:
        raise SearchError(
            f"A schedule should begin at epoch 0 and rise to less than {epochs}. Found changes at epochs {begins}."
        )
    checkpoint = where / "checkpoint.pt"
    for k, (_, weights) in enumerate(schedule):
        config = setting.with_weights(weights)
        trainer = Trainer(make(config.options), config, where, checkpoint, hooks, adopt=True)
        if k + 1 < len(schedule):
            trainer.advance(begins[k + 1])
    outcome = trainer.run()
    remove_checkpoint(checkpoint)
    return outcome


def compared(scores: Sequence[float], others: Sequence[float]) -> Comparison:
    """How much lower the first scores are than the others, of the same seeds: the paired t interval of 95 %.

    With the n differences d_i = s_i - o_i, mean(d) +- t_{0.975, n-1} std(d) / sqrt(n).

    Raises:
        ValueError: if there are none, or not equally many.
    """
    if not scores or len(scores) != len(others):
        raise ValueError(
            f"`scores` and `others` should be equally many. Found {len(scores)} and {len(others)}."
        )
    differences = [score - other for score, other in zip(scores, others, strict=True)]
    count = len(differences)
    if count == 1:
        return Comparison(differences[0], math.inf)
    quantile = _T[count - 2] if count - 2 < len(_T) else _T_LARGE
    return Comparison(
        statistics.fmean(differences), quantile * statistics.stdev(differences) / math.sqrt(count)
    )


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
