"""The list of methods, its page in the docs, and advice on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import equipoise as eq
from equipoise.catalogue import catalogue, markdown, minimal_loop
from equipoise.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"


def test_the_page_of_the_docs_is_the_one_that_is_generated() -> None:
    """`equipoise methods --markdown > docs/methods.md` writes it anew."""
    assert PAGE.read_text().strip() == markdown(catalogue()).strip()


def test_heads_and_cost_are_read_off_the_classes() -> None:
    found = {entry.name: entry for entry in catalogue()}
    assert set(found) == {*eq.METHODS, *eq.WRAPPERS}
    assert (found["nashmtl"].heads, found["pcgrad"].heads, found["db_mtl"].heads) == (
        "task weights",
        "1",
        "1 / loss",
    )
    assert (found["uw"].cost, found["mgda"].cost) == ("1 backward", "m backwards")
    assert found["famo"].cost == "1 backward, and 1 forward with `after_step`"
    assert found["modo"].cost == "m backwards, twice"
    assert found["moco"].cost == "m backwards, state as large as the Jacobian"
    assert found["config_m"].cost == "m backwards, state as large as the Jacobian"
    assert found["gradvac_layers"].cost == "m backwards"


def test_a_page_has_every_entry_in_the_table_of_its_family() -> None:
    page = markdown(catalogue())
    tables = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    assert "[`famo`](#famo)" in tables["Methods that read losses only"]
    assert "[`mgda`](#mgda)" in tables["Methods that read the Gramian"]
    assert "[`graddrop`](#graddrop)" in tables["Methods that read the Jacobian"]
    assert "[`ema`](#ema)" in tables["Wrappers"]
    assert page.count("](#") == len(eq.METHODS) + len(eq.WRAPPERS)
    assert "`tolerance=1.192e-07`" in page


def test_one_entry_is_shown_with_its_defaults_and_its_loop() -> None:
    shown = CliRunner().invoke(app, ["methods", "famo"]).output
    assert shown.startswith(
        "famo (weighting; 1 backward, and 1 forward with `after_step`; heads: task weights)"
    )
    assert "Defaults: famo:lr=0.025:weight_decay=1e-05" in shown
    assert "balancer.after_step(" in shown


@pytest.mark.parametrize("name", sorted({*eq.METHODS, *eq.WRAPPERS}))
def test_the_minimal_loop_runs_as_it_is_printed(name: str) -> None:
    import torch

    entry = next(entry for entry in catalogue() if entry.name == name)
    model = torch.nn.Linear(3, 2)
    batch = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def losses_of(model: torch.nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip("ab", model(batch).square().mean(0), strict=True))

    names = {
        "eq": eq,
        "model": model,
        "losses_of": losses_of,
        "loader": [batch],
        "other_batch": batch,
        "val_batch": batch,
        "tasks": ["a", "b"],
    }
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    code = "\n".join(line.removeprefix("    ") for line in minimal_loop(entry).splitlines()[3:])
    exec(code, names)
    assert isinstance(names["record"], eq.StepRecord)


def test_advice_from_flags_and_from_answers() -> None:
    flags = ["methods", "--choose", "--tasks", "11", "--prefer", "cost", "--no-roomy", "--missing-labels"]
    given = CliRunner().invoke(app, flags)
    assert given.exit_code == 0
    assert "1. go4align:groups=5: one backward pass" in given.output
    asked = CliRunner().invoke(app, ["methods", "--choose"], input="cost\n11\nn\ny\n")
    assert asked.exit_code == 0
    assert "1. go4align:groups=5: one backward pass" in asked.output


def test_bad_questions_are_wrong_usage() -> None:
    asked = CliRunner().invoke(
        app, ["methods", "--choose", "--tasks", "1", "--prefer", "cost", "--roomy", "--all-labels"]
    )
    assert "at least 2 to be balanced. Found 1" in asked.output
    silent = CliRunner().invoke(app, ["methods", "--choose", "--tasks", "3"])
    assert "Every question should have an answer. Found none: give --tasks, --roomy" in silent.output
    assert asked.exit_code in (1, 2)
