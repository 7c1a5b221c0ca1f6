"""Budgets of the study of scalarization by problem and name; a problem without one takes its benchmark preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RECIPE = {"optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.05, "min_lr": 0.0}
GRID = (0.25, 0.35, 0.5, 0.65, 0.75)
"""Of p; a symmetric set that holds all best values which the poster of the paper shows."""

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "digits": {
        "smoke": {  # whether it runs; nothing is learnt, and every cell is hidden
            "base": "smoke",
            "settings": {
                **_RECIPE,
                "images": 200, "validation": 50, "test": 50, "side": 8, "batch_size": 16, "samples": 48,
                "model": "vit", "patch": 4, "epochs": 2, "warmup_epochs": 1,
            },
            "depths": (1, 2), "widths": (16,), "grid": (0.25, 0.5, 0.75), "seeds": 1, "lr": 1e-3, "probe": 2,
        },
        "quick": {  # half an hour on two cores, 400 steps a cell
            "base": "quick",
            "settings": {
                **_RECIPE,
                "images": 2000, "validation": 500, "test": 1000, "side": 16, "batch_size": 64, "samples": 3200,
                "model": "vit", "patch": 4, "epochs": 8, "warmup_epochs": 1,
            },
            "depths": (3, 6), "widths": (48, 96), "grid": GRID, "seeds": 1, "lr": 1e-3, "probe": 8,
        },
    },
    "cifar_stl": {
        "paper": {  # for a cluster: 300 epochs of the 55,000 images of both, as published
            "base": "paper",
            "settings": {
                **_RECIPE,
                "batch_size": 256, "samples": 55_000, "model": "vit", "epochs": 300, "warmup_epochs": 30,
            },
            "depths": (3, 6, 9), "widths": (48, 96, 144, 192), "grid": GRID, "seeds": 3, "lr": 1e-3, "probe": 16,
        },
    },
    "domainnet": {
        "paper": {  # for a cluster: `real` with each other domain, by the recipe of the benchmark
            "base": "paper",
            "settings": {"batch_size": 512, "samples": 150_000, "model": "resnet"},
            "pairs": tuple(
                ("real", other) for other in ("clipart", "infograph", "painting", "quickdraw", "sketch")
            ),
            "depths": (26, 50, 101), "widths": (16, 32, 64), "grid": GRID, "seeds": 1, "lr": 0.03, "probe": 16,
        },
    },
}  # fmt: skip
"""Problem -> name -> the preset of the problem it is based on, settings that differ from it, and the study's own."""
