"""What all commands share: the application, its options, and errors as sentences."""

from __future__ import annotations

import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import typer as typer  # the commands take it from here, and the message below is said once
except ImportError:
    sys.exit('The command line needs typer and others: pip install "equipoise[cli]"')

_USAGE_ERRORS = {"ClusterError", "PlanError", "RunDirectoryError", "SearchError"}
_RESUMABLE = {"InterruptedRunError", "KeyboardInterrupt", "StorageError"}

app = typer.Typer(
    name="equipoise",
    help="Keeps the losses of one network in balance: train, compare and report.",
    epilog="Begin with: equipoise bench qm9 --preset quick",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Problem = Annotated[
    str,
    typer.Argument(help="What to train on: `equipoise data` lists the problems; module:Class for your own."),
]
Preset = Annotated[str, typer.Option(help="The budget, such as smoke, quick, small or paper.")]
Methods = Annotated[
    str, typer.Option(help="Separated by commas, e.g. ls,go4align:groups=5,nashmtl+every:steps=10.")
]
Lrs = Annotated[
    str,
    typer.Option(
        help="Candidates, e.g. 1e-3,5e-4: chosen per method on the first seed. With --budget: bounds, e.g. 1e-4..1e-2."
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Settings (lr, weight decay, the method's own knobs) that every row tries out, single tasks included."
    ),
]
Match = Annotated[
    str,
    typer.Option(help="compute: a second row, trained for less, of each method that costs more than ls."),
]
Out = Annotated[Path | None, typer.Option(help="The run directory. [default: runs/PROBLEM-PRESET]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in a run directory that was begun.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="With --resume: run failed runs again.")]
Baselines = Annotated[str, typer.Option(help="own, published or none. [default: the preset's]")]
Jobs = Annotated[
    str, typer.Option(help="Runs at a time, or ray. [default: one per core, at most 8; 1 on a GPU]")
]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster, such as 10.0.0.1:6379 or auto. [default: this machine]")
]
Gpus = Annotated[float, typer.Option(help="On Ray: GPUs of a worker, 0.25 for four on one.")]
Molecules = Annotated[int | None, typer.Option(help="How many molecules to sample (qm9, chemicals).")]
Data = Annotated[Path | None, typer.Option(help="The folder of the data; see `equipoise data NAME`.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out and count what cannot be read.")]
Csv = Annotated[Path | None, typer.Option(help="Your own table (table): csv, csv.gz or tsv.")]
Smiles = Annotated[str | None, typer.Option(help="Its column of molecules; the numbers are targets.")]
Features = Annotated[str | None, typer.Option(help="Its columns to predict from, separated by commas.")]
Targets = Annotated[str | None, typer.Option(help="Its columns to predict, separated by commas.")]
Difference = Annotated[
    float | None,
    typer.Option(help="With --plan: how many seeds it takes to see so many points of delta_m to ls."),
]
Noise = Annotated[
    float | None,
    typer.Option(help="With --difference: standard deviation of the differences between seeds, in points."),
]
Like = Annotated[
    Path | None, typer.Option(metavar="RUN_DIR", help="With --difference: take the noise from these runs.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of each run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of problem or training. Repeatable."),
]
Device = Annotated[str, typer.Option(help="cpu or cuda. [default: cuda if there is one]")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Directory = Annotated[Path, typer.Argument(help="A run directory, complete or not.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def errors_said(debug: bool) -> Iterator[None]:
    """Turn errors into one message and an exit code: 2 for wrong usage, 1 for the rest."""
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            yield
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            names = {cls.__name__ for cls in type(error).__mro__}
            if debug:
                traceback.print_exc()
            typer.echo(f"Error: {error}" if str(error) else f"Error: {type(error).__name__}", err=True)
            if names & _RESUMABLE:
                typer.echo(f"Go on with: {command_line(resume=True)}", err=True)
            raise typer.Exit(2 if names & _USAGE_ERRORS else 1) from None


def _say_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    del args, kwargs  # where in the code it was raised tells a user nothing
    typer.echo(f"Warning: {message}", err=True)


def command_line(resume: bool = False) -> str:
    """This command line, as it can be typed again."""
    arguments = sys.argv[1:]
    if resume and "--resume" not in arguments:
        arguments = [*arguments, "--resume"]
    return shlex.join(["equipoise", *arguments])
