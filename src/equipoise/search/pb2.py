"""PB2: population-based training whose new points come from a bandit that has seen all earlier steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gaussian import deviation, expected, fitted
from .generations import Result, point_of
from .pbt import Question
from .space import Point, Space

_BETA = (0.2, 0.4)  # c1 and c2, as Ray Tune has them
_FEWEST = 2  # improvements, before a model is made of them
_CANDIDATES = 400


@dataclass(frozen=True)
class Bandit:
    """Chooses the point whose improvement over the next interval may be the largest (GP-UCB).

    What is seen of a member in generation t is how much its score, lower is better, fell in an epoch:
    y = (score of its parent in generation t - 1 - its score) / epochs, less its mean over the generation, since all
    members improve less and less, and divided by the standard deviation of all. With the mean mu and the deviation s of
    a time-varying Gaussian process of y (`gaussian.Process`), fitted by evidence, the point chosen maximises

        mu(x) + sqrt(beta) s(x),     beta = c1 + max(0, log(c2 n)),

    n the number of improvements seen. s is that of a process that has also seen whatever will come of the points
    that are settled for the new generation (as in GP-BUCB), so members do not all go to the same place. The maximum is
    over 400 points, half of them drawn from the space and half near the source.
    While fewer than two improvements are known (in the first two generations) points are drawn from the space.

    Source: J. Parker-Holder, V. Nguyen and S. Roberts, Provably Efficient Online Hyperparameter Optimization with
    Population-Based Bandits, NeurIPS 2020, https://arxiv.org/abs/2002.02518, section 4 and Algorithm 1; c1 and c2
    are those of Ray Tune.

    Args:
        space: of the points.
    """

    space: Space

    def __call__(self, question: Question) -> Point:
        """See `Explore`."""
        points, times, gains = improvements(question.history)
        if len(gains) < _FEWEST:
            return self.space.drawn(question.draws)
        half = _CANDIDATES // 2
        candidates = [self.space.drawn(question.draws) for _ in range(half)]
        candidates += [self.space.moved(question.source, question.draws) for _ in range(half)]
        candidates = [point for point in candidates if point not in question.taken]
        place = self._highest(points, times, gains, question, self.space.coordinates(candidates))
        return candidates[place]

    def _highest(
        self, points: Sequence[Point], times: Sequence[int], gains: Tensor, question: Question, rows: Tensor
    ) -> int:
        """Which row has the highest upper confidence bound."""
        x, t = self.space.coordinates(points), torch.tensor(times, dtype=torch.float64)
        for time in t.unique():
            gains = torch.where(t == time, gains - gains[t == time].mean(), gains)
        y = gains / gains.std().clamp(min=1e-12)
        process = fitted(x, t, y)
        now = float(len(question.history))
        settled = self.space.coordinates(question.taken)
        seen = torch.cat([x, settled])
        when = torch.cat([t, torch.full((len(settled),), now, dtype=torch.float64)])
        beta = _BETA[0] + max(0.0, math.log(_BETA[1] * len(y)))
        bound = expected(process, x, t, y, rows, now) + math.sqrt(beta) * deviation(
            process, seen, when, rows, now
        )
        return int(bound.argmax())


def improvements(history: Sequence[Sequence[Result]]) -> tuple[list[Point], list[int], Tensor]:
    """Where members were, in which generation, and how much their scores fell in an epoch (n,); none diverged."""
    points, times, gains = [], [], []
    for before, row in itertools.pairwise(history):
        scores = {one.assignment.member: one.score for one in before}
        for one in row:
            old = None if one.assignment.parent is None else scores[one.assignment.parent]
            if one.score is not None and old is not None:
                points.append(point_of(one.assignment))
                times.append(one.assignment.generation)
                gains.append((old - one.score) / (one.assignment.end - one.assignment.begin))
    return points, times, torch.tensor(gains, dtype=torch.float64)
