"""Equipoise keeps the losses of one network in balance.

`build_method` gives a balancing method by name, and `Balancer` takes the place of `loss.backward()`.
"""

from . import monitor
from .build import build_method
from .core import (
    Aggregator,
    Method,
    MethodSpec,
    MissingStatisticError,
    Reads,
    TaskStats,
    Weighting,
    Wrapper,
)
from .engine import Balancer, StepRecord
from .methods import METHODS, GO4Align
from .wrappers import WRAPPERS

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "WRAPPERS",
    "Aggregator",
    "Balancer",
    "GO4Align",
    "Method",
    "MethodSpec",
    "MissingStatisticError",
    "Reads",
    "StepRecord",
    "TaskStats",
    "Weighting",
    "Wrapper",
    "build_method",
    "monitor",
]
