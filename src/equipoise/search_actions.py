"""What `equipoise search` does, once its options are read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import actions
from equipoise.benchmark import plan as planning
from equipoise.benchmark.plan import Overrides
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.cluster.connection import Place, check_device
from equipoise.problems.registry import problem_class
from equipoise.search.algorithms import READS
from equipoise.search.generations import SearchError
from equipoise.search.kept import FILE, finished_history, keep_plan, read_plan, recorded
from equipoise.search.plan import SearchPlan, make_search
from equipoise.search.run import Found, search, transferred
from equipoise.search.stored import storage_of
from equipoise.search.verdict import schedule_rows, sentences
from equipoise.task_show import showing_tasks
from equipoise.terminal import print_rows, say
from equipoise.training.config import RunConfig
from equipoise.training.storage import held

_MOST_COLUMNS = 6  # of a table in the terminal


def base(
    problem: str, preset: str, changed: Overrides, device: str, *, elsewhere: bool
) -> tuple[RunConfig, list[str]]:
    """The configuration of a run with equal weights, and the names of the tasks."""
    plan = actions.make_plan(problem, preset, changed, device, command="", one_lr=True, elsewhere=elsewhere)
    return planning.run_config(plan, planning.pending(plan, [])[0]), [task.name for task in plan.tasks]


def place(
    workers: int | None, address: str | None, gpus: float, device: str, storage: str | None
) -> Place | None:
    """Where members are trained; None for this process.

    Raises:
        SearchError: if a cluster, GPUs or a storage are named, but no number of workers.
        ClusterError: if a number is out of its range, or device and GPUs do not fit together.
    """
    if workers is None:
        if address is not None or gpus or storage is not None:
            raise SearchError(
                "`workers` should be given with `address`, `gpus` or `storage`: members at a time. Found none."
            )
        return None
    found = Place(workers=workers, address=address, gpus=gpus)
    check_device(found, device)
    return found


def tuned(given: Sequence[str] | None) -> dict[str, tuple[float, float]] | None:
    """Bounds by name, from texts such as lr=1e-4..1e-2.

    Raises:
        SearchError: on a text that is none.
    """
    found = {}
    for text in given or ():
        name, _, bounds = text.partition("=")
        low, _, high = bounds.partition("..")
        try:
            found[name.strip()] = (float(low), float(high))
        except ValueError:
            raise SearchError(f"`tune` should look like lr=1e-4..1e-2. Found {text!r}.") from None
    return found or None


def from_other(
    directory: Path, names: Sequence[str], given: Mapping[str, Any], epochs: int
) -> dict[str, Any]:
    """The settings of a search that takes its weights from another one, such as of a smaller network.

    Raises:
        SearchError: if that one is not done, its weights are of other tasks or act on something else, or an algorithm
            is asked for.
    """
    act = given["act"]
    if given.get("algorithm") is not None:
        raise SearchError(
            f"`algorithm` should be left out with --transfer-from, which searches nothing. Found {given['algorithm']}."
        )
    old = read_plan(directory)
    if (list(old.names), old.act) != (list(names), act):
        raise SearchError(
            f"`transfer_from` should be a search with act={act} over {', '.join(names)}. Found act={old.act} over "
            f"{', '.join(old.names)}."
        )
    history = finished_history(old, directory)
    return {"algorithm": "transfer", "transferred": transferred(history, old, epochs)}


def run(
    config: RunConfig,
    names: Sequence[str],
    given: Mapping[str, Any],
    where: Path,
    place: Place | None,
    *,
    storage: str | None,
    command: str,
    resume: bool,
) -> None:
    """Search, train anew, and print what it was worth."""
    if given.get("interval") is None and "interval" in READS.get(given.get("algorithm") or "pbt", ()):
        given = {**given, "interval": max(config.train.epochs // 10, 1)}
    cls = problem_class(config.problem)
    if given.get("act") == "sampling" and "weights" not in inspect.signature(cls).parameters:
        raise SearchError(
            f"`act` should be losses for {config.problem}, whose samples come from one domain. Found 'sampling'."
        )
    plan = make_search(config, names, given)
    facts = {"command": command, "versions": versions(), "git": source_commit()}
    with held(where, SearchError):
        keep_plan(plan, where, facts, resume=resume)
        with showing_tasks() as show:
            found = search(plan, cls, where, show, place, storage_of(where, storage))
    report(plan, found, where)


def report(plan: SearchPlan, found: Found, where: Path) -> None:
    """Print the tables and the verdict, and draw the pictures if the package for that is there."""
    _print(plan, found)
    say(f"Genealogy and logs: {where}")
    try:
        from equipoise.report.search_page import write_search_page

        say(f"Page: {write_search_page(plan, found, where)}")
    except ImportError as error:
        say(f"No search.md: {error}")


def is_search(where: Path) -> bool:
    """Whether a directory is that of a search."""
    return (where / FILE).exists()


def report_again(where: Path) -> None:
    """The report of a search from what its directory holds.

    Raises:
        SearchError: if the directory holds no finished search.
    """
    plan = read_plan(where)
    report(plan, recorded(plan, where), where)


def _print(plan: SearchPlan, found: Found) -> None:
    """The tables, where they fit a terminal: those of many tasks are on the page."""
    metrics = list(next((one.metrics for one in found.retrained if one.metrics), {}))
    metrics = metrics if len(metrics) <= _MOST_COLUMNS else []
    rows = []
    for one in found.retrained:
        numbers = [f"{one.metrics[name]:.4g}" if one.metrics else "diverged" for name in metrics]
        rows.append([one.variant, str(one.seed), *numbers, "-" if one.score is None else f"{one.score:.2f}"])
    print_rows(["weights", "seed", *metrics, "test score"], rows)
    for name, schedule in found.variants.items() if len(plan.names) <= _MOST_COLUMNS else ():
        header, rows = schedule_rows(plan, schedule)
        print_rows([f"{name}: {header[0]}", *header[1:]], rows)
    for sentence in sentences(plan, found):
        say(sentence)
