"""How much of the synthetic problems is trained with which methods, by the name of the budget."""

from __future__ import annotations

from typing import Any

_METHODS = ["ls", "si", "uw", "famo", "go4align", "nashmtl"]

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; little is learnt
        "options": {"tasks": 6, "samples": 400, "held": 200, "width": 32},
        "train": {"epochs": 4},
        "methods": _METHODS,
        "lrs": [5e-3],
        "seeds": 1,
    },
    "quick": {  # minutes on two cores
        "options": {"samples": 2000},
        "train": {"epochs": 20},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 3,
    },
    "small": {  # half an hour; more tasks and all of their labels
        "options": {"tasks": 40, "groups": 5, "samples": 4000},
        "train": {"epochs": 40},
        "methods": [*_METHODS, "rlw", "dwa", "mgda", "pcgrad", "cagrad", "imtl_g"],
        "lrs": [3e-3, 1e-3],
        "seeds": 5,
    },
}

FRONTS: dict[str, dict[str, Any]] = {
    name: {
        "options": {"steps": steps},
        "train": {"epochs": 10, "schedule": "cosine", "min_lr": 1e-4},
        "methods": [*_METHODS, "mgda", "tchebycheff"],
        "lrs": [0.02],
        "seeds": seeds,
    }
    for name, steps, seeds in (("smoke", 20, 1), ("quick", 100, 5))
}
"""Presets of the exact fronts."""
