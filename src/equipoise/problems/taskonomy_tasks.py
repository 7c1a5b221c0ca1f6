"""The tasks of Taskonomy with their metrics, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.data.taskonomy import OBJECTS
from equipoise.training.dense_evaluation import DenseTask
from equipoise.training.task import Metric

_METHODS = ["ls", "uw", "famo", "go4align", "nashmtl"]


def _depth(name: str) -> DenseTask:
    metrics = {
        "absolute_error": Metric(f"{name}_abs_err", False, "m"),
        "relative_error": Metric(f"{name}_rel_err", False, ""),
    }
    return DenseTask(name, "depth", metrics, unit="m")


def _map(name: str) -> DenseTask:
    return DenseTask(name, "map", {"absolute_error": Metric(f"{name}_abs_err", False, "")})


TASKS = (
    DenseTask(
        "segment_semantic",
        "classes",
        {
            "mean_iou": Metric("semantic_mIoU", True, "%"),
            "pixel_accuracy": Metric("semantic_pix_acc", True, "%"),
        },
        len(OBJECTS),
        OBJECTS,
    ),
    _depth("depth_euclidean"),
    _depth("depth_zbuffer"),
    DenseTask(
        "normal",
        "normal",
        {
            "mean_degrees": Metric("normal_mean", False, "deg"),
            "median_degrees": Metric("normal_median", False, "deg"),
            "within_11_25": Metric("within_11.25", True, "%"),
            "within_22_5": Metric("within_22.5", True, "%"),
            "within_30": Metric("within_30", True, "%"),
        },
    ),
    _map("edge_texture"),
    _map("keypoints2d"),
    _map("reshading"),
)
SCALE: Mapping[str, float] = {
    "semantic_mIoU": 20.0,
    "semantic_pix_acc": 90.0,
    "depth_euclidean_abs_err": 0.5,
    "depth_euclidean_rel_err": 0.2,
    "depth_zbuffer_abs_err": 0.5,
    "depth_zbuffer_rel_err": 0.2,
    "normal_mean": 20.0,
    "normal_median": 12.0,
    "within_11.25": 50.0,
    "within_22.5": 75.0,
    "within_30": 85.0,
    "edge_texture_abs_err": 0.02,
    "keypoints2d_abs_err": 0.02,
    "reshading_abs_err": 0.1,
}
"""A fixed scale for the selection of epochs: guesses of the order of magnitude, since nothing was run on these data."""

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {  # whether it runs; nothing is learnt
        "options": {
            "tasks": "segment_semantic,depth_euclidean,normal,reshading",
            "images": 8,
            "validation": 4,
            "test": 4,
            "side": 32,
            "batch_size": 4,
            "width": 2,
            "levels": 2,
        },
        "train": {"epochs": 1, "schedule": "constant"},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "quick": {  # minutes on two cores; three tasks on small images
        "options": {
            "tasks": "segment_semantic,depth_euclidean,normal",
            "images": 500,
            "validation": 100,
            "test": 100,
            "side": 64,
            "batch_size": 8,
            "model": "unet",
            "width": 8,
            "levels": 3,
        },
        "train": {"epochs": 5, "schedule": "constant"},
        "methods": _METHODS,
        "lrs": [3e-3],
        "seeds": 1,
    },
    "small": {  # hours on a GPU; 25,000 images of the tiny split
        "options": {"images": 25_000, "validation": 2000, "test": 5000, "side": 128},
        "train": {
            "epochs": 5,
            "warmup_epochs": 1,
            "schedule": "cosine",
            "optimizer": "adamw",
            "weight_decay": 1e-4,
        },
        "methods": _METHODS,
        "lrs": [1e-3],
        "seeds": 1,
    },
    "full": {  # days on GPUs; the network of NYUv2, the methods of Royer et al., whose protocol is not known to us
        "options": {"width": 64, "workers": 8},
        "train": {
            "epochs": 20,
            "warmup_epochs": 1,
            "schedule": "cosine",
            "optimizer": "adamw",
            "weight_decay": 1e-4,
        },
        "methods": ["ls", "uw", "imtl_l", "cagrad", "graddrop", "pcgrad"],
        "lrs": [1e-3, 3e-4],
        "seeds": 3,
    },
}
