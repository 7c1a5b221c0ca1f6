"""What a balancing method may see of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor


class Reads(IntEnum):
    """How much of a training step a method reads; each level includes the ones before it."""

    LOSSES = 0
    GRAMIAN = 1
    JACOBIAN = 2


class MissingStatisticError(RuntimeError):
    """A method asked for a statistic that was not measured in this step."""


class TaskStats:
    """The numbers measured in one training step: detached, unscaled, averaged over ranks.

    With m tasks and n shared parameters: `losses` (m,) in the units of the losses, `present` (m,) bool,
    `gramian` (m, m) = J J' and `jacobian` (m, n) whose row i is the gradient of loss i with respect to the
    shared parameters. Losses and Gramian are float64, since they are small and solvers need the digits;
    the Jacobian keeps the precision that it was measured in. The rows of an absent task are zero.

    Args:
        losses: the task losses (m,).
        present: which tasks had labels in this step (m,) bool; None means all of them, known without a look
            at the device.
        gramian: the inner products of the task gradients (m, m), or None if it was not measured.
        jacobian: the task gradients (m, n), or None. The Gramian is derived from it when it is not given.
        epoch: the running epoch, for methods that depend on it, or None.
        blocks: how many columns of the Jacobian each shared parameter has, in order; None for one block.
        other: the statistics of a second batch, for methods that need an independent one, or None.

    Raises:
        ValueError: on shapes that do not agree.
        MissingStatisticError: on reading `gramian`, `jacobian` or `other` when it was not measured.
    """

    __slots__ = ("_blocks", "_gramian", "_jacobian", "_other", "_present", "epoch", "losses")

    def __init__(
        self,
        losses: Tensor,
        *,
        present: Tensor | None = None,
        gramian: Tensor | None = None,
        jacobian: Tensor | None = None,
        epoch: int | None = None,
        blocks: Sequence[int] | None = None,
        other: TaskStats | None = None,
    ) -> None:
        m = losses.shape[0] if losses.ndim == 1 else -1
        _check_shape("losses", losses, (m,))
        if present is not None:
            _check_shape("present", present, (m,))
        if gramian is not None:
            _check_shape("gramian", gramian, (m, m))
        if jacobian is not None:
            _check_shape("jacobian", jacobian, (m, jacobian.shape[-1]))
        self.losses = losses.detach().double()
        self._present = present
        self._gramian = None if gramian is None else gramian.detach().double()
        self._jacobian = None if jacobian is None else jacobian.detach()
        self.epoch = epoch
        self._blocks = blocks
        self._other = other

    @property
    def all_present(self) -> bool:
        """Whether every task is known to be present without asking the device."""
        return self._present is None

    @property
    def present(self) -> Tensor:
        """Which tasks had labels in this step, (m,) bool."""
        if self._present is None:
            return torch.ones_like(self.losses, dtype=torch.bool)
        return self._present

    @property
    def gramian(self) -> Tensor:
        """The inner products of the task gradients, (m, m) float64."""
        if self._gramian is None:
            self._gramian = gramian_of(self.jacobian)
        return self._gramian

    @property
    def has_jacobian(self) -> bool:
        """Whether the task gradients were measured."""
        return self._jacobian is not None

    @property
    def jacobian(self) -> Tensor:
        """The task gradients with respect to the shared parameters, (m, n)."""
        if self._jacobian is None:
            raise MissingStatisticError(
                "This statistic should be measured before a method reads it. Found only the losses"
                + (" and the Gramian" if self._gramian is not None else "")
                + ": set `reads` of the method to the level that it needs."
            )
        return self._jacobian

    @property
    def blocks(self) -> list[int]:
        """The columns of the Jacobian that each shared parameter has, in order; they sum to n."""
        return [self.jacobian.shape[1]] if self._blocks is None else list(self._blocks)

    @property
    def other(self) -> TaskStats:
        """The statistics of a second batch at the same parameters."""
        if self._other is None:
            raise MissingStatisticError(
                "A second batch should be measured before this method weighs the first. Found none: call "
                "balancer.measure(losses) on another batch before balancer.backward(losses)."
            )
        return self._other

    def only_present(self) -> tuple[TaskStats, Tensor]:
        """The same step as the present tasks alone saw it, and their positions (k,).

        The number of tasks left depends on the data, so this waits for the device when some may be absent.
        """
        index = torch.arange(len(self.losses), device=self.losses.device)
        if self._present is None:
            return self, index
        index = index[self._present]
        gramian, jacobian = self._gramian, self._jacobian
        reduced = TaskStats(
            self.losses[index],
            gramian=None if gramian is None else gramian[index][:, index],
            jacobian=None if jacobian is None else jacobian[index],
            epoch=self.epoch,
            blocks=self._blocks,
        )
        return reduced, index


def gramian_of(jacobian: Tensor, block: int = 16_384) -> Tensor:
    """The Gramian J J' (m, m) in float64 of a Jacobian (m, n) of any precision.

    Sums blocks of columns in float64: a float32 product over millions of columns is off by 1e-4 and more,
    this by 2e-7 of the entries' scale.
    """
    total = torch.zeros(jacobian.shape[0], jacobian.shape[0], dtype=torch.float64, device=jacobian.device)
    for columns in torch.split(jacobian, block, dim=1):
        wide = columns.double()
        total.addmm_(wide, wide.T)
    return total


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        expected = tuple("m" if size == -1 else size for size in shape)
        raise ValueError(f"`{name}` should have shape {expected}. Found {tuple(value.shape)}.")
