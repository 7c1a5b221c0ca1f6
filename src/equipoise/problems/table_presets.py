"""Presets of the table problem, which have to fit any table: `max_steps` bounds what a long one costs."""

from __future__ import annotations

from typing import Any

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]

# budget_gb: methods of the Gramian keep rows where there are few tasks, and do without where there are hundreds.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {"width": 32, "batch_size": 256},
        "train": {"epochs": 1, "max_steps": 20, "budget_gb": 0.2},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # minutes on two cores for a dozen tasks and ten thousand rows
        "options": {"width": 128},
        "train": {"epochs": 10, "max_steps": 1000, "budget_gb": 0.5},
        "methods": _METHODS,
        "lrs": [1e-3],
        "seeds": 3,
    },
    "small": {  # an hour or more
        "options": {},
        "train": {"epochs": 40, "patience": 10, "budget_gb": 1.0},
        "methods": [
            "ls",
            "si",
            "rlw",
            "dwa",
            "uw",
            "famo",
            "go4align",
            "mgda",
            "cagrad",
            "imtl_g",
            "nashmtl",
        ],
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}
