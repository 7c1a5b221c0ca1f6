"""Tasks at every pixel: losses, metrics, pictures and constants against golden values and pixels worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.training.dense_evaluation import (
    ConstantMaps,
    DenseBatch,
    DenseEvaluation,
    DenseTask,
    constant_guess,
    dense_batch,
    dense_losses,
    dense_pictures,
    evaluate_dense,
)
from equipoise.training.dense_losses import depth_loss, normal_loss, segmentation_loss
from equipoise.training.pictures import Picture
from equipoise.training.task import Metric, Task
from golden_values import golden

IOU, ACCURACY = Metric("IoU", True, "%"), Metric("share", True, "")
ERROR, MEDIAN, WITHIN = (
    Metric("error", False, "m"),
    Metric("median", False, "deg"),
    Metric("within", True, "%"),
)
SEG = DenseTask("seg", "classes", {"mean_iou": IOU, "pixel_accuracy": ACCURACY}, 5, ("a", "b", "c", "d", "e"))
DEPTH = DenseTask("depth", "depth", {"absolute_error": ERROR}, unit="m")
NORMAL = DenseTask("normal", "normal", {"median_degrees": MEDIAN, "within_30": WITHIN})
TASKS = (SEG, DEPTH, NORMAL)


def sample(size: int = 3, *, seed: int = 0) -> tuple[DenseBatch, list[Tensor]]:
    """A batch of images of 4 x 5 pixels, some of which have no label, and outputs."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(size, *shape, 4, 5, generator=generator, dtype=torch.float64)

    known = draw(1) > 0
    targets = {
        "seg": torch.where(known[:, 0], torch.randint(0, 5, (size, 4, 5), generator=generator), -1),
        "depth": draw(1).abs() * known,
        "normal": functional.normalize(draw(3), dim=1) * known,
    }
    outputs = [draw(5), draw(1), functional.normalize(draw(3), dim=1)]
    return dense_batch(TASKS, draw(3), targets), outputs


def test_metrics_have_their_golden_values_and_their_units() -> None:
    content: dict[str, Any] = golden("metrics.json")
    classes = content["segmentation"]["classes"]
    truth, outputs = {}, []
    for task, name in (("seg", "segmentation"), ("depth", "depth"), ("normal", "normals")):
        kind = torch.int64 if task == "seg" else torch.float64
        target, found = (torch.tensor(content[name][key], dtype=kind) for key in ("target", "prediction"))
        truth[task] = target
        outputs.append(functional.one_hot(found, classes).movedim(-1, 1) if task == "seg" else found)
    evaluation = DenseEvaluation((replace(SEG, classes=classes), DEPTH, NORMAL))
    evaluation.add(outputs, truth)
    segmentation, depth, normals = (content[name] for name in ("segmentation", "depth", "normals"))
    assert evaluation.values() == pytest.approx(
        {
            "IoU": 100 * segmentation["mean_iou"],
            "share": segmentation["pixel_accuracy"],
            "error": depth["absolute_error"],
            "median": normals["median_degrees"],
            "within": 100 * normals["within_30"],
        },
        abs=3e-5,
    )


def test_losses_and_counts_are_of_labelled_pixels() -> None:
    batch, outputs = sample()
    losses = dense_losses(TASKS, outputs, batch)
    seg, depth, normal = outputs
    truth = batch.targets
    expected = [
        segmentation_loss(seg, truth["seg"]),
        depth_loss(depth, truth["depth"]),
        normal_loss(normal, truth["normal"]),
    ]
    assert list(losses) == ["seg", "depth", "normal"]
    assert [float(value) for value in losses.values()] == [float(value) for value in expected]
    known = int((batch.targets["depth"] != 0).sum())
    assert 0 < known < 60 and losses.counts == {"seg": known, "depth": known, "normal": known}


def test_a_task_without_a_labelled_pixel_is_left_out() -> None:
    batch, outputs = sample()
    targets = {**batch.targets, "depth": torch.zeros_like(batch.targets["depth"])}
    losses = dense_losses(TASKS, outputs, dense_batch(TASKS, batch.image, targets))
    assert list(losses) == list(losses.counts) == ["seg", "normal"]
    targets = {"seg": torch.full((3, 4, 5), -1), "depth": targets["depth"], "normal": targets["normal"] * 0}
    assert not dense_losses(TASKS, outputs, dense_batch(TASKS, batch.image, targets))


def test_a_task_that_cannot_be_measured_is_named() -> None:
    evaluation = DenseEvaluation(TASKS)
    batch, outputs = sample()
    evaluation.add(outputs, {**batch.targets, "depth": torch.zeros_like(batch.targets["depth"])})
    with pytest.raises(
        ValueError, match="The task 'depth' cannot be measured. .*labelled pixels.*Found none"
    ):
        evaluation.values()


def test_an_average_over_batches_depends_on_them_and_one_over_pixels_does_not() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return outputs if len(images) == 3 else next(parts)

    batch, outputs = sample()
    single = [dense_batch(TASKS, batch.image[i : i + 1], {k: v[i : i + 1] for k, v in batch.targets.items()})
              for i in range(3)]  # fmt: skip
    found = {}
    for average in ("pixels", "batches"):
        parts = iter([[output[i : i + 1] for output in outputs] for i in range(3)])
        found[average] = [evaluate_dense(TASKS, Fixed(), loader, average) for loader in ([batch], single)]
    whole, pieces = found["pixels"]
    assert whole == pytest.approx(pieces, rel=1e-12)
    whole, pieces = found["batches"]
    assert whole["IoU"] == pieces["IoU"] and whole["error"] != pytest.approx(pieces["error"], rel=1e-3)
    errors = [
        float(depth_loss(outputs[1][i : i + 1], part.targets["depth"])) for i, part in enumerate(single)
    ]
    assert pieces["error"] == pytest.approx(sum(errors) / 3, rel=1e-12)


def test_the_best_constants_beat_all_others() -> None:
    batches = [sample(seed=seed)[0] for seed in range(3)]
    guess = constant_guess(TASKS, batches)
    rows = {name: [b.targets[name][..., ::4, ::4] for b in batches] for name in batches[0].targets}
    labels = torch.cat([row.flatten() for row in rows["seg"]]).tolist()
    depths = torch.cat([row.flatten() for row in rows["depth"]])
    normals = torch.cat([row.movedim(1, -1).reshape(-1, 3) for row in rows["normal"]])
    seg, depth, normal = guess(torch.zeros(2, 3, 6, 7))
    assert seg.shape == (2, 5, 6, 7) and depth.shape == (2, 1, 6, 7) and normal.shape == (2, 3, 6, 7)
    counts = [labels.count(c) for c in range(5)]
    assert seg.argmax(1).unique().tolist() == [counts.index(max(counts))]
    best = min(depths[depths != 0].tolist(), key=lambda d: float((depths[depths != 0] - d).abs().sum()))
    cost = (depths[depths != 0] - float(depth[0, 0, 0, 0])).abs().sum()
    assert float(cost) == pytest.approx(float((depths[depths != 0] - best).abs().sum()), rel=1e-12)
    others = functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(1)).double(), dim=1
    )
    scores = (normals @ others.T).sum(0)
    assert (normals @ normal[0, :, 0, 0].double()).sum() >= scores.max()
    assert float(normal[0, :, 0, 0].norm()) == pytest.approx(1, rel=1e-6)


def test_a_constant_needs_a_label() -> None:
    batch = sample()[0]
    bare = dense_batch(TASKS, batch.image, {**batch.targets, "seg": torch.full((3, 4, 5), -1)})
    with pytest.raises(
        ValueError, match="The task 'seg' should have a label in the training part. Found none."
    ):
        constant_guess(TASKS, [bare])


def test_constants_are_on_every_pixel() -> None:
    maps = ConstantMaps([torch.tensor([1.0, 2.0])])(torch.zeros(3, 1, 4, 5))
    assert len(maps) == 1 and torch.equal(maps[0], torch.tensor([1.0, 2.0])[:, None, None].expand(3, 2, 4, 5))


def test_pictures_show_what_the_report_draws() -> None:
    batch, outputs = sample()
    image, seg, depth, normal = dense_pictures(TASKS, batch, outputs)
    assert (image.name, image.kind, image.prediction) == ("input", "colour", None)
    assert torch.equal(image.truth, batch.image)
    assert (seg.name, seg.kind, seg.classes) == ("seg", "classes", ("a", "b", "c", "d", "e"))
    assert torch.equal(seg.truth, batch.targets["seg"])
    assert seg.prediction is not None and torch.equal(seg.prediction, outputs[0].max(1).indices)
    assert (depth.name, depth.kind, depth.unit) == ("depth", "scalar", "m")
    assert torch.equal(depth.truth.nan_to_num(0), batch.targets["depth"][:, 0])
    assert torch.equal(depth.truth.isnan(), batch.targets["seg"] == -1)
    assert normal == Picture("normal", "normal", batch.targets["normal"], outputs[2])
    assert math.isfinite(float(normal.truth.sum()))


def test_a_task_lists_its_metrics_in_order() -> None:
    assert SEG.task == Task("seg", (IOU, ACCURACY))
