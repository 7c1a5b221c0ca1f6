"""Metrics of dense prediction, gathered batch by batch in constant memory: segmentation, depth, surface normals.

All of them leave unlabelled pixels out, take images of any size, and add up on the device of the predictions without
waiting for it; only ``values`` does. Sums are float64, counts int64.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Average = Literal["pixels", "batches"]

THRESHOLDS = (11.25, 22.5, 30.0)
BIN_DEGREES = 0.001
BINS = 180_000
MEDIAN_ERROR_DEGREES = BIN_DEGREES / 2


class Segmentation:
    """Mean intersection over union and pixel accuracy, from one confusion matrix over all batches.

    `IoU_c = n_cc / (row_c + column_c - n_cc)` with n the matrix of target and predicted classes; the mean is over the
    classes that occur. A class that is neither in a target nor predicted has no IoU and is left out of the mean (the
    published code divides 0 by 0 and reports NaN); one that is predicted but in no target counts as 0.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), section 5.1.

    Args:
        classes: how many, at least 1.
        ignore: the target of an unlabelled pixel; what is predicted there does not count.

    Raises:
        ValueError: on fewer than one class.
    """

    def __init__(self, classes: int, *, ignore: int = -1) -> None:
        if classes < 1:
            raise ValueError(f"`classes` should be at least 1. Found {classes}.")
        self._classes = classes
        self._ignore = ignore
        self._counts: Tensor | None = None

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            prediction: classes, integers of any shape.
            target: classes, integers of that shape.

        Raises:
            ValueError: if the shapes differ.
            TypeError: if one of the two is not of integers, such as scores in place of classes.
        """
        _same_shape(prediction, target)
        for name, tensor in {"prediction": prediction, "target": target}.items():
            if tensor.is_floating_point():
                raise TypeError(f"`{name}` should hold classes as integers. Found {tensor.dtype}.")
        n = self._classes
        prediction, target = prediction.flatten().long(), target.flatten().long()
        inside = (prediction >= 0) & (prediction < n) & (target >= 0) & (target < n)
        cell = torch.where(inside, target * n + prediction, n * n)  # the last cell but one: out of range
        cell = torch.where(target == self._ignore, n * n + 1, cell)
        self._counts = _plus(self._counts, _histogram(cell, n * n + 2))

    def values(self) -> dict[str, float]:
        """Return `mean_iou` and `pixel_accuracy`, as fractions.

        Raises:
            ValueError: if no pixel was labelled, or a class was out of range.
        """
        n = self._classes
        counts = None if self._counts is None else self._counts.cpu()
        if counts is not None and counts[n * n] > 0:
            raise ValueError(
                f"Targets and predictions should be classes from 0 to {n - 1}, or {self._ignore} in a target without "
                f"label. Found others at {int(counts[n * n])} pixels: check the number of classes."
            )
        _some_labelled(0 if counts is None else int(counts[: n * n].sum()))
        assert counts is not None
        matrix = counts[: n * n].reshape(n, n).double()
        hits = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hits
        seen = union > 0
        return {
            "mean_iou": float((hits[seen] / union[seen]).mean()),
            "pixel_accuracy": float(hits.sum() / matrix.sum()),
        }


class DepthErrors:
    """Mean absolute error and mean relative error of depth, over the pixels whose target is not 0.

    `|p - t|` and `|p - t| / t` with p predicted, t target.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), section 5.1.
    Departures: with ``average="batches"``, a batch without any target is left out; the published code gets NaN.

    Args:
        average: ``"pixels"``: every labelled pixel counts the same. ``"batches"``: the mean over batches of their
            means, as published, which depends on the batch size.

    Raises:
        ValueError: on another ``average``.
    """

    def __init__(self, *, average: Average = "pixels") -> None:
        self._mean = _Mean(average)

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add up one batch.

        Args:
            prediction: depth, any shape.
            target: depth, the same shape, 0 where there is none.

        Raises:
            ValueError: if the shapes differ.
        """
        _same_shape(prediction, target)
        prediction, target = prediction.double(), target.double()
        valid = target != 0
        error = torch.where(valid, (prediction - target).abs(), 0.0)
        relative = error / torch.where(valid, target, 1.0)
        self._mean.add(torch.stack([error.sum(), relative.sum()]), valid.sum())

    def values(self) -> dict[str, float]:
        """Return `absolute_error` and `relative_error`; NaN where a labelled pixel's prediction is.

        Raises:
            ValueError: if no pixel was labelled.
        """
        return dict(zip(("absolute_error", "relative_error"), self._mean.values(), strict=True))


class MapErrors:
    """Mean absolute error of a map that has a value at every pixel, `|p - t|` with p predicted, t target.

    Args:
        average: see `DepthErrors`.

    Raises:
        ValueError: on another ``average``.
    """

    def __init__(self, *, average: Average = "pixels") -> None:
        self._mean = _Mean(average)

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add up one batch of maps of one shape; raises ValueError if the shapes differ."""
        _same_shape(prediction, target)
        error = (prediction.double() - target.double()).abs()
        self._mean.add(error.sum()[None], torch.tensor(error.numel(), device=error.device))

    def values(self) -> dict[str, float]:
        """Return `absolute_error`; raises ValueError if there was no pixel."""
        return {"absolute_error": self._mean.values()[0]}


class NormalAngles:
    """Angle between predicted and true surface normals: mean, median, and the shares within 11.25, 22.5, 30 degrees.

    Over the pixels whose target is not the zero vector. The median of all pixels comes from a histogram with bins of
    0.001 degrees and is within ``MEDIAN_ERROR_DEGREES`` = 0.0005 degrees of the exact one; that of a batch is exact.
    A prediction that is not a number makes the mean NaN and counts as 180 degrees in the median.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), section 5.1.
    Departures: the published code takes every vector for a unit vector; here both are divided by their length with
    ``average="pixels"`` (a prediction of length 0 is 90 degrees off). It also drops targets whose three numbers add up
    to 0, and gets NaN from a batch without any target, which is left out here.

    Args:
        average: ``"pixels"``: every labelled pixel counts the same. ``"batches"``: the mean over batches of their
            means, medians and shares, as published, which depends on the batch size.

    Raises:
        ValueError: on another ``average``.
    """

    def __init__(self, *, average: Average = "pixels") -> None:
        self._mean = _Mean(average)
        self._per_batch = average == "batches"
        self._bins: Tensor | None = None

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add up one batch.

        Args:
            prediction: (b, 3, ...) normals.
            target: (b, 3, ...) normals, the zero vector where there is none.

        Raises:
            ValueError: if the shapes differ or have no three channels.
        """
        _same_shape(prediction, target)
        if target.dim() < 2 or target.shape[1] != 3:
            raise ValueError(f"`target` should have shape (b, 3, ...). Found {tuple(target.shape)}.")
        valid = (target != 0).any(1).flatten()
        angle = self._angles(prediction.double(), target.double()).flatten()
        known = angle.nan_to_num(nan=180.0)
        sums = [torch.where(valid, angle, 0.0).sum()]
        count = valid.sum()
        if self._per_batch:
            sums.append(_median(known, valid) * count)
        else:
            cell = (known / BIN_DEGREES).long().clamp(max=BINS - 1)
            self._bins = _plus(self._bins, _histogram(torch.where(valid, cell, BINS), BINS + 1))
        sums += [(valid & (angle < limit)).sum() for limit in THRESHOLDS]
        self._mean.add(torch.stack([value.double() for value in sums]), count)

    def values(self) -> dict[str, float]:
        """Return `mean_degrees`, `median_degrees`, and `within_11_25`, `within_22_5`, `within_30` as fractions.

        Raises:
            ValueError: if no pixel was labelled.
        """
        values = self._mean.values()
        if self._bins is not None:
            values.insert(1, _histogram_median(self._bins[:-1].cpu()))
        names = ("mean_degrees", "median_degrees", "within_11_25", "within_22_5", "within_30")
        return dict(zip(names, values, strict=True))

    def _angles(self, prediction: Tensor, target: Tensor) -> Tensor:
        cosine = (prediction * target).sum(1)
        if not self._per_batch:
            # `norm` over a short axis takes twenty times as long
            lengths = (prediction.square().sum(1) * target.square().sum(1)).sqrt()
            cosine = cosine / torch.where(lengths == 0, 1.0, lengths)
        return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


class _Mean:
    """Means of sums over pixels: of all pixels, or of each batch and then over the batches that have any."""

    def __init__(self, average: Average) -> None:
        if average not in ("pixels", "batches"):
            raise ValueError(f'`average` should be "pixels" or "batches". Found {average!r}.')
        self._per_batch = average == "batches"
        self._total: Tensor | None = None

    def add(self, sums: Tensor, count: Tensor) -> None:
        """Add sums (s,) over `count` () pixels."""
        if self._per_batch:
            sums, count = sums / count.clamp(min=1), (count > 0).long()
        self._total = _plus(self._total, torch.cat([sums, count.double().reshape(1)]))

    def values(self) -> list[float]:
        """The s means."""
        *sums, count = [0.0] if self._total is None else self._total.tolist()
        _some_labelled(count)
        return [value / count for value in sums]


def _median(values: Tensor, valid: Tensor) -> Tensor:
    """Median () of the valid ones, the mean of the two middle ones where their number is even; without a sync."""
    ordered = torch.where(valid, values, torch.inf).sort().values
    count = valid.sum()
    middle = torch.stack([(count - 1).clamp(min=0) // 2, (count // 2).clamp(max=len(values) - 1)])
    return torch.where(count > 0, ordered[middle].mean(), 0.0)


def _histogram_median(counts: Tensor) -> float:
    below = counts.cumsum(0)
    total = int(below[-1])
    middle = torch.searchsorted(below, torch.tensor([(total - 1) // 2, total // 2]), right=True)
    return float(((middle.double() + 0.5) * BIN_DEGREES).mean())


def _histogram(cell: Tensor, cells: int) -> Tensor:
    # not `bincount`, which waits for the device to know the largest cell
    return torch.zeros(cells, dtype=torch.int64, device=cell.device).scatter_add_(
        0, cell, torch.ones_like(cell)
    )


def _plus(total: Tensor | None, new: Tensor) -> Tensor:
    new = new.detach()
    return new if total is None else total + new


def _same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"`prediction` should have the shape of `target`, {tuple(target.shape)}. "
            f"Found {tuple(prediction.shape)}."
        )


def _some_labelled(count: float) -> None:
    if count == 0:
        raise ValueError("`target` should have labelled pixels in at least one batch. Found none.")
