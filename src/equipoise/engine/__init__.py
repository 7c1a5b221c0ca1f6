"""Measures a training step, asks the method, and carries out its answer."""

from .balancer import Balancer
from .record import StepRecord

__all__ = ["Balancer", "StepRecord"]
