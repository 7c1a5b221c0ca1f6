"""The figure of how near estimated updates were to the exact ones."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from equipoise.report.build import write_report
from equipoise.report.plots_fidelity import measured
from report.run_directory import Shape, many_tasks, write_run_directory

SMALL = Shape(methods=("ls", "mgda"), seeds=2, epochs=3, steps=6, problem="toy")


def measure(directory: Path, values: dict[int, float]) -> None:
    """Put fidelities into the logs of mgda's runs, and the memory mode into the plan."""
    plan = json.loads((directory / "plan.json").read_text())
    plan["config"]["train"] = {"memory": "features"}
    (directory / "plan.json").write_text(json.dumps(plan))
    for path in (directory / "runs").glob("mgda*/steps.csv"):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        # Only some steps have measured it; a cell of the others is empty.
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "fidelity"], restval="")
            writer.writeheader()
            writer.writerows(
                row | ({"fidelity": str(values[k])} if k in values else {})
                for k, row in enumerate(rows, start=1)
            )


def test_the_report_shows_mean_and_lowest_fidelity(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    measure(tmp_path, {1: 0.9, 4: 0.4})
    html = write_report(tmp_path).read_text()
    assert 'id="figure-fidelity"' in html
    assert "memory=features" in html
    row = re.search(r'<th scope="row">mgda</th>(.*?)</tr>', html.split('id="figure-fidelity"')[1])
    assert row is not None and re.findall(r"<td[^>]*>([^<]*)</td>", row[1]) == ["0.650", "0.400", "0.900"]
    assert (tmp_path / "figures" / "fidelity.png").exists()


def test_without_a_measurement_there_is_no_figure(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    assert 'id="figure-fidelity"' not in write_report(tmp_path).read_text()
    assert measured(tmp_path, "nobody") == {}
