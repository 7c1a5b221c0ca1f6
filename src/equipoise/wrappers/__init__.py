"""Every wrapper by name."""

from equipoise.core import Wrapper

from .clip_norm import ClipNorm
from .ema import EMA
from .every import Every
from .grouped import Grouped

WRAPPERS: dict[str, type[Wrapper]] = {
    "grouped": Grouped,
    "every": Every,
    "ema": EMA,
    "clip_norm": ClipNorm,
}

__all__ = ["EMA", "WRAPPERS", "ClipNorm", "Every", "Grouped"]
