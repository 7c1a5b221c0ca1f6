"""The presets of CelebA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PUBLISHED_METHODS = [
    "ls", "si", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "famo", "go4align"
]  # fmt: skip
_FEW = [
    "Eyeglasses",
    "Male",
    "Mouth_Slightly_Open",
    "Smiling",
    "Wearing_Lipstick",
]
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {"attributes": _FEW[:3], "images": 500, "width": 4, "batch_size": 64},
        "train": {"epochs": 1, "schedule": "constant"},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # five minutes on two cores; five attributes that many images have, and many have not
        "options": {"attributes": _FEW, "images": 2000, "width": 4, "batch_size": 64},
        "train": {"epochs": 6, "schedule": "constant"},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 3,
    },
    "small": {  # hours; all attributes of a tenth of the images, a quarter of the published width
        "options": {"images": 20_000, "width": 16},
        "train": {"epochs": 8, "schedule": "constant"},
        "methods": _METHODS,
        "lrs": [1e-3],
        "seeds": 1,
    },
    "paper": {  # the published protocol; the code of FAMO has 3e-4 in place of 1e-3
        "options": {},
        "train": {"epochs": 15, "schedule": "constant"},
        "methods": _PUBLISHED_METHODS,
        "lrs": [1e-3],
        "seeds": 3,
    },
    "clean": {  # the learning rate is chosen for each method, on the validation part
        "options": {},
        "train": {"epochs": 15, "schedule": "constant"},
        "methods": _PUBLISHED_METHODS,
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
    "vit": {  # ViT-S/4 as Royer et al., NeurIPS 2023; epochs, rate and batch are inferred, see docs/protocols.md
        "options": {"model": "vit", "metric": "accuracy"},
        "train": {
            "epochs": 30,
            "warmup_epochs": 5,
            "schedule": "cosine",
            "min_lr": 0.0,
            "optimizer": "adamw",
            "weight_decay": 1e-4,
        },
        "methods": [
            "ls",
            "imtl_l",
            "cagrad",
            "graddrop",
            "pcgrad",
        ],  # the rows of its table, but for the searches
        "lrs": [1e-3],
        "seeds": 1,
    },
}
