"""The losses of hundreds of tasks from one matrix product, each with a gradient of its own that costs little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Kind = Literal["binary", "count", "real"]
LEAST = 1e-8  # what is added to every loss: with few labels in a batch one may be 0, which has no logarithm


def head_losses(
    features: Tensor, head: nn.Linear, targets: Tensor, kinds: Mapping[Kind, Tensor]
) -> tuple[Tensor, ...]:
    """The mean loss of each task over its labelled samples, from features and the linear layer of all heads.

    Equal to one loss per task on its own column of `head(features)`, as `equipoise.training.tabular.Columns` says.
    The backward pass of a single task touches its own column only: through plain operations on (b, m) it would cost
    m times as much, and m of these passes, as methods that read gradients make, m^2.

    Unlabelled samples are never looked at, so neither value nor gradient depends on the outputs there. The gradient
    can be taken repeatedly (`retain_graph=True`), but not of a gradient.

    Args:
        features: (b, width).
        head: from width to m outputs.
        targets: (b, m), scaled, NaN where there is no label.
        kinds: "binary", "count" or "real" -> the positions of its columns, int64.

    Returns:
        m scalars, 1e-8 above these means, so that methods may divide by them or take their logarithm; of no meaning
        for a task without any label here, which is to be left out.

    Raises:
        ValueError: if the targets do not fit.
    """
    if targets.shape != (len(features), head.out_features):
        raise ValueError(
            f"`targets` should have shape {(len(features), head.out_features)}, a row for each sample and a column "
            f"for each output. Found {tuple(targets.shape)}."
        )
    weight = head.weight
    losses: tuple[Tensor, ...] = _HeadLosses.apply(  # type: ignore[no-untyped-call]
        features.to(weight.dtype), weight, head.bias, targets.to(weight.dtype), kinds
    )
    return losses


class _HeadLosses(torch.autograd.Function):
    """Scalars L_t = sum_b l(f_b . W_t + w_t, y_bt) / n_t. Kept: features, W and dL_t / dz_bt (b, m).

    With cotangents g_t, of which many may be missing, and S = slope x g over the columns that have one, the gradients
    are S W of the features, S' f of W and the sums over samples of S for w.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        kinds: Mapping[Kind, Tensor],
    ) -> tuple[Tensor, ...]:
        labelled = ~targets.isnan()
        outputs = torch.addmm(bias, features, weight.T)
        values, slopes = _elementwise(outputs, torch.where(labelled, targets, 0.0), kinds)
        share = labelled.to(outputs) / labelled.sum(dim=0).clamp(min=1)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, weight, torch.where(labelled, slopes * share, 0.0))
        return tuple(torch.where(labelled, values * share, 0.0).sum(dim=0).add(LEAST).unbind())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: Tensor | None) -> tuple[Tensor | None, ...]:
        features, weight, slopes = ctx.saved_tensors
        given = [k for k, seed in enumerate(seeds) if seed is not None]
        if not given:
            return (None,) * 5
        scales = torch.stack([seed for seed in seeds if seed is not None])
        some = len(given) < len(seeds)
        if some:
            chosen = torch.tensor(given, device=slopes.device)
            slopes = slopes[:, chosen]
        slopes = slopes * scales
        wanted_features, wanted_weight, wanted_bias, *_ = ctx.needs_input_grad
        d_features = slopes @ (weight[chosen] if some else weight) if wanted_features else None
        d_weight = slopes.T @ features if wanted_weight else None
        d_bias = slopes.sum(dim=0) if wanted_bias else None
        if some:
            d_weight, d_bias = (_placed(own, chosen, len(seeds)) for own in (d_weight, d_bias))
        return d_features, d_weight, d_bias, None, None


def _placed(rows: Tensor | None, places: Tensor, number: int) -> Tensor | None:
    """Rows at their places among so many, the others 0."""
    if rows is None:
        return None
    return rows.new_zeros(number, *rows.shape[1:]).index_copy_(0, places, rows)


def _elementwise(outputs: Tensor, targets: Tensor, kinds: Mapping[Kind, Tensor]) -> tuple[Tensor, Tensor]:
    """The losses (b, m) and their derivatives (b, m) with respect to the outputs."""
    if len(kinds) == 1:
        return _RULES[next(iter(kinds))](outputs, targets)
    values, slopes = torch.empty_like(outputs), torch.empty_like(outputs)
    for kind, places in kinds.items():
        places = places.to(outputs.device)
        values[:, places], slopes[:, places] = _RULES[kind](outputs[:, places], targets[:, places])
    return values, slopes


def _binary(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.softplus(outputs) - outputs * targets, outputs.sigmoid() - targets


def _count(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rates = outputs.exp()
    values = torch.special.xlogy(targets, targets) - targets * outputs - targets + rates
    return 2 * values, 2 * (rates - targets)


def _real(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return (outputs - targets).square(), 2 * (outputs - targets)


_RULES: dict[Kind, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "binary": _binary,
    "count": _count,
    "real": _real,
}
