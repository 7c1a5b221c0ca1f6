"""Square tiles of the Earth's maps, split by longitude, with surface normals from the elevation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .earth import CLIMATES, LAND_COVERS, EarthMaps

BLOCKS = 12  # of 30 degrees: 450 pixels of the whole map
PARTS = {"train": (0, 1, 4, 6, 7, 8, 10, 11), "validation": (2, 3), "test": (5, 9)}
LEAST_LAND = 0.6
EXAGGERATION = 20.0
LOWEST = 0.1  # km
EARTH_RADIUS = 6_371_000.0  # metres


class EarthTiles:
    """All tiles of one size with more than 60 % of land, by part.

    The world is cut into 12 blocks of 30 degrees of longitude, and each block belongs to one part. A tile lies in one
    block, so no two parts share a pixel; tiles drawn at random would. Of all deals with 12 to 22 % of
    the tiles for either held-out part, this one has all land covers and climates in all parts, and the shares of those
    and of ranges of elevation and slope that differ least (sum of squared differences of their roots).

    Args:
        maps: as `load_earth` gives them.
        size: pixels of an edge.
        stride: from one training tile to the next; None for `size`, below which they overlap. Those of the other parts
            never do.

    Attributes:
        corners: of all tiles (n, 2): their first row and column, int64.
        parts: part -> numbers of its tiles, rising.

    Raises:
        ValueError: if `size` or `stride` is out of range, or a part has no tile.
    """

    def __init__(self, maps: EarthMaps, *, size: int = 64, stride: int | None = None) -> None:
        block = maps.land_cover.shape[1] // BLOCKS
        if not 1 <= size <= block:
            raise ValueError(f"`tile` should be between 1 and {block}, the width of a block. Found {size}.")
        stride = size if stride is None else stride
        if not 1 <= stride <= size:
            raise ValueError(f"`stride` should be between 1 and {size}, the size of a tile. Found {stride}.")
        self.maps = maps
        self.size = size
        self.parts: dict[str, Tensor] = {}
        corners: list[Tensor] = []
        for part, blocks in PARTS.items():
            step = stride if part == "train" else size
            found = torch.cat([_corners(maps.land_cover, block, at, size, step) for at in blocks])
            if len(found) == 0:
                raise ValueError(
                    f"Some tiles of the {part} part should be over {LEAST_LAND:.0%} land. Found none of {size} pixels."
                )
            first = sum(map(len, corners))
            self.parts[part] = torch.arange(first, first + len(found))
            corners.append(found)
        self.corners = torch.cat(corners)

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """The tiles of some numbers (b,), of s x s pixels.

        Returns:
            `image` (b, 3, s, s) from 0 to 1; `landcover` int64 (b, s, s), number in `LAND_COVERS`; `elevation`
            (b, 1, s, s) in km, 0, which stands for no label, on water and below 100 m; `normals` (b, 3, s, s), unit
            vectors east, north, up, 0 on water; `climate` int64 (b, s, s), number in `CLIMATES` or -1.
        """
        cut = [_cut(self.maps, row, column, self.size) for row, column in self.corners[index].tolist()]
        image, land_cover, around, climate = (torch.stack(layer) for layer in zip(*cut, strict=True))
        land = (land_cover > 0)[:, None]
        elevation = around[:, None, 1:-1, 1:-1] / 1000
        normals = surface_normals(around, self._latitude(index), pixel=360 / self.maps.land_cover.shape[1])
        return {
            "image": image.float() / 255,
            "landcover": land_cover.long(),
            "elevation": torch.where(land & (elevation >= LOWEST), elevation, 0.0),
            "normals": torch.where(land, normals, 0.0),
            "climate": climate.long() - 1,
        }

    def relief(self, part: str) -> Tensor:
        """Standard deviation of the elevation in each tile of a part (n,), metres."""
        cut = [
            _cut(self.maps, row, column, self.size)[2]
            for row, column in self.corners[self.parts[part]].tolist()
        ]
        return torch.stack([around.std() for around in cut])

    def shares(self, part: str) -> Mapping[str, float]:
        """The share of each land cover among the pixels of a part, and of each climate among those that have one."""
        cut = [
            _cut(self.maps, row, column, self.size) for row, column in self.corners[self.parts[part]].tolist()
        ]
        cover = torch.stack([_counts(layers[1], len(LAND_COVERS)) for layers in cut]).sum(0)
        climate = torch.stack([_counts(layers[3], 1 + len(CLIMATES))[1:] for layers in cut]).sum(0)
        names = (*LAND_COVERS, *CLIMATES)
        shares = torch.cat([cover / cover.sum(), climate / climate.sum()])
        return dict(zip(names, shares.tolist(), strict=True))

    def _latitude(self, index: Tensor) -> Tensor:
        rows = self.corners[index, :1] + torch.arange(self.size)
        return 90 - (rows.double() + 0.5) * 360 / self.maps.land_cover.shape[1]


def surface_normals(elevation: Tensor, latitude: Tensor, *, pixel: float) -> Tensor:
    """Unit vectors that stand on the surface z, heights exaggerated.

    `n = (-e dz/dx, -e dz/dy, 1)` over its length, with x east, y north, e = 20, and central differences. A pixel of a
    degrees is `R a pi / 180` metres from north to south, and that times cos(latitude) from west to east. Without the
    exaggeration half of the land would be within 0.3 degrees of level.

    Args:
        elevation: z (b, h + 2, w + 2), metres, the rows from north to south, with one pixel more on each side.
        latitude: of the h rows (b, h), degrees.
        pixel: a, the size of one, degrees.

    Returns:
        (b, 3, h, w): east, north, up.
    """
    metres = EARTH_RADIUS * torch.deg2rad(torch.tensor(pixel, dtype=torch.float64))
    across = metres * torch.deg2rad(latitude.double()).cos()[:, :, None]
    east = (elevation[:, 1:-1, 2:] - elevation[:, 1:-1, :-2]) / (2 * across)
    north = (elevation[:, :-2, 1:-1] - elevation[:, 2:, 1:-1]) / (2 * metres)
    normals = torch.stack([-EXAGGERATION * east, -EXAGGERATION * north, torch.ones_like(east)], dim=1)
    return (normals / normals.square().sum(1, keepdim=True).sqrt()).to(elevation.dtype)


def flip_some(layers: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Mirror about half of the tiles west to east, and the x of their `normals` with them.

    Mountains cast no shadows in the image, from which side the sun shines is not to be seen: a mirrored tile could be
    a true one.

    Args:
        layers: each (b, ..., s, s), on the CPU.
        generator: of the draws.
    """
    chosen = torch.rand(len(next(iter(layers.values()))), generator=generator) < 0.5
    flipped = {}
    for name, layer in layers.items():
        mirror = layer.flip(-1)
        if name == "normals":
            mirror = torch.cat([-mirror[:, :1], mirror[:, 1:]], dim=1)
        flipped[name] = torch.where(chosen.reshape(-1, *[1] * (layer.ndim - 1)), mirror, layer)
    return flipped


def _corners(land_cover: Tensor, block: int, number: int, size: int, stride: int) -> Tensor:
    """First row and column of each tile of a block with enough land, from the west."""
    first = number * block
    land = (land_cover[:, first : first + block] > 0).float()
    share = torch.nn.functional.avg_pool2d(land[None], size, stride)[0]
    column, row = (share.T > LEAST_LAND).nonzero().T
    return torch.stack([row * stride, first + column * stride], dim=1)


def _cut(maps: EarthMaps, row: int, column: int, size: int) -> tuple[Tensor, ...]:
    rows, columns = slice(row, row + size), slice(column, column + size)
    around = maps.elevation[row : row + size + 2, column : column + size + 2]
    return maps.image[:, rows, columns], maps.land_cover[rows, columns], around, maps.climate[rows, columns]


def _counts(classes: Tensor, number: int) -> Tensor:
    return torch.bincount(classes.flatten(), minlength=number).double()
