"""The numbers of a study of a question, as a file for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equipoise.training.storage import storing, write_atomically

from .answers import Result, Row
from .said import Answer, Together

FILE = "answers.json"


def write_answers_file(found: Result, directory: Path) -> None:
    """Write `answers.json`: every score, difference and answer of a study.

    Raises:
        StorageError: if it cannot be written.
    """
    content = {
        "question": found.question.name,
        "text": found.question.text,
        "arms": [
            {
                "name": arm.arm.name,
                "x": arm.arm.x,
                "scores_against": arm.against,
                "grouping_seconds": arm.grouping,
                "variants": [_row(row) for row in arm.rows],
                "answers": [_answer(one) for one in arm.answers],
            }
            for arm in found.arms
        ],
        "correlation": found.together and _together(found.together),
    }
    with storing(directory / FILE):
        write_atomically(directory / FILE, json.dumps(_finite(content), indent=1, allow_nan=False))


def _row(row: Row) -> dict[str, Any]:
    return {
        **asdict(row.variant),
        "scores": row.scores,
        "groups": row.groups and asdict(row.groups),
        "groups_of_seeds": [asdict(one) for one in row.moved],
        "seconds_per_step": row.seconds,
        "peak_memory_mb": row.memory,
        "convergence_difference": row.convergence,
        "failed": row.failed,
    }


def _answer(one: Answer) -> dict[str, Any]:
    return {
        **asdict(one.contrast),
        "said": one.said,
        "mean": one.comparison.mean,
        "half_interval": one.comparison.half,
        "seeds": one.comparison.n,
        "untested": one.comparison.why,
        "p_holm": one.p,
        "visible": one.visible,
        "sentence": one.sentence,
    }


def _together(one: Together) -> dict[str, Any]:
    return {
        "said": one.said,
        "r": one.correlation.r,
        "interval": [one.correlation.low, one.correlation.high],
        "methods": one.correlation.n,
        "seeds": one.seeds,
        "untested": one.correlation.why,
        "p_holm": one.p,
        "visible": one.visible,
        "sentence": one.sentence,
    }


def _finite(value: Any) -> Any:
    """Numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
