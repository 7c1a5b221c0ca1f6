"""How the learning rate moves from step to step and from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from .config import TrainConfig


class Schedule:
    """The learning rates of an optimizer, told of every step before it is made and of every epoch's end.

    "plateau": ReduceLROnPlateau on the selection score (the QM9 protocol). "step": times `step_factor` after every
    `step_epochs` epochs (NYUv2 and CityScapes). "constant": as it is (CelebA). These move all groups. "cosine", step
    by step, and for the model only, the first group:
        lr_t = min_lr + (lr - min_lr) (1 + cos(pi t / T)) / 2,     t = 0 ... T - 1,
    where T are the steps of the run. With `warmup_epochs` the model begins, for any schedule, with W steps of
        lr_t = lr (t + 1) / W,     t = 0 ... W - 1,
    which fill these epochs. The schedule starts after them: t and T, epochs and looks at the score count from there.

    Reference: Loshchilov and Hutter, SGDR, ICLR 2017, https://arxiv.org/abs/1608.03983, equation 5 without restarts;
    Goyal et al., Accurate, Large Minibatch SGD, 2017, https://arxiv.org/abs/1706.02677, section 2.2 (warm-up).

    Args:
        optimizer: with its initial rates. The first group is the model's, and lr its rate.
        train: the settings.
        per_epoch: steps of an epoch.
        steps: of the whole run, if it does not stop early.

    Raises:
        ValueError: if the run ends within its warm-up, or "cosine" would raise the rate.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, train: TrainConfig, *, per_epoch: int, steps: int
    ) -> None:
        scheduler = torch.optim.lr_scheduler
        self._optimizer = optimizer
        self._lr: float = optimizer.param_groups[0]["lr"]
        self._train = train
        self._warmup = train.warmup_epochs * per_epoch
        self._steps = steps
        self._inner: Any = None
        self._check()
        if train.schedule == "plateau":
            self._inner = scheduler.ReduceLROnPlateau(
                optimizer,
                factor=train.plateau_factor,
                patience=train.plateau_patience,
                min_lr=train.min_lr,
            )
        elif train.schedule == "step":
            self._inner = scheduler.StepLR(optimizer, train.step_epochs, train.step_factor)

    def before_step(self, done: float) -> None:
        """Set the rate of a step, where it moves by steps.

        Args:
            done: the steps before it, t in the formulas from the first of the run on. Not whole where a batch without
                a label was passed over in a run of several batches a step.
        """
        if done < self._warmup:
            self._set(self._lr * min((done + 1) / self._warmup, 1.0))
        elif self._train.schedule == "cosine":
            least, way = self._train.min_lr, (done - self._warmup) / (self._steps - self._warmup)
            self._set(least + (self._lr - least) * (1 + math.cos(math.pi * min(way, 1.0))) / 2)

    def end_epoch(self, score: float | None, epoch: int) -> None:
        """Move on.

        Args:
            score: of the validation part, or None where this epoch did not look at it.
            epoch: the one that has ended, from 1.
        """
        if epoch <= self._train.warmup_epochs:
            self._set(self._lr)
        elif self._train.schedule == "step":
            self._inner.step()
        elif self._train.schedule == "plateau" and score is not None:
            self._inner.step(score)

    def state_dict(self) -> dict[str, Any]:
        """All that changes and is no function of the steps done; the rates are in the optimizer's state."""
        return {} if self._inner is None else self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if self._inner is not None:
            self._inner.load_state_dict(state)

    def _set(self, lr: float) -> None:
        # Looked up each time: an optimizer that loads its state has new groups.
        self._optimizer.param_groups[0]["lr"] = lr

    def _check(self) -> None:
        train = self._train
        if self._warmup and self._warmup >= self._steps:
            raise ValueError(
                f"`max_steps` should be above the steps of the warm-up, {self._warmup}. Found {self._steps}."
            )
        if train.schedule == "cosine" and self._lr < train.min_lr:
            raise ValueError(
                f"`lr` should be at least `min_lr`, {train.min_lr:g}, for schedule='cosine'. Found {self._lr:g}."
            )
