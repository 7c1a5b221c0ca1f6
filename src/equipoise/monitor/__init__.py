"""Writes down how a training loop is balanced, without waiting for the device at every step."""

from .monitor import Monitor
from .writers import CSVWriter, Row, TensorBoardWriter, WandbWriter, Writer, open_board

__all__ = ["CSVWriter", "Monitor", "Row", "TensorBoardWriter", "WandbWriter", "Writer", "open_board"]
