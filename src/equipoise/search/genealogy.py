"""`genealogy.jsonl`: every result of a search, in the order in which they came; enough to replay any schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from equipoise.training.storage import append_line, storing, whole_lines

from .generations import Assignment, Result, SearchError

FILE = "genealogy.jsonl"


def append_result(directory: Path, result: Result) -> None:
    """Add a line, and wait until it is on the disk. A last line that a kill has cut off is taken out first.

    Raises:
        StorageError: if it cannot be written; what was there before stays.
    """
    path = directory / FILE
    with storing(path):
        append_line(path, json.dumps(result.to_dict()).encode())


def read_results(directory: Path) -> list[Result]:
    """All results; an empty list where there is no file. A last line without its end was cut off by a kill.

    Raises:
        SearchError: on any other line that is no result.
    """
    path = directory / FILE
    found = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            found.append(Result.from_dict(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise SearchError(
                f"{path}, line {number}, should be a result; take the line out to have it repeated. {error}"
            ) from error
    return found


def generations(results: Sequence[Result]) -> list[list[Result]]:
    """Results by generation, in the order of their members; the last generation may be unfinished.

    Raises:
        SearchError: if a result comes twice.
    """
    found: list[dict[int, Result]] = []
    for result in results:
        place = result.assignment
        while len(found) <= place.generation:
            found.append({})
        if place.member in found[place.generation]:
            raise SearchError(
                f"A member should have one result in a generation. Found two of member {place.member} in "
                f"{place.generation}."
            )
        found[place.generation][place.member] = result
    return [[row[member] for member in sorted(row)] for row in found]


def check_results(proposed: Sequence[Assignment], results: Sequence[Result]) -> list[Assignment]:
    """What of the proposals has no result yet.

    Raises:
        SearchError: if a result is of another assignment, so the directory is of another search.
    """
    expected = {one.place: one for one in proposed}
    for found in (one.assignment for one in results):
        if expected.get(found.place) != found:
            raise SearchError(
                f"Generation {found.generation}, member {found.member} should be {expected.get(found.place)}. Found "
                f"{found} in the directory: it is of another search, so take another directory."
            )
    done = {one.assignment.place for one in results}
    return [one for one in proposed if one.place not in done]
