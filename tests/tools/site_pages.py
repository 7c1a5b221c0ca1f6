"""What the site needs beside docs/: pages from files elsewhere in the repository, and links that lead there.

MkDocs calls the `on_` functions (mkdocs.yml, `hooks`). A link is written as it works in the repository; on the site it
leads to the page of that file if there is one, else to the file in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# File in the repository -> page of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "speed.md",
    "examples/README.md": "recipes.md",
}
WIDE = {"methods.md", "benchmarks.md"}  # tables that need the room
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|<)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^(```.*?^```|~~~.*?^~~~)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose files are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between files of the repository to pages of the site."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["navigation"]
    return with_links(markdown, page.file.src_uri, str(config.repo_url))


def with_links(markdown: str, page: str, repository: str) -> str:
    """The text of a page, with its links as they are right on the site; code is left alone.

    Args:
        markdown: the text.
        page: its place on the site, such as "results/search.md".
        repository: the URL of the repository.
    """
    source = next((name for name, site in PAGES.items() if site == page), f"docs/{page}")

    def lead(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        return _target(path, page, repository, found[1]) + (found[2] or "")

    parts = _FENCE.split(markdown)
    return "".join(part if k % 2 else _LINK.sub(lead, part) for k, part in enumerate(parts))


def _target(path: str, page: str, repository: str, written: str) -> str:
    """Where a link to a file of the repository leads; one to no file stays, for the build to complain of."""
    if path.startswith("docs/") or path in PAGES:
        site = PAGES.get(path, path.removeprefix("docs/"))
        return posixpath.relpath(site, posixpath.dirname(page) or ".")
    if not (ROOT / path).exists():
        return written
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository}/{kind}/main/{path}"


def pages_of(config: dict[str, Any]) -> list[str]:
    """Every page of the navigation of mkdocs.yml, in order."""

    def walk(node: Any) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node if isinstance(node, list) else list(node.values())
        return [page for child in children for page in walk(child)]

    return walk(config["nav"])
