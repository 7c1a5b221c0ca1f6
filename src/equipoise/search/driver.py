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
    ready = algorithm.ready if isinstance(algorithm, Asynchronous) else _in_step(algorithm, compare)
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


def _in_step(algorithm: Algorithm, compare: Compare) -> Callable[[Sequence[Result]], list[Assignment]]:
    """All assignments up to the generation that is not whole yet."""

    def ready(results: Sequence[Result]) -> list[Assignment]:
        found: list[Assignment] = []
        whole: list[list[Result]] = []
        history = generations(results)
        while proposed := algorithm.propose(whole):
            found += proposed
            row = history[len(whole)] if len(whole) < len(history) else []
            if len(row) < len(proposed):
                break
            whole.append(compare(row))
        return found

    return ready


def _let_go(forget: Forget, generation: int, results: Sequence[Result]) -> None:
    """Remove the checkpoints of a generation, from which nothing goes on any more."""
    for result in results:
        if result.assignment.generation == generation:
            forget(result.assignment)
