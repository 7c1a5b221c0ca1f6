"""The site: pages are reached, links lead somewhere, what is generated is up to date, no host is asked for anything."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import sync_playwright

import equipoise as eq
from docs.following import ROOT
from tools.benchmarks_page import page as benchmarks_page
from tools.site_pages import PAGES, pages_of, with_links

DOCS = ROOT / "docs"
REPOSITORY = "https://example.org/repository"


def navigation() -> list[str]:
    return pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text()))


def test_every_page_is_in_the_navigation_once() -> None:
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(navigation()) == sorted([*pages, *PAGES.values()])


@pytest.mark.parametrize(
    "path",
    [*(ROOT / name for name in ("README.md", *PAGES)), *sorted(DOCS.rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_link_of_a_file_leads_to_a_file(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize(
    ("page", "written", "led"),
    [
        ("index.md", "[a](methods.md#famo)", "[a](methods.md#famo)"),
        ("results/search.md", "[a](../search.md)", "[a](../search.md)"),
        ("faq.md", "[a](../benchmarks/README.md)", "[a](speed.md)"),
        ("results/index.md", "[a](../../benchmarks/README.md#top)", "[a](../speed.md#top)"),
        ("speed.md", "[a](../docs/results/solvers.md)", "[a](results/solvers.md)"),
        ("recipes.md", "[a](ddp.py)", f"[a]({REPOSITORY}/blob/main/examples/ddp.py)"),
        ("contributing.md", "[a](docs/results)", "[a](results)"),
        ("faq.md", "[a](../tests)", f"[a]({REPOSITORY}/tree/main/tests)"),
        (
            "faq.md",
            "[a](../nothing.md) [b](https://x.org) [c](#d)",
            "[a](../nothing.md) [b](https://x.org) [c](#d)",
        ),
        ("faq.md", "```\n[a](../tests)\n```\n", "```\n[a](../tests)\n```\n"),
    ],
)
def test_links_are_led_to_pages_or_to_the_repository(page: str, written: str, led: str) -> None:
    assert with_links(written, page, REPOSITORY) == led


def test_the_page_of_problems_is_the_one_that_is_generated() -> None:
    """`python tests/tools/benchmarks_page.py > docs/benchmarks.md` writes it anew."""
    assert (DOCS / "benchmarks.md").read_text().strip() == benchmarks_page().strip()


@pytest.mark.parametrize("path", ["README.md", "docs/index.md", "CHANGELOG.md"])
def test_methods_are_counted_right(path: str) -> None:
    (count, *more) = set(re.findall(r"\b(\d+) (?:\[)?balancing methods", (ROOT / path).read_text()))
    assert not more
    assert int(count) == len(eq.METHODS)


def test_the_reference_has_every_public_name() -> None:
    named = set(re.findall(r"^::: equipoise\.([A-Za-z_]+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    elsewhere = {"WRAPPERS", "GO4Align", "monitor"}  # methods.md, and the section on watching
    assert named == set(eq.__all__) - elsewhere


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a network: a proxy that is not there is asked for every host."""
    where = tmp_path_factory.mktemp("site")
    environment = {
        "PATH": "/usr/bin:/bin",
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(where)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return where


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_built_pages_work_and_ask_nothing_of_any_host(address: str) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert chromium is not None, (
        "Chromium should be installed. Found none; run tests/tools/install_chromium.sh."
    )
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 800})
        tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on(
            "response", lambda got: errors.append(f"{got.status}: {got.url}") if got.status >= 400 else None
        )
        tab.on(
            "request",
            lambda request: errors.append(request.url) if not request.url.startswith(address) else None,
        )
        for page in navigation():
            tab.goto(address + page.removesuffix(".md") + ".html", wait_until="load")
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{page} is {wide} pixels too wide for a phone"
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(address + "index.html")
        tab.get_by_role("textbox").first.fill("famo")
        tab.wait_for_selector(".md-search-result__item", state="attached", timeout=60_000)
        browser.close()
    assert errors == []
