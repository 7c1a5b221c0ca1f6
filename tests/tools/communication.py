"""Counts what two ranks exchange for each method, and prints the table of docs/distributed.md.

python tests/tools/communication.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import equipoise as eq
import ranks
from communication_cases import on_rank, row


def main() -> None:
    """Print the table."""
    specs = sorted(eq.METHODS)
    with tempfile.TemporaryDirectory() as where:
        found = ranks.run(on_rank, 2, Path(where), specs)[0]
    print("| method | numbers | collectives | hidden | DDP's own | with `counts` | first step | FSDP2 |")
    print("|---|---|---|---|---|---|---|---|")
    for spec in specs:
        print(row(spec, found[spec]))


if __name__ == "__main__":
    main()
