"""Runs a search: what is recorded is not done again, and what is no longer needed goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from equipoise.training.checkpoint import remove_checkpoint

from .genealogy import append_result, check_results, generations, read_results
from .generations import Algorithm, Assignment, Asynchronous, Result
from .member import checkpoint_of

Train = Callable[[list[Assignment]], Iterator[Result]]
"""Takes from the front of a list until it is empty; the list may grow whenever a result has been given."""
Compare = Callable[[Sequence[Result]], list[Result]]
Hear = Callable[[Result], None]
Forget = Callable[[Assignment], None]
"""Removes the checkpoint that an assignment has left."""


def run_search(
    algorithm: Algorithm | Asynchronous,
    train: Train,
    directory: Path,
    hear: Hear = lambda result: None,
    compare: Compare = list,
    forget: Forget | None = None,
) -> list[list[Result]]:
    """Run a search to its end, from wherever it was stopped.

    A result is on the disk before anything depends on it, and the checkpoints of a generation stay until the next one
    is whole. So a kill at any moment costs no more than the members that were being trained, and the search ends as
    it would have; one that does not wait for whole generations goes by the order in which results came.

    Args:
        algorithm: decides what members do.
        train: does some assignments, in any order, and gives each result as it comes.
        directory: of the search; must exist.
        hear: told of each new result.
        compare: gives results of one generation the scores that members are compared by.
        forget: removes the checkpoint of an assignment; None if it lies in the directory.

    Returns:
        All results, by generation and member, with the scores that were recorded.

    Raises:
        SearchError: if the directory holds another search, or the search cannot go on.
        StorageError: if the directory cannot be written; nothing that was recorded is lost.
    """
    forget = forget or (lambda one: remove_checkpoint(checkpoint_of(directory, *one.place)))
    ready = _ready(algorithm, compare)
    results = read_results(directory)
    begun = check_results(ready(results), results)
    waiting = begun.copy()
    known = {one.assignment.place for one in results} | {one.place for one in begun}
    for result in train(waiting):
        append_result(directory, result)
        results.append(result)
        hear(result)
        fresh = [one for one in ready(results) if one.place not in known]
        known |= {one.place for one in fresh}
        # What has been trained for longest goes first; the workers take from the front.
        waiting[:] = sorted([*waiting, *fresh], key=lambda one: (-one.generation, one.member))
        if fresh and not isinstance(algorithm, Asynchronous):
            _let_go(forget, fresh[0].generation - 2, results)
    history = generations(results)
    for generation in range(len(history) - 1):
        _let_go(forget, generation, results)
    return history


def still_to_do(
    algorithm: Algorithm | Asynchronous, results: Sequence[Result], compare: Compare = list
) -> list[Assignment]:
    """What follows from the results of a search and has none; nothing where it is done.

    Raises:
        SearchError: if the results are of another search.
    """
    return check_results(_ready(algorithm, compare)(results), results)


def _ready(
    algorithm: Algorithm | Asynchronous, compare: Compare
) -> Callable[[Sequence[Result]], list[Assignment]]:
    return algorithm.ready if isinstance(algorithm, Asynchronous) else _in_step(algorithm, compare)


def _in_step(algorithm: Algorithm, compare: Compare) -> Callable[[Sequence[Result]], list[Assignment]]:
    """All assignments up to the generation that is not whole yet, of results that only grow; each is proposed once."""
    rows: list[list[Assignment]] = []
    whole: list[list[Result]] = []

    def ready(results: Sequence[Result]) -> list[Assignment]:
        history = generations(results)
        while True:
            if len(rows) == len(whole):
                proposed = algorithm.propose(whole)
                if not proposed:
                    break
                rows.append(proposed)
            row = history[len(whole)] if len(whole) < len(history) else []
            if len(row) < len(rows[-1]):
                break
            whole.append(compare(row))
        return [one for proposed in rows for one in proposed]

    return ready


def _let_go(forget: Forget, generation: int, results: Sequence[Result]) -> None:
    """Remove the checkpoints of a generation, from which nothing goes on any more."""
    for result in results:
        if result.assignment.generation == generation:
            forget(result.assignment)
