"""Every Python block of the README and of the docs runs as it is printed, page by page.

A block that is a file (`title="..."`) belongs to a tutorial with a test of its own. A comment above a block,
`<!-- not run: REASON -->`, exempts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from docs.following import ROOT, Block, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Network(nn.Module):
    """An encoder and two heads, as the pages take them for granted."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 8)
        self.heads = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, 2)."""
        out: Tensor = self.heads(torch.tanh(self.encoder(x)))
        return out


def given(tasks: list[str]) -> dict[str, Any]:
    """The names that a reader has: those of any training loop."""
    model = Network()

    def losses_of(model: nn.Module, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(tasks, (model(x) - y).square().mean(0), strict=True))

    return {
        "torch": torch,
        "eq": eq,
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "loader": [(torch.randn(4, 3), torch.randn(4, 2)) for _ in range(3)],
        "losses_of": losses_of,
        "method": eq.build_method("nashmtl", 2),
    }


def shown() -> Iterator[Any]:
    """The pages that show Python, with their blocks."""
    for page in PAGES:
        found = [b for b in blocks(page) if b.language == "python" and not b.title]
        if found:
            yield pytest.param(page, found, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize(("page", "found"), list(shown()))
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: Path, found: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = given(["depth", "normals"])
    for block in found:
        if block.mark.startswith("not run: "):
            continue
        assert not block.mark, f"{page.name}, line {block.line}: what does the comment {block.mark!r} mean?"
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def test_pages_with_python_are_found() -> None:
    pages = {param.values[0].name for param in shown()}
    assert {"README.md", "quickstart.md", "memory.md", "monitor.md", "architectures.md"} <= pages
