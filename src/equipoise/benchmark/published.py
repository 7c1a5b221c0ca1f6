"""The numbers of the published tables, to set beside our own; never mixed with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from equipoise.training.task import Metric

from .runs import COMPUTE

_BUDGETS = {
    "nyuv2": "200 epochs, mean of the last 10 on the test set",
    "cityscapes": "200 epochs, mean of the last 10 on the test set",
    "qm9": "300 epochs on all of QM9",
    "celeba": "15 epochs",
}  # GO4Align, section 5.1 and appendix B


@dataclass(frozen=True)
class PublishedResult:
    """What a paper prints about one method: metrics by name (None where not printed) and the two scores."""

    metrics: Mapping[str, float] | None
    delta_m: float
    mean_rank: float


@dataclass(frozen=True)
class Correction:
    """A row that is printed wrong: which other row it repeats, and the metrics and scores that it should have."""

    repeats: str
    delta_m: float
    mean_rank: float
    source: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PublishedBenchmark:
    """The published table of one benchmark.

    Args:
        name: of the benchmark, for example "qm9".
        budget: how long the published models were trained.
        metrics: in the order of the table.
        single_task: the baselines of delta_m, in full precision where the authors' code has it.
        methods: as printed (name of the paper's table -> numbers), without the baselines.
        source: of the baselines.
        runtime: time of an epoch as a multiple of that of equal weights, by printed name.
        corrections: of rows that are printed wrong (name of the paper's table -> what they should be).
        corrected_ranks: mean rank of every method with the corrected rows; empty where none is printed wrong.
        errors: standard error of delta_m over 3 seeds, by printed name, where one is published.
    """

    name: str
    budget: str
    metrics: tuple[Metric, ...]
    single_task: Mapping[str, float]
    methods: Mapping[str, PublishedResult]
    source: str
    runtime: Mapping[str, float]
    corrections: Mapping[str, Correction]
    corrected_ranks: Mapping[str, float]
    errors: Mapping[str, float]

    def baseline(self, names: tuple[str, ...]) -> list[float | None]:
        """Single-task values of the named metrics (ours: "homo" finds "eps_HOMO"); None where there is none."""
        known = {_key(name): value for name, value in self.single_task.items()}
        return [known.get(_key(name)) for name in names]

    def find(self, label: str) -> tuple[str, PublishedResult] | None:
        """The printed name and numbers of a method label; None for a wrapped, shortened or unpublished method."""
        name = _printed_name(label, self.methods)
        return None if name is None else (name, self.methods[name])

    def relative_time(self, label: str) -> float | None:
        """Published time of an epoch relative to equal weights; None for a wrapped or unpublished method."""
        name = _printed_name(label, self.runtime)
        return None if name is None else self.runtime[name]


def published_benchmarks() -> tuple[str, ...]:
    """Names of the benchmarks with published numbers."""
    return tuple(content()["benchmarks"])


def published(benchmark: str) -> PublishedBenchmark:
    """The published numbers of a benchmark.

    Source: GO4Align (NeurIPS 2024), tables 1, 2, 7 and 8, and for the times its figures 1 and 4 (one A100); baselines
    as each entry of `published.json` says.

    Raises:
        ValueError: on a benchmark without published numbers.
    """
    if benchmark not in published_benchmarks():
        raise ValueError(
            f"`benchmark` should be one of {', '.join(published_benchmarks())}. Found {benchmark!r}."
        )
    raw = content()["benchmarks"][benchmark]
    stl = raw["stl"]
    single_task = stl.get("metrics_full_precision_code", stl["metrics"])
    methods = {
        name: PublishedResult(row.get("metrics"), row["delta_m"], row["MR"])
        for name, row in raw["methods"].items()
    }
    return PublishedBenchmark(
        benchmark,
        _BUDGETS[benchmark],
        _metrics(raw, single_task),
        single_task,
        methods,
        stl["source"],
        _runtime(benchmark),
        _corrections(raw),
        raw.get("corrected", {}).get("MR_with_corrected_LS", {}),
        {name: row["delta_m"] for name, row in raw.get("stderr", {}).items()},
    )


def _metrics(raw: Mapping[str, Any], single_task: Mapping[str, float]) -> tuple[Metric, ...]:
    entries = {entry["name"]: entry for entry in raw["metrics"]}
    shared = raw["metrics"][0]  # CelebA has one entry for its 40 attributes
    found = [(name, entries.get(name, shared)) for name in single_task]
    return tuple(Metric(name, entry["direction"] == "higher", entry["unit"]) for name, entry in found)


def _corrections(raw: Mapping[str, Any]) -> dict[str, Correction]:
    """Rows that are printed wrong; the row that each repeats is the one with the same numbers."""
    if "corrected" not in raw:
        return {}
    ranks, printed = raw["corrected"]["MR_with_corrected_LS"], raw["methods"]
    found = {}
    for name, row in raw["corrected"].items():
        if name in printed and name in ranks:
            repeats = next(
                other
                for other in printed
                if other != name and printed[other]["metrics"] == printed[name]["metrics"]
            )
            found[name] = Correction(repeats, row["delta_m"], ranks[name], row["source"], row["metrics"])
    return found


def _runtime(benchmark: str) -> dict[str, float]:
    """Figure 4, and what figure 1 has besides; both are relative to equal weights."""
    times = content()["runtime"]
    figure_4 = {
        name: row[benchmark] for name, row in times["relative_to_LS_fig4"].items() if benchmark in row
    }
    return {**times.get(f"relative_fig1_{benchmark}", {}), **figure_4}


def _printed_name(label: str, names: Iterable[str]) -> str | None:
    if "+" in label or label.endswith(COMPUTE):
        return None
    wanted = _key(label.split(":")[0])
    return next((name for name in names if _key(name) == wanted), None)


def _key(name: str) -> str:
    letters = "".join(character for character in name.casefold() if character.isalnum())
    return letters.removeprefix("eps")


@cache
def content() -> dict[str, Any]:
    """All of `published.json`."""
    text = resources.files("equipoise.benchmark").joinpath("published.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
