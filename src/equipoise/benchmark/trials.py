"""The settings that a tuning budget tries out: a fixed list for each row, known before anything runs.

A list in place of a sampler that looks at results (Optuna, Bayesian optimisation): it is equal for all rows, does not
depend on which run ends first, can be read before a run, and resumes without a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from equipoise.core import MethodSpec
from equipoise.training.config import TrainConfig
from equipoise.training.setup import stream_seed

from .knobs import DECOUPLED, KNOBS, TRAIN_KNOBS, WEIGHT_DECAY, Knob, between, digits
from .records import Setting

_PLACES = 8  # of a point: learning rate, weight decay, and knobs in the order of their table
_WITHIN = 5.0  # the learning rate is searched so many times below and above the preset's


@dataclass(frozen=True)
class Budget:
    """How much is tried out, and from where.

    Args:
        trials: settings of each row, at least 1.
        lr: the preset's learning rate, with which the list begins.
        bounds: of the learning rate; by default a factor of five either way of `lr`.
    """

    trials: int
    lr: float
    bounds: tuple[float, float] | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The bounds of the learning rate."""
        return self.bounds or (self.lr / _WITHIN, self.lr * _WITHIN)


def settings_of(
    label: str, fixed: Mapping[str, Any], budget: Budget, train: TrainConfig, *, problem: str, n_tasks: int
) -> tuple[Setting, ...]:
    """The settings that a row tries out, in their order.

    The first is the preset's (its learning rate moved into the bounds); the others are the points of a scrambled Sobol
    sequence, log-uniform in learning rate and weight decay. These two are the same numbers in every row. The list of a
    larger budget begins with that of a smaller one.

    Args:
        label: of the row.
        fixed: hyper-parameters that the user has written, which stay as they are.
        budget: how many, and where.
        train: settings of the preset.
        problem: its name; each problem has other points.
        n_tasks: the number of tasks m.
    """
    low, high = budget.range
    first = Setting(min(max(budget.lr, low), high), {"weight_decay": train.weight_decay})
    decay = DECOUPLED if train.optimizer == "adamw" else WEIGHT_DECAY
    knobs = knobs_of(label, fixed)
    found = [first]
    for lr, decayed, *places in _points(budget.trials - 1, problem):
        values = {
            name: knob.at(place, n_tasks) for (name, knob), place in zip(knobs.items(), places, strict=False)
        }
        trained = {name: value for name, value in values.items() if name in TRAIN_KNOBS}
        own = {name: value for name, value in values.items() if name not in TRAIN_KNOBS}
        rate = min(max(digits(between(low, high, lr)), low), high)
        found.append(Setting(rate, {"weight_decay": decay.at(decayed, n_tasks), **trained}, own))
    return tuple(found)


def knobs_of(label: str, fixed: Mapping[str, Any]) -> dict[str, Knob]:
    """The knobs of a row that are tried out, without those that the user has written."""
    knobs = KNOBS.get(MethodSpec.parse(label).name, {})
    return {
        name: knob for name, knob in knobs.items() if name not in fixed and not knob.unless & fixed.keys()
    }


def _points(count: int, problem: str) -> list[list[float]]:
    """Points (count, places) in the unit cube, at even distances."""
    engine = torch.quasirandom.SobolEngine(_PLACES, scramble=True, seed=stream_seed(0, f"trials/{problem}"))
    points: list[list[float]] = engine.draw(count, dtype=torch.float64).tolist() if count else []
    return points
