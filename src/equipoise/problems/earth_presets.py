"""The presets of Earth."""

from __future__ import annotations

from typing import Any

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {"tiles": 32, "tile": 32, "width": 2, "levels": 2},
        "train": {"epochs": 2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # minutes on two cores; land cover and climate are learnt, by the first two of the five levels
        "options": {"tile": 32, "width": 8, "levels": 2, "batch_size": 8},
        "train": {"epochs": 3, "schedule": "step", "step_epochs": 2, "step_factor": 0.3},  # 735 steps
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "small": {  # hours; the network of NYUv2 at an eighth of its width
        "options": {"width": 8, "batch_size": 8},
        "train": {"epochs": 30, "schedule": "step", "step_epochs": 10, "step_factor": 0.3},
        "methods": ["ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "cagrad", "imtl_g", "nashmtl"],
        "lrs": [5e-3],
        "seeds": 1,
    },
    "full": {  # days on a GPU: the network of NYUv2, all methods of the papers
        "options": {"width": 64, "stride": 32},
        "train": {"epochs": 200},
        "methods": [
            "ls", "si", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "famo", "go4align"
        ],
        "lrs": [1e-3, 5e-4, 1e-4],
        "seeds": 3,
    },
}  # fmt: skip
