"""Problems are found by name, and not imported before they are wanted."""

import subprocess
import sys

import pytest

from equipoise.problems.qm9 import QM9
from equipoise.problems.registry import problem_class


def test_a_problem_is_found_by_name() -> None:
    assert problem_class("qm9") is QM9


def test_an_unknown_problem_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"should be one of .*\bqm9\b.*\. Found 'qm8'\. Did you mean 'qm9'\?"
    ):
        problem_class("qm8")


def test_the_registry_imports_no_problem() -> None:
    script = "import sys, equipoise.problems.registry; assert 'equipoise.problems.qm9' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
