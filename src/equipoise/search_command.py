"""The command `equipoise search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from equipoise.command import (
    Address,
    Csv,
    Data,
    Debug,
    Device,
    Epochs,
    Features,
    Gpus,
    Molecules,
    Preset,
    Problem,
    Resume,
    Settings,
    SkipBad,
    Smiles,
    Targets,
    app,
    command_line,
    errors_said,
    typer,
)


@app.command(
    epilog="Examples:\n\nequipoise search digits --preset quick --act sampling --set mixing=sampled --workers 2\n\n"
    "equipoise search qm9 --preset quick --population 6 --interval 2 --workers 2 --out runs/search-qm9\n\n"
    "equipoise search digits --algorithm grid --population 6\n\n"
    "equipoise search digits --set model=vit --set depth=6 --transfer-from runs/search-small\n\n"
    "Members are compared on a part of the training data that is held out. Then networks are trained anew on all of "
    "it, with uniform weights, the best constant ones and the schedule that won, and compared on the test part."
)
def search(
    problem: Problem,
    preset: Preset = "quick",
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="pbt, pb2, asha, halving, random, grid, bohb, or gradients (of one short run). [default: pbt]"
        ),
    ] = None,
    act: Annotated[
        str, typer.Option(help="What weights act on: losses, or the sampling of domains.")
    ] = "losses",
    rank: Annotated[
        str | None, typer.Option(help="Members by delta_m, mean, worst or pareto. [default: delta_m]")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LOW..HIGH", help="Search lr or a setting of the method too. Repeatable."),
    ] = None,
    method: Annotated[str, typer.Option(help="Of every run; other than ls with --act sampling only.")] = "ls",
    population: Annotated[
        int | None, typer.Option(help="Members; for a grid the parts into which 1 is divided. [default: 8]")
    ] = None,
    interval: Annotated[
        int | None, typer.Option(help="Epochs between comparisons. [default: a tenth of the run]")
    ] = None,
    quantile: Annotated[
        float | None, typer.Option(help="Part of the members replaced at a time. [default: 0.25]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of a move: multiplicative or lognormal. [default: multiplicative]")
    ] = None,
    resample: Annotated[
        float | None, typer.Option(help="Probability of a fresh draw in place of a move. [default: 0.25]")
    ] = None,
    floor: Annotated[
        float | None, typer.Option(help="Least weight, in units of the uniform one. [default: 0.1]")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Part of the training data for members. [default: 0.7]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(help="How often each variant is trained anew. [default: 3]")
    ] = None,
    restarts: Annotated[
        bool,
        typer.Option(help="Train uniform weights with further seeds, for as long as the search took."),
    ] = True,
    transfer_from: Annotated[
        Path | None,
        typer.Option(help="Search nothing: weights of that search, for a network of another size."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: the preset's first]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Members at a time, on Ray. [default: none, one after the other in this process]"),
    ] = None,
    address: Address = None,
    gpus: Gpus = 0.0,
    storage: Annotated[
        str | None,
        typer.Option(help="Of checkpoints, such as s3://bucket/searches. [default: the run directory]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory. [default: runs/search-PROBLEM-PRESET]")
    ] = None,
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
    """Search the weights of tasks, or how domains are sampled; then train anew and say what it was worth."""
    with errors_said(debug):
        from equipoise import actions, search_actions

        own = actions.own_data(data, csv, smiles, features, targets, skip_bad=skip_bad)
        changes = actions.settings(settings, **own, molecules=molecules, epochs=epochs)
        config, names = search_actions.base(
            problem, preset, actions.one_run(method, seed, lr, changes), device, elsewhere=gpus > 0
        )
        given: dict[str, Any] = {
            "algorithm": algorithm,
            "act": act,
            "population": population,
            "interval": interval,
        }
        given |= {
            "quantile": quantile,
            "kind": kind,
            "resample": resample,
            "floor": floor,
            "fraction": fraction,
            "seeds": seeds,
        }
        given |= {"rank": rank, "tune": search_actions.tuned(tune), "restarts": restarts}
        if transfer_from is not None:
            given |= search_actions.from_other(transfer_from, names, given, config.train.epochs)
        place = search_actions.place(workers, address, gpus, config.device, storage)
        where = out or Path("runs") / f"search-{problem}-{preset}"
        search_actions.run(
            config, names, given, where, place, storage=storage, command=command_line(), resume=resume
        )
