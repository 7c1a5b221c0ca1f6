"""A small folder in the layout of Fashion-MNIST, written byte by byte."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def write_idx(path: Path, values: Tensor) -> None:
    """One file, packed with gzip if its name says so."""
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    content = header + bytes(values.flatten().tolist())
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_folder(
    folder: Path, *, train: int = 60, test: int = 20, ending: str = ".gz", side: int = 28
) -> list[Tensor]:
    """Random images, of which each has its number in its first two pixels; the classes come in turn.

    Returns:
        Training pixels and labels, test pixels and labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    written: list[Tensor] = []
    for name, first, n in (("train", 0, train), ("t10k", train, test)):
        pixels = torch.randint(0, 256, (n, side, side), generator=generator, dtype=torch.uint8)
        number = torch.arange(first, first + n)
        pixels[:, 0, 0], pixels[:, 0, 1] = number // 256, number % 256
        labels = (number * 7 % 10).to(torch.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte{ending}", pixels)
        write_idx(folder / f"{name}-labels-idx1-ubyte{ending}", labels)
        written += [pixels, labels]
    return written


def numbers(pixels: Tensor) -> Sequence[int]:
    """Which image of `write_folder` each one is."""
    found: list[int] = (pixels[:, 0, 0].long() * 256 + pixels[:, 0, 1]).tolist()
    return found
