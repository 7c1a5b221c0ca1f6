"""A small folder with the files of the three domains of digits, of random images."""

from collections.abc import Sequence
from pathlib import Path

import torch

from data.idx_folder import write_folder

HEADER = "@relation digits\n@attribute x integer [0,16]\n@data\n"


def write_dat(path: Path, rows: Sequence[Sequence[int]], *, header: str = "", separator: str = ",") -> None:
    """One file, a line for each row."""
    path.write_text(header + "".join(separator.join(map(str, row)) + "\n" for row in rows))


def random_rows(n: int, columns: int, high: int, seed: int = 0) -> list[list[int]]:
    """Values from 0 to `high`, then the class; the classes come in turn."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, high + 1, (n, columns), generator=generator).tolist()
    return [[*row, k % 10] for k, row in enumerate(values)]


def write_digits(folder: Path, *, optdigits: int = 100, pendigits: int = 200) -> None:
    """All six files: 50, 10 and 20 images of MNIST, and as many rows as asked."""
    write_folder(folder, train=60, test=20)
    write_dat(folder / "optdigits.dat", random_rows(optdigits, 64, 16), header=HEADER)
    write_dat(folder / "penbased.dat", random_rows(pendigits, 16, 100), separator=", ")
