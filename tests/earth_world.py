"""A small made-up world in the formats of the real maps, and such a world as a cache."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image
from torch import Tensor

from equipoise.data.cache import save_tensors
from equipoise.data.earth import EarthMaps, fingerprint, lay, load_earth
from equipoise.data.earth_source import EarthFiles, EarthLayers


def world(height: int = 60, width: int = 96, *, seed: int = 0, block: int = 3) -> EarthLayers:
    """Layers with the same coasts, in blocks of pixels that are all land or all water."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> Tensor:
        values = torch.randint(low, high, (height // block, width // block), generator=generator)
        return values.repeat_interleave(block, 0).repeat_interleave(block, 1)

    land = draw(0, 6) > 0
    green = torch.stack([draw(100, 200), draw(100, 250), draw(0, 90)])
    sea = torch.tensor([5, 20, 50])[:, None, None]
    return EarthLayers(
        torch.where(land, green, sea).to(torch.uint8),
        torch.where(land, draw(1, 17), 0).to(torch.uint8),
        torch.where(land, draw(6, 3000), 0).float(),
        torch.where(land, draw(1, 6), 0).to(torch.uint8),
    )


def write_world(folder: Path, layers: EarthLayers) -> EarthFiles:
    """The four files of a world, each in the layout of the real one; the image is lossless."""
    files = EarthFiles(*(folder / name for name in ("image.png", "cover.tif", "heights.npz", "climate.tif")))
    Image.fromarray(layers.image.movedim(0, -1).numpy()).save(files.image)
    for path, classes in ((files.land_cover, layers.land_cover), (files.climate, layers.climate)):
        tifffile.imwrite(path, classes.numpy(), compression="zlib", rowsperstrip=1)
    np.savez_compressed(files.elevation, arr_0=np.pad(layers.elevation.double().numpy(), 2, mode="edge"))
    return files


def cached_world(root: Path, layers: EarthLayers) -> EarthMaps:
    """A world in place of the real one, where the loader looks for its cache."""
    maps = lay(layers)
    save_tensors(root / "maps.pt", maps._asdict(), fingerprint())
    return maps


@cache
def real_root() -> Path:
    """A folder called earth with the cache of the real maps, made once for all tests."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    load_earth(folder / "earth")
    return folder / "earth"
