"""How a search or a study shows where it is: lines in a log, bars in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from equipoise.task_show import TaskShow
from equipoise.training.outcome import Progress


def test_a_log_has_a_line_for_each_task_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("equipoise.task_show.time.monotonic", lambda: now[0])
    text = io.StringIO()
    show = TaskShow(Console(file=text, width=40), None)
    show.stage("members", total=4, done=1)
    show.progress("a", Progress(1, 2, 3, 6, None))  # a log should not grow with every step
    now[0] += 30
    show.finished("a", "a: [score] 1.0")
    now[0] += 30
    show.finished("b", "b: score 2.0")
    show.finished("c", "c: score 3.0")
    show.finished("d", "d: more than there were to be")
    assert text.getvalue().splitlines() == [
        "members: 4. Done before: 1.",
        "[2/4] a: [score] 1.0, about 1 min left",
        "[3/4] b: score 2.0, about 30 s left",
        "[4/4] c: score 3.0",
        "[5/5] d: more than there were to be",
    ]


def test_a_terminal_has_a_bar_for_the_stage_and_for_each_task_under_way() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    with Bars(TextColumn("{task.description} {task.fields[state]}"), console=console) as bars:
        show = TaskShow(console, bars)
        show.stage("cells", total=3, done=1)
        for label in ("a", "b", "a"):
            show.progress(label, Progress(1, 2, 3, 6, None))
        assert [task.description for task in bars.tasks] == ["cells", "  a", "  b"]
        assert [task.completed for task in bars.tasks] == [1, 3, 3]
        show.finished("a", "a is done")
        assert [(task.description, task.completed) for task in bars.tasks] == [("cells", 2), ("  b", 3)]
        show.finished("c", "c never told how far it was")
        show.stage("trained anew", total=2, done=0)
        assert [task.description for task in bars.tasks] == ["  b", "trained anew"]
    assert "a is done" in text.getvalue() and "left" not in text.getvalue()
