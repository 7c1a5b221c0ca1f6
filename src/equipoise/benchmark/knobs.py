"""The hyper-parameters of each method that a tuning budget tries out, and between which values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OURS = "ours: about a factor of ten either way of the default"


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter and its range.

    Args:
        low: its least value.
        high: its largest; for "whole" at most the number of tasks counts.
        kind: "log" or "linear" for numbers, "whole" for numbers of groups, "choice" for the values in `options`.
        source: where the range comes from.
        options: of a "choice".
        unless: arguments that, where the user has written one of them, leave this one without a meaning.
    """

    low: float
    high: float
    kind: Literal["log", "linear", "whole", "choice"]
    source: str
    options: tuple[Any, ...] = ()
    unless: frozenset[str] = frozenset()

    def at(self, place: float, n_tasks: int) -> Any:
        """The value at a place in [0, 1), spread evenly over the range, to three digits.

        Args:
            place: 0 for the least value.
            n_tasks: the number of tasks m.
        """
        if self.kind == "choice":
            return self.options[int(place * len(self.options))]
        if self.kind == "whole":
            high = max(self.low, min(self.high, n_tasks))
            return int(self.low + place * (high - self.low + 1))
        if self.kind == "log":
            return digits(between(self.low, self.high, place))
        return digits(self.low + place * (self.high - self.low))

    @property
    def text(self) -> str:
        """The range in words."""
        if self.kind == "choice":
            return ", ".join(map(str, self.options))
        high = "the number of tasks" if math.isinf(self.high) else f"{self.high:g}"
        return f"{self.low:g} to {high}" + (", log" if self.kind == "log" else "")


def between(low: float, high: float, place: float) -> float:
    """The number at a place in [0, 1] of a range above 0, evenly in its logarithm."""
    return float(low * (high / low) ** place)


def digits(value: float) -> float:
    """A number to three digits, so that a label can be read."""
    return float(f"{value:.3g}")


def _log(low: float, high: float, source: str = OURS) -> Knob:
    return Knob(low, high, "log", source)


def _linear(low: float, high: float, source: str) -> Knob:
    return Knob(low, high, "linear", source)


def _choice(*options: Any, source: str) -> Knob:
    return Knob(0.0, 0.0, "choice", source, options)


WEIGHT_DECAY = _log(1e-6, 1e-3, "ours: from next to nothing to where small networks begin to underfit")
"""Of the model, for "adam" and "sgd"."""
DECOUPLED = _log(1e-4, 1e-1, "ours: about 0.05, as transformers take it (Royer et al., 2023)")
"""Of the model, for "adamw", whose decay is multiplied with the learning rate."""

TRAIN_KNOBS = frozenset({"method_lr"})
"""Knobs that are settings of the training, not arguments of a method."""

_LEARNED = {"method_lr": _log(2.5e-3, 0.25)}
_BETA = {"beta": _log(1e-3, 0.1)}
_IN_CODE = "every value that the method knows"
_INSIDE = "ours: the range of the definition without its ends"
KNOBS: Mapping[str, Mapping[str, Knob]] = {
    "uw": _LEARNED,
    "imtl_l": _LEARNED,
    "imtl": _LEARNED,
    "dwa": {"temperature": _log(0.5, 8.0, "ours: a factor of four either way of the paper's 2")},
    "famo": {
        "lr": _log(2.5e-3, 0.25),
        "weight_decay": _log(1e-5, 1e-2, "from the code's 1e-5 to the paper's 1e-2 on CityScapes"),
    },
    "go4align": {
        "groups": Knob(
            1,
            math.inf,
            "whole",
            "from one group to a group for each task",
            unless=frozenset({"clustering", "assignment"}),
        ),
        "step": _log(1e-6, 0.1, "the code's 1e-4, two decades down and three up"),
        "decay": _linear(0.9, 1.0, "ours: forgetting after ten steps, or never as in the paper"),
    },
    "mgda": {"normalization": _choice("none", "norm", "loss", "loss+", source=_IN_CODE)},
    "cagrad": {"c": _linear(0.1, 0.9, _INSIDE)},
    "nashmtl": {"max_norm": _log(0.3, 3.0, "ours: a factor of three either way of the code's 1")},
    "graddrop": {"max_norm": _log(0.3, 3.0, "ours: a factor of three either way of the code's 1")},
    "uw_so": {"temperature": _log(0.1, 10.0)},
    "stch": {"mu": _log(0.1, 10.0)},
    "pbi": {"theta": _log(0.5, 50.0)},
    "cosmos": {"alignment": _log(0.2, 20.0)},
    "softadapt": {"beta": _log(0.01, 1.0)},
    "relobralo": {"temperature": _log(0.01, 1.0)},
    "ldc_mtl": {"discrepancy": _log(5e-3, 0.5)},
    "coba": {"tau": _log(0.5, 50.0)},
    "gradnorm": {
        "alpha": _linear(0.0, 3.0, "ours: from none to twice the default"),
        "lr": _log(2.5e-3, 0.25),
    },
    "gradvac": _BETA,
    "gradvac_layers": _BETA,
    "aligned_mtl": {"scale": _choice("min", "median", "rmse", source=_IN_CODE)},
    "fairgrad": {"alpha": _log(0.5, 10.0, "ours: about the default 1, up to close to max-min fairness")},
    "db_mtl": {"beta": _linear(0.1, 0.9, _INSIDE)},
    "excess_mtl": {"step_size": _log(1e-3, 0.1)},
    "metabalance": {"relax": _linear(0.0, 1.0, "the range of the definition")},
    "lr_annealing": {"decay": _linear(0.5, 0.99, _INSIDE)},
    "moco": {"beta": _log(0.01, 1.0), "gamma": _log(0.01, 1.0), "rho": _log(0.01, 1.0)},
    "modo": {"gamma": _log(0.01, 1.0), "rho": _log(0.01, 1.0)},
    "sdmgrad": {"strength": _log(0.03, 3.0), "lr": _log(1.0, 100.0)},
    "trimmed_mean": {"fraction": _linear(0.1, 0.45, _INSIDE)},
}
"""Method -> knob -> range. A method that is not here has no knob: all of its trials go to lr and weight decay."""
