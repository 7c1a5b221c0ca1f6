"""Runs the precision matrix and prints it as the page docs/precision.md.

python tests/tools/precision_table.py > docs/precision.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import equipoise as eq
from precision_cases import HOWS, PRECISIONS, Case, error

_HEAD = f"""# Precision, micro-batches, compiled and checkpointed networks

Made by `python tests/tools/precision_table.py` (torch {torch.__version__}); `tests/engine/test_precision.py` makes the
same runs. Each cell is the largest relative distance of a step's gradients from those of a plain engine in the same
precision (rows by autograd, put together in float64), over a plain network, a compiled one (`torch.compile`, backend
aot_eager) and one with activation checkpoints, each with one batch and with 4 micro-batches. Nothing is refused.
Reentrant checkpoints are, by an error that says what to write instead. With the inductor backend every method is
tested in float32 (`make test-slow`).

The tolerances: {", ".join(f"{name} {limit:g}" for name, limit in PRECISIONS.items())}.

| method | {" | ".join(PRECISIONS)} |
|---|{"---|" * len(PRECISIONS)}"""


def main() -> None:
    """Print the page."""
    torch.set_num_threads(1)
    compiled: dict[str, nn.Module] = {}
    print(_HEAD)
    for spec in sorted(eq.METHODS):
        cells = []
        for precision in PRECISIONS:
            cases = [Case(spec, precision, accumulate, how) for how in HOWS for accumulate in (1, 4)]
            cells.append(f"{max(error(case, compiled) for case in cases):.0e}")
        print(f"| `{spec}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
