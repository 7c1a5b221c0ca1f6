"""Lends installed distributions to another environment by links, since copying torch takes minutes."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def lend(name: str, site: Path) -> None:
    """Link a distribution of this environment, with what it requires, into another one.

    Args:
        name: of the distribution.
        site: the site-packages folder of the other environment.
    """
    found = distribution(name)
    parts = {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}
    for part in parts:
        if not (site / part).exists():
            (site / part).symlink_to(Path(str(found.locate_file(part))))
    for text in found.requires or []:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            lend(wanted.name, site)
