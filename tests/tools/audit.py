"""Checks that what is installed is what is pinned, and asks whether the pins have known weaknesses.

    python tests/tools/audit.py [--asked]

Without a network: every installed distribution has its pin in constraints.txt (packages of data: in the source), in
that version, and everything that a package requires is there. With one: pip-audit looks the pins up. Where no service
answers, that is said, and with `--asked` it is a failure. Exit code 1 on a failure.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import equipoise.data
from equipoise.data.packages import DataPackage

ROOT = Path(__file__).parents[2]
OURS = {"equipoise", "pip"}  # pip comes with the environment
PROBE = "numpy"


def pins(text: str) -> dict[str, str]:
    """Name -> version of the lines of constraints.txt.

    Raises:
        ValueError: on a line that is no exact pin, or a second one of the same package.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, version = line.partition("==")
        key = canonicalize_name(name)
        if not equals or not version.strip() or key in found:
            raise ValueError(
                f"A line should be one exact pin, NAME==VERSION, once a package. Found {line!r}."
            )
        found[key] = version.strip()
    return found


def data_pins() -> dict[str, str]:
    """Name -> version of the packages that hold data, which the source pins with checksums."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(equipoise.data.__path__):
        for value in vars(import_module(f"equipoise.data.{module.name}")).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, DataPackage):
                    found[canonicalize_name(item.name)] = item.version
    return found


def installed() -> dict[str, str]:
    """Name -> version of every distribution that Python finds, without a local part such as +cpu."""
    return {
        canonicalize_name(found.metadata["Name"]): Version(found.version).public for found in distributions()
    }


def unpinned(there: dict[str, str], pinned: dict[str, str]) -> list[str]:
    """What is installed without a pin, or in another version than the pin's, a line each."""
    return [
        f"{name} {version} is installed, and {'the pin is ' + pinned[name] if name in pinned else 'has no pin'}."
        for name, version in sorted(there.items())
        if name not in OURS and pinned.get(name) != version
    ]


def unmet(there: dict[str, str], data: dict[str, str]) -> list[str]:
    """What a package requires and does not find, a line each; those of data are installed without what they require."""
    lines = []
    for name, requirements in _requirements().items():
        for wanted in requirements if name not in data else ():
            version = there.get(canonicalize_name(wanted.name))
            if version is None or not wanted.specifier.contains(version, prereleases=True):
                lines.append(f"{name} requires {wanted}. Found {version or 'none'}.")
    return sorted(lines)


@cache
def _requirements() -> dict[str, tuple[Requirement, ...]]:
    """What every installed distribution requires here, without its extras."""
    found = {}
    for part in distributions():
        wanted = [Requirement(text) for text in part.requires or []]
        here = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
        found[str(canonicalize_name(part.metadata["Name"]))] = tuple(here)
    return found


def looked_up(pinned: dict[str, str]) -> tuple[list[str], list[str]]:
    """(Known weaknesses, names that the service did not answer for), by pip-audit.

    One package is asked about first; if there is no answer, the others are not asked about.
    """
    weak, silent = _ask({PROBE: pinned[PROBE]})
    return (weak, sorted(pinned)) if silent else _ask(pinned)


def _ask(pinned: dict[str, str]) -> tuple[list[str], list[str]]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in pinned.items()))
        file.flush()
        options = [
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--timeout",
            "15",
            "--format",
            "json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, timeout=600
        )
    return answers(done.stdout, list(pinned))


def answers(printed: str, asked: list[str]) -> tuple[list[str], list[str]]:
    """What pip-audit's JSON says of each package; one that it leaves out or skips has no answer."""
    try:
        entries: list[dict[str, Any]] = json.loads(printed)["dependencies"]
    except (ValueError, KeyError):
        return [], sorted(asked)
    told = {canonicalize_name(entry["name"]): entry["vulns"] for entry in entries if "vulns" in entry}
    weak = [
        f"{name}: {', '.join(weakness['id'] for weakness in found)}" for name, found in told.items() if found
    ]
    return sorted(weak), sorted(set(asked) - set(told))


def main() -> int:
    """Print what was checked and what was not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--asked", action="store_true", help="fail if no service could be asked about the pins"
    )
    must_ask = parser.parse_args().asked
    pinned, data, there = pins((ROOT / "constraints.txt").read_text()), data_pins(), installed()
    wrong = unpinned(there, {**data, **pinned}) + unmet(there, data)
    print(
        "\n".join(wrong)
        or f"All {len(there)} installed distributions are pinned, and find what they require."
    )
    weak, silent = looked_up(pinned)
    print("\n".join(f"Known weakness: {line}" for line in weak), end="\n" if weak else "")
    if silent:
        print(f"NOT LOOKED UP, no vulnerability service answered: {len(silent)} of {len(pinned)} pins.")
    if len(silent) < len(pinned):
        print(f"{len(pinned) - len(silent)} pins were looked up: {len(weak)} with known weaknesses.")
    return int(bool(wrong or weak or (must_ask and silent)))


if __name__ == "__main__":
    sys.exit(main())
