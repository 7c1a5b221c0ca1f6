"""How much of multi-MNIST and multi-Fashion is trained with which methods, by the name of the budget."""

from __future__ import annotations

from typing import Any

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_ALL_METHODS = [
    "ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "pcgrad", "graddrop", "cagrad", "imtl_g", "nashmtl"
]  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; little is learnt
        "options": {"images": 1000, "validation": 200, "test": 200, "batch_size": 64, "width": 4},
        "train": {"epochs": 2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # five minutes on two cores
        "options": {"images": 12_000, "validation": 2000, "batch_size": 64, "width": 8},
        "train": {"epochs": 6},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 3,
    },
    "small": {  # hours; all images and the published network
        "options": {},
        "train": {"epochs": 30},
        "methods": _ALL_METHODS,
        "lrs": [1e-3],
        "seeds": 3,
    },
    "full": {  # as many canvases and epochs as Pareto MTL
        "options": {"repeats": 2},
        "train": {"epochs": 100},
        "methods": _ALL_METHODS,
        "lrs": [1e-3, 5e-4],
        "seeds": 3,
    },
}
