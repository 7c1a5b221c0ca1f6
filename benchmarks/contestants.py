"""What `solvers.py` races: our methods and TorchJD's, called alike."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from torch import Tensor
from torchjd.aggregation import ConFIG, NashMTL
from torchjd.aggregation._aligned_mtl import AlignedMTLWeighting
from torchjd.aggregation._cagrad import CAGradWeighting
from torchjd.aggregation._dualproj import DualProjWeighting
from torchjd.aggregation._fairgrad import FairGradWeighting
from torchjd.aggregation._gradvac import GradVacWeighting
from torchjd.aggregation._imtl_g import IMTLGWeighting
from torchjd.aggregation._krum import KrumWeighting
from torchjd.aggregation._mgda import MGDAWeighting
from torchjd.aggregation._pcgrad import PCGradWeighting
from torchjd.aggregation._upgrad import UPGradWeighting

import equipoise as eq
import gaps
from draws import draw_jacobian
from equipoise.core import TaskStats
from equipoise.methods.pcgrad import project_conflicts
from equipoise.solvers.dual_cone import project_on_dual_cone
from equipoise.solvers.vaccinate import vaccinate

KINDS = ("random", "mixed", "conflict", "scaled")
BETA = 0.5  # of GradVac, TorchJD's default
EPS = torch.finfo(torch.float64).eps


class Draw(NamedTuple):
    """One set of task gradients, and what a step would have measured of it."""

    jacobian: Tensor
    gramian: Tensor
    stats: TaskStats


Call = Callable[[Draw], Tensor]
Goal = Callable[[int, str], float | None]  # m, kind -> the least ratio


class Entry(NamedTuple):
    """How to make a contestant for m tasks, and how to ask it for what the gap is of, if not its answer."""

    build: Callable[[int], Call]
    audit: Call | None = None


class Race(NamedTuple):
    """One method: both sides, the gap, the least m that both take, what is given to both, and the goal."""

    ours: Entry
    theirs: dict[str, Entry]
    gap: Callable[[Tensor, Tensor], float] | None
    goal: Goal
    takes: str = "G"
    least: int = 2
    difference: Callable[[Draw], float] | None = None


def draw(kind: str, m: int, seed: int) -> Draw:
    jacobian = draw_jacobian(kind, m, 4 * m + 8, seed)
    gramian = jacobian @ jacobian.T
    return Draw(jacobian, gramian, TaskStats(torch.ones(m), gramian=gramian))


def ours(spec: str, audit: Call | None = None) -> Entry:
    """Our method as a step calls it, with the Gramian measured."""

    def build(m: int) -> Call:
        method = eq.build_method(spec, m)
        return lambda case: method(case.stats)

    return Entry(build, audit)


def ours_of_jacobian(spec: str, *, direction: bool) -> Entry:
    """Our method given the Jacobian: its time includes G = JJ', and w J where `direction` is asked for."""

    def build(m: int) -> Call:
        method, losses = eq.build_method(spec, m), torch.ones(m, dtype=torch.float64)

        def call(case: Draw) -> Tensor:
            weights = method(TaskStats(losses, gramian=case.jacobian @ case.jacobian.T))
            return weights @ case.jacobian if direction else weights

        return call

    return Entry(build)


def of_gramian(make: Callable[[], Callable[[Tensor], Tensor]], audit: Call | None = None) -> Entry:
    def build(_: int) -> Call:
        weighting = make()
        return lambda case: weighting(case.gramian)

    return Entry(build, audit)


def nash_of_torchjd(m: int) -> Call:
    """Every draw starts from equal weights, as the first. A new aggregator for each would compile its problem anew."""
    weighting = NashMTL(n_tasks=m, max_norm=0.0).weighting
    start = weighting.prvs_alpha.copy()

    def call(case: Draw) -> Tensor:
        weighting.prvs_alpha = start.copy()
        return torch.as_tensor(weighting(case.jacobian))

    return call


def config_of_torchjd(_: int) -> Call:
    aggregator = ConFIG()
    return lambda case: torch.as_tensor(aggregator(case.jacobian))


def our_projections(case: Draw) -> Tensor:
    """UPGrad sums the projections; the optimality conditions are those of each."""
    m = len(case.gramian)
    return project_on_dual_cone(case.gramian, torch.eye(m, dtype=torch.float64) / m).weights


def their_projections(case: Draw) -> Tensor:
    weighting = UPGradWeighting()
    return torch.as_tensor(weighting.projector(torch.diag(weighting.weighting(case.gramian)), case.gramian))


def our_change(case: Draw) -> Tensor:
    """Ours are m / (1 + c^2) times as long as those of TorchJD."""
    method = eq.build_method(f"cagrad:c={gaps.C}", len(case.gramian))
    return method(case.stats) * (1 + gaps.C**2) / len(case.gramian)


def in_order(m: int) -> Tensor:
    return torch.arange(m).expand(m, m)


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / ours.abs().max())


def pcgrad_difference(case: Draw) -> float:
    mine = project_conflicts(case.gramian, in_order(len(case.gramian)))
    with mock.patch.object(torch, "randperm", torch.arange):
        return apart(mine, PCGradWeighting()(case.gramian))


def gradvac_difference(case: Draw) -> float:
    """Over three calls, since the targets are 0 in the first."""
    m, theirs, largest = len(case.gramian), GradVacWeighting(beta=BETA), 0.0
    targets = torch.zeros(1, m, m, dtype=torch.float64)
    for _ in range(3):
        mine, targets = vaccinate(case.gramian[None], targets, in_order(m), BETA)
        with mock.patch.object(torch, "randperm", torch.arange):
            largest = max(largest, apart(mine[0], theirs(case.gramian)))
    return largest


def at_least(ratio: float) -> Goal:
    return lambda m, kind: ratio


def at_forty(ratio: float) -> Goal:
    return lambda m, kind: ratio if m == 40 else None


def no_goal(m: int, kind: str) -> None:
    return None


def upgrad_goal(m: int, kind: str) -> float:
    """No slower, and 3x at m = 40 without conflicts, which only "mixed" is free of."""
    return 3.0 if m == 40 and kind == "mixed" else 1.0


MGDA_PEERS = {
    "torchjd": of_gramian(MGDAWeighting),
    "torchjd, 2,000 iterations": of_gramian(lambda: MGDAWeighting(epsilon=1e-9, max_iters=2000)),
}
RACES = {
    "nashmtl": Race(
        ours_of_jacobian("nashmtl", direction=False),
        {"torchjd": Entry(nash_of_torchjd)},
        gaps.nash_gap,
        at_least(30.0),
        takes="J",
    ),
    "fairgrad": Race(
        ours(f"fairgrad:alpha={gaps.ALPHA}"),
        {"torchjd": of_gramian(lambda: FairGradWeighting(alpha=gaps.ALPHA))},
        gaps.fairgrad_gap,
        at_least(30.0),
    ),
    "cagrad": Race(
        ours(f"cagrad:c={gaps.C}", our_change),
        {"torchjd": of_gramian(lambda: CAGradWeighting(c=gaps.C))},
        gaps.cagrad_gap,
        at_least(3.0),
    ),
    "mgda": Race(ours("mgda"), MGDA_PEERS, gaps.min_norm_gap, at_forty(3.0)),
    "upgrad": Race(
        ours("upgrad", our_projections),
        {"torchjd": of_gramian(UPGradWeighting, their_projections)},
        gaps.projection_gap,
        upgrad_goal,
    ),
    "dualproj": Race(
        ours("dualproj"), {"torchjd": of_gramian(DualProjWeighting)}, gaps.projection_gap, no_goal
    ),
    "pcgrad": Race(
        ours("pcgrad"),
        {"torchjd": of_gramian(PCGradWeighting)},
        None,
        at_forty(5.0),
        difference=pcgrad_difference,
    ),
    "gradvac": Race(
        ours(f"gradvac:beta={BETA}"),
        {"torchjd": of_gramian(lambda: GradVacWeighting(beta=BETA))},
        None,
        at_forty(10.0),
        difference=gradvac_difference,
    ),
    "config": Race(
        ours_of_jacobian("config", direction=True),
        {"torchjd": Entry(config_of_torchjd)},
        gaps.conflict_free_gap,
        at_least(1.0),
        takes="J",
    ),
    # TorchJD's cut-off of eigenvalues; ours is that of the authors' code, which takes badly scaled tasks out.
    "aligned_mtl": Race(
        ours(f"aligned_mtl:tolerance={EPS}"),
        {"torchjd": of_gramian(AlignedMTLWeighting)},
        gaps.aligned_gap,
        at_least(1.0),
    ),
    "imtl_g": Race(
        ours("imtl_g"), {"torchjd": of_gramian(IMTLGWeighting)}, gaps.equal_projection_gap, no_goal
    ),
    # TorchJD refuses m < 4.
    "krum": Race(ours("krum"), {"torchjd": of_gramian(lambda: KrumWeighting(1))}, None, no_goal, least=4),
}
