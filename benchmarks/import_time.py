"""How much longer `import equipoise` takes than `import torch`, each in a new process, in turns.

    python benchmarks/import_time.py [--turns 11]

Wall time is what a user waits for; processor time (user and system, of the child) hardly depends on what else the
machine does. The goal is a ratio of the medians of at most 1.15.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

GOAL = 1.15
MODULES = ("torch", "equipoise")


def seconds(module: str) -> tuple[float, float]:
    """Wall and processor seconds of a process that imports a module."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", f"import {module}"])
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"`import {module}` should work. Found exit code {child.returncode}.")
    return wall, used.ru_utime + used.ru_stime


def main() -> int:
    """Print the table; exit 1 if the processor time misses the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=11)
    turns = parser.parse_args().turns
    found: dict[str, list[tuple[float, float]]] = {module: [] for module in MODULES}
    for module in MODULES:
        seconds(module)  # files into the page cache, bytecode written
    for _ in range(turns):
        for module in MODULES:
            found[module].append(seconds(module))
    print("| import | wall, s (best) | processor, s (best) |")
    print("|---|---|---|")
    for module, times in found.items():
        cells = [f"{median(column):.2f} ({min(column):.2f})" for column in zip(*times, strict=True)]
        print(f"| {module} | {' | '.join(cells)} |")
    columns = [list(zip(*found[module], strict=True)) for module in MODULES]
    wall, processor = (median(columns[1][k]) / median(columns[0][k]) for k in (0, 1))
    print(f"\nratio of the medians of {turns} turns: wall {wall:.3f}, processor {processor:.3f}; goal {GOAL}")
    return int(processor > GOAL)


if __name__ == "__main__":
    sys.exit(main())
