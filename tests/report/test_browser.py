"""The report in a browser without a network: tabs by keyboard, everything drawn, nothing cut off, nothing asked for."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from equipoise.benchmark.records import write_atomically
from equipoise.benchmark.statistics import summarise
from equipoise.report.figures import draw
from equipoise.report.page import page
from equipoise.report.plots_pictures import pictures
from equipoise.training.task import Metric, Task
from report.made_up import assays, change_tests, count_passes, write_pictures
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
TABS = {
    "Verdict": ["scores"],
    "Trade-off": ["trade_off", "pairs"],
    "Per task": ["forest", "changes"],
    "Weights and groups": ["weights", "groups"],
    "Conflict": ["conflict"],
    "Convergence": ["curves", "convergence"],
    "Cost": ["quality", "cost", "times"],
    "Pictures": ["pictures_1", "pictures_2", "pictures_3"],
    "Provenance": ["published"],
}
STRENGTH = {"pcgrad@compute": 0.4, "modo@compute": 0.2}  # of a metric: changes that take a bent scale
A4 = (703, 1032)  # CSS pixels within margins of 12 mm
# Plots in the open tab: whether something is drawn in each, the texts that lie beyond its edges, how many names of
# rows and columns are asked for and drawn, and the labels and titles that lie on each other.
DRAWN = """() => [...document.querySelectorAll('[role=tabpanel].open .plot')].map(plot => {
    const svg = plot.querySelector('.main-svg');
    if (!svg) return {drawn: 0, texts: 0, outside: ['nothing drawn'], touching: [], names: [], label: ''};
    const frame = svg.getBoundingClientRect();
    const texts = [...plot.querySelectorAll('.main-svg text')].map(t => [t.textContent, t.getBoundingClientRect()])
        .filter(([, box]) => box.width > 0);
    const outside = texts.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([text]) => text);
    const names = ['x', 'y'].map(side => [side, plot.layout[side + 'axis'].ticktext])
        .filter(([, wanted]) => wanted).map(([side, wanted]) => [wanted.length,
            [...plot.querySelectorAll(`.${side}tick text`)].filter(t => t.getBoundingClientRect().width > 0).length]);
    const level = [...plot.querySelectorAll('.xtick text, .ytick text, .cbaxis text, .xtitle')]
        .filter(t => !/rotate\\(-45/.test(t.getAttribute('transform')))
        .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
    const touching = level.flatMap(([text, a], place) => level.slice(place + 1).filter(([, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2).map(([other]) => [text, other]));
    const drawn = plot.querySelectorAll('.trace, .hm image, .bars path, .scatterlayer path').length;
    const label = plot.getAttribute('aria-label');
    return {drawn, texts: texts.length, outside, touching, names, label, width: frame.width};
})"""
CONTRAST = """names => {
    const light = text => {
        const parts = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const colour = element => getComputedStyle(element)[element.closest('svg') ? 'fill' : 'color'];
    return names.map(name => light(colour(document.querySelector(name))))
        .map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
}"""


def write_page(directory: Path) -> Path:
    """The page with its images, and no other files, which take long."""
    summary = summarise(directory)
    images = draw(lambda canvas: pictures(summary, directory, canvas), directory)
    target = directory / "report.html"
    write_atomically(target, page(summary, directory, images))
    return target


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(
        methods=("ls", "famo", "go4align:groups=5", "nashmtl+grouped:groups=2"), seeds=2, epochs=4, steps=40
    )
    directory = write_run_directory(tmp_path_factory.mktemp("run"), shape)
    write_pictures(directory)
    return write_page(directory)


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


@dataclasses.dataclass
class Opened:
    """A page, what it complained about and what it asked for."""

    page: Any
    complaints: list[str] = dataclasses.field(default_factory=list)
    requests: list[str] = dataclasses.field(default_factory=list)

    def show(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()


def open_page(browser: Any, report: Path, width: int = 1280, scheme: str = "light") -> Opened:
    """A page in a context of its own, in which no host can be reached."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = Opened(context.new_page())
    context.route(re.compile("^(?!file:|data:|blob:)"), lambda route: route.abort())
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    found.page.goto(report.as_uri())
    return found


@pytest.fixture(scope="module")
def desk(browser: Any, report: Path) -> Iterator[Opened]:
    """The report on a wide screen, for tests that leave it as they found it."""
    found = open_page(browser, report)
    yield found
    assert found.complaints == []
    found.page.context.close()


@pytest.fixture(scope="module")
def long_names(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A page of eleven methods, some at matched compute, and of tasks whose names take a third of a phone."""
    methods = ("ls", "pcgrad", "famo", "go4align", "si", "uw", "gls", "rlw", "modo", *STRENGTH)
    tasks = tuple(
        Task(name, (Metric(f"{name} accuracy", True, "%"),)) for name in ("mnist", "optdigits", "pendigits")
    )
    shape = Shape(methods=methods, seeds=2, epochs=3, steps=30, problem="digits")
    directory = write_run_directory(tmp_path_factory.mktemp("long"), shape, tasks)
    change_tests(directory, lambda record, _, value: value * STRENGTH.get(record.method, 1.0))
    count_passes(directory, {"pcgrad": (1, 3), "modo": (2, 6)})
    found = open_page(browser, write_page(directory), scheme="dark")
    yield found
    assert found.complaints == []
    found.page.context.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    pages = []

    def new_page(report: Path, width: int = 1280, scheme: str = "light") -> Opened:
        pages.append(open_page(browser, report, width, scheme))
        return pages[-1]

    yield new_page
    for found in pages:
        found.page.context.close()


def check_plots(page: Any) -> int:
    """Everything in the open tab is drawn and nothing is cut off; how many plots there are."""
    found = page.evaluate(DRAWN)
    for plot in found:
        assert plot["drawn"] > 0, plot
        assert plot["texts"] > 3, plot
        assert plot["outside"] == [], plot
        assert plot["touching"] == [], plot
        assert [shown for _, shown in plot["names"]] == [wanted for wanted, _ in plot["names"]], plot
        assert len(plot["label"]) > 40, plot
        assert plot["width"] > 200, plot
    return len(found)


def test_every_tab_is_reached_by_keyboard_and_shows_its_figures(desk: Opened, report: Path) -> None:
    found, page = desk, desk.page
    page.keyboard.press("Tab")  # the button of the theme
    page.keyboard.press("Tab")
    plots = 0
    for place, (title, figures) in enumerate(TABS.items()):
        assert page.evaluate("document.activeElement.textContent") == title
        page.keyboard.press("Enter")
        focused = page.get_by_role("tab", name=title, exact=True)
        assert focused.get_attribute("aria-selected") == "true"
        assert focused.get_attribute("tabindex") == "0"
        assert page.locator("[role=tabpanel]:visible").count() == 1
        for name in figures:
            assert page.locator(f"#figure-{name}").is_visible()
        plots += check_plots(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.keyboard.press("ArrowRight")
        assert page.locator("[role=tab][tabindex='0']").count() == 1, place
    assert page.evaluate("document.activeElement.textContent") == "Verdict"  # round
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "Provenance"
    assert plots == page.locator(".plot").count() > 20
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]


def test_every_figure_has_its_numbers_in_words(desk: Opened) -> None:
    desk.show("Verdict")
    page = desk.page
    for figure in page.locator("figure[data-chart]").all():
        assert len(figure.locator("figcaption").text_content()) > 40
        assert figure.locator("details table tbody tr").count() > 0
    summary = page.locator("#figure-scores summary")
    summary.press("Enter")
    assert page.locator("#scores-numbers").is_visible()


def test_keys_hide_a_method_and_choices_change_the_axes(desk: Opened) -> None:
    desk.show("Trade-off")
    page, marks = desk.page, "#figure-pairs .scatterlayer .trace"
    assert page.locator(marks).count() == 4
    famo = page.locator("#figure-pairs .key", has_text="famo")
    famo.press("Enter")
    assert famo.get_attribute("aria-pressed") == "false"
    assert page.locator(marks).count() == 3
    famo.press("Enter")
    assert page.locator(marks).count() == 4
    page.locator("#figure-pairs select[data-axis=x]").select_option("cv")
    assert page.locator("#figure-pairs .g-xtitle").text_content() == "cv: change (%)"


@pytest.mark.parametrize("title", ["mean rank", "p (Holm)"])
def test_a_table_is_sorted_by_keyboard(desk: Opened, title: str) -> None:
    desk.show("Verdict")
    page = desk.page
    head = page.locator("#ranking thead th", has_text=title)
    column = page.locator("#ranking thead th").all_inner_texts().index(head.inner_text())

    def values() -> list[float]:
        rows = page.locator("#ranking tbody tr").all()
        texts = [row.locator("th, td").nth(column).inner_text() for row in rows]
        return [float(found[0]) if (found := re.findall(r"[\d.]+", text)) else math.inf for text in texts]

    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    assert len(set(values())) > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_and_the_theme_turns(opened: Any, report: Path, scheme: str) -> None:
    page = opened(report, scheme=scheme).page
    names = ["#figure-scores .xtick text", "#figure-scores .g-xtitle text", "figcaption", "td.best", "#theme"]
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        contrast = page.evaluate(CONTRAST, names)
        assert min(contrast) > 4.5, contrast
        page.locator("#theme").press("Enter")
    page.get_by_role("tab", name="Cost").click()
    page.locator("#theme").press("Enter")
    page.get_by_role("tab", name="Conflict").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before  # kept from tab to tab
    assert page.evaluate(CONTRAST, ["#figure-conflict .xtick text"])[0] > 4.5


def test_on_a_phone_only_tables_and_figures_scroll_sideways(opened: Any, report: Path) -> None:
    width = 390
    found = opened(report, width)
    for tab in TABS:
        found.show(tab)
        check_plots(found.page)
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width, tab
        assert found.page.evaluate(
            "[...document.querySelectorAll('[role=tabpanel].open .plot')].every(p => p.clientWidth >= 300)"
        ), tab
    assert found.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert found.complaints == []


@pytest.mark.parametrize("width", [390, 1280])
def test_an_address_opens_a_tab_and_its_first_line_is_not_under_the_bar(
    opened: Any, report: Path, width: int
) -> None:
    page = opened(report, width).page
    page.goto("about:blank")  # else it is the same page, which is not loaded again
    page.goto(f"{report.as_uri()}#weights")
    page.locator("#weights.open").wait_for()
    assert page.evaluate("scrollY") > 0
    top, bottom = page.evaluate(
        "['#weights', 'nav'].map(name => document.querySelector(name).getBoundingClientRect())"
        ".map((box, place) => place ? box.bottom : box.top)"
    )
    assert top >= bottom - 1


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_are_all_drawn_and_lie_on_nothing(long_names: Opened, width: int) -> None:
    found = long_names
    found.page.set_viewport_size({"width": width, "height": 900})
    for tab in found.page.locator("[role=tab]").all_inner_texts():
        found.show(tab)
        check_plots(found.page)
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width, tab
    found.show("Per task")
    assert found.page.locator("#figure-changes .xtick text:visible").count() == 11
    found.show("Verdict")
    cells = (
        "[...document.querySelectorAll('#ranking tbody th')].filter(c => c.scrollWidth > c.clientWidth + 1)"
    )
    assert found.page.evaluate(f"{cells}.map(c => c.textContent)") == []
    assert found.complaints == []


def test_paper_has_the_settings_and_cuts_nothing(long_names: Opened) -> None:
    page = long_names.page
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    assert 8 < pages < 24
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    settings = page.locator("#settings pre")
    assert settings.is_visible()
    assert '"molecules": 4000' in settings.inner_text()
    assert page.locator("summary", has_text="All").is_hidden()  # a closed part leaves no line on paper
    whole = page.evaluate("""() => [...document.querySelectorAll('.plot, figure, tr')].filter(part =>
        getComputedStyle(part).breakInside !== 'avoid').map(part => part.outerHTML.slice(0, 80))""")
    assert whole == []
    sizes = page.evaluate("""() => [...document.querySelectorAll('figure, table, .main-svg')]
        .filter(part => !part.matches('figure:has(.several)'))
        .map(part => part.getBoundingClientRect()).map(box => [box.right, box.height])""")
    assert max(right for right, _ in sizes) <= A4[0] + 2
    assert max(height for _, height in sizes) <= A4[1]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert settings.is_hidden()


def test_paper_gets_all_tabs_with_their_figures_in_light_colours(opened: Any, report: Path) -> None:
    found = opened(report, scheme="dark")
    paper = found.page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= len(TABS)
    plots = found.page.locator(".plot")
    assert plots.count() == found.page.locator(".plot:has(.main-svg)").count()
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert found.page.locator("[role=tabpanel]:visible").count() == len(TABS)
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    widths = found.page.evaluate(
        "[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)"
    )
    assert 0 < max(widths) <= 720
    found.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert found.page.locator("[role=tabpanel]:visible").count() == 1
    assert found.complaints == []


def test_many_tasks_are_drawn_and_have_a_short_table(opened: Any, tmp_path: Path) -> None:
    shape = Shape(methods=("ls", "famo", "go4align:groups=5"), seeds=2, epochs=4, steps=20, problem="table")
    found = opened(write_page(write_run_directory(tmp_path, shape, assays(60))))
    page = found.page
    assert page.locator("#metrics tbody tr").count() == 4
    assert page.locator("a[href='metrics.csv']").count() == 1
    for tab in ("Per task", "Weights and groups", "Convergence"):
        found.show(tab)
        assert check_plots(page) > 1
        assert (
            page.evaluate("Math.max(...[...document.querySelectorAll('.plot')].map(p => p.clientHeight))")
            < 1500
        )
    assert found.complaints == []


def test_names_are_words_and_do_nothing(opened: Any, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    tasks = (
        Task(evil, (Metric(evil, False, "<b>"),)),
        Task("<a href='https://example.org'>go</a>", (Metric("%{x}", True, ""),)),
        Task("@ink", (Metric("@ink", True, ""),)),
    )
    shape = Shape(methods=("ls", "famo"), seeds=2, epochs=2, steps=4, problem="toy")
    found = opened(write_page(write_run_directory(tmp_path, shape, tasks)))
    for tab in found.page.locator("[role=tab]").all_inner_texts():
        found.show(tab)
    found.show("Per task")
    texts = found.page.locator("#figure-forest .ytick text").all_text_contents()
    assert evil in texts
    assert found.page.locator("a[href*='example.org'], img").count() == 0
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_every_tile_is_an_image(desk: Opened) -> None:
    desk.show("Pictures")
    for name in TABS["Pictures"]:
        count = desk.page.evaluate(
            """async name => {
                const found = [...document.querySelectorAll(`#figure-${name} svg image`)];
                await Promise.all(found.map(image => image.decode ? image.decode() : null));
                return found.filter(image => image.getBoundingClientRect().width > 40).length;
            }""",
            name,
        )
        bars = 1 if name == "pictures_2" else 0  # the colours of its scale
        assert count == 3 * (2 + 4) + bars
