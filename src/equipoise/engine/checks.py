"""Losses that no method can balance: named, before anything is touched."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from equipoise.core import Aggregator, Method, Reads, TaskStats, Wrapper
from equipoise.core.method import check_one_of

from .deferred import Deferred
from .distributed import Shares
from .losses import StepLosses

_PATIENCE = 10  # steps after which a learned weight that never moved is warned about


class NotFiniteError(ValueError):
    """A loss or a gradient that is infinite or not a number, or a loss that a method needs above 0 and is not."""


def check_method(method: Method, head_weights: str | None) -> None:
    """Refuse what is no method, and head weights that do not go with it.

    Raises:
        TypeError: on the former.
        ValueError: on the latter.
    """
    if not isinstance(method, Method):
        raise TypeError(
            f"`method` should be a method, for example build_method('go4align', 3). Found {method!r}."
        )
    chosen = head_weights or method.head_weights
    check_one_of("head_weights", chosen, ("same", "unit", "log"))
    if isinstance(method, Aggregator) and chosen == "same":
        raise ValueError(
            f"`head_weights` should be 'unit' or 'log' for {type(method).__name__}, which has no task weights. "
            "Found 'same'."
        )


def bad_losses(step: StepLosses, positive: bool) -> Tensor:
    """Which losses are not finite, or not positive where they have to be, (m,) bool."""
    values, bad = step.values, ~step.values.isfinite()
    if positive:
        absent = ~step.present
        tiny = values.abs() < torch.finfo(values.dtype).tiny  # 1 / loss would overflow
        bad = bad | (((values <= 0) | tiny) & ~absent)
    return bad


class LossCheck:
    """Refuses losses that cannot be balanced: at once, or a step late, and till then those tasks count as absent.

    Args:
        when: "raise", "defer", or None to defer on CUDA only.
        method: whose losses they are.
        positive: whether they have to be above 0.
        tasks: the names of the tasks.

    Raises:
        ValueError: if `when` is another one.
    """

    def __init__(self, when: str | None, method: Method, positive: bool, tasks: Sequence[str]) -> None:
        check_one_of("check_finite", when or "raise", ("raise", "defer"))
        self._when = when
        self._method = method
        self._positive = positive
        self._tasks = tasks
        self._deferred = Deferred()

    def checked(self, step: StepLosses, shares: Shares | None) -> StepLosses:
        """The step, bad losses left out where their error comes later.

        Raises:
            ValueError: naming the losses that are bad.
        """
        bad, late = bad_losses(step, self._positive), self._deferred.take()
        if late is not None:
            refuse_losses(*late, self._tasks, self._method, None, positive=self._positive)
        wait = self._when or ("defer" if step.values.device.type == "cuda" else "raise")
        if wait == "defer" and self._method.reads == Reads.LOSSES:  # the others wait for the device anyway
            self._deferred.put(bad, step)
            return replace(step, values=torch.where(bad, 0.0, step.values), mask=step.present & ~bad)
        if bool(bad.any()):
            refuse_losses(bad, step, self._tasks, self._method, shares, positive=self._positive)
        return step


def refuse_losses(
    bad: Tensor,
    step: StepLosses,
    tasks: Sequence[str],
    method: Method,
    shares: Shares | None,
    *,
    positive: bool,
) -> None:
    """Raise the error that names the losses that are bad.

    Raises:
        NotFiniteError: always.
    """
    places = bad.nonzero()[:, 0].tolist()
    found = ", ".join(f"{tasks[i]}: {step.values[i].item():g}{_where(i, shares)}" for i in places)
    kind = "finite and above 0" if positive else "finite"
    raise NotFiniteError(
        f"Every loss should be {kind} for {type(method).__name__}. Found {found}. The method's state "
        "is untouched, and the gradients are unless the check was deferred: skip this batch, or look for what went "
        "wrong in it."
    )


def _where(task: int, shares: Shares | None) -> str:
    """On which ranks a loss is not finite, in brackets."""
    if shares is None:
        return ""
    ranks = (~shares.losses[:, task].isfinite()).nonzero()[:, 0].tolist()
    return f" (rank {', '.join(map(str, ranks))})" if ranks else ""


def refuse_rows(gramian: Tensor, tasks: Sequence[str], method: Method) -> None:
    """Raise the error that names the tasks whose gradients are not finite.

    Raises:
        NotFiniteError: always.
    """
    bad = (~gramian.diagonal().isfinite()).nonzero()[:, 0].tolist()
    found = ", ".join(tasks[i] for i in bad) or "products of two that overflow"
    raise NotFiniteError(
        f"Every task's gradient should be finite for {type(method).__name__}. Found infinite or NaN ones: {found}. The "
        "method's state and the gradients are untouched: skip this batch, with all of its window of micro-batches, "
        "or look for what went wrong in it."
    )


def finite_rows(stats: TaskStats | None) -> bool:
    """Whether the gradients of a second batch, if there is one, are finite."""
    if stats is None or not stats.has_jacobian:
        return True
    return bool(torch.linalg.vector_norm(stats.jacobian, dim=1).isfinite().all())


def warn_if_stuck(steps: int, method: Method, versions: Mapping[str, int]) -> None:
    """Warn once where learned weights have not moved: nobody has given them to the optimizer."""
    if steps != _PATIENCE or not versions:
        return
    parameters = dict(method.named_parameters())
    stuck = [name for name, version in versions.items() if parameters[name]._version == version]
    if stuck:
        warnings.warn(
            f"The learned weights of {type(method).__name__} ({', '.join(stuck)}) have not moved in {_PATIENCE} steps: "
            "add a group with balancer.parameters() to the optimizer.",
            stacklevel=3,
        )


def check_comparable(method: Method) -> None:
    """Refuse to compare updates of a method that never asks for the Gramian, or reads more.

    Raises:
        ValueError: naming the method.
    """
    base: Method = method
    while isinstance(base, Wrapper):  # which may ask now and then
        base = base.base
    if base.reads != Reads.GRAMIAN:
        raise ValueError(
            f"`fidelity` should be asked of a method that reads the Gramian. Found {type(base).__name__}, which "
            f"reads the {base.reads.name.lower()}."
        )


def refuse_uneven(shares: Shares | None, step: StepLosses) -> None:
    """Refuse ranks without some losses where DistributedDataParallel averages, so that every rank has to take part.

    On a CUDA device only a rank that lacks a loss itself looks, since that waits for the device.

    Raises:
        ValueError: naming the ranks.
    """
    if shares is None or (step.values.device.type != "cpu" and step.number == len(step.values)):
        return
    if shares.uneven:
        lacking = [rank for rank, row in enumerate(shares.counts) if not bool((row > 0).all())]
        raise ValueError(
            "Every rank should have all losses where a loss-only method is used without `counts`. Found that ranks "
            f"{lacking} lack some: pass counts= to backward, and the Balancer averages the gradients itself."
        )
