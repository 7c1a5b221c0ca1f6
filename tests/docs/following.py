"""What a page of the docs tells its reader to do: its files, its changes to files, its commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r'(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Args:
        language: as written behind the fence.
        title: the file that it is, or changes, or "".
        mark: of the comment above it: "not run: REASON", "fails" (of a command), or "".
        text: what it holds.
        line: where it begins, from 1.
    """

    language: str
    title: str
    mark: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            found["language"],
            found["title"] or "",
            found["mark"] or "",
            found["text"],
            text[: found.start("language")].count("\n") + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def write(block: Block, folder: Path) -> None:
    """Save a block as the file of its title, or make the change that it shows as a diff."""
    path = folder / block.title
    if block.language != "diff":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return
    lines, place = path.read_text().splitlines(), 0
    for line in block.text.splitlines():
        if line.startswith("+"):
            lines.insert(place, line[1:])
            place += 1
        else:
            place = lines.index(line[1:], place) + 1  # ValueError: the page shows what is not in the file
    path.write_text("\n".join(lines) + "\n")


def commands(block: Block) -> list[str]:
    """The lines of a console block, comments left out."""
    return [line.partition("  # ")[0].strip() for line in block.text.splitlines() if line.strip()]


def run(command: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of a page in a folder; `path` is where Python looks first."""
    found = {"python": [sys.executable], "equipoise": [sys.executable, "-m", "equipoise.cli"]}
    program, *arguments = shlex.split(command)
    target = None
    if ">" in arguments:
        arguments, target = arguments[: arguments.index(">")], folder / arguments[-1]
    looks = "" if path is None else str(path)
    environment = {**os.environ, "PYTHONPATH": looks, "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*found[program], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    if target is not None:
        target.write_text(done.stdout)
    return done
