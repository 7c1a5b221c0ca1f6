"""Every wrapper by name."""

from equipoise.core import Wrapper

from .clip_norm import ClipNorm
from .ema import EMA
from .every import Every
from .grouped import Grouped
from .log_losses import LogLosses

WRAPPERS: dict[str, type[Wrapper]] = {
    "grouped": Grouped,
    "every": Every,
    "ema": EMA,
    "clip_norm": ClipNorm,
    "log_losses": LogLosses,
}

__all__ = ["EMA", "WRAPPERS", "ClipNorm", "Every", "Grouped", "LogLosses"]
