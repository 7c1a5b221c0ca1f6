"""Every `equipoise` command that a page shows is one that the command line understands; nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from docs.following import ROOT, blocks
from equipoise.cli import app

PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = {"console", "bash", "sh"}


def commands() -> Iterator[Any]:
    """The arguments of each command, with where it stands."""
    for page in PAGES:
        for block in blocks(page):
            text = (
                block.text.replace("\\\n", " ") if block.language in SHELL and block.mark != "fails" else ""
            )
            for number, line in enumerate(re.findall(r"^(?:\$ )?equipoise ([^\n]*)$", text, re.MULTILINE)):
                words = shlex.split(line, comments=True)
                where = f"{page.relative_to(ROOT)}:{block.line}:{number}"
                end = next((k for k, word in enumerate(words) if word[0] in "&|;>"), len(words))
                yield pytest.param(words[:end], id=where)


def understand(command: Any, name: str, arguments: list[str], parent: Any = None) -> None:
    """Read the arguments as the command line does, down to the last command, and stop before it is called."""
    context = command.make_context(name, list(arguments), parent=parent)
    if hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        found, inner, left = command.resolve_command(context, rest)
        understand(inner, found, left, context)


@cache
def group() -> Any:
    """The command line, put together once: it takes a tenth of a second."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("arguments", list(commands()))
def test_a_command_of_a_page_is_understood(arguments: list[str]) -> None:
    understand(group(), "equipoise", arguments)


def test_commands_are_found_and_wrong_ones_noticed() -> None:
    pages = {str(param.id).partition(":")[0] for param in commands()}
    assert {"README.md", "docs/quickstart.md", "docs/compare.md", "docs/search.md", "docs/study.md"} <= pages
    with pytest.raises(Exception, match="No such option"):
        understand(group(), "equipoise", ["bench", "qm9", "--sedes", "3"])
    with pytest.raises(Exception, match="No such command"):
        understand(group(), "equipoise", ["benhc", "qm9"])
    with pytest.raises(Exception, match="a valid integer"):
        understand(group(), "equipoise", ["bench", "qm9", "--seeds", "three"])
