"""Tiles: normals against planes, parts that share no pixel, layers that belong together, mirrored tiles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from earth_world import real_root, world
from equipoise.data.earth import CLIMATES, LAND_COVERS, EarthMaps, lay, load_earth
from equipoise.data.earth_tiles import PARTS, EarthTiles, flip_some, surface_normals


@pytest.fixture(scope="module")
def maps() -> EarthMaps:
    return lay(world(60, 144))


@pytest.mark.parametrize("latitude", [0.0, 45.0, -60.0])
@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.01, 0.0), (0.0, 0.02), (-0.03, 0.01)])
def test_the_normal_of_a_tilted_plane(latitude: float, slope: tuple[float, float]) -> None:
    """Slopes in metres per metre to the east and north; a pixel is 1/15 degree of a ball of 6,371 km."""
    degree = 2 * math.pi * 6_371_000 / 360
    east = torch.arange(5).double() / 15 * degree * math.cos(math.radians(latitude))
    north = -torch.arange(4).double() / 15 * degree
    plane = 500 + slope[0] * east + slope[1] * north[:, None]
    found = surface_normals(plane[None], torch.full((1, 2), latitude), pixel=1 / 15)
    vector = torch.tensor([-20 * slope[0], -20 * slope[1], 1.0]).double()
    expected = vector / math.sqrt(sum(float(v) ** 2 for v in vector))
    assert found.shape == (1, 3, 2, 3)
    assert torch.allclose(found, expected[None, :, None, None].expand(1, 3, 2, 3), atol=1e-9)


def test_each_row_has_its_own_latitude() -> None:
    """The same step per pixel is steeper in the north, where pixels are narrow."""
    heights = (100.0 * torch.arange(4)).expand(1, 5, 4)
    found = surface_normals(heights, torch.tensor([[70.0, 40.0, 10.0]]), pixel=0.1)
    slope = -found[0, 0] / found[0, 2]
    cosines = torch.tensor([70.0, 40.0, 10.0]).deg2rad().cos()
    assert torch.allclose(slope * cosines[:, None], slope[2, 0] * cosines[2], rtol=1e-5)
    assert slope[0, 0] > 2 * slope[1, 0] > 2 * slope[2, 0] > 0


def covered(tiles: EarthTiles, part: str) -> Tensor:
    """How many tiles of a part hold each pixel."""
    found = torch.zeros(tiles.maps.land_cover.shape, dtype=torch.int64)
    for row, column in tiles.corners[tiles.parts[part]].tolist():
        found[row : row + tiles.size, column : column + tiles.size] += 1
    return found


@pytest.mark.parametrize(("size", "stride"), [(12, 12), (6, 3), (5, 5), (8, 3)])
def test_no_pixel_is_in_two_parts(maps: EarthMaps, size: int, stride: int) -> None:
    tiles = EarthTiles(maps, size=size, stride=stride)
    seen = {part: covered(tiles, part) for part in PARTS}
    for part, blocks in PARTS.items():
        held = (seen[part] > 0).any(0).nonzero()[:, 0]
        assert len(held) > 0 and {int(column) // 12 for column in held} <= set(blocks)
    assert seen["validation"].max() == seen["test"].max() == 1
    assert (seen["train"].max() > 1) == (stride < size)
    assert sorted(block for blocks in PARTS.values() for block in blocks) == list(range(12))
    numbers = torch.cat(list(tiles.parts.values()))
    assert torch.equal(numbers, torch.arange(len(tiles.corners)))


def test_tiles_are_those_with_enough_land(maps: EarthMaps) -> None:
    tiles = EarthTiles(maps, size=6, stride=3)
    found = {tuple(corner) for corner in tiles.corners.tolist()}
    for row in range(0, 50 - 5, 3):
        for column in range(0, 144, 3):
            block, within = divmod(column, 12)
            if within > 6 or (block not in PARTS["train"] and (row % 6 or within % 6)):
                assert (row, column) not in found
                continue
            land = sum(int(maps.land_cover[row + i, column + j] > 0) for i in range(6) for j in range(6))
            assert ((row, column) in found) == (land / 36 > 0.6)


def test_a_tile_holds_its_layers(maps: EarthMaps) -> None:
    tiles = EarthTiles(maps, size=8)
    index = torch.tensor([3, 0, len(tiles.corners) - 1])
    batch = tiles.read(index)
    for k, number in enumerate(index.tolist()):
        row, column = tiles.corners[number].tolist()
        latitude = 90 - (torch.arange(row, row + 8) + 0.5) * 2.5
        for i in range(8):
            for j in range(8):
                y, x = row + i, column + j
                here = {name: layer[k, ..., i, j] for name, layer in batch.items()}
                cover, height = int(maps.land_cover[y, x]), float(maps.elevation[y + 1, x + 1])
                assert torch.equal(here["image"], maps.image[:, y, x].float() / 255)
                assert here["landcover"] == cover
                assert here["climate"] == int(maps.climate[y, x]) - 1
                assert float(here["elevation"]) == pytest.approx(
                    height / 1000 if cover and height >= 100 else 0
                )
                around = maps.elevation[y : y + 3, x : x + 3]
                normal = surface_normals(around[None], latitude[None, i : i + 1], pixel=2.5)[0, :, 0, 0]
                assert torch.allclose(here["normals"], normal if cover else torch.zeros(3), atol=1e-7)
    assert {name: layer.dtype for name, layer in batch.items()} == {
        "image": torch.float32, "landcover": torch.int64, "elevation": torch.float32,
        "normals": torch.float32, "climate": torch.int64,
    }  # fmt: skip


def test_shares_and_relief_of_a_part(maps: EarthMaps) -> None:
    tiles = EarthTiles(maps, size=12)
    batch = tiles.read(tiles.parts["test"])
    shares = tiles.shares("test")
    assert list(shares) == [*LAND_COVERS, *CLIMATES]
    for name, kinds in (("landcover", LAND_COVERS), ("climate", CLIMATES)):
        labels = [label for label in batch[name].flatten().tolist() if label >= 0]
        for number, kind in enumerate(kinds):
            assert shares[kind] == pytest.approx(labels.count(number) / len(labels), abs=1e-12)
    row, column = tiles.corners[tiles.parts["test"][0]].tolist()
    heights = maps.elevation[row : row + 14, column : column + 14].flatten().tolist()
    mean = sum(heights) / 196
    assert float(tiles.relief("test")[0]) == pytest.approx(
        math.sqrt(sum((height - mean) ** 2 for height in heights) / 195), rel=1e-5
    )


def test_mirrored_tiles_are_mirrored_in_all_layers(maps: EarthMaps) -> None:
    """The normals of a mirrored world are the mirrored normals with the other sign of x."""
    tiles = EarthTiles(maps, size=12)
    index = torch.arange(40)
    batch = tiles.read(index)
    flipped = flip_some(batch, torch.Generator().manual_seed(0))
    image, cover, heights, climate, agreement = maps
    mirrored = EarthMaps(image.flip(-1), cover.flip(-1), heights.flip(-1), climate.flip(-1), agreement)
    other = EarthTiles(mirrored, size=12)
    other.corners = tiles.corners.clone()
    other.corners[:, 1] = 144 - 12 - tiles.corners[:, 1]
    whole = other.read(index)
    turned = 0
    for k in range(40):
        source = whole if not torch.equal(flipped["image"][k], batch["image"][k]) else batch
        turned += source is whole
        for name, layer in flipped.items():
            assert torch.allclose(layer[k].double(), source[name][k].double(), atol=1e-7), name
    assert 8 < turned < 32
    again = flip_some(batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(again[name], flipped[name]) for name in batch)


def test_sizes_out_of_range_are_refused(maps: EarthMaps) -> None:
    with pytest.raises(
        ValueError, match="`tile` should be between 1 and 12, the width of a block. Found 13."
    ):
        EarthTiles(maps, size=13)
    with pytest.raises(ValueError, match="`stride` should be between 1 and 8, the size of a tile. Found 9."):
        EarthTiles(maps, size=8, stride=9)
    sea = maps._replace(land_cover=torch.zeros_like(maps.land_cover))
    with pytest.raises(
        ValueError, match="tiles of the train part should be over 60% land. Found none of 12 pixels."
    ):
        EarthTiles(sea, size=12)


def test_every_part_of_the_real_maps_has_every_class() -> None:
    maps = load_earth(real_root())
    tiles = EarthTiles(maps)
    assert {part: len(numbers) for part, numbers in tiles.parts.items()} == {
        "train": 475,
        "validation": 156,
        "test": 131,
    }
    for part in PARTS:
        assert min(tiles.shares(part).values()) > 0
    overlapping = EarthTiles(maps, stride=32)
    assert len(overlapping.parts["train"]) > 3 * 475
    assert torch.equal(overlapping.corners[overlapping.parts["test"]], tiles.corners[tiles.parts["test"]])
