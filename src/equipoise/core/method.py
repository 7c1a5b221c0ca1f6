"""The two kinds of balancing method, and the wrapper that changes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from .stats import Reads, TaskStats

HeadWeights = Literal["same", "unit", "log"]
SecondBatch = Literal["", "train", "validation"]


class Method(nn.Module, ABC):
    """A function of the numbers measured in a training step, with its state in `state_dict`.

    A method never touches a model, an optimizer, a device or a process group: the `Balancer` measures what
    the method declares in `reads`, calls it, and carries out the answer.

    Attributes:
        reads: the most that the method reads of a step.
        head_weights: whether the authors' code scales the gradients of task heads by the task weights
            ("same"), leaves them alone ("unit") or takes those of the log-losses ("log"); the `Balancer`'s default.
        max_norm: what the norm of the shared gradient is clipped to after everything else, 0 for no clipping.
        needs_positive_losses: whether the method divides by the losses or takes their logarithm.
        second_batch: what `Balancer.measure` has to see before each step: nothing (""), an independent batch of
            the training data ("train"), or one of the validation data ("validation").
        diagnostics: what the last call can tell beside its answer, detached: for example "indicators",
            "assignment", "group_weights", or "converged", a () bool that is False after a fallback.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    head_weights: HeadWeights = "same"
    max_norm: float = 0.0
    needs_positive_losses: bool = False
    second_batch: SecondBatch = ""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        check_at_least("n_tasks", n_tasks, 1)
        self.n_tasks = n_tasks
        self.diagnostics: dict[str, Tensor] = {}

    @property
    def reads(self) -> Reads:
        """The most that the next call reads; a property, since `Every` reads less on steps that it skips."""
        return Reads.LOSSES

    def __call__(self, stats: TaskStats) -> Tensor:
        """The answer for one step, typed where `nn.Module` is not."""
        answer: Tensor = super().__call__(stats)
        return answer

    def after_step(self, losses: Tensor) -> None:
        """Tell the method the losses (m,) after the optimizer step; only FAMO listens."""
        del losses

    @property
    def listens(self) -> bool:
        """Whether `after_step` means anything to the method."""
        return type(self).after_step is not Method.after_step

    @abstractmethod
    def forward(self, stats: TaskStats) -> Tensor:
        """The answer for one step."""


class Weighting(Method):
    """A method that answers with task weights (m,): the shared gradient is weights @ J."""

    @abstractmethod
    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,), float64, 0 for absent tasks; with a graph only where they are learned."""

    def penalty(self) -> Tensor:
        """The regulariser () of the last call that keeps learned weights from collapsing; 0 by default."""
        return torch.zeros((), dtype=torch.float64)


class GramianWeighting(Weighting):
    """A weighting that is a function of the Gramian and the losses of the present tasks.

    Absent tasks are left out before `weigh` is called and get weight 0, so `weigh` sees full rows only.
    """

    @property
    def reads(self) -> Reads:
        """The Gramian."""
        return Reads.GRAMIAN

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,); 0 for absent tasks, and for all of them if none is present."""
        seen, index = stats.only_present()
        self.diagnostics = {}
        if len(index) == 0:
            return torch.zeros_like(stats.losses)
        weights = self.weigh(seen, index)
        if stats.all_present:
            return weights
        return torch.zeros_like(stats.losses).index_put((index,), weights)

    @abstractmethod
    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the k present tasks, whose positions are `index` (k,)."""


class Aggregator(Method):
    """A method that answers with a shared gradient (n,) which weights of the rows cannot express."""

    head_weights: HeadWeights = "unit"

    @property
    def reads(self) -> Reads:
        """The Jacobian."""
        return Reads.JACOBIAN

    @abstractmethod
    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,), in the precision of the Jacobian."""


class Wrapper(Weighting):
    """A weighting that changes the answer of another one, its `base`.

    Args:
        base: the weighting to change.

    Raises:
        TypeError: if `base` is not a `Weighting`, since an aggregator has no weights to change.
    """

    def __init__(self, base: Weighting) -> None:
        if not isinstance(base, Weighting):
            raise TypeError(
                f"`base` should be a method that returns task weights. Found {type(base).__name__}: "
                "an aggregator returns a gradient and cannot be wrapped."
            )
        super().__init__(base.n_tasks)
        self.base = base
        self.head_weights = base.head_weights
        self.max_norm = base.max_norm
        self.needs_positive_losses = base.needs_positive_losses
        self.second_batch = base.second_batch

    @property
    def reads(self) -> Reads:
        """What the base reads."""
        return self.base.reads

    def penalty(self) -> Tensor:
        """The penalty of the base."""
        return self.base.penalty()

    def after_step(self, losses: Tensor) -> None:
        """Pass the losses on to the base."""
        self.base.after_step(losses)

    @property
    def listens(self) -> bool:
        """Whether the base listens."""
        return self.base.listens

    def refuse_learned_weights(self) -> None:
        """For wrappers that keep or mix weights: those of UW would lose their graph and never learn."""
        learned = [name for name, _ in self.base.named_parameters()]
        if learned:
            raise ValueError(
                f"`base` should have no weights that learn under {type(self).__name__}, which would cut their "
                f"graph. Found {', '.join(learned)} in {type(self.base).__name__}."
            )


def check_at_least(name: str, value: float, least: float) -> None:
    """Refuse a hyper-parameter below its least value."""
    if not value >= least:
        raise ValueError(f"`{name}` should be at least {least:g}. Found {value:g}.")


def check_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a hyper-parameter that is none of its choices."""
    if value not in choices:
        raise ValueError(f"`{name}` should be one of {', '.join(choices)}. Found {value!r}.")
