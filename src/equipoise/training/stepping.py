"""One step of a run: labelled micro-batches, a second batch where the method wants one, one step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core import Reads
from equipoise.engine import Balancer, StepRecord
from equipoise.engine.memory import EXACT

from .batches import EpochBatches, StepBatches
from .config import TrainConfig
from .labels import LabelledLosses
from .position import Position
from .precision import forward_precision
from .problem import Problem
from .tally import Tally
from .update_scale import UpdateScale


class Stepper:
    """Makes the steps of a run.

    A batch without any label is passed over: no step, nothing that the method sees; it is counted. With
    `accumulate` a step is made of that many labelled micro-batches. What is left of an epoch when it cannot fill
    another step is left out; a step that has begun and runs out of labelled batches is filled up with the
    epoch's first ones. A run is saved between steps only, so it never goes on from within one.

    A loss scaler skips steps whose gradients are not finite; the Balancer takes the method's state back, and these
    steps are counted too.

    Args:
        problem: which gives the losses.
        model: in training.
        balancer: of the method.
        optimizer: of the model and of what the method learns.
        batches: what steps are made of.
        scaler: of float16 runs; one that is disabled does nothing.
        train: the settings of steps: precision, fidelity, scale, the look after the step.

    Attributes:
        tally: the losses of the epoch.
    """

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        balancer: Balancer,
        optimizer: torch.optim.Optimizer,
        batches: StepBatches,
        *,
        scaler: torch.amp.GradScaler,
        train: TrainConfig,
    ) -> None:
        self._problem = problem
        self._model = model
        self._balancer = balancer
        self._optimizer = optimizer
        self._batches = batches
        self._scaler = scaler
        self._train = train
        self._scale = UpdateScale(list(model.parameters()), train.update_norm)
        self._again = train.after_step and balancer.method.listens
        self._forwards = 0
        self._window = Tally(balancer.tasks, batches.device)
        self._used: list[Any] = []  # micro-batches of this step, where they are looked at again
        self._fallbacks = torch.zeros((), dtype=torch.int64, device=batches.device)
        self.tally = Tally(balancer.tasks, batches.device)

    @property
    def fallbacks(self) -> int:
        """Steps in which a solver fell back."""
        return int(self._fallbacks)

    def state_dict(self) -> dict[str, Any]:
        """What the steps have added up, and the state of the scaler."""
        return {
            "tally": self.tally.state_dict(),
            "fallbacks": self._fallbacks,
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.tally.load_state_dict(state["tally"])
        self._fallbacks.copy_(state["fallbacks"])
        self._scaler.load_state_dict(state["scaler"])

    def step(self, epoch: EpochBatches, at: Position) -> StepRecord | None:
        """One step of the optimizer, or None where the epoch does not fill another one.

        Args:
            epoch: where the batches come from.
            at: moves by what was used.
        """
        self._forwards, before = 0, self._balancer.backwards
        record = self._made(epoch, at)
        share = self._batches.share
        at.count(share * self._forwards, share * (self._balancer.backwards - before))
        return record

    def _made(self, epoch: EpochBatches, at: Position) -> StepRecord | None:
        if epoch.left < self._batches.per_step:
            return None
        self._optimizer.zero_grad(set_to_none=True)
        batch = epoch.next()
        if not self._measured(epoch, at):
            return None
        found = self._labelled(batch, epoch, at)
        if found is None:
            return None
        losses, batch = found
        fidelity = self._fidelity(losses, at)
        self._used = [batch] if self._again else []
        record = self._window_from(losses, epoch, at)
        if fidelity is not None:
            record = replace(record, diagnostics={**record.diagnostics, "fidelity": fidelity})
        if self._apply(at) and self._again:
            self._look_again()
        if record.fallback is not None:
            self._fallbacks += record.fallback
        at.batch, at.step = epoch.taken, at.step + 1
        return record

    def _fidelity(self, losses: Mapping[str, Tensor], at: Position) -> Tensor | None:
        """The fidelity of the first micro-batch, if it is its turn and the method's update is an estimate."""
        balancer = self._balancer
        every = self._train.fidelity_every
        if every is None or at.step % every:
            return None
        if balancer.method.reads != Reads.GRAMIAN or balancer.memory in ("auto", *EXACT):
            return None
        return balancer.fidelity(losses)

    def _window_from(self, losses: Mapping[str, Tensor], epoch: EpochBatches, at: Position) -> StepRecord:
        """The backward passes of a step, from the losses of its first micro-batch on."""
        self._window.clear()
        record = self._backward(losses)
        for _ in range(1, self._batches.accumulate):
            again = self._labelled(epoch.next_or_first(), epoch, at, go_on=True)
            assert again is not None, "the batch that began this step has a label"
            losses, batch = again
            if self._again:
                self._used.append(batch)
            record = self._backward(losses)
        if self._batches.accumulate == 1 and len(losses) == len(record.losses):
            return record
        return replace(record, losses=self._window.means)

    def _backward(self, losses: Mapping[str, Tensor]) -> StepRecord:
        several = self._batches.accumulate > 1
        counts = losses.counts if several and isinstance(losses, LabelledLosses) else None
        record = self._balancer.backward(losses, counts=counts)
        values = record.losses
        if several:  # where the record is of the whole window
            values = self._values(losses)
        self._window.add(losses, values)
        self.tally.add(losses, values)
        return record

    def _apply(self, at: Position) -> bool:
        """Step the optimizer, unless the scaler finds gradients that are not finite; says whether it did."""
        scale = self._scaler.get_scale()
        self._scale.step(self._optimizer, self._scaler)
        self._scaler.update()
        skipped = self._scaler.get_scale() < scale
        at.overflows += skipped
        return not skipped

    def _values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses of all tasks (m,), 0 for absent ones."""
        absent = torch.zeros_like(next(iter(losses.values())))
        return torch.stack([losses.get(task, absent).detach() for task in self._balancer.tasks]).double()

    def _look_again(self) -> None:
        """Show the method the losses that the step led to, on the same batches, in training mode as in FAMO's code."""
        with torch.no_grad():
            found = [self._losses(batch) for batch in self._used]
            if len(found) == 1:
                self._balancer.after_step(found[0])
                return
            together = Tally(self._balancer.tasks, self._batches.device)
            for losses in found:
                together.add(losses, self._values(losses))
            means = dict(zip(self._balancer.tasks, together.means, strict=True))
            self._balancer.after_step(
                {
                    task: mean.to(losses[task].dtype)
                    for losses in found
                    for task, mean in means.items()
                    if task in losses
                }
            )

    def _labelled(
        self, batch: Any, epoch: EpochBatches, at: Position, *, go_on: bool = False
    ) -> tuple[Mapping[str, Tensor], Any] | None:
        """The losses of this batch, or of the next one that has a label, and it; None at the end, unless to go on."""
        while batch is not None:
            losses = self._losses(batch)
            if losses:
                return losses, batch
            at.unlabelled += not epoch.wrapped
            batch = epoch.next_or_first() if go_on else epoch.next()
        return None

    def _measured(self, epoch: EpochBatches, at: Position) -> bool:
        """Show the method its second batch, if it wants one, in evaluation mode if it is one of the validation part.

        False if the epoch has no labelled batch left for it.
        """
        if self._batches.second == "train":
            found = self._labelled(epoch.next(), epoch, at)
            if found is not None:
                self._balancer.measure(found[0])
            return found is not None
        if self._batches.second == "validation":
            self._model.eval()
            with torch.no_grad():
                self._balancer.measure(self._of_validation(at))
            self._model.train()
        return True

    def _of_validation(self, at: Position) -> Mapping[str, Tensor]:
        """The losses of the next batch of the validation part that has a label."""
        first = None
        while True:
            passes, batch = self._batches.validation(at.second)
            at.second += 1
            losses = self._losses(batch)
            if losses:
                return losses
            first = passes if first is None else first
            if passes > first + 1:
                name = type(self._balancer.method).__name__
                raise ValueError(
                    f"The validation part should have a label in some batch, since {name} looks at one in every "
                    "step. Found none."
                )

    def _losses(self, batch: Any) -> Mapping[str, Tensor]:
        """The losses of the tasks of this run that have a label in a batch."""
        self._forwards += 1
        with forward_precision(self._train.precision, self._batches.device):
            found = self._problem.losses(self._model, batch)
        chosen = {task: found[task] for task in self._balancer.tasks if task in found}
        if isinstance(found, LabelledLosses):
            return LabelledLosses(chosen, {task: found.counts[task] for task in chosen})
        return chosen
