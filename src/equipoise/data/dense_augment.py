"""The published augmentation of NYUv2 and CityScapes: zoom in, then flip, a whole batch at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

DepthKind = Literal["distance", "inverse", "inverse-as-published"]

SCALES = (1.0, 1.2, 1.5)
SMOOTH = ("image", "normal")  # resized bilinearly; labels and depth take the nearest pixel


def zoom_and_flip(
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator,
    depth: DepthKind,
    scales: Sequence[float] = SCALES,
    flip: float = 0.5,
) -> dict[str, Tensor]:
    """Crop each sample at random to 1 / s of its height and width, resize it back, and flip some left to right.

    Zooming in by s brings things s times as near: distances are divided by s, inverse distances multiplied. A flip
    turns the sign of the normals' x. Every sample has its own scale, place and flip.

    As published, images and normals are resized bilinearly with aligned corners (so that normals get shorter where
    they bend, or meet pixels without one), labels and depth take the nearest pixel, and a zoom leaves normals alone.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), appendix B.3.
    Departures: all draws come from one generator. The published code draws from two global ones.

    Args:
        batch: ``image`` and ``normal`` (b, 3, H, W), ``label`` (b, H, W), ``depth`` (b, 1, H, W), or some of them.
        generator: gives 4 b numbers a call, on its own device: with one of the CPU, the draws do not depend on where
            the batch is.
        depth: what ``depth`` holds. ``"distance"`` (NYUv2); ``"inverse"`` (CityScapes); or
            ``"inverse-as-published"``: inverse distances are divided by s, a flaw of the published CityScapes code, for
            which things that look larger are further away.
        scales: to draw from, each at least 1.
        flip: probability of a flip.

    Returns:
        The same tensors augmented, new ones.

    Raises:
        ValueError: if a scale is below 1, ``flip`` is no probability, ``depth`` is another word, or sizes differ.
    """
    _check(scales, flip, depth)
    samples, height, width = _size(batch)
    draws = torch.rand(4, samples, generator=generator, device=generator.device, dtype=torch.float64)
    draws = draws.to(next(iter(batch.values())).device)
    choice = (draws[0] * len(scales)).long()
    flipped = draws[3] < flip
    rows = _axis(height, scales, choice, draws[1])
    columns = _axis(width, scales, choice, draws[2])
    columns = columns._replace(pixel=torch.where(flipped[:, None], columns.pixel.flip(1), columns.pixel))
    out = {}
    for name, value in batch.items():
        resize = _bilinear if name in SMOOTH else _nearest
        planes = resize(resize(value.reshape(samples, -1, height, width), rows, 2), columns, 3)
        out[name] = planes.reshape(value.shape)
    if "depth" in out:
        out["depth"] = out["depth"] * _depth_factor(scales, depth, out["depth"])[choice][:, None, None, None]
    if "normal" in out:
        x, others = out["normal"].split([1, 2], 1)
        out["normal"] = torch.cat([torch.where(flipped[:, None, None, None], -x, x), others], 1)
    return out


class _Axis(NamedTuple):
    """Which stretch of an axis each sample keeps, and which pixel (b, size) of the result each pixel shows."""

    start: Tensor
    length: Tensor
    pixel: Tensor

    @property
    def size(self) -> int:
        return self.pixel.shape[1]


def _axis(size: int, scales: Sequence[float], choice: Tensor, draw: Tensor) -> _Axis:
    length = torch.tensor([int(size / scale) for scale in scales], device=choice.device)[choice]
    start = (draw * (size - length + 1)).long()
    pixel = torch.arange(size, device=choice.device).expand(len(choice), size)
    return _Axis(start[:, None], length[:, None], pixel)


def _nearest(planes: Tensor, axis: _Axis, dim: int) -> Tensor:
    return _take(planes, axis.start + axis.pixel * axis.length // axis.size, dim)


def _bilinear(planes: Tensor, axis: _Axis, dim: int) -> Tensor:
    # whole numbers before the division, so that scale 1 changes nothing
    place = (axis.pixel * (axis.length - 1)).double() / max(axis.size - 1, 1)
    low = place.long()
    high = torch.minimum(low + 1, axis.length - 1)
    shape = (len(planes), 1, -1, 1) if dim == 2 else (len(planes), 1, 1, -1)
    share = (place - low).to(planes.dtype).reshape(shape)
    return torch.lerp(_take(planes, axis.start + low, dim), _take(planes, axis.start + high, dim), share)


def _take(planes: Tensor, index: Tensor, dim: int) -> Tensor:
    # sample by sample: on a CPU up to ten times as fast as a gather over the batch, which copies number by number
    return torch.stack([plane.index_select(dim - 1, i) for plane, i in zip(planes, index, strict=True)])


def _depth_factor(scales: Sequence[float], depth: DepthKind, like: Tensor) -> Tensor:
    factors = [scale if depth == "inverse" else 1 / scale for scale in scales]
    return torch.tensor(factors, dtype=like.dtype, device=like.device)


def _size(batch: Mapping[str, Tensor]) -> tuple[int, int, int]:
    sizes = {name: (len(value), *value.shape[-2:]) for name, value in batch.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"`batch` should hold tensors of one number and size of images. Found {sizes}.")
    samples, height, width = next(iter(sizes.values()))
    return samples, height, width


def _check(scales: Sequence[float], flip: float, depth: str) -> None:
    if not scales or not all(scale >= 1 for scale in scales):
        raise ValueError(f"`scales` should each be at least 1. Found {list(scales)}.")
    if not 0 <= flip <= 1:
        raise ValueError(f"`flip` should be between 0 and 1. Found {flip}.")
    if depth not in get_args(DepthKind):
        raise ValueError(f"`depth` should be one of {', '.join(get_args(DepthKind))}. Found {depth!r}.")
