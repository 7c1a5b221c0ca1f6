"""Where rows go: a csv file, TensorBoard, Weights & Biases. The only place that imports the last two."""

from __future__ import annotations

import csv
import io
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float | int | None]

_KINDS = ("loss", "weight", "grad_norm", "update_cosine", "cosine")


class Writer(Protocol):
    """What `Monitor` asks of a writer; a class of one's own with these three methods will do."""

    def open(self, columns: Sequence[str], step: int) -> None:
        """Begin, at the step that the run has reached; what raises here reaches the user."""

    def write(self, row: Row) -> None:
        """Write a value or None for each column; if it raises, the writer is closed and dropped."""

    def close(self) -> None:
        """Let go of files."""


class CSVWriter:
    """Appends rows to a csv file; what the file already holds stays.

    The file is opened for each row, so that a killed run loses no row that was written. When a run goes on, a last
    line that was not written to its end is cut off.

    Args:
        path: the file; its folder is created.

    Raises:
        ValueError: from `open`, if the file has other columns, or rows although the run begins at step 0.
        OSError: from `open` and `write`, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns: list[str] = []

    def __repr__(self) -> str:
        return f"CSVWriter({str(self.path)!r})"

    def open(self, columns: Sequence[str], step: int) -> None:
        """Look at what is there, and whether it may be written."""
        self._columns = list(columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab"):
            pass
        if self.path.is_file():
            self._go_on(step)

    def write(self, row: Row) -> None:
        """Append a row, after the header in an empty file."""
        line = _line([_number(row[column]) for column in self._columns])
        with open(self.path, "ab") as file:
            file.write(line if file.tell() else _line(self._columns) + line)

    def close(self) -> None:
        """Nothing is left open."""

    def _go_on(self, step: int) -> None:
        header = _line(self._columns)
        with open(self.path, "r+b") as file:
            found = file.read(len(header))
            if not header.startswith(found):
                raise ValueError(
                    f"{self.path} should begin with the columns of this monitor. Found "
                    f"{found.splitlines()[0].decode(errors='replace')[:80]!r}: choose another path, or move the "
                    "file away."
                )
            end = 0
            if found == header:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    end = text.rfind(b"\n") + 1
            if end > len(header) and step == 0:
                raise ValueError(
                    f"{self.path} should be a new file where a run begins. Found rows: choose another path, or "
                    "give `step` to go on with them."
                )
            file.truncate(end)


class TensorBoardWriter:
    """Writes scalars for TensorBoard, with tags such as "loss/TASK"; empty values are left out.

    Args:
        folder: of the event files; what came after the step that the run has reached is hidden by TensorBoard.

    Raises:
        ImportError: from `open`, without tensorboard.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._board: SummaryWriter | None = None

    def __repr__(self) -> str:
        return f"TensorBoardWriter({str(self.folder)!r})"

    def open(self, columns: Sequence[str], step: int) -> None:
        """Begin a file of events."""
        self._board = open_board(self.folder, "TensorBoard logs", purge_step=step + 1 if step else None)

    def write(self, row: Row) -> None:
        """Write the scalars of a row."""
        assert self._board is not None
        for name, value in _tagged(row).items():
            self._board.add_scalar(name, value, row["step"])
        self._board.flush()

    def close(self) -> None:
        """Close the file."""
        if self._board is not None:
            self._board.close()


class WandbWriter:
    """Logs to a run of Weights & Biases, with names such as "loss/TASK"; empty values are left out.

    Args:
        mode: "offline" writes to a folder, sends nothing, and turns W&B's error reports off too.
        options: for `wandb.init`, for example project, name, dir, or id and resume to go on with a run.

    Raises:
        ImportError: from `open`, without wandb.
    """

    def __init__(self, *, mode: str = "offline", **options: Any) -> None:
        self._options = {"mode": mode, **options}
        self._run: Any = None

    def __repr__(self) -> str:
        options = self._options if self._run is None else {**self._options, "dir": self._run.dir}
        return f"WandbWriter({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def open(self, columns: Sequence[str], step: int) -> None:
        """Begin the run."""
        if self._options["mode"] == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported
        try:
            import wandb
        except ImportError as error:
            raise ImportError('W&B logs need wandb: pip install "equipoise[wandb]".') from error
        self._run = wandb.init(**self._options)

    def write(self, row: Row) -> None:
        """Log the values of a row."""
        self._run.log(_tagged(row), step=row["step"])

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()


def open_board(
    folder: str | os.PathLike[str], needed_by: str, *, purge_step: int | None = None
) -> SummaryWriter:
    """A TensorBoard writer for a folder; from `purge_step` on, what older files there hold is hidden.

    Raises:
        ImportError: without tensorboard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(f'{needed_by} need tensorboard: pip install "equipoise[cli]".') from error
    return SummaryWriter(str(folder), purge_step=purge_step)


def _tagged(row: Row) -> dict[str, float | int]:
    """What a row holds, under names that boards sort into groups."""
    return {_tag(name): value for name, value in row.items() if value is not None and name != "step"}


def _tag(column: str) -> str:
    for kind in _KINDS:
        if column.startswith(f"{kind}_"):
            return f"{kind}/{column[len(kind) + 1 :]}"
    return column


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _number(value: float | int | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.8g}"
