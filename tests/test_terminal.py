"""Bars and tables: what a terminal shows at each moment."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from equipoise import terminal
from equipoise.benchmark.execute import failed
from equipoise.benchmark.plan import pending
from equipoise.report.tables import Cell, Table
from equipoise.terminal import Bars, Lines, print_results, showing
from equipoise.training.outcome import Progress as Position
from shown import toy_plan

PLAN = toy_plan()
FIRST, SECOND = pending(PLAN, [])[:2]


def at(step: int, score: float | None = None) -> Position:
    return Position(1, 2, step, 10, score)


def state(bars: Progress) -> dict[str, tuple[float, float | None, str]]:
    return {t.description.strip(): (t.completed, t.total, t.fields["state"]) for t in bars.tasks}


@pytest.fixture
def bars() -> Progress:
    return Progress(console=Console(file=StringIO(), width=100))


def test_the_bar_for_all_runs_moves_with_each_of_them(bars: Progress) -> None:
    show = Bars(bars)
    show.began(4, 1)
    show.started(FIRST)
    show.started(SECOND)
    assert state(bars)[FIRST.run_id] == (0, None, "")
    show.progress(FIRST, at(5))
    show.progress(SECOND, at(2, 12.34))
    assert state(bars) == {
        "all runs": (1.7, 4, "1/4"),
        FIRST.run_id: (5, 10, "epoch 1/2  step 5/10"),
        SECOND.run_id: (2, 10, "epoch 1/2  step 2/10  score 12.3"),
    }
    show.finished(failed(PLAN, FIRST, "no"), left=2)
    assert state(bars)["all runs"] == (2.2, 4, "2/4")
    assert FIRST.run_id not in state(bars)
    printed = bars.console.file
    assert isinstance(printed, StringIO)
    assert printed.getvalue() == f"{FIRST.run_id} FAILED: no\n"


def test_a_run_that_is_tried_again_has_one_bar(bars: Progress) -> None:
    show = Bars(bars)
    show.began(4, 0)
    show.started(FIRST)
    show.progress(FIRST, at(9))
    show.started(FIRST)
    assert len(bars.tasks) == 2
    show.progress(FIRST, at(1))
    assert state(bars)["all runs"][0] == 0.1


def test_runs_that_fell_away_are_not_waited_for(bars: Progress) -> None:
    show = Bars(bars)
    show.began(6, 0)
    show.started(FIRST)
    show.finished(failed(PLAN, FIRST, "no"), left=3)
    assert state(bars)["all runs"] == (1, 4, "1/4")


def test_reading_the_data_has_a_bar_until_it_is_read(bars: Progress) -> None:
    show = Bars(bars)
    show.began(4, 0)
    show.loading(5, 10)
    assert state(bars)["reading the data"] == (5, 10, "")
    show.loading(10, 10)
    assert "reading the data" not in state(bars)


def test_a_log_gets_a_line_for_each_run_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 100.0, 300.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))  # type: ignore[attr-defined]
    out = StringIO()
    show = Lines(Console(file=out, width=40))
    show.began(4, 1)
    for done in range(0, 1001, 10):
        show.loading(done, 1000)
    show.started(FIRST)
    show.progress(FIRST, at(3))
    show.finished(failed(PLAN, FIRST, "a reason that is longer than the line is wide"), left=2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "Runs: 4. Done before: 1."
    assert lines[1:12] == [f"Reading the data: {k} of 1000." for k in range(0, 1001, 100)]
    assert lines[12] == f"{FIRST.run_id} ..."
    assert lines[13].startswith(f"[2/4] {FIRST.run_id} FAILED: a reason that is longer than the line is wide")
    assert lines[13].endswith(", about 7 min left")


def test_a_terminal_gets_bars_and_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with showing() as show:
        assert isinstance(show, Lines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with showing() as show:
        assert isinstance(show, Bars)


def tables(methods: int) -> tuple[Table, Table]:
    names = [f"method{k}" for k in range(methods)]
    cells = tuple(Cell(f"{k}.00 ± 0.01", best=k == 1) for k in range(methods))
    metrics = Table(
        "metrics", "", ("metric", "single-task", *names), ((Cell("mu ↓"), Cell("9"), *cells),), ("a",)
    )
    rows = tuple((Cell(name), Cell(f"+{k}")) for k, name in enumerate(names))
    return metrics, Table("ranking", "", ("method", "Δm % ↓"), rows, ("a", "b"))


def printed(monkeypatch: pytest.MonkeyPatch, methods: int, **console: Any) -> list[str]:
    out = StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **options: Console(file=out, **{**console, **options}))
    print_results(*tables(methods))
    return out.getvalue().splitlines()


def test_results_are_one_table_with_a_column_for_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 12)
    assert sum("metric" in line for line in lines) == 1
    (delta,) = [line for line in lines if "Δm" in line]
    assert [cell.strip() for cell in delta.strip("│").split("│")] == [
        "Δm % ↓",
        "",
        *(f"+{k}" for k in range(12)),
    ]
    assert lines[-2:] == ["a", "b"]


def test_a_narrow_terminal_gets_several_tables_and_no_cut_number(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 7, width=70, force_terminal=True, color_system=None)
    assert sum("single-task" in line for line in lines) == 3
    assert max(map(len, lines)) <= 70
    text = "\n".join(lines)
    for k in range(7):
        assert f"method{k}" in text
        assert f"{k}.00 ± 0.01" in text
        assert f"+{k} " in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (61, "2 min"), (3660, "1 h 01 min"), (7200, "2 h 00 min")]
)
def test_durations_are_rounded_up_to_minutes(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text
