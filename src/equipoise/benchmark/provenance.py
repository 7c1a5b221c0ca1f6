"""What a number was made with."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str | int]:
    """Versions of what the numbers depend on, and the number of threads."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "equipoise": version("equipoise"),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


@cache
def source_commit() -> str | None:
    """The git commit of this source, marked "+changes" if it was edited; None if it is not from a repository."""
    here = Path(__file__).parents[1]
    if _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # the repository around an installed package is not its own
    commit = _git(here, "rev-parse", "HEAD")
    return commit and commit + ("+changes" if _git(here, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
