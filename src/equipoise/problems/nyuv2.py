"""NYUv2: segmentation, depth and surface normals of indoor images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from equipoise.data.dense_augment import DepthKind
from equipoise.data.dense_folder import NYUV2, Layout
from equipoise.models.segnet import NYUV2 as OUTPUTS
from equipoise.models.segnet import DenseOutput
from equipoise.training.dense_evaluation import DenseTask
from equipoise.training.task import Metric, Task

from .dense import DenseBenchmark, Protocol
from .dense_presets import dense_presets

_CLASSES = "bed books ceiling chair floor furniture objects painting sofa table tv wall window"
_DENSE = (
    DenseTask(
        "segmentation",
        "classes",
        {"mean_iou": Metric("mIoU", True, "%"), "pixel_accuracy": Metric("pix_acc", True, "%")},
        classes=13,
        class_names=tuple(_CLASSES.split()),  # github.com/ankurhanda/SceneNetv1.0, which the labels come from
    ),
    DenseTask(
        "depth",
        "depth",
        {"absolute_error": Metric("abs_err", False, "m"), "relative_error": Metric("rel_err", False, "")},
        unit="m",
    ),
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
)
_METHODS = "ls si rlw dwa uw mgda pcgrad graddrop cagrad imtl_g nashmtl famo go4align"


class NYUv2(DenseBenchmark):
    """The NYUv2 benchmark of GO4Align, FAMO and Nash-MTL: 795 training and 654 test images, 3 tasks, 9 metrics.

    Reference: J. Shen et al., "GO4Align", NeurIPS 2024, https://arxiv.org/abs/2404.06486, appendix B; the folder and
    the network of S. Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019,
    https://arxiv.org/abs/1803.10704. `reference` holds the published single-task values.
    Departures: `docs/protocols.md`.

    Args and errors: see `equipoise.problems.dense.DenseBenchmark`; 2 images a batch were published.
    """

    name: ClassVar[str] = "nyuv2"
    layout: ClassVar[Layout] = NYUV2
    dense: ClassVar[tuple[DenseTask, ...]] = _DENSE
    outputs: ClassVar[tuple[DenseOutput, ...]] = OUTPUTS
    zoomed: ClassVar[Mapping[Protocol, DepthKind]] = {"paper": "distance", "clean": "distance"}
    published_batch: ClassVar[int] = 2
    source: ClassVar[str] = (
        "Researchers get it as `nyuv2.zip` from the links in the README of https://github.com/lorenmt/mtan (prepared "
        "by the authors of MTAN from https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html)."
    )
    licence: ClassVar[str] = "none stated by its authors; see the page of the data set"
    citation: ClassVar[str] = (
        "N. Silberman, D. Hoiem, P. Kohli, R. Fergus, Indoor Segmentation and Support Inference from RGBD Images, "
        "ECCV 2012"
    )
    tasks: ClassVar[tuple[Task, ...]] = tuple(task.task for task in _DENSE)
    reference: ClassVar[Mapping[str, float]] = {
        "mIoU": 38.30,
        "pix_acc": 63.76,
        "abs_err": 0.6754,
        "rel_err": 0.2780,
        "normal_mean": 25.01,
        "normal_median": 19.21,
        "within_11.25": 30.14,
        "within_22.5": 57.20,
        "within_30": 69.15,
    }
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "go4align": {"groups": 2},
        "grouped": {"groups": 2},
        "famo": {"weight_decay": 1e-3},  # the paper of FAMO; its code has 1e-5
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = dense_presets(_METHODS.split(), images=60, epochs=5)
