"""The command `equipoise published`: what the papers print, what follows from it, and our runs beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from equipoise.command import Debug, app, errors_said, typer

if TYPE_CHECKING:
    from equipoise.report.published_other import Section


@app.command(
    epilog="Examples:\n\nequipoise published\n\nequipoise published qm9 --run runs/qm9\n\n"
    "equipoise published --markdown --run docs/results/records/qm9 > docs/published.md"
)
def published(
    benchmark: Annotated[
        str | None,
        typer.Argument(help="nyuv2, qm9, cityscapes or celeba; all, and the other tables, if left out."),
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A run directory to set beside. Repeatable.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    debug: Debug = False,
) -> None:
    """Print the published tables: as printed, recomputed, corrected, and beside runs of your own."""
    with errors_said(debug):
        from equipoise.benchmark.statistics import summarise
        from equipoise.report.published_page import ABOUT, page, sections
        from equipoise.terminal import say

        runs = [summarise(directory) for directory in run or ()]
        if markdown:
            typer.echo(page(benchmark, runs), nl=False)
            return
        say(ABOUT)
        for section in sections(benchmark, runs):
            _show(section)


def _show(section: Section) -> None:
    from equipoise.terminal import print_wide, say

    for line in (f"\n{section.title}", *section.text):
        say(line)
    for table in section.tables:
        say(table.title)
        print_wide(table.header, [[cell.marked for cell in row] for row in table.rows])
        for note in table.notes:
            say(note)
