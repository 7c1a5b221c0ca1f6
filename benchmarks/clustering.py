"""Exact k-means of m numbers beside kmeans_pytorch and scikit-learn: time, and cost above the optimum. One thread.

Run `python benchmarks/clustering.py [--repeats 30] [--out FILE]`. The three take turns, so that a busy machine slows
them alike; times are medians over turns. The numbers of a turn are new: uniform, in five clusters, or few distinct
numbers many times over ("ties"). Where k > m, all get k = m.

kmeans_pytorch starts from NumPy's global random state, seeded here with the turn. Release 0.3 has no limit on its
iterations, so its progress meter is replaced by a silent one that counts, and gives up after 300, the limit of
scikit-learn too. A failure is a centre that is not a number or that limit; it has no cost but counts in the time. The
cost of a peer is given as its excess over ours, in the median and the worst turn; "no cost" means that ours is 0 and
the peer's is not.
"""

import argparse
import contextlib
import importlib.metadata
import io
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import kmeans_pytorch
import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from equipoise.solvers.kmeans import kmeans_1d

SIZES = (3, 11, 40, 100, 300, 617, 1000)
GROUPS = (2, 5)
KINDS = ("uniform", "clusters", "ties")
LIMIT = 300
Clustering = Callable[
    [Tensor, int, int], Tensor | None
]  # values (m,), k, seed -> labels (m,), or None for a failure


class TooManyIterationsError(Exception):
    """kmeans_pytorch reached `LIMIT`."""


class Counter:
    """Stands for the progress meter of kmeans_pytorch, which calls `update` once an iteration."""

    def __init__(self, **_: object) -> None:
        self.iterations = 0

    def set_postfix(self, **_: object) -> None:
        pass

    def update(self) -> None:
        self.iterations += 1
        if self.iterations > LIMIT:
            raise TooManyIterationsError


class Score(NamedTuple):
    """Median microseconds, excess costs of the turns that did not fail, and the share of failures."""

    time: float
    excess: list[float]
    failures: float


def draw(kind: str, m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(m, generator=generator, dtype=torch.float64)
    if kind == "uniform":
        return values
    if kind == "clusters":
        return (5.0 * values).floor() + 0.1 * torch.randn(m, generator=generator, dtype=torch.float64)
    return (8.0 * values).floor()


def ours(values: Tensor, k: int, seed: int) -> Tensor:
    return kmeans_1d(values, k)


def of_pytorch(values: Tensor, k: int, seed: int) -> Tensor | None:
    np.random.seed(seed)
    try:
        labels, centres = kmeans_pytorch.kmeans(values[:, None], k)
    except TooManyIterationsError:
        return None
    return torch.as_tensor(labels) if bool(torch.as_tensor(centres).isfinite().all()) else None


def of_sklearn(values: Tensor, k: int, seed: int) -> Tensor:
    fitted = KMeans(n_clusters=k, n_init=10, max_iter=LIMIT, random_state=seed).fit(values[:, None].numpy())
    return torch.from_numpy(fitted.labels_)


def cost(values: Tensor, labels: Tensor) -> float:
    """The sum of squares around the means of the groups, whatever centres the peer returned."""
    groups = [values[labels == label] for label in labels.unique()]
    return math.fsum(float((group - group.mean()).square().sum()) for group in groups)


def excess(found: float, least: float) -> float:
    if least <= 1e-20:
        return 0.0 if found <= 1e-20 else math.inf
    return found / least - 1.0


def race(peers: dict[str, Clustering], kind: str, m: int, k: int, repeats: int) -> dict[str, Score]:
    times: dict[str, list[float]] = {name: [] for name in peers}
    costs: dict[str, list[float | None]] = {name: [] for name in peers}
    for turn in range(repeats + 1):
        values = draw(kind, m, turn)
        for name, peer in peers.items():
            start = time.perf_counter()
            labels = peer(values, min(k, m), turn)
            seconds = time.perf_counter() - start
            if turn > 0:  # the first one warms up
                times[name].append(1e6 * seconds)
                costs[name].append(None if labels is None else cost(values, labels))
    best = [found for found in costs["ours"] if found is not None]
    return {name: score(times[name], costs[name], best) for name in peers}


def score(times: list[float], costs: list[float | None], best: list[float]) -> Score:
    above = [excess(found, least) for found, least in zip(costs, best, strict=True) if found is not None]
    return Score(statistics.median(times), above, 1.0 - len(above) / len(costs))


def share(value: float) -> str:
    return "no cost" if math.isinf(value) else f"{100 * max(value, 0.0):.3g} %"


def cells(own: Score, other: Score) -> str:
    found = other.excess
    costs = f"{share(statistics.median(found))} / {share(max(found))}" if found else "-"
    return f"{other.time:.0f} | {other.time / own.time:.1f}x | {costs} | {100 * other.failures:.0f} %"


def rows(repeats: int) -> list[str]:
    peers: dict[str, Clustering] = {"ours": ours, "kmeans_pytorch": of_pytorch, "scikit-learn": of_sklearn}
    lines = []
    for kind in KINDS:
        for m in SIZES:
            for k in GROUPS:
                scores = race(peers, kind, m, k, repeats)
                own = scores.pop("ours")
                cases = " | ".join(cells(own, other) for other in scores.values())
                lines.append(f"| {kind} | {m} | {k} | {own.time:.0f} | {cases} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kmeans_pytorch.tqdm = Counter
    with contextlib.redirect_stdout(io.StringIO()):  # kmeans_pytorch prints a line at every call
        table = rows(options.repeats)
    packages = ("torch", "kmeans-pytorch", "scikit-learn", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    lines = [
        f"One thread, {platform.machine()}, {versions}; {options.repeats} turns a case.",
        "",
        "| numbers | m | k | exact, us | kmeans_pytorch, us | ratio | cost above ours, median / worst | failures "
        "| scikit-learn, n_init=10, us | ratio | cost above ours, median / worst | failures |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *table,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
