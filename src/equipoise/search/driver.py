"""Runs a search generation by generation: what is recorded is not done again, and what is no longer needed goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from equipoise.training.checkpoint import remove_checkpoint

from .genealogy import append_result, generations, read_results, still_to_do
from .generations import Algorithm, Assignment, Result
from .member import checkpoint_of

Train = Callable[[Sequence[Assignment]], Iterator[Result]]
Hear = Callable[[Result], None]


def run_search(
    algorithm: Algorithm, train: Train, directory: Path, hear: Hear = lambda result: None
) -> list[list[Result]]:
    """Run a search to its end, from wherever it was stopped.

    A result is on the disk before anything depends on it, and the checkpoints of a generation stay until the next one
    is whole. So a kill at any moment costs no more than the members that were being trained, and the search ends as
    it would have.

    Args:
        algorithm: decides what members do.
        train: does some assignments of one generation, in any order, and gives each result as it comes.
        directory: of the search; must exist.
        hear: told of each new result.

    Returns:
        All results, by generation and member.

    Raises:
        SearchError: if the directory holds another search, or the search cannot go on.
        StorageError: if the directory cannot be written; nothing that was recorded is lost.
    """
    results = read_results(directory)
    history = generations(results)
    done: list[list[Result]] = []
    while proposed := algorithm.propose(done):
        row = {one.assignment.member: one for one in (history[len(done)] if len(done) < len(history) else [])}
        for result in train(still_to_do(proposed, list(row.values()))):
            append_result(directory, result)
            row[result.assignment.member] = result
            hear(result)
        done.append([row[one.member] for one in proposed])
        _let_go(directory, done)
    return done


def _let_go(directory: Path, done: Sequence[Sequence[Result]]) -> None:
    """Remove the checkpoints of the generation before the last, from which nothing goes on any more."""
    if len(done) < 2:
        return
    for result in done[-2]:
        remove_checkpoint(checkpoint_of(directory, len(done) - 2, result.assignment.member))
