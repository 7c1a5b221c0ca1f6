"""Estimates over metrics: delta_m and its terms, inter-quartile mean, mean rank, probability of improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.training.comparison import ONE_SEED

from .bootstrap import freedom_of, interval
from .estimates import Estimate
from .samples import Samples, not_finite
from .summary import MethodSummary

_CHUNK = 1000  # resamples at a time


def changes(samples: Samples, row: MethodSummary) -> dict[str, Estimate]:
    """Signed change of each metric in percent, with the uncertainty of the method's and of the single-task runs."""
    if not samples.usable:
        return {}
    n, places = len(row.runs), {column: k for k, one in enumerate(samples.single) for column in one.columns}
    both, own, apart = _parts(samples, row)
    errors, spreads, others = both.std(dim=0).tolist(), own.var(dim=0).tolist(), apart.var(dim=0).tolist()
    found = {}
    for column, metric in enumerate(samples.usable):
        mean = row.changes[metric.name]
        why = _refused(samples, row, mean, [places[column]])
        if why:
            found[metric.name] = Estimate(mean, None, None, n, why)
            continue
        groups = [(spreads[column], n), (others[column], samples.single[places[column]].n)]
        found[metric.name] = interval(mean, errors[column], _freedom(groups), n)
    return found


def delta(samples: Samples, row: MethodSummary) -> Estimate | None:
    """delta_m in percent, likewise; None where there is none."""
    if row.delta_m is None:
        return None
    n, why = len(row.runs), _refused(samples, row, row.delta_m.mean, range(len(samples.single)))
    if why:
        return Estimate(row.delta_m.mean, None, None, n, why)
    both, own, apart = _parts(samples, row)
    groups = [(float(own.mean(dim=1).var()), n)]
    for one in samples.single:
        part = apart[:, list(one.columns)].sum(dim=1) / len(samples.usable)
        groups.append((float(part.var()), one.n))
    return interval(row.delta_m.mean, float(both.mean(dim=1).std()), _freedom(groups), n)


def interquartile(samples: Samples, row: MethodSummary) -> Estimate | None:
    """Mean of the middle half of the changes over seeds and metrics, in percent; None without delta_m.

    Quarters are cut within a value where their number is not a whole one.

    Source: R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021,
    https://arxiv.org/abs/2108.13264, section 4.3. Here the values are changes of metrics instead of scores of games.
    """
    if row.delta_m is None:
        return None
    values, n = samples.values(row), len(row.runs)
    every = samples.changes(values, samples.baseline)
    mean = float(middle_mean(every.flatten()[None], torch.ones(1, every.numel(), dtype=torch.float64)))
    why = _refused(samples, row, mean, range(len(samples.single)))
    if why:
        return Estimate(mean, None, None, n, why)
    draws, chunks = [], samples.resampled_baseline(row).split(_CHUNK)
    for some, baseline in zip(samples.draws(row).split(_CHUNK), chunks, strict=True):
        drawn = samples.changes(values[None], baseline[:, None]).flatten(1)
        draws.append(middle_mean(drawn, some.repeat_interleave(values.shape[1], dim=1)))
    least = min([n, *(one.n for one in samples.single if one.name)])
    return interval(mean, float(torch.cat(draws).std()), least - 1, n)


def middle_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the middle half of each row: values, weights (rows, n) -> (rows,)."""
    ordered, order = values.sort(dim=1)
    sizes = weights.gather(1, order)
    upper = (sizes.cumsum(dim=1) / sizes.sum(dim=1, keepdim=True)).clamp(0.25, 0.75)
    lower = torch.cat([torch.full_like(upper[:, :1], 0.25), upper[:, :-1]], dim=1)
    return (ordered * (upper - lower)).sum(dim=1) / 0.5


def ranks(samples: Samples) -> dict[str, Estimate]:
    """Mean rank among the methods of the summary, by the competition ranks of `equipoise.training.metrics.mean_rank`.

    Methods with the same seeds are resampled together, as their runs share splits and batches.
    """
    rows = samples.summary.methods
    least = min(rows, key=lambda row: len(row.runs), default=None)
    if least is None:
        return {}
    if len(least.runs) < 2:
        why = f"one seed of {least.method}"
        return {row.method: Estimate(row.mean_rank, None, None, len(row.runs), why) for row in rows}
    weights = [samples.draws(row).split(_CHUNK) for row in rows]
    costs = [samples.costs(row) for row in rows]
    draws = torch.cat([_mean_ranks(costs, chunk) for chunk in zip(*weights, strict=True)], dim=1)
    limits = (1.0, float(len(rows)))
    return {
        row.method: interval(row.mean_rank, float(drawn.std()), len(least.runs) - 1, len(row.runs), limits)
        for row, drawn in zip(rows, draws, strict=True)
    }


def _mean_ranks(costs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Mean rank of each method in each resample, (methods, resamples)."""
    means = []
    for cost, weight in zip(costs, weights, strict=True):
        mean = weight @ cost.nan_to_num(posinf=0.0)
        means.append(torch.where(cost.isinf().any(dim=0), math.inf, mean))
    stacked = torch.stack(means)  # (methods, resamples, metrics)
    return torch.stack([1 + (stacked < own).sum(dim=0).double().mean(dim=1) for own in stacked])


def improvement(samples: Samples, row: MethodSummary, reference: MethodSummary) -> Estimate:
    """Probability that a run of the method beats a run of the reference in a metric drawn at random.

    Mean over metrics of P(X < Y) + P(X = Y) / 2 over all pairs of seeds, with X and Y of the method and the reference
    and lower the better. A value that is not a number loses against every number. Each side is resampled by itself.

    Source: R. Agarwal et al., as for `interquartile`, section 4.3 (probability of improvement).
    """
    own, other = samples.costs(row), samples.costs(reference)
    wins = torch.stack([(mine < other).double() + (mine == other).double() / 2 for mine in own])
    table = wins.mean(dim=2)  # (seeds, seeds of the reference)
    mean, n = float(table.mean()), len(row.runs)
    if min(table.shape) < 2:
        return Estimate(mean, None, None, n, ONE_SEED)
    draws = ((samples.draws(row) @ table) * samples.other_draws(reference)).sum(dim=1)
    return interval(mean, float(draws.std()), min(table.shape) - 1, n, (0.0, 1.0))


def _parts(samples: Samples, row: MethodSummary) -> tuple[Tensor, Tensor, Tensor]:
    """Changes in each resample: of all runs, of those with the method's seeds alone, and of the others alone."""
    values, baseline, shared = samples.values(row), samples.baseline, samples.together(row)
    drawn, every = samples.draws(row) @ values, samples.resampled_baseline(row)
    own = samples.changes(drawn, torch.where(shared, every, baseline))
    apart = samples.changes(values.mean(dim=0), torch.where(shared, baseline, every))
    return samples.changes(drawn, every), own, apart


def _freedom(groups: Sequence[tuple[float, int]]) -> int:
    return freedom_of([(variance, n) for variance, n in groups if n > 1])


def _refused(samples: Samples, row: MethodSummary, mean: float, single: Sequence[int]) -> str:
    """Why there is no interval of a change, against the single-task runs with these places; empty where there is."""
    groups = [samples.single[k] for k in single]
    columns = [column for one in groups for column in one.columns]
    if not math.isfinite(mean):
        own = not_finite(row, [samples.usable[column] for column in columns])
        return own or "the single-task value is not finite"
    if len(row.runs) < 2:
        return ONE_SEED
    alone = [one.name for one in groups if one.name and one.n < 2]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        return f"one seed of the single-task run of {alone[0]}{more}"
    return ""
