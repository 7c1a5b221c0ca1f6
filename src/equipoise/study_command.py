"""The command `equipoise study`, with a command of its own for each study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from equipoise.command import (
    Address,
    Data,
    Debug,
    Device,
    Epochs,
    Gpus,
    Jobs,
    Lrs,
    Preset,
    Problem,
    Resume,
    Retry,
    Settings,
    app,
    command_line,
    errors_said,
    typer,
)
from equipoise.study.questions import QUESTIONS

study_app = typer.Typer(help="Answer a question by many runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(study_app, name="study")


@study_app.callback()
def study() -> None:
    """Answer a question by many runs."""


@study_app.command(
    epilog="Examples:\n\nequipoise study scalarization digits --preset quick --jobs 2 --out runs/study-digits\n\n"
    "equipoise study scalarization digits --depths 2,4 --widths 32,64 --grid 0.25,0.5,0.75 --pair mnist,pendigits\n\n"
    "equipoise study scalarization census --depths 1,2 --widths 32,128 --epochs 20\n\n"
    "Presets of its own: digits quick (half an hour on two cores), cifar_stl paper and domainnet paper (a cluster). "
    "Elsewhere --preset is one of the problem's, and --depths and --widths are needed."
)
def scalarization(
    problem: Problem,
    preset: Preset = "quick",
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Two domains or tasks. Repeatable. [default: all pairs]"),
    ] = None,
    depths: Annotated[
        str | None, typer.Option(help="Of the network, e.g. 3,6. [default: the preset's]")
    ] = None,
    widths: Annotated[str | None, typer.Option(help="Likewise, e.g. 48,96.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="Weights p of the first of two. [default: 0.25,0.35,0.5,0.65,0.75]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="How many, from 0. [default: the preset's, else 1]")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: the preset's first]")] = None,
    act: Annotated[
        str | None,
        typer.Option(help="What p acts on: sampling or losses. [default: sampling where there are domains]"),
    ] = None,
    probe: Annotated[
        int | None, typer.Option(help="Fixed batches that are measured after each epoch. [default: 8]")
    ] = None,
    least_steps: Annotated[
        int | None, typer.Option(help="Cells with fewer are left out of figures. [default: 300]")
    ] = None,
    search: Annotated[
        Path | None, typer.Option(help="A finished `equipoise search`, whose winner is shown too.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory. [default: runs/study-PROBLEM-PRESET]")
    ] = None,
    resume: Resume = False,
    retry_failed: Retry = False,
    jobs: Jobs = "",
    workers: Annotated[
        int | None, typer.Option(help="With --jobs ray: cells at a time. [default: one per core, at most 8]")
    ] = None,
    address: Address = None,
    gpus: Gpus = 0.0,
    data: Data = None,
    epochs: Epochs = None,
    settings: Settings = None,
    device: Device = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run, and end.")] = False,
    debug: Debug = False,
) -> None:
    """Weights against capacity: train pairs over a grid of weights and sizes of network, and say what holds."""
    with errors_said(debug):
        from equipoise import actions, parallel, study_actions
        from equipoise.study.make import wanted_of

        folder = None if data is None else str(data.expanduser())
        changes = actions.settings(settings, data=folder, epochs=epochs)
        numbers = {"seeds": seeds, "lr": lr, "probe": probe, "least_steps": least_steps}
        wanted = wanted_of(pair or (), depths, widths, grid, act=act, settings=changes, **numbers)
        made = study_actions.plan_of(problem, preset, wanted, device, elsewhere=gpus > 0)
        where = out or Path("runs") / f"study-{problem}-{preset}"
        if plan:
            study_actions.print_plan(made, where)
            return
        how = parallel.how(
            jobs, made.config.device, workers, address, gpus, resume=resume, retry=retry_failed
        )
        failed = study_actions.run(made, where, how, command=command_line(), search=search)
        if failed:
            typer.echo("\n".join([f"{len(failed)} cells failed:", *failed]), err=True)
            raise typer.Exit(1)


def _each_question(command: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes one function the command of every question, which tells them apart by the name it is called by."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for one in QUESTIONS.values():
            problem = one.problem or "qm9"
            examples = f"equipoise study {one.name} {problem} --preset smoke\n\n" + (
                f"equipoise study {one.name} {problem} --seeds 5 --jobs 2 --out runs/{one.name}"
            )
            command(name=one.name, help=one.text, epilog=f"Examples:\n\n{examples}\n\n{one.about}")(function)
        return function

    return add


@_each_question(study_app.command)
def question(
    context: typer.Context,
    problem: Annotated[
        str | None,
        typer.Argument(help="What to train on. [default: synthetic for scaling and planted]"),
    ] = None,
    preset: Preset = "quick",
    seeds: Annotated[int | None, typer.Option(help="How many, from 0. [default: 5; 1 for smoke]")] = None,
    lr: Lrs = "",
    known: Annotated[
        str, typer.Option(help="The true group of each task, e.g. 0,0,1,1. [default: the problem's, if any]")
    ] = "",
    baselines: Annotated[
        str, typer.Option(help="own, published or none. [default: the preset's; none for smoke]")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="The run directory. [default: runs/study-NAME-PROBLEM-PRESET]")
    ] = None,
    resume: Resume = False,
    retry_failed: Retry = False,
    jobs: Jobs = "",
    workers: Annotated[
        int | None, typer.Option(help="With --jobs ray: runs at a time. [default: one per core, at most 8]")
    ] = None,
    address: Address = None,
    gpus: Gpus = 0.0,
    data: Data = None,
    epochs: Epochs = None,
    settings: Settings = None,
    device: Device = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run, and end.")] = False,
    debug: Debug = False,
) -> None:
    """Answer a question by many runs; the name of the command says which."""
    with errors_said(debug):
        from equipoise import actions, parallel, question_actions

        folder = None if data is None else str(data.expanduser())
        changes = actions.settings(settings, data=folder, epochs=epochs)
        wanted = question_actions.asked(str(context.info_name), problem, preset, seeds, lr, known)
        wanted = question_actions.complete(wanted, baselines, changes, device, elsewhere=gpus > 0)
        where = out or Path("runs") / f"study-{wanted.question}-{wanted.problem}-{preset}"
        if plan:
            question_actions.print_asked(wanted, where)
            return
        how = parallel.how(jobs, wanted.device, workers, address, gpus, resume=resume, retry=retry_failed)
        failed = question_actions.ask(wanted, where, how, command=command_line())
        if failed:
            typer.echo("\n".join(["Failed:", *failed]), err=True)
            raise typer.Exit(1)
