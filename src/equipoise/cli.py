"""The command line. Imports stand inside the commands, so that `equipoise --help` answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from equipoise.command import (
    Address,
    Baselines,
    Budget,
    Csv,
    Data,
    Debug,
    Device,
    Difference,
    Directory,
    Epochs,
    Features,
    Gpus,
    Jobs,
    Json,
    Like,
    Lrs,
    Match,
    Methods,
    Molecules,
    Noise,
    Out,
    Preset,
    Problem,
    Resume,
    Retry,
    Settings,
    SkipBad,
    Smiles,
    Targets,
    app,
    command_line,
    errors_said,
    typer,
)
from equipoise.published_command import published
from equipoise.search_command import search
from equipoise.study_command import study_app

__all__ = ["app", "main", "published", "search", "study_app"]


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
    "equipoise bench qm9 --budget 8 --seeds 5 --match compute --out runs/fair\n\n"
    "equipoise bench qm9 --methods ls,famo,uw --plan --difference 2 --like runs/qm9\n\n"
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
    budget: Budget = None,
    match: Match = "",
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
    jobs: Jobs = "",
    workers: Annotated[
        int | None, typer.Option(help="With --jobs ray: runs at a time. [default: one per core, at most 8]")
    ] = None,
    address: Address = None,
    gpus: Gpus = 0.0,
    device: Device = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run, and end.")] = False,
    difference: Difference = None,
    noise: Noise = None,
    like: Like = None,
    debug: Debug = False,
) -> None:
    """Compare methods on a problem, with single-task baselines, over seeds; then write the report."""
    with errors_said(debug):
        from equipoise import actions, parallel, plan_show
        from equipoise.benchmark import power
        from equipoise.training.problem import Separate

        own = actions.own_data(data, csv, smiles, features, targets, skip_bad=skip_bad)
        changes = actions.settings(settings, **own, molecules=molecules, epochs=epochs)
        overrides = actions.overrides(methods, seeds, lr, baselines, changes, budget=budget, match=match)
        elsewhere = gpus > 0
        made = actions.make_plan(
            problem, preset, overrides, device, command=command_line(), elsewhere=elsewhere
        )
        where = out or Path("runs") / f"{problem}-{preset}"
        answers = power.asked(made, difference, noise, like, shown=plan)
        if plan:
            plan_show.print_plan(made, where, separate=isinstance(actions.class_of(problem), Separate))
            for sentence in answers:
                typer.echo(sentence)
            return
        plan_show.say_added(made)
        device = made.config["device"]
        how = parallel.how(jobs, device, workers, address, gpus, resume=resume, retry=retry_failed)
        records = actions.run(made, where, how)
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
        from equipoise.benchmark.runner import How

        own = actions.own_data(data, csv, smiles, features, targets, skip_bad=skip_bad)
        changes = actions.settings(settings, **own, molecules=molecules, epochs=epochs)
        changed = actions.one_run(method, seed, lr, changes)
        made = actions.make_plan(problem, preset, changed, device, command=command_line(), one_lr=True)
        where = out or Path("runs") / f"{problem}-{preset}-{actions.first_run_id(made)}"
        records = actions.run(made, where, How(resume=resume))
        actions.print_run(made, records, where)
        _end(actions.failures(records))


@app.command(
    epilog="Examples:\n\nequipoise report runs/qm9-quick\n\nequipoise report runs/qm9-adam --compare runs/qm9-sgd"
)
def report(
    directory: Directory,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Another run directory, to be set beside this one; may be given again."),
    ] = None,
    baselines: Annotated[
        str | None, typer.Option(help="own, published or none, instead of the plan's.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the tables of a run directory, or of a search, and write its report; or compare run directories."""
    with errors_said(debug):
        from equipoise import actions, search_actions

        if compare:
            actions.print_comparison(directory, compare)
        elif search_actions.is_search(directory):
            search_actions.report_again(directory)
        else:
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
        from equipoise import data_actions

        if install:
            typer.echo(data_actions.install_data(problem), err=True)
        found = data_actions.data(problem) if folder is None else data_actions.check_data(problem, folder)
        if as_json:
            typer.echo(json.dumps(found, indent=1))
        else:
            data_actions.print_data(found)
        if folder is not None and not all(facts["available"] for facts in found.values()):
            raise typer.Exit(1)


def main() -> None:
    """The entry point of the `equipoise` command."""
    app()


def _end(failures: list[str]) -> None:
    if failures:
        typer.echo("\n".join(["Failed:", *failures]), err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
