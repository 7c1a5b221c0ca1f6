"""Pictures as colours: small enough for a page, told apart by people who see few colours, and how far they agree."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.training.pictures import Picture

from .wording import decimals_for, number

# The seven hues of Okabe and Ito, then colours that are as far as possible from those before in Oklab, as seen with
# normal sight, protanopia and deuteranopia (Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113).
CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#510000", "#000086", "#a10043",
    "#0000ff", "#c9fff2", "#8679ff", "#5100bc", "#281b43", "#6b4379", "#6bf2ae", "#005100", "#36c979", "#f2c9ff",
)  # fmt: skip
_OTHERS = "#6b6b6b"


def reduced(values: Tensor, side: int, *, smooth: bool) -> Tensor:
    """Images (..., H, W) with at most `side` pixels along the longer edge, by a whole factor.

    Args:
        values: any type.
        side: at least 1.
        smooth: average neighbours; otherwise one of them is taken, as classes need it.
    """
    factor = math.ceil(max(values.shape[-2:]) / max(side, 1))
    if factor == 1:
        return values
    if smooth:
        return functional.avg_pool2d(values.float(), factor, ceil_mode=True)
    start = factor // 2 if factor // 2 < min(values.shape[-2:]) else 0
    return values[..., start::factor, start::factor]


def class_colours(picture: Picture) -> list[str]:
    """A colour for each class; where there are more classes than colours, the rarest in the truth share a grey."""
    count, known = len(picture.classes), len(CLASS_COLOURS)
    if count <= known:
        return list(CLASS_COLOURS[:count])
    pixels = torch.bincount(picture.truth[picture.truth >= 0].flatten().long(), minlength=count)
    frequent = pixels.argsort(descending=True, stable=True)[:known].tolist()
    return [CLASS_COLOURS[frequent.index(k)] if k in frequent else _OTHERS for k in range(count)]


def coloured(picture: Picture, values: Tensor) -> Tensor:
    """One image (H, W, 4) of bytes, transparent where unlabelled; a "scalar" stays (H, W), NaN where unlabelled.

    Args:
        picture: whose kind and classes count.
        values: one image of its truth or prediction.
    """
    if picture.kind == "scalar":
        return values.float()
    if picture.kind == "classes":
        palette = torch.tensor([_rgb(colour) for colour in class_colours(picture)], dtype=torch.uint8)
        colours = palette[values.long().clamp(0, len(palette) - 1)]
        labelled = values >= 0
    else:
        shown = values.float() if picture.kind == "colour" else (values.float() + 1) / 2
        colours = (255 * shown.clamp(0, 1)).round().to(torch.uint8).movedim(0, -1)
        labelled = (
            (values != 0).any(0) if picture.kind == "normal" else torch.ones_like(values[0], dtype=torch.bool)
        )
    return torch.cat([colours, 255 * labelled.to(torch.uint8)[..., None]], -1)


def value_range(truth: Tensor) -> tuple[float, float]:
    """The colour scale of a scalar: from the lowest to the highest hundredth of the labelled pixels."""
    known = truth[truth.isfinite()].float().sort().values
    if not len(known):
        return 0.0, 1.0
    low, high = float(known[len(known) // 100]), float(known[-1 - len(known) // 100])
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def agreement(picture: Picture, prediction: Tensor) -> str:
    """How far a prediction agrees with the truth over labelled pixels, as text; empty for colours or no label."""
    truth = picture.truth
    if picture.kind == "classes":
        labelled = truth >= 0
        found = (prediction == truth)[labelled].float().mean() * 100
        unit = " %"
    elif picture.kind == "scalar":
        labelled = truth.isfinite()
        found = (prediction.float() - truth.float())[labelled].abs().mean()
        unit = f" {picture.unit}" if picture.unit else ""
    elif picture.kind == "normal":
        labelled = (truth != 0).any(1)
        cosine = functional.cosine_similarity(prediction.float(), truth.float(), dim=1)
        found = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))[labelled].mean()
        unit = "°"
    else:
        return ""
    value = float(found)
    decimals = decimals_for([value]) if picture.kind == "scalar" else 1
    return f"{number(value, decimals)}{unit}" if math.isfinite(value) else ""


def _rgb(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
