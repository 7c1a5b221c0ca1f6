"""CityScapes: segmentation into 7 classes and inverse depth of street images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from equipoise.data.dense_augment import DepthKind
from equipoise.data.dense_folder import CITYSCAPES, Layout
from equipoise.models.segnet import CITYSCAPES as OUTPUTS
from equipoise.models.segnet import DenseOutput
from equipoise.training.dense_evaluation import DenseTask
from equipoise.training.task import Metric, Task

from .dense import DenseBenchmark, Protocol
from .dense_presets import dense_presets

_DENSE = (
    DenseTask(
        "segmentation",
        "classes",
        {"mean_iou": Metric("mIoU", True, "%"), "pixel_accuracy": Metric("pix_acc", True, "%")},
        classes=7,
        class_names=tuple(f"class {i}" for i in range(7)),  # the folder does not name them
    ),
    DenseTask(
        "depth",
        "depth",
        {"absolute_error": Metric("abs_err", False, ""), "relative_error": Metric("rel_err", False, "")},
    ),
)
_METHODS = "ls si rlw dwa uw mgda pcgrad cagrad imtl_g nashmtl famo go4align"


class CityScapes(DenseBenchmark):
    """The CityScapes benchmark of GO4Align, FAMO and Nash-MTL: 2975 training and 500 test images, 2 tasks, 4 metrics.

    Depth is inverse and has no unit. Its published relative error is far above 1: pixels far away, whose inverse depth
    is close to 0, rule it.

    Reference: J. Shen et al., "GO4Align", NeurIPS 2024, https://arxiv.org/abs/2404.06486, appendix B; the folder and
    the network of S. Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019,
    https://arxiv.org/abs/1803.10704. `reference` holds the published single-task values.
    Departures: `docs/protocols.md`. The paper protocol divides inverse depth by the zoom, as published; the clean one
    multiplies.

    Args and errors: see `equipoise.problems.dense.DenseBenchmark`; 8 images a batch were published.
    """

    name: ClassVar[str] = "cityscapes"
    layout: ClassVar[Layout] = CITYSCAPES
    dense: ClassVar[tuple[DenseTask, ...]] = _DENSE
    outputs: ClassVar[tuple[DenseOutput, ...]] = OUTPUTS
    zoomed: ClassVar[Mapping[Protocol, DepthKind]] = {"paper": "inverse-as-published", "clean": "inverse"}
    published_batch: ClassVar[int] = 8
    source: ClassVar[str] = (
        "Researchers get it as `cityscapes2.zip` (128 x 256 pixels) from the links in the README of "
        "https://github.com/lorenmt/mtan (prepared by the authors of MTAN from https://www.cityscapes-dataset.com)."
    )
    licence: ClassVar[str] = "for research only; see https://www.cityscapes-dataset.com/license"
    citation: ClassVar[str] = (
        "M. Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016"
    )
    tasks: ClassVar[tuple[Task, ...]] = tuple(task.task for task in _DENSE)
    reference: ClassVar[Mapping[str, float]] = {
        "mIoU": 74.01,
        "pix_acc": 93.16,
        "abs_err": 0.0125,
        "rel_err": 27.77,
    }
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "go4align": {"groups": 2},  # as many as tasks, that is, no grouping
        "grouped": {"groups": 2},
        "famo": {"weight_decay": 1e-2},  # the paper of FAMO; its code has 1e-5
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = dense_presets(
        _METHODS.split(), images=160, epochs=10
    )
