"""The concepts that everything else is built on: statistics of a step, methods, specifications."""

from .last_losses import LastLosses
from .method import Aggregator, GramianWeighting, HeadWeights, Method, Weighting, Wrapper
from .random import RandomStream
from .spec import MethodSpec
from .stats import MissingStatisticError, Reads, TaskStats, gramian_of
from .tracked import Tracked

__all__ = [
    "Aggregator",
    "GramianWeighting",
    "HeadWeights",
    "LastLosses",
    "Method",
    "MethodSpec",
    "MissingStatisticError",
    "RandomStream",
    "Reads",
    "TaskStats",
    "Tracked",
    "Weighting",
    "Wrapper",
    "gramian_of",
]
