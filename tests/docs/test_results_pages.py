"""Pages of results are those of their records, and somebody has said what they mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from equipoise.benchmark.evidence import evidence
from equipoise.benchmark.statistics import summarise
from equipoise.report.times import long_waits
from equipoise.report.verdict import verdict
from equipoise.report.wording import number

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGES = sorted(page for page in RESULTS.glob("*.md") if "<!-- said -->" in page.read_text(encoding="utf-8"))


def test_every_kept_record_has_its_page() -> None:
    kept = {path.name for path in (RESULTS / "records").glob("*")}
    assert kept == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_its_records_show(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    said = text.split("<!-- said -->")[1].split("<!-- /said -->")[0]
    assert len(said.split()) > 100 and "To be written" not in said
    summary = summarise(RESULTS / "records" / page.stem)
    assert not summary.missing
    assert all(f"`{record.git[:7]}`" in text for record in summary.records if record.git)
    told = [sentence for sentence in verdict(summary) if sentence not in long_waits(summary)]
    assert " ".join(told) in text
    for label, one in evidence(summary).methods.items():
        (row,) = re.findall(rf"^\| {re.escape(label)} \| (\S+) \[.*\] \|", text, re.MULTILINE)[:1]
        assert one.delta_m is not None and row.strip("*") == number(one.delta_m.mean, 1, sign=True)
