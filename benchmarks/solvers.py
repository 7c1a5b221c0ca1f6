"""Our solvers beside those of TorchJD: time at what optimality gap, on the same Gramians, one thread.

Run `python benchmarks/solvers.py [--repeats 15] [--out FILE]`. The solvers take turns, five Gramians a turn, so that a
busy machine slows them alike; times are medians over Gramians and turns and include G = JJ'. The gap is the
relative optimality gap of the answer, computed here for both: the duality gap over its own scale for MGDA and
CAGrad, the relative residual of G a = 1 / a (any scale of a allowed) for Nash-MTL. A failure is an exception, an
answer that is not finite, or a gap above 1e-3.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torchjd.aggregation import NashMTL
from torchjd.aggregation._cagrad import CAGradWeighting
from torchjd.aggregation._mgda import MGDAWeighting

from draws import draw_jacobian
from equipoise.solvers.cagrad import cagrad
from equipoise.solvers.fairness import nash
from equipoise.solvers.kmeans import kmeans_1d
from equipoise.solvers.min_norm import min_norm

SIZES = (2, 3, 11, 40)
KINDS = ("random", "mixed", "conflict", "scaled")
C = 0.4
Solver = Callable[[Tensor], Tensor]  # Jacobian (m, n) -> weights (m,)
Gap = Callable[[Tensor, Tensor], float]  # Gramian (m, m), weights (m,) -> relative gap


class Score(NamedTuple):
    """Median time in microseconds, median and largest gap, and the share of failures."""

    time: float
    gap: float
    worst: float
    failures: float


def min_norm_gap(gramian: Tensor, weights: Tensor) -> float:
    weights = weights.clamp(min=0.0) / weights.clamp(min=0.0).sum()
    image = gramian @ weights
    return max(0.0, float(weights @ image - image.min())) / float(weights @ gramian.diagonal())


def cagrad_gap(gramian: Tensor, weights: Tensor) -> float:
    """From the weights of the direction, 1 / m + c |g0| w / |g_w| up to scale."""
    m, centre = len(gramian), gramian.mean(0)
    length = centre.mean().sqrt()
    change = (weights - 1.0 / m).clamp(min=0.0)
    if not float(change.sum()) > 0.0:
        return float("inf")
    simplex = change / change.sum()
    norm = (simplex @ gramian @ simplex).sqrt()
    slopes = centre + C * length * (gramian @ simplex) / norm
    typical = (simplex @ gramian.diagonal()).sqrt()
    return max(0.0, float((simplex @ slopes - slopes.min()) / (length * (1 + C) * typical)))


def nash_gap(gramian: Tensor, weights: Tensor) -> float:
    """The least relative residual of G a = 1 / a over all scales of the weights."""
    products = weights * (gramian @ weights)
    low, high = products.min(), products.max()
    return float((high - low) / (high + low)) if float(low) > 0.0 else 1.0


def timed(solver: Solver, jacobian: Tensor) -> tuple[float, Tensor | None]:
    start = time.perf_counter()
    try:
        answer = solver(jacobian)
    except Exception:
        return time.perf_counter() - start, None
    return time.perf_counter() - start, answer


def race(solvers: dict[str, Solver], gap: Gap, jacobians: list[Tensor], rounds: int) -> dict[str, Score]:
    times: dict[str, list[float]] = {name: [] for name in solvers}
    gaps: dict[str, list[float]] = {name: [] for name in solvers}
    for turn in range(rounds + 1):
        for name, solver in solvers.items():
            for jacobian in jacobians:
                seconds, answer = timed(solver, jacobian)
                if turn == 0:  # warms up
                    continue
                gramian = jacobian @ jacobian.T
                good = answer is not None and bool(answer.isfinite().all())
                times[name].append(1e6 * seconds)
                gaps[name].append(gap(gramian, answer) if good and answer is not None else float("inf"))
    return {name: summary(times[name], gaps[name]) for name in solvers}


def summary(times: list[float], gaps: list[float]) -> Score:
    failures = sum(gap > 1e-3 for gap in gaps) / len(gaps)
    return Score(statistics.median(times), statistics.median(gaps), max(gaps), failures)


def nash_of_torchjd(jacobian: Tensor) -> Tensor:
    """A fresh aggregator for each draw would compile its problem anew, so one for each m is kept."""
    m = len(jacobian)
    weighting = NASH.setdefault(m, NashMTL(n_tasks=m, max_norm=0.0).weighting)
    return torch.as_tensor(weighting(jacobian))


NASH: dict[int, Callable[[Tensor], Tensor]] = {}


def of_gramian(weighting: Callable[[Tensor], Tensor]) -> Solver:
    return lambda jacobian: weighting(jacobian @ jacobian.T)


RACES: dict[str, tuple[Gap, dict[str, Solver]]] = {
    "nash": (nash_gap, {"ours": of_gramian(lambda g: nash(g).weights), "torchjd": nash_of_torchjd}),
    "cagrad": (
        cagrad_gap,
        {
            "ours": of_gramian(lambda g: cagrad(g, C).weights * (1 + C * C) / len(g)),
            "torchjd": of_gramian(CAGradWeighting(c=C)),
        },
    ),
    "mgda": (
        min_norm_gap,
        {
            "ours": of_gramian(lambda g: min_norm(g).weights),
            "torchjd": of_gramian(MGDAWeighting()),
            "torchjd, 2,000 iterations": of_gramian(MGDAWeighting(epsilon=1e-9, max_iters=2000)),
        },
    ),
}


def solver_rows(repeats: int) -> list[str]:
    rows = []
    for method, (gap, solvers) in RACES.items():
        for m in SIZES:
            for kind in KINDS:
                jacobians = [draw_jacobian(kind, m, 4 * m + 8, seed) for seed in range(5)]
                scores = race(solvers, gap, jacobians, max(1, repeats // 5))
                ours = scores.pop("ours")
                for name, other in scores.items():
                    rows.append(row(f"{method} | {m} | {kind}", name, ours, other))
    return rows


def row(case: str, name: str, ours: Score, other: Score) -> str:
    ratio = f"{other.time / ours.time:.1f}x"
    gaps = f"{ours.gap:.0e} / {ours.worst:.0e} | {other.gap:.0e} / {other.worst:.0e}"
    failures = f"{100 * ours.failures:.0f} % | {100 * other.failures:.0f} %"
    return f"| {case} | {name} | {ours.time:.0f} | {other.time:.0f} | {ratio} | {gaps} | {failures} |"


def kmeans_cost(values: Tensor, labels: Tensor, k: int) -> float:
    groups = [values[labels == label] for label in range(k)]
    return sum(float((group - group.mean()).square().sum()) for group in groups if len(group))


def kmeans_rows(repeats: int) -> list[str]:
    rows = []
    for m in (3, 11, 40, 100, 617):
        for k in (2, 5):
            values = torch.rand(m, dtype=torch.float64, generator=torch.Generator().manual_seed(m))
            lloyd = KMeans(n_clusters=min(k, m), n_init=10, random_state=0)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(10 * repeats):
                start = time.perf_counter()
                labels = kmeans_1d(values, k)
                ours.append(time.perf_counter() - start)
            for _ in range(max(3, repeats // 3)):
                start = time.perf_counter()
                lloyd.fit(values[:, None].numpy())
                theirs.append(time.perf_counter() - start)
            excess = (lloyd.inertia_ + 1e-300) / (kmeans_cost(values, labels, k) + 1e-300) - 1.0
            mine, other = 1e6 * statistics.median(ours), 1e6 * statistics.median(theirs)
            rows.append(
                f"| {m} | {k} | {mine:.0f} | {other:.0f} | {other / mine:.0f}x | {100 * excess:.3f} % |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchjd", "scikit-learn")
    )
    lines = [
        f"One thread, {platform.machine()}, {versions}; {options.repeats} runs a case.",
        "",
        "| method | m | Gramians | against | ours, us | theirs, us | ratio "
        "| our gap, median / worst | their gap | our failures | theirs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *solver_rows(options.repeats),
        "",
        "| m | k | exact k-means, us | sklearn KMeans, n_init=10, us | ratio | cost of sklearn above the optimum |",
        "|---|---|---|---|---|---|",
        *kmeans_rows(options.repeats),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
