"""Small folders of CIFAR-10 and STL-10, DomainNet and office domains as they are published, of made-up images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
STL_NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
HUES = np.array(
    [(230, 30, 30), (30, 230, 30), (30, 30, 230), (230, 230, 30), (230, 30, 230), (30, 230, 230), (240, 240, 240),
     (20, 20, 20), (130, 130, 20), (130, 20, 130), (20, 130, 130)]
)  # fmt: skip


def photographs(labels: Sequence[int], side: int, seed: int) -> np.ndarray:
    """Noisy images (n, side, side, 3), uint8, whose colour shows the class."""
    random = np.random.default_rng(seed)
    colours = HUES[np.asarray(labels) % len(HUES)][:, None, None]
    found: np.ndarray = np.clip(colours + random.integers(-20, 21, (len(labels), side, side, 3)), 0, 255)
    return found.astype(np.uint8)


def cifar_bytes(images: np.ndarray, labels: Sequence[int]) -> bytes:
    """Records of a label, then red, green and blue, each row by row: written pixel by pixel."""
    out = bytearray()
    for image, label in zip(images, labels, strict=True):
        out.append(label)
        for channel in range(3):
            for row in image:
                out += bytes(int(pixel[channel]) for pixel in row)
    return bytes(out)


def stl_bytes(images: np.ndarray) -> bytes:
    """Red, green and blue, each column by column."""
    out = bytearray()
    for image in images:
        for channel in range(3):
            for column in range(image.shape[1]):
                out += image[:, column, channel].tobytes()
    return bytes(out)


def write_cifar(root: Path, *, batch: int = 20, test: int = 20) -> None:
    """Classes in turn in each of the six files."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR_NAMES) + "\n\n")
    files = [(f"data_batch_{number}.bin", batch) for number in range(1, 6)] + [("test_batch.bin", test)]
    for seed, (file, count) in enumerate(files):
        labels = [k % 10 for k in range(count)]
        (folder / file).write_bytes(cifar_bytes(photographs(labels, 32, seed), labels))


def write_stl(root: Path, *, train: int = 100, test: int = 20) -> None:
    """Classes in turn, in colours of the same things in CIFAR-10."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "class_names.txt").write_text("\n".join(STL_NAMES) + "\n")
    for part, count in (("train", train), ("test", test)):
        labels = [k % 10 for k in range(count)]
        alike = [_like_cifar(STL_NAMES[label]) for label in labels]
        (folder / f"{part}_X.bin").write_bytes(stl_bytes(photographs(alike, 96, len(part))))
        (folder / f"{part}_y.bin").write_bytes(bytes(label + 1 for label in labels))


def _like_cifar(name: str) -> int:
    return 10 if name == "monkey" else CIFAR_NAMES.index({"car": "automobile"}.get(name, name))


def write_domainnet(
    root: Path,
    domains: Mapping[str, tuple[int, int]],
    classes: Sequence[str],
    *,
    size: tuple[int, int] = (40, 60),
) -> Path:
    """So many training and test images of each domain, classes in turn, with their lists."""
    number = 0
    for domain, counts in domains.items():
        for part, count in zip(("train", "test"), counts, strict=True):
            lines = []
            for k in range(count):
                label = k % len(classes)
                number += 1
                name = f"{domain}/{classes[label]}/{domain}_{label + 1:03d}_{number:06d}.jpg"
                _save(root / name, label, size, number)
                lines.append(f"{name} {label}\n")
            (root / f"{domain}_{part}.txt").write_text("".join(lines))
    return root


def write_office(
    root: Path,
    domains: Mapping[str, int],
    classes: Sequence[str],
    *,
    inner: str = "",
    size: tuple[int, int] = (30, 50),
) -> Path:
    """So many images of each class in each domain, below a folder `inner` or not."""
    for place, (domain, count) in enumerate(domains.items()):
        for label, name in enumerate(classes):
            for k in range(count):
                path = root / domain / inner / name / f"frame_{k + 1:04d}.jpg"
                _save(path, label, size, 1000 * place + 100 * label + k)
    return root


def _save(path: Path, label: int, size: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    noise = random.integers(-20, 21, (*size, 3))
    Image.fromarray(np.clip(HUES[label % len(HUES)] + noise, 0, 255).astype(np.uint8)).save(path, quality=95)
