"""Maps of the Earth: decoded against hand-made rasters, aligned or refused, cached; the real ones at known places."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from earth_world import real_root, world, write_world
from equipoise.data import earth, earth_source
from equipoise.data.earth import (
    CLIMATES,
    LAND_COVERS,
    PAIRS,
    EarthMaps,
    agreement_facts,
    check_agreement,
    lay,
    load_earth,
    summarise_earth,
)
from equipoise.data.earth_source import (
    PACKAGES,
    EarthLayers,
    earth_files,
    read_classes,
    read_elevation,
    read_layers,
)


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize("compression", ["zlib", None])
def test_a_class_is_the_one_at_the_centre_of_a_pixel(
    tmp_path: Path, rows: int, compression: str | None
) -> None:
    source = np.random.default_rng(0).integers(0, 17, (9, 14), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", source, compression=compression, rowsperstrip=rows)
    found = read_classes(tmp_path / "c.tif", 5, 6)
    assert found.dtype == torch.uint8
    for i in range(5):
        for j in range(6):  # degrees from the edge of the world, over the size of a pixel of the source
            latitude, longitude = (i + 0.5) * 180 / 5, (j + 0.5) * 360 / 6
            assert found[i, j] == source[int(latitude / (180 / 9)), int(longitude / (360 / 14))]


@pytest.mark.parametrize(
    ("content", "tile", "said"),
    [
        (np.zeros((4, 8), np.uint16), None, "2 dimensions of uint16, strips"),
        (np.zeros((4, 8, 3), np.uint8), None, "3 dimensions of uint8, strips"),
        (np.zeros((64, 64), np.uint8), (16, 16), "2 dimensions of uint8, tiles"),
    ],
)
def test_another_kind_of_tiff_is_refused(
    tmp_path: Path, content: np.ndarray, tile: tuple[int, int] | None, said: str
) -> None:
    tifffile.imwrite(tmp_path / "c.tif", content, tile=tile)
    with pytest.raises(
        ValueError, match=f"c.tif` should be a whole map. Found that it cannot be read: {said}"
    ):
        read_classes(tmp_path / "c.tif", 4, 8)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_damaged_files_are_named(tmp_path: Path, kept: float) -> None:
    files = write_world(tmp_path, world())
    for path, read in ((files.climate, read_classes), (files.elevation, read_elevation)):
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(
            ValueError, match=f"{path.name}` should be a whole map. Found that it cannot be read"
        ):
            read(path, 60, 96)


def test_elevation_is_linear_between_cells(tmp_path: Path) -> None:
    """5 arc minutes to 4, on a plane, which bilinear interpolation leaves as it is."""
    height, width = 18, 36

    def plane(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        return np.asarray(3 * latitude[:, None] - 2 * longitude + 7)

    latitudes, longitudes = (
        90 - (np.arange(-2, height + 2) + 0.5) * 10,
        (np.arange(-2, width + 2) + 0.5) * 10,
    )
    np.savez(tmp_path / "h.npz", arr_0=plane(latitudes, longitudes))
    found = read_elevation(tmp_path / "h.npz", 27, 45)
    expected = plane(90 - (np.arange(27) + 0.5) * 180 / 27, (np.arange(45) + 0.5) * 360 / 45)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, rtol=1e-6, atol=1e-3)


def test_elevation_needs_cells(tmp_path: Path) -> None:
    np.savez(tmp_path / "h.npz", arr_0=np.zeros((4, 9)))
    with pytest.raises(
        ValueError, match=re.escape("h.npz` should be a whole map. Found that it cannot be read: an array")
    ):
        read_elevation(tmp_path / "h.npz", 4, 8)


def test_a_written_world_is_read_as_it_is(tmp_path: Path) -> None:
    layers, seen = world(), []
    found = read_layers(write_world(tmp_path, layers), lambda done, total: seen.append((done, total)))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, layers, strict=True))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_south_is_left_out_and_elevation_goes_round_the_world() -> None:
    layers = world()
    maps = lay(layers)
    assert torch.equal(maps.image, layers.image[:, :50]) and torch.equal(
        maps.land_cover, layers.land_cover[:50]
    )
    assert torch.equal(maps.climate, layers.climate[:50])
    assert torch.equal(maps.elevation[1:, 1:-1], layers.elevation[:51])
    assert torch.equal(maps.elevation[0], maps.elevation[1])
    assert torch.equal(maps.elevation[1:, 0], layers.elevation[:51, -1])
    assert torch.equal(maps.elevation[1:, -1], layers.elevation[:51, 0])
    assert torch.equal(maps.agreement[:, 0], torch.ones(6).double())


def test_agreement_counts_pixels() -> None:
    layers = world()
    cover = layers.land_cover.clone()
    cover[20, 30:40] = 0
    found = lay(layers._replace(land_cover=cover)).agreement
    differ = int((layers.land_cover[20, 30:40] > 0).sum())
    inner = 48 * 94
    assert differ > 0
    for pair, row in zip(PAIRS, found.tolist(), strict=True):
        assert row[0] == (pytest.approx(1 - differ / inner, abs=1e-12) if "land_cover" in pair else 1)
        assert max(row[1:]) < row[0]


MOVES = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}
BACK = {"north": "south", "south": "north", "west": "east", "east": "west"}


def coarse() -> EarthLayers:
    """Coasts so long that a pixel matters little: only the direction gives a moved map away."""
    return world(600, 960, block=60)


@pytest.mark.parametrize("moved", range(4))
@pytest.mark.parametrize("where", list(MOVES))
def test_a_map_that_is_moved_by_a_pixel_is_refused(moved: int, where: str) -> None:
    layers = list(coarse())
    layers[moved] = layers[moved].roll(MOVES[where], dims=(-2, -1))
    first = "image" if moved else "land_cover"
    pair = tuple(sorted(("image", EarthLayers._fields[moved or 1]), key=EarthLayers._fields.index))
    back = BACK[where] if moved else where
    with pytest.raises(
        ValueError, match=f"`{pair[0]}` and `{pair[1]}` should agree on land and water at 97%"
    ) as error:
        lay(EarthLayers(*layers))
    assert first in str(error.value)
    assert re.search(
        rf"Found 9[789]\.\d\d%, and (100\.00|99\.\d\d)% with `{pair[1]}` moved {back} by a pixel",
        str(error.value),
    )


def test_maps_that_agree_too_little_are_refused() -> None:
    layers = world()
    other = world(seed=1)
    with pytest.raises(
        ValueError, match=r"`image` and `climate` should agree .* Found 7\d\.\d\d%, and .*--install"
    ):
        lay(layers._replace(climate=other.climate))
    agreement = torch.full((6, 5), 0.9)
    agreement[:, 0] = 0.9699
    with pytest.raises(ValueError, match="Found 96.99%"):
        check_agreement(agreement)
    agreement[:, 0] = 0.97001
    check_agreement(agreement)


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EarthLayers:
    layers = world()
    (tmp_path / "files").mkdir()
    files = write_world(tmp_path / "files", layers)
    monkeypatch.setattr(earth, "earth_files", lambda: files)
    return layers


def same(a: EarthMaps, b: EarthMaps) -> bool:
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_maps_are_made_once_and_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: EarthLayers
) -> None:
    seen: list[tuple[int, int]] = []
    first = load_earth(tmp_path, lambda done, total: seen.append((done, total)))
    assert same(first, lay(made_up)) and len(seen) == 4
    assert (
        same(load_earth(tmp_path, lambda done, total: seen.append((done, total))), first) and len(seen) == 4
    )
    path = tmp_path / "maps.pt"
    content = bytearray(path.read_bytes())
    content[content.find(made_up.climate.numpy().tobytes()[:200])] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="its content does not match its checksum"):
        again = load_earth(tmp_path, lambda done, total: seen.append((done, total)))
    assert same(again, lay(made_up)) and len(seen) == 8
    monkeypatch.setattr(earth, "PACKAGES", PACKAGES[:3])
    with pytest.warns(UserWarning, match="made from another version of the source"):
        load_earth(tmp_path)


def test_a_world_out_of_place_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = world()
    files = write_world(tmp_path, layers._replace(climate=layers.climate.roll(1, 0)))
    monkeypatch.setattr(earth, "earth_files", lambda: files)
    with pytest.raises(ValueError, match="should agree on land and water"):
        load_earth(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_and_a_wrong_file_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(PACKAGES[3], name="no-such-map")
    monkeypatch.setattr(earth_source, "PACKAGES", (*PACKAGES[:3], absent))
    with pytest.raises(
        ModuleNotFoundError,
        match="earth needs the data package `no-such-map`.*equipoise data earth --install",
    ):
        earth_files()
    (file,) = PACKAGES[3].files
    monkeypatch.setattr(
        earth_source, "PACKAGES", (*PACKAGES[:3], replace(PACKAGES[3], files={file: "0" * 64}))
    )
    with pytest.raises(ValueError, match=f"{file}` should have sha256 0+. Found 5b76454f"):
        earth_files()


@pytest.mark.parametrize("name", ["PIL", "tifffile"])
def test_a_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(earth_source, "find_spec", lambda other: None if other == name else find_spec(other))
    with pytest.raises(ModuleNotFoundError, match=r"Reading the maps needs .*tifffile.*equipoise\[earth\]"):
        earth_files()


def test_facts_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: EarthLayers
) -> None:
    before = summarise_earth(tmp_path)
    assert before["available"] and not before["cached"] and "problem" not in before
    assert list(before["packages"])[2] == "itur==0.4.0"
    load_earth(tmp_path)
    after = summarise_earth(tmp_path)
    assert after["cached"] and after["agreement_percent"]["image / climate"]["aligned"] == 100

    def missing() -> None:
        raise ModuleNotFoundError("earth needs something")

    monkeypatch.setattr(earth, "earth_files", missing)
    assert summarise_earth(tmp_path)["available"]
    without = summarise_earth(tmp_path / "elsewhere")
    assert not without["available"] and without["problem"] == "earth needs something"


@pytest.fixture(scope="module")
def real() -> EarthMaps:
    return load_earth(real_root())


def at(maps: EarthMaps, latitude: float, longitude: float) -> tuple[str, float, str]:
    """Most frequent land cover, mean elevation and most frequent climate within half a degree."""
    row, column = int((90 - latitude) * 15), int((longitude + 180) * 15)
    rows, columns = slice(row - 7, row + 8), slice(column - 7, column + 8)

    def most(layer: Tensor) -> int:
        return int(layer[rows, columns].flatten().bincount().argmax())

    climate = most(maps.climate)
    height = float(maps.elevation[1:-1, 1:-1][rows, columns].mean())
    return LAND_COVERS[most(maps.land_cover)], height, CLIMATES[climate - 1] if climate else ""


def test_the_real_maps_lie_on_each_other(real: EarthMaps) -> None:
    assert real.land_cover.shape == real.climate.shape == real.image.shape[1:] == (2250, 5400)
    facts = agreement_facts(real)
    assert len(facts) == 6
    for here in facts.values():
        assert here["aligned"] > 98 and here["moved by a pixel"] < here["aligned"]
    assert facts["image / land_cover"]["aligned"] == pytest.approx(98.91, abs=0.02)
    assert facts["land_cover / climate"]["aligned"] == pytest.approx(99.27, abs=0.02)


@pytest.mark.parametrize(
    ("latitude", "longitude", "cover", "low", "high", "climate"),
    [
        (-4, -64, "evergreen broadleaf forest", 20, 200, "tropical"),  # Amazonia
        (23, 10, "barren", 300, 1500, "arid"),  # Sahara
        (75, -40, "snow and ice", 2000, 3500, "polar"),  # Greenland
        (33, 88, "grassland", 4500, 5500, "polar"),  # Tibet
        (48.5, 2, "cropland", 50, 250, "temperate"),  # Beauce
        (0, -140, "water", 0, 0, ""),  # Pacific
    ],
)
def test_the_real_maps_at_known_places(
    real: EarthMaps, latitude: float, longitude: float, cover: str, low: float, high: float, climate: str
) -> None:
    found = at(real, latitude, longitude)
    assert (found[0], found[2]) == (cover, climate)
    assert low <= found[1] <= high
