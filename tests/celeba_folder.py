"""Writes a small CelebA in the published layout: generated faces whose colours show some of the attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from equipoise.data.celeba import ATTRIBUTES

COLOURED = ("Male", "Smiling", "Eyeglasses")  # shown by how red, green and blue an image is
COUNTS = (24, 8, 8)


def write_celeba(folder: Path, counts: tuple[int, int, int] = COUNTS, *, seed: int = 0) -> Path:
    """Write so many images of the three parts; every attribute has some of either kind in each part."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([_labels(count, generator) for count in counts])
    names = [f"{number:06d}.jpg" for number in range(1, sum(counts) + 1)]
    parts = [number for number, count in enumerate(counts) for _ in range(count)]
    for name, row in zip(names, labels, strict=True):
        Image.fromarray(face(row, generator)).save(images / name, quality=92)
    lines = [
        f"{name} " + " ".join(f"{2 * int(value) - 1:>2d}" for value in row)
        for name, row in zip(names, labels, strict=True)
    ]
    header = [str(len(names)), " ".join(ATTRIBUTES) + " "]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*header, *lines]) + "\n")
    partition = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return folder


def face(labels: Tensor, generator: torch.Generator) -> np.ndarray:
    """A smooth image (218, 178, 3)."""
    coarse = 0.4 * torch.rand(1, 3, 5, 4, generator=generator)
    for channel, name in enumerate(COLOURED):
        coarse[0, channel] += 0.5 * float(labels[ATTRIBUTES.index(name)])
    smooth = interpolate(coarse, (218, 178), mode="bicubic").clamp(0, 1)[0]
    return (255 * smooth).round().byte().permute(1, 2, 0).numpy()


def _labels(count: int, generator: torch.Generator) -> Tensor:
    """Labels (count, 40), about half of them true, each column with both kinds."""
    order = torch.stack([torch.randperm(count, generator=generator) for _ in ATTRIBUTES], dim=1)
    return order < count // 2
