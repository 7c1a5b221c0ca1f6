"""Problems of the user's own, by module and class."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import toy
from equipoise.problems.registry import PROBLEMS, problem_class


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in list(PROBLEMS):
        monkeypatch.setitem(PROBLEMS, name, PROBLEMS[name])  # what is added in between goes again
    monkeypatch.setattr("equipoise.problems.registry.PROBLEMS", dict(PROBLEMS))
    monkeypatch.chdir(tmp_path)


def test_a_class_is_found_by_its_place_and_then_by_its_name() -> None:
    assert problem_class("toy:Toy") is toy.Toy
    assert problem_class("toy") is toy.Toy
    assert problem_class("toy:Toy") is toy.Toy


def test_modules_of_the_current_directory_are_found_after_all_others(tmp_path: Path) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "waves.py").write_text(
        "from toy import Toy\nclass Waves(Toy):\n    name = 'waves'\n"
    )
    (tmp_path / "toy.py").write_text("raise RuntimeError('another toy')")
    assert problem_class("my_lab.waves:Waves").name == "waves"
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nowhere:Toy",
            r"'nowhere:Toy' should name a module that is installed or lies in .*no module nowhere\.",
        ),
        ("toy.there:Toy", r"Found no module toy\.there\."),
        ("toy:Toi", r"'toy:Toi' should name a class of toy\. Found no class Toi there\."),
        ("toy:square", r"Found no class square there\."),
        (
            "toy:ToyBatches",
            r"'toy:ToyBatches' should have all that a problem has .*Found no name, tasks, reference, ",
        ),
        (":Toy", r"should look like tones:Tones, module:Class\. Found ':Toy'\."),
        ("toy:", r"should look like tones:Tones, module:Class\. Found 'toy:'\."),
        ("data/toy.py:Toy", r"should look like tones:Tones, module:Class\. Found 'data/toy\.py:Toy'\."),
    ],
)
def test_what_is_wrong_is_named(place: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem_class(place)


def test_what_a_module_itself_lacks_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "halfway.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        problem_class("halfway:Any")


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken.py").write_text("from toy import Toy\nclass Taken(Toy):\n    name = 'qm9'\n")
    with pytest.raises(
        ValueError, match=r"should be one that no other problem has. Found 'qm9', which is equip"
    ):
        problem_class("taken:Taken")
