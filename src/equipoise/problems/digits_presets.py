"""How much of digits is trained with which methods, by the name of the budget."""

from __future__ import annotations

from typing import Any

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_ALL_METHODS = [
    "ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "pcgrad", "graddrop", "cagrad", "imtl_g", "nashmtl"
]  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; little is learnt
        "options": {"images": 300, "validation": 100, "test": 100, "batch_size": 32, "width": 4},
        "train": {"epochs": 2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # five minutes on two cores
        "options": {"images": 4000, "validation": 1000, "batch_size": 64, "width": 8},
        "train": {"epochs": 6},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 3,
    },
    "small": {  # hours; all images
        "options": {},
        "train": {"epochs": 20},
        "methods": _ALL_METHODS,
        "lrs": [1e-3],
        "seeds": 3,
    },
    "full": {  # for a GPU: all images, a residual network, until the validation part stalls
        "options": {"model": "resnet", "width": 32, "batch_size": 128},
        "train": {"epochs": 100, "patience": 20},
        "methods": _ALL_METHODS,
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}
