"""The command line. Imports stand inside the commands, so that `equipoise --help` answers at once."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ImportError:
    sys.exit('The command line needs typer and others: pip install "equipoise[cli]"')

_USAGE_ERRORS = {"PlanError", "RunDirectoryError"}
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


Problem = Annotated[str, typer.Argument(help="What to train on; `equipoise data` lists the problems.")]
Preset = Annotated[str, typer.Option(help="The budget, such as smoke, quick, small or paper.")]
Methods = Annotated[
    str, typer.Option(help="Separated by commas, e.g. ls,go4align:groups=5,nashmtl+every:steps=10.")
]
Lrs = Annotated[str, typer.Option(help="Candidates, e.g. 1e-3,5e-4: chosen per method on the first seed.")]
Out = Annotated[Path | None, typer.Option(help="The run directory. [default: runs/PROBLEM-PRESET]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in a run directory that was begun.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="With --resume: run failed runs again.")]
Baselines = Annotated[str, typer.Option(help="own, published or none. [default: the preset's]")]
Jobs = Annotated[
    int | None, typer.Option(help="Runs at a time. [default: one per core, at most 8; 1 on a GPU]")
]
Molecules = Annotated[int | None, typer.Option(help="How many molecules to sample (qm9, chemicals).")]
Data = Annotated[Path | None, typer.Option(help="The folder of the data; see `equipoise data NAME`.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out and count what cannot be read.")]
Csv = Annotated[Path | None, typer.Option(help="Your own table (table): csv, csv.gz or tsv.")]
Smiles = Annotated[str | None, typer.Option(help="Its column of molecules; the numbers are targets.")]
Features = Annotated[str | None, typer.Option(help="Its columns to predict from, separated by commas.")]
Targets = Annotated[str | None, typer.Option(help="Its columns to predict, separated by commas.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of each run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of problem or training. Repeatable."),
]
Device = Annotated[str, typer.Option(help="cpu or cuda. [default: cuda if there is one]")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Directory = Annotated[Path, typer.Argument(help="A run directory, complete or not.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Keeps the losses of one network in balance: train, compare and report."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("equipoise"))
        raise typer.Exit


@app.command(
    epilog="Examples:\n\nequipoise bench qm9 --preset quick\n\n"
    "equipoise bench qm9 --preset paper --methods ls,famo,go4align,nashmtl --seeds 3 --out runs/paper\n\n"
    "equipoise bench qm9 --preset small --molecules 20000 --set width=16 --plan\n\n"
    "equipoise bench nyuv2 --data ~/nyuv2 --preset clean\n\n"
    "equipoise bench table --csv tox21.csv.gz --smiles smiles\n\n"
    "equipoise bench table --csv houses.csv --features rooms,year,city --targets price,rent\n\n"
    "The score shown on the way is delta_m of the validation metrics against fixed reference values (for qm9 the "
    "published single-task errors), in percent; lower is better. It selects the epoch and the learning rate."
)
def bench(
    problem: Problem,
    preset: Preset = "quick",
    methods: Methods = "",
    seeds: Annotated[int | None, typer.Option(help="How many seeds.")] = None,
    lr: Lrs = "",
    out: Out = None,
    resume: Resume = False,
    retry_failed: Retry = False,
    data: Data = None,
    csv: Csv = None,
    smiles: Smiles = None,
    features: Features = None,
    targets: Targets = None,
    skip_bad: SkipBad = False,
    molecules: Molecules = None,
    epochs: Epochs = None,
    settings: Settings = None,
    baselines: Baselines = "",
    jobs: Jobs = None,
    device: Device = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run, and end.")] = False,
    debug: Debug = False,
) -> None:
    """Compare methods on a problem, with single-task baselines, over seeds; then write the report."""
    with errors_said(debug):
        from equipoise import actions

        own = actions.own_data(data, csv, smiles, features, targets, skip_bad=skip_bad)
        changes = actions.settings(settings, **own, molecules=molecules, epochs=epochs)
        overrides = actions.overrides(methods, seeds, lr, baselines, changes)
        made = actions.make_plan(problem, preset, overrides, device, command=_command())
        where = out or Path("runs") / f"{problem}-{preset}"
        if plan:
            actions.print_plan(made, where)
            return
        records = actions.run(made, where, resume=resume, retry=retry_failed, jobs=jobs)
        actions.print_report(where)
        _end(actions.failures(records))


@app.command(
    epilog="Examples:\n\nequipoise train qm9 --method go4align --preset quick\n\n"
    "equipoise train qm9 --method stl:task=mu --lr 5e-4 --seed 1 --out runs/mu"
)
def train(
    problem: Problem,
    method: Annotated[str, typer.Option(help="One method; `equipoise methods` lists them.")],
    preset: Preset = "quick",
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: the preset's first]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of split, parameters and order of the data.")] = 0,
    out: Out = None,
    resume: Resume = False,
    data: Data = None,
    csv: Csv = None,
    smiles: Smiles = None,
    features: Features = None,
    targets: Targets = None,
    skip_bad: SkipBad = False,
    molecules: Molecules = None,
    epochs: Epochs = None,
    settings: Settings = None,
    device: Device = "",
    debug: Debug = False,
) -> None:
    """Train one model by one method and print its metrics."""
    with errors_said(debug):
        from equipoise import actions

        own = actions.own_data(data, csv, smiles, features, targets, skip_bad=skip_bad)
        changes = actions.settings(settings, **own, molecules=molecules, epochs=epochs)
        changed = actions.one_run(method, seed, lr, changes)
        made = actions.make_plan(problem, preset, changed, device, command=_command(), one_lr=True)
        where = out or Path("runs") / f"{problem}-{preset}-{actions.first_run_id(made)}"
        records = actions.run(made, where, resume=resume)
        actions.print_run(made, records, where)
        _end(actions.failures(records))


@app.command(epilog="Example:\n\nequipoise report runs/qm9-quick")
def report(
    directory: Directory,
    baselines: Annotated[
        str | None, typer.Option(help="own, published or none, instead of the plan's.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the tables of a run directory and write its report."""
    with errors_said(debug):
        from equipoise import actions

        actions.print_report(directory, baselines)


@app.command(
    epilog="Examples:\n\nequipoise methods\n\nequipoise methods go4align\n\nequipoise methods --json\n\n"
    "equipoise methods --choose --tasks 11 --prefer balance --roomy"
)
def methods(
    name: Annotated[str | None, typer.Argument(help="One method or wrapper, to read all about it.")] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    choose: Annotated[bool, typer.Option("--choose", help="Recommend some; asks what is not given.")] = False,
    tasks: Annotated[int | None, typer.Option(help="With --choose: the number of tasks.")] = None,
    roomy: Annotated[
        bool | None, typer.Option(help="With --choose: room and time for a gradient per task, or not.")
    ] = None,
    missing: Annotated[
        bool | None, typer.Option("--missing-labels/--all-labels", help="With --choose: batches lack labels.")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="With --choose: cost, balance, no-conflict or reference.")
    ] = None,
    debug: Debug = False,
) -> None:
    """List the balancing methods and wrappers, or describe one."""
    with errors_said(debug):
        from equipoise import actions

        if choose:
            from equipoise.advice import NO_ANSWER, asked

            try:
                wants = asked(tasks, roomy, missing, prefer, prompt=typer.prompt, confirm=typer.confirm)
            except typer.Abort:
                raise ValueError(NO_ANSWER) from None
            actions.print_advice(*wants)
            return
        form = "json" if as_json else "markdown" if markdown else "text"
        actions.print_methods(name, form)


@app.command(
    name="data",
    epilog="Examples:\n\nequipoise data\n\nequipoise data qm9 --json\n\nequipoise data earth --install\n\n"
    "equipoise data nyuv2 --data ~/nyuv2",
)
def show_data(
    problem: Annotated[str | None, typer.Argument(help="One problem; all of them if left out.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--data", help="A folder to look through: counts, shapes, ranges, what is missing."),
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Install the packages that hold the data, without their dependencies."
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what data is installed, where it is, and how to get the rest."""
    with errors_said(debug):
        from equipoise import actions

        if install:
            typer.echo(actions.install_data(problem), err=True)
        found = actions.data(problem) if folder is None else actions.check_data(problem, folder)
        if as_json:
            typer.echo(json.dumps(found, indent=1))
        else:
            actions.print_data(found)
        if folder is not None and not all(facts["available"] for facts in found.values()):
            raise typer.Exit(1)


def main() -> None:
    """The entry point of the `equipoise` command."""
    app()


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
                typer.echo(f"Go on with: {_command(resume=True)}", err=True)
            raise typer.Exit(2 if names & _USAGE_ERRORS else 1) from None


def _say_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    del args, kwargs  # where in the code it was raised tells a user nothing
    typer.echo(f"Warning: {message}", err=True)


def _command(resume: bool = False) -> str:
    """This command line, as it can be typed again."""
    arguments = sys.argv[1:]
    if resume and "--resume" not in arguments:
        arguments = [*arguments, "--resume"]
    return shlex.join(["equipoise", *arguments])


def _end(failures: list[str]) -> None:
    if failures:
        typer.echo("\n".join(["Failed:", *failures]), err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
