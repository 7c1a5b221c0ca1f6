"""The presets of CIFAR-10 + STL-10, DomainNet and office folders.

Those called "paper" follow A. Royer et al., Scalarization at Scale, NeurIPS 2023, https://arxiv.org/abs/2310.08910, as
far as its settings are known to us; `docs/protocols.md` says which parts are inferred.
"""

from __future__ import annotations

from typing import Any

_FEW = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PUBLISHED = ["ls", "uw", "imtl_l", "cagrad", "graddrop", "pcgrad"]  # the rows of its table for DomainNet
_MORE = ["ls", "si", "rlw", "dwa", "uw", "famo", "go4align", "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl"]
_SMOKE_CAPS = {"images": 64, "validation": 32, "test": 32}


def _tiny(options: dict[str, Any]) -> dict[str, Any]:
    """Whether it runs; nothing is learnt."""
    train = {"epochs": 1, "schedule": "constant", "optimizer": "adamw"}
    return {
        "options": {**_SMOKE_CAPS, "batch_size": 16, **options},
        "train": train,
        "methods": _FEW,
        "lrs": [1e-3],
        "seeds": 1,
    }


def _adamw(epochs: int, warmup: int, weight_decay: float) -> dict[str, Any]:
    """AdamW with a linear warm-up, then a cosine down to 0."""
    return {
        "epochs": epochs,
        "warmup_epochs": warmup,
        "schedule": "cosine",
        "min_lr": 0.0,
        "optimizer": "adamw",
        "weight_decay": weight_decay,
    }


def _sgd(epochs: int, warmup: int, weight_decay: float) -> dict[str, Any]:
    """SGD with momentum and the same schedule."""
    return {**_adamw(epochs, warmup, weight_decay), "optimizer": "sgd", "momentum": 0.9}


CIFAR_STL: dict[str, dict[str, Any]] = {
    "smoke": _tiny({"width": 16, "depth": 1, "patch": 8}),
    "quick": {  # minutes on two cores; a small transformer on a tenth of the images
        "options": {"images": 4000, "validation": 450, "test": 1000, "batch_size": 64},
        "train": _adamw(8, 1, 0.05),
        "methods": _FEW,
        "lrs": [1e-3],
        "seeds": 1,
    },
    "small": {  # hours on two cores; all images, the smallest published transformer, a tenth of the epochs
        "options": {},
        "train": _adamw(30, 3, 0.05),
        "methods": _FEW,
        "lrs": [1e-3],
        "seeds": 1,
    },
    "paper": {  # the published recipe of 256 images a step, with the largest published transformer
        "options": {"depth": 9, "width": 192, "batch_size": 128},
        "train": _adamw(300, 30, 0.05),
        "methods": _PUBLISHED,
        "lrs": [1e-3],
        "seeds": 3,
    },
}
DOMAINNET: dict[str, dict[str, Any]] = {
    "smoke": _tiny({"side": 32, "width": 4}),
    "quick": {  # minutes on two cores, once the images are decoded; two of the domains
        "options": {
            "domains": "clipart,quickdraw",
            "images": 4000,
            "validation": 1000,
            "test": 1000,
            "side": 32,
            "width": 8,
        },
        "train": _adamw(6, 1, 1e-4),
        "methods": _FEW,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "small": {  # hours on a GPU; all images at 64 x 64 pixels
        "options": {"batch_size": 85},
        "train": _adamw(15, 2, 1e-4),
        "methods": _FEW,
        "lrs": [1e-3],
        "seeds": 1,
    },
    "paper": {  # ResNet-26 of full width; 510 images a step of six domains, published are 512
        "options": {"side": 224, "width": 64, "crop": 28, "batch_size": 85},
        "train": _sgd(30, 5, 1e-4),
        "methods": _PUBLISHED,
        "lrs": [0.03],
        "seeds": 3,
    },
}
OFFICE: dict[str, dict[str, Any]] = {
    "smoke": _tiny({"side": 32, "width": 4}),
    "quick": {  # minutes on two cores, once the images are decoded
        "options": {"images": 1000, "side": 32, "width": 8},
        "train": _adamw(8, 1, 1e-4),
        "methods": _FEW,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "small": {  # hours on two cores; all images at 64 x 64 pixels
        "options": {},
        "train": _adamw(60, 5, 1e-4),
        "methods": _FEW,
        "lrs": [1e-3],
        "seeds": 3,
    },
    "full": {  # for a GPU; no paper has this protocol
        "options": {"side": 224, "width": 64, "crop": 28, "batch_size": 32},
        "train": _adamw(100, 5, 1e-4),
        "methods": _MORE,
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}
