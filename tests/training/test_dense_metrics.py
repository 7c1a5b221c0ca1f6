"""Streaming metrics of dense prediction against golden values, loops in plain Python, and numpy."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import device_cases
from equipoise.training.dense_metrics import (
    MEDIAN_ERROR_DEGREES,
    Average,
    DepthErrors,
    MapErrors,
    NormalAngles,
    Segmentation,
)
from golden_values import golden

Metric = Segmentation | DepthErrors | NormalAngles
Batch = tuple[Tensor, Tensor]
AVERAGES: list[Average] = ["pixels", "batches"]
MAKERS: list[Callable[[], Metric]] = [
    lambda: Segmentation(5),
    *(lambda a=a: DepthErrors(average=a) for a in AVERAGES),
    *(lambda a=a: NormalAngles(average=a) for a in AVERAGES),
]


def expected(task: str) -> tuple[Batch, dict[str, float]]:
    content: dict[str, Any] = golden("metrics.json")[task]
    kind = torch.int64 if task == "segmentation" else torch.float32
    pair = tuple(torch.tensor(content[name], dtype=kind) for name in ("prediction", "target"))
    numbers = {name: value for name, value in content.items() if isinstance(value, float)}
    return (pair[0], pair[1]), numbers


def run(metric: Metric, batches: list[Batch]) -> dict[str, float]:
    for prediction, target in batches:
        metric.add(prediction, target)
    return metric.values()


def classes(*shape: int, seed: int, among: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, among, shape, generator=generator)
    guess = torch.randint(0, among, shape, generator=generator)
    known = torch.rand(shape, generator=generator) < 0.6
    return torch.where(known, target.clamp(min=0), guess), target


def depths(*shape: int, seed: int, missing: float = 0.3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    target = 0.5 + 9 * torch.rand(shape, generator=generator)
    target[torch.rand(shape, generator=generator) < missing] = 0
    return target + torch.randn(shape, generator=generator), target


def normals(b: int, *size: int, seed: int, missing: float = 0.3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    target = torch.nn.functional.normalize(torch.randn(b, 3, *size, generator=generator), dim=1)
    noise = 0.4 * torch.randn(b, 3, *size, generator=generator)
    prediction = torch.nn.functional.normalize(target + noise, dim=1)
    return prediction, target * (torch.rand(b, 1, *size, generator=generator) >= missing)


def angles_by_hand(prediction: Tensor, target: Tensor) -> list[float]:
    """By the half-angle of Kahan: 2 atan2(|u - v|, |u + v|)."""
    vectors = zip(
        prediction.double().movedim(1, -1).reshape(-1, 3).tolist(),
        target.double().movedim(1, -1).reshape(-1, 3).tolist(),
        strict=True,
    )
    found = []
    for p, t in vectors:
        if t == [0, 0, 0]:
            continue
        u, v = ([x / math.hypot(*vector) for x in vector] for vector in (p, t))
        apart, along = math.dist(u, v), math.hypot(*(x + y for x, y in zip(u, v, strict=True)))
        found.append(math.degrees(2 * math.atan2(apart, along)))
    return found


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_golden_values(task: str, average: Average) -> None:
    (prediction, target), numbers = expected(task)
    metrics: dict[str, Metric] = {
        "segmentation": Segmentation(13),
        "depth": DepthErrors(average=average),
        "normals": NormalAngles(average=average),
    }
    values = run(metrics[task], [(prediction, target)])
    assert values.keys() == numbers.keys()
    if average == "pixels" and task == "normals":
        assert values.pop("median_degrees") == pytest.approx(
            numbers.pop("median_degrees"), abs=MEDIAN_ERROR_DEGREES
        )
    assert values == pytest.approx(numbers, rel=1e-6)


def test_segmentation_equals_loops_over_pixels() -> None:
    batches = [classes(2, 7, 9, seed=0), classes(3, 4, 4, seed=1)]
    pairs = [
        (p, t)
        for prediction, target in batches
        for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
        if t != -1
    ]
    union = [sum(p == c or t == c for p, t in pairs) for c in range(5)]
    hits = [sum(p == c == t for p, t in pairs) for c in range(5)]
    assert run(Segmentation(5), batches) == pytest.approx(
        {
            "mean_iou": fmean(h / u for h, u in zip(hits, union, strict=True)),
            "pixel_accuracy": sum(hits) / len(pairs),
        }
    )


def test_a_class_that_never_occurs_is_left_out_and_one_that_is_only_predicted_is_0() -> None:
    prediction, target = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1])
    expected_mean = fmean([1, 1 / 2, 0])  # of classes 0, 1, 2; 3 and 4 do not occur
    assert run(Segmentation(5), [(prediction, target)])["mean_iou"] == pytest.approx(expected_mean)


def test_what_is_predicted_without_a_label_does_not_count() -> None:
    prediction, target = classes(2, 6, 6, seed=3)
    other = torch.where(target == -1, 99, prediction)
    assert run(Segmentation(5), [(other, target)]) == run(Segmentation(5), [(prediction, target)])
    assert run(Segmentation(5, ignore=255), [(prediction, torch.where(target == -1, 255, target))]) == run(
        Segmentation(5), [(prediction, target)]
    )


@pytest.mark.parametrize("average", AVERAGES)
def test_depth_errors_equal_loops_over_pixels(average: Average) -> None:
    batches = [depths(2, 1, 5, 7, seed=0), depths(1, 1, 3, 3, seed=1), depths(2, 1, 4, 4, seed=2, missing=1)]
    errors = [
        [
            (abs(p - t), abs(p - t) / t)
            for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
            if t != 0
        ]
        for prediction, target in batches
    ]
    pooled = [pair for batch in errors for pair in batch]
    groups = [pooled] if average == "pixels" else [batch for batch in errors if batch]
    means = [fmean(fmean(pair[k] for pair in group) for group in groups) for k in (0, 1)]
    assert list(run(DepthErrors(average=average), batches).values()) == pytest.approx(means, rel=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_normal_angles_equal_loops_over_pixels(average: Average) -> None:
    batches = [normals(2, 5, 7, seed=0), normals(1, 3, 4, seed=1), normals(1, 2, 2, seed=2, missing=1)]
    angles = [angles_by_hand(*batch) for batch in batches]
    pooled = [angle for batch in angles for angle in batch]
    groups = [pooled] if average == "pixels" else [batch for batch in angles if batch]
    values = run(NormalAngles(average=average), batches)
    slack = MEDIAN_ERROR_DEGREES if average == "pixels" else 1e-5
    assert values.pop("median_degrees") == pytest.approx(fmean(map(np.median, groups)), abs=slack)
    assert values.pop("mean_degrees") == pytest.approx(fmean(map(fmean, groups)), rel=1e-6)
    limits = [11.25, 22.5, 30]
    shares = [fmean(fmean(a < limit for a in group) for group in groups) for limit in limits]
    assert list(values.values()) == pytest.approx(shares)


@pytest.mark.parametrize("seed", range(30))
def test_the_histogram_median_is_within_its_stated_error(seed: int) -> None:
    batches = [normals(1, 1 + seed, 3, seed=seed + k, missing=0.1) for k in range(3)]
    exact = np.median([angle for batch in batches for angle in angles_by_hand(*batch)])
    found = run(NormalAngles(), batches)["median_degrees"]
    assert abs(found - exact) <= MEDIAN_ERROR_DEGREES + 1e-9


def test_the_median_of_right_and_opposite_normals() -> None:
    _, target = normals(1, 4, 4, seed=0, missing=0)
    for sign, angle in ((1, 0), (-1, 180)):
        median = run(NormalAngles(), [(sign * target, target)])["median_degrees"]
        assert median == pytest.approx(angle, abs=MEDIAN_ERROR_DEGREES + 1e-9)


def test_the_length_of_a_normal_counts_only_as_published() -> None:
    prediction, target = normals(2, 6, 6, seed=5)
    long = run(NormalAngles(), [(3 * prediction, 0.5 * target)])
    assert long == pytest.approx(run(NormalAngles(), [(prediction, target)]), abs=2 * MEDIAN_ERROR_DEGREES)
    published = run(NormalAngles(average="batches"), [(0.5 * prediction, target)])
    by_hand = torch.rad2deg(torch.acos((0.5 * prediction * target).sum(1)[target.any(1)]))
    assert published["mean_degrees"] == pytest.approx(by_hand.mean().item(), rel=1e-5)
    nothing = run(NormalAngles(), [(0 * prediction, target)])
    assert nothing["mean_degrees"] == pytest.approx(90)


@pytest.mark.parametrize("make", [MAKERS[0], MAKERS[1], MAKERS[3]])
def test_over_pixels_the_split_into_batches_does_not_matter(make: Callable[[], Metric]) -> None:
    metric = make()
    drawn = batch_for(metric, 6, 8, 8)
    pieces = [(drawn[0][k : k + n], drawn[1][k : k + n]) for k, n in ((0, 1), (1, 3), (4, 2))]
    assert run(metric, pieces) == pytest.approx(run(make(), [drawn]), rel=1e-12)


def batch_for(metric: Metric, b: int, *size: int, seed: int = 0) -> Batch:
    if isinstance(metric, Segmentation):
        return classes(b, *size, seed=seed)
    if isinstance(metric, DepthErrors):
        return depths(b, 1, *size, seed=seed)
    return normals(b, *size, seed=seed)


@pytest.mark.parametrize("make", MAKERS)
def test_memory_does_not_grow_and_images_may_have_any_size(make: Callable[[], Metric]) -> None:
    def held(thing: object) -> int:
        parts = vars(thing).values()
        own = sum(part.untyped_storage().nbytes() for part in parts if isinstance(part, Tensor))
        return own + sum(held(part) for part in parts if type(part).__name__ == "_Mean")

    metric = make()
    metric.add(*batch_for(metric, 1, 2, 2))
    before = held(metric)
    for seed in range(5):
        metric.add(*batch_for(metric, 1 + seed, 10 + seed, 20, seed=seed))
    assert held(metric) == before > 0


@pytest.mark.parametrize("make", MAKERS)
def test_adding_does_not_wait_for_the_device(make: Callable[[], Metric]) -> None:
    metric, same = make(), make()
    drawn = [batch_for(metric, 2, 6, 6, seed=seed) for seed in range(2)]
    there = [tuple(device_cases.put(tensor, "meta") for tensor in batch) for batch in drawn]
    with device_cases.on("meta", wait=False):
        for prediction, target in there:
            metric.add(prediction, target)
    with device_cases.on("meta"):
        values = metric.values()
    assert values == run(same, drawn)


@pytest.mark.parametrize("average", AVERAGES)
def test_sums_are_in_double_precision(average: Average) -> None:
    target = torch.ones(1, 1, 4, 4)
    batches = [(target * 2.0**26, target), *[(target + 1, target)] * 3]
    error = run(DepthErrors(average=average), batches)["absolute_error"]
    assert error == (2**26 - 1 + 3) / 4  # in single precision 2**26 - 1 is 2**26


@pytest.mark.parametrize("average", AVERAGES)
def test_a_prediction_that_is_not_a_number_shows_only_where_there_is_a_label(average: Average) -> None:
    for metric, (prediction, target), name in (
        (DepthErrors(average=average), depths(1, 1, 4, 4, seed=0), "absolute_error"),
        (NormalAngles(average=average), normals(1, 4, 4, seed=0), "mean_degrees"),
    ):
        unlabelled = ~target.any(1, keepdim=True)
        assert unlabelled.any()
        hidden = torch.where(unlabelled, math.nan, prediction)
        assert math.isfinite(run(metric, [(hidden, target)])[name])
        metric.add(prediction * math.nan, target)
        assert math.isnan(metric.values()[name])
    diverged = run(NormalAngles(average=average), [(prediction * math.nan, target)])
    assert diverged["median_degrees"] == pytest.approx(180, abs=MEDIAN_ERROR_DEGREES + 1e-9)
    assert diverged["within_30"] == 0


@pytest.mark.parametrize("average", AVERAGES)
def test_a_normal_along_an_axis_is_a_label(average: Average) -> None:
    half = math.sqrt(0.5)
    target = torch.tensor([[0.0, 0, 1], [half, -half, 0], [0, 0, 0]]).T[None, :, :, None]
    prediction = torch.tensor([[0.0, 0, 1], [half, half, 0], [1, 0, 0]]).T[None, :, :, None]
    values = run(NormalAngles(average=average), [(prediction, target)])
    assert values["mean_degrees"] == pytest.approx(45)
    assert values["within_30"] == 0.5


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=re.escape("`classes` should be at least 1. Found 0.")):
        Segmentation(0)
    for metric in (DepthErrors, NormalAngles):
        with pytest.raises(ValueError, match='`average` should be "pixels" or "batches". Found \'all\'.'):
            metric(average="all")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`prediction` should hold classes as integers. Found torch.float32."):
        Segmentation(3).add(torch.zeros(2, 2), torch.zeros(2, 2).long())
    with pytest.raises(ValueError, match=re.escape("`target` should have shape (b, 3, ...). Found (2, 2).")):
        NormalAngles().add(torch.zeros(2, 2), torch.zeros(2, 2))


@pytest.mark.parametrize("make", MAKERS)
def test_every_metric_needs_equal_shapes_and_a_label(make: Callable[[], Metric]) -> None:
    metric = make()
    prediction, target = batch_for(metric, 2, 4, 4)
    message = f"`prediction` should have the shape of `target`, {tuple(target.shape)}. Found {tuple(target[:1].shape)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.add(prediction[:1], target)
    nothing = "`target` should have labelled pixels in at least one batch. Found none."
    with pytest.raises(ValueError, match=nothing):
        metric.values()
    metric.add(prediction, torch.full_like(target, -1 if isinstance(metric, Segmentation) else 0))
    with pytest.raises(ValueError, match=nothing):
        metric.values()


@pytest.mark.parametrize(("prediction", "target"), [(0, 5), (5, 0), (0, -2), (-1, 0)])
def test_classes_out_of_range_are_told(prediction: int, target: int) -> None:
    metric = Segmentation(5)
    metric.add(torch.tensor([0, prediction, prediction]), torch.tensor([0, target, target]))
    with pytest.raises(
        ValueError, match=r"classes from 0 to 4, or -1 in a target.* Found others at 2 pixels: check"
    ):
        metric.values()


def test_the_error_of_maps_counts_every_pixel_the_same_or_every_batch() -> None:
    """0 is a value like any other."""
    batches = [torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[2.0]])]
    for average, expected in (("pixels", (0 + 1 + 5 + 2) / 4), ("batches", (2 + 2) / 2)):
        metric = MapErrors(average=average)  # type: ignore[arg-type]
        for target in batches:
            metric.add(torch.zeros_like(target), target)
        assert metric.values() == {"absolute_error": pytest.approx(expected)}
    with pytest.raises(
        ValueError, match=r"`prediction` should have the shape of `target`, \(1, 1\)\. Found \(1, 3\)\."
    ):
        metric.add(batches[0], batches[1])
    with pytest.raises(ValueError, match=r"labelled pixels in at least one batch\. Found none\."):
        MapErrors().values()
