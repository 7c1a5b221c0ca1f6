"""The report opens in a browser without a network: everything drawn, nothing cut off, nothing asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from equipoise.report.build import write_report
from report.made_up import assays, write_pictures
from report.run_directory import Shape, write_run_directory

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURES = ["pictures_1", "pictures_2", "pictures_3"]
FIGURES = [
    "changes",
    "trade_off",
    *PICTURES,
    "weights",
    "groups",
    "curves",
    "convergence",
    "cost",
    "times",
    "published",
]
MANY_FIGURES = [
    "spread",
    "changes",
    "trade_off",
    "weights",
    "groups",
    "curves",
    "convergence",
    "cost",
    "times",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(methods=("ls", "famo", "go4align:groups=5", "nashmtl+grouped:groups=2"), epochs=6, steps=60)
    directory = write_run_directory(tmp_path_factory.mktemp("run"), shape)
    write_pictures(directory)
    return write_report(directory)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = ("ls", "famo", "go4align:groups=5")
    shape = Shape(methods=methods, seeds=2, epochs=4, steps=20, problem="table")
    return write_report(write_run_directory(tmp_path_factory.mktemp("many"), shape, assays(90)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail(
            "Chromium should be installed to look at the report. Found none; run tests/tools/install_chromium.sh."
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


def opened(
    browser: Any, report: Path, width: int = 1280, scheme: str = "light"
) -> tuple[Any, list[str], list[str]]:
    """The page, what it complained about and what it asked for."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri(), wait_until="networkidle")
    return page, complaints, requests


def test_the_page_complains_about_nothing_and_asks_for_nothing(browser: Any, report: Path) -> None:
    page, complaints, requests = opened(browser, report)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.locator("figure").count() == len(FIGURES)
    assert page.locator("#metrics tbody tr").count() == 11
    assert page.locator("#ranking tbody tr").count() == 4
    assert page.locator("td.best").count() >= 11
    page.context.close()


def check_figure(browser: Any, report: Path, name: str) -> None:
    page, _, _ = opened(browser, report)
    found = page.evaluate(
        """name => {
            const svg = document.querySelector(`#figure-${name} svg`);
            const frame = svg.getBoundingClientRect(), drawn = svg.getBBox();
            const texts = [...svg.querySelectorAll('g[id*="-text_"]')].map(g => [g.id, g.getBoundingClientRect()])
                .filter(([, box]) => box.width > 0);
            const outside = texts.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([id]) => id);
            return {frame: [frame.width, frame.height], drawn: [drawn.width, drawn.height],
                    texts: texts.length, outside, label: svg.getAttribute('aria-label')};
        }""",
        name,
    )
    assert min(found["frame"] + found["drawn"]) > 100
    assert found["texts"] > 5
    assert found["outside"] == []
    assert len(found["label"]) > 40
    page.context.close()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_nothing_is_cut_off(browser: Any, report: Path, name: str) -> None:
    check_figure(browser, report, name)


@pytest.mark.parametrize("name", MANY_FIGURES)
def test_the_figures_of_many_tasks_are_drawn_and_not_cut_off(browser: Any, many: Path, name: str) -> None:
    check_figure(browser, many, name)


def test_many_tasks_have_a_short_table_and_a_link_to_the_long_one(browser: Any, many: Path) -> None:
    page, complaints, _ = opened(browser, many)
    assert complaints == []
    assert page.locator("figure").count() == len(MANY_FIGURES)
    assert page.locator("#metrics tbody tr").count() == 4
    page.locator("a[href='metrics.csv']").first.wait_for()
    assert (many.parent / "metrics.csv").is_file()
    heights = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)"
    )
    assert max(heights) < 1500
    page.context.close()


@pytest.mark.parametrize("name", PICTURES)
def test_every_tile_is_an_image(browser: Any, report: Path, name: str) -> None:
    page, _, _ = opened(browser, report)
    count = page.evaluate(
        """async name => {
            const found = [...document.querySelectorAll(`#figure-${name} svg image`)];
            await Promise.all(found.map(image => image.decode ? image.decode() : null));
            return found.filter(image => image.getBoundingClientRect().width > 40).length;
        }""",
        name,
    )
    bars = 1 if name == "pictures_2" else 0  # the colours of its scale
    assert count == 3 * (2 + 4) + bars
    page.context.close()


@pytest.mark.parametrize("name", ["changes", "weights", "groups"])
def test_heat_maps_have_many_colours(browser: Any, report: Path, name: str) -> None:
    page, _, _ = opened(browser, report)
    colours = page.evaluate(
        """async name => {
            const count = async element => {
                const image = new Image();
                image.src = element.getAttribute('xlink:href');
                await image.decode();
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
                const pen = canvas.getContext('2d');
                pen.drawImage(image, 0, 0);
                const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
                const seen = new Set();
                for (let k = 0; k < data.length; k += 4) seen.add(data.slice(k, k + 4).join());
                return seen.size;
            };
            return Promise.all([...document.querySelectorAll(`#figure-${name} svg image`)].map(count));
        }""",
        name,
    )
    assert len(colours) >= {"changes": 1, "weights": 3, "groups": 4}[name]
    assert max(colours) > 10
    assert min(colours) >= 2
    page.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_and_figures_scroll_sideways(browser: Any, report: Path, width: int) -> None:
    page, _, _ = opened(browser, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    page.context.close()


def test_text_is_readable_in_light_and_dark(browser: Any, report: Path) -> None:
    for scheme in ("light", "dark"):
        page, _, _ = opened(browser, report, scheme=scheme)
        contrast = page.evaluate(
            """() => {
                const light = text => {
                    const parts = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
                };
                const paper = light(getComputedStyle(document.body).backgroundColor);
                const label = document.querySelector('#figure-cost svg g[id*="-text_"] g');
                const colour = name => getComputedStyle(document.querySelector(name)).color;
                const inks = [getComputedStyle(label).fill, colour('figcaption'), colour('td.best')];
                return inks.map(light).map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
            }"""
        )
        assert min(contrast) > 4.5, (scheme, contrast)
        page.context.close()
