"""Exact Pareto fronts, convex and concave: where each method ends is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.core.names import check_known
from equipoise.training.problem import Description, Loaders
from equipoise.training.task import Metric, Task

from .synthetic_presets import FRONTS

KINDS = ("convex", "concave")
WEIGHTED_SUMS_REACH = 1 / math.sqrt(2)
"""On the concave front of two objectives, minima of weighted sums have |position| above this number, and none below."""


class Point(nn.Module):
    """A network that is nothing but a point x (n,): all parameters are shared, and there are no heads.

    Args:
        x: where it begins.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)


class Steps:
    """As many training steps as asked for, each with a batch that holds nothing.

    Args:
        count: steps of an epoch.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self._count

    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        """The batches from the `start`-th on."""
        del number
        return iter([torch.zeros(0)] * (self._count - start))


class Fronts:
    """m objectives of a point x (n,) whose Pareto set is a simplex, and whose front is convex or concave.

    With anchors a_i = sqrt(2) e_i, which are 2 apart, and d_i = |x - a_i|,

        convex:   f_i = offset + d_i^2,
        concave:  f_i = offset + 1 - exp(-d_i^2),

    of which the second is the problem of Fonseca and Fleming. Both rise with the distance to the anchor, so they have
    one Pareto set, the convex hull of the anchors. With two objectives and x at the position s in [-1, 1] between
    them, d_1 = 1 + s and d_2 = 1 - s, and the fronts are sqrt(f_1 - offset) + sqrt(f_2 - offset) = 2 and the same of
    the square roots of -log(1 + offset - f_i).

    Convex front: the weighted sum w has its one minimum at x = sum_i w_i a_i, so that every point of the Pareto set
    can be reached. Concave front of two: along the segment a weighted sum that is stationary at s has a curvature of
    the sign of 1 / (1 - s^2) - 2, so that its minima have |s| > 1 / sqrt(2), whatever the weights, and what lies
    between cannot be reached by them.

    Metrics are the objectives themselves. The single-task values, `offset`, are the known reference. An objective that
    is hardly better than at the anchor of another one counts as not learnt. delta_m is a mean: on the concave front it
    is lower in a corner, where one objective is given up, than in the middle, where all are halfway.

    Reference: C. M. Fonseca and P. J. Fleming, An Overview of Evolutionary Algorithms in Multiobjective Optimization,
    Evolutionary Computation 3 (1995), https://doi.org/10.1162/evco.1995.3.1.1.

    Args:
        kind: "convex" or "concave".
        objectives: m, at least 2.
        dimensions: n, at least m.
        offset: the least value of each objective; above 0, since some methods take logarithms of losses.
        steps: of an epoch.

    Raises:
        ValueError: if an option is out of its range.
    """

    name: ClassVar[str] = "fronts"
    tasks: tuple[Task, ...] = ()  # those of an instance follow from its options; see `describe`
    reference: Mapping[str, float] = {}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = FRONTS

    def __init__(
        self,
        *,
        kind: str = "concave",
        objectives: int = 2,
        dimensions: int = 4,
        offset: float = 0.5,
        steps: int = 100,
    ) -> None:
        check_known("`kind`", kind, KINDS)
        if dimensions < objectives:
            raise ValueError(
                f"`dimensions` should be at least the number of objectives, {objectives}. Found {dimensions}."
            )
        if steps < 1:
            raise ValueError(f"`steps` should be at least 1. Found {steps}.")
        described = self.describe({"objectives": objectives, "offset": offset})
        self.tasks, self.reference = described.tasks, described.reference
        self._kind, self._offset, self._steps = kind, offset, steps
        self.anchors = math.sqrt(2) * torch.eye(objectives, dimensions)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Formulas, so always there."""
        return {"available": True, "source": "formulas"}

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """An objective is a task.

        Raises:
            ValueError: on fewer than 2 objectives, or an offset that is not above 0.
        """
        count, offset = options.get("objectives", 2), options.get("offset", 0.5)
        if count < 2:
            raise ValueError(f"`objectives` should be at least 2. Found {count}.")
        if not offset > 0:
            raise ValueError(f"`offset` should be above 0. Found {offset}.")
        names = [f"f{k + 1}" for k in range(count)]
        tasks = tuple(
            Task(name, (Metric(f"{name} value", higher_is_better=False, unit=""),)) for name in names
        )
        return Description(tasks, {f"{name} value": offset for name in names})

    def model(self, seed: int) -> Point:
        """A point that is a normal draw, of standard deviation 0.3, away from the middle of the anchors."""
        stream = torch.Generator().manual_seed(seed)
        return Point(self.anchors.mean(0) + 0.3 * torch.randn(self.anchors.shape[1], generator=stream))

    def loaders(self, seed: int) -> Loaders:
        """Nothing is drawn: every step sees the objectives as they are."""
        del seed
        return Loaders(Steps(self._steps), [torch.zeros(0)], [torch.zeros(0)])

    def values(self, x: Tensor) -> Tensor:
        """The objectives (m,) at a point x (n,)."""
        squares = (x - self.anchors.to(x)).square().sum(1)
        return self._offset + (squares if self._kind == "convex" else -torch.expm1(-squares))

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        """The objectives by name."""
        del batch
        assert isinstance(model, Point)
        return dict(zip((task.name for task in self.tasks), self.values(model.x).unbind(), strict=True))

    def shared(self, model: nn.Module) -> nn.Module:
        """All of it."""
        return model

    def evaluate(self, model: nn.Module, loader: Iterable[Tensor]) -> dict[str, float]:
        """The objectives."""
        del loader
        assert isinstance(model, Point)
        return self._metrics(self.values(model.x.detach().double()))

    def trivial(self, seed: int) -> dict[str, float]:
        """Each objective at the anchor of another one, where it is as good as not looked at."""
        del seed
        return self._metrics(torch.stack([self.values(anchor) for anchor in self.anchors.double()]).amax(0))

    def coordinates(self, x: Tensor) -> Tensor:
        """The barycentric coordinates (m,), with sum 1, of the point of the anchors' plane nearest to x (n,)."""
        inside = x[: len(self.anchors)] / math.sqrt(2)
        return inside + (1 - inside.sum()) / len(self.anchors)

    def position(self, x: Tensor) -> float:
        """Where x (n,) lies between the first anchor, -1, and the second, 1, of two."""
        first, second = self.coordinates(x)
        return float(second - first)

    def distance(self, x: Tensor) -> float:
        """How far x (n,) is from the plane of the anchors; 0 with coordinates of at least 0 is Pareto-optimal."""
        return float((x - self.coordinates(x) @ self.anchors.to(x)).norm())

    def _metrics(self, values: Tensor) -> dict[str, float]:
        return dict(zip((task.metrics[0].name for task in self.tasks), values.tolist(), strict=True))
