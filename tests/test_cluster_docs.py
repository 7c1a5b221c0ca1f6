"""docs/clusters.md: its script and manifest can be read, and its commands have only options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS

PAGE = (Path(__file__).parents[1] / "docs" / "clusters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def commands() -> list[list[str]]:
    """Every `equipoise search` and `equipoise bench` of the page, wherever it stands."""
    (manifest,) = blocks("yaml")
    job = list(yaml.safe_load_all(manifest))[1]
    lines = [line for block in blocks("console") for line in block.splitlines()]
    (script,) = blocks("bash")
    found = re.search(r"^equipoise search .*?&$", script.replace("\\\n", " "), re.M)
    assert found is not None
    return [shlex.split(text) for text in [*lines, job["spec"]["entrypoint"], found[0].rstrip("&")]]


def test_the_script_can_be_read_by_bash() -> None:
    (script,) = blocks("bash")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.startswith("#!/bin/bash\n#SBATCH ")


def test_the_manifest_describes_a_job_whose_nodes_run_the_same() -> None:
    (manifest,) = blocks("yaml")
    claim, job = yaml.safe_load_all(manifest)
    assert (claim["kind"], job["kind"], job["apiVersion"]) == ("PersistentVolumeClaim", "RayJob", "ray.io/v1")
    cluster: Any = job["spec"]["rayClusterSpec"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (worker,) = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert head["image"] == worker["image"] and head["envFrom"] == worker["envFrom"]
    assert (
        head["volumeMounts"][0]["name"] == cluster["headGroupSpec"]["template"]["spec"]["volumes"][0]["name"]
    )
    pinned = (Path(__file__).parents[1] / "constraints.txt").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in pinned
    assert f"rayproject/ray:{cluster['rayVersion']}-" in PAGE


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[:3]))
def test_the_commands_have_options_that_exist(words: list[str]) -> None:
    assert words[0] == "equipoise" and words[2] in PROBLEMS
    command = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    command.make_context(words[1], words[2:])  # values of the right kind
