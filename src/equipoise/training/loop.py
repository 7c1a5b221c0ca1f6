"""The one training loop: every problem, every method, stopped and resumed at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.build import build_method
from equipoise.core import MethodSpec
from equipoise.engine import Balancer, StepRecord

from .batches import StepBatches
from .checkpoint import load_checkpoint, save_checkpoint
from .config import RunConfig
from .logs import Row, RunLog
from .memory import PeakMemory
from .metrics import delta_m
from .outcome import DivergedError, Hooks, InterruptedRunError, Outcome, Progress
from .problem import Problem
from .setup import all_moved, optimizer_of, stream_seed, task_of, with_streams

_LOGGED_STEPS = 2000  # at most this many rows of a run's steps


@dataclass
class _Position:
    """How far a run has come, as plain numbers; the checkpoint holds it beside the tensors."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    score: float | None = None
    best_score: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    peak_memory_mb: float | None = None


class Trainer:
    """Trains one model by one method, selects an epoch by the validation part, and reads the test part once.

    Adam, and ReduceLROnPlateau on the selection score: delta_m of the validation metrics against the
    problem's fixed reference values, over the task's own metrics in a single-task run (`stl:task=NAME`).
    The same configuration gives the same numbers, bit for bit on a CPU with a given number of threads,
    however often the run is stopped and resumed.

    Args:
        problem: what to train.
        config: how.
        folder: where the logs go.
        checkpoint: the file to resume from, and to write.
        hooks: what the caller wants to hear and say.

    Raises:
        ValueError: on a method that does not exist or a task that the problem does not have.
    """

    def __init__(
        self, problem: Problem, config: RunConfig, folder: Path, checkpoint: Path, hooks: Hooks | None = None
    ) -> None:
        self.problem = problem
        self.config = config
        self.hooks = hooks or Hooks()
        self._folder = folder
        self._checkpoint = checkpoint
        self._device = torch.device(config.device)
        spec = MethodSpec.parse(config.method)
        alone = task_of(spec, [task.name for task in problem.tasks])
        spec = spec if alone is None else MethodSpec("stl", {}, spec.wrappers)
        chosen = [task for task in problem.tasks if alone in (None, task.name)]
        self.tasks = [task.name for task in chosen]
        self._metrics = [metric for task in chosen for metric in task.metrics]
        method = build_method(with_streams(spec, stream_seed(config.seed, "method")), len(chosen))
        self._balancer = Balancer(method.to(self._device), tasks=self.tasks)
        self._loaders = problem.loaders(config.seed)
        self._batches = StepBatches(self._loaders, method.second_batch, self._device)
        self._model = problem.model(config.seed).to(self._device)
        learned = list(self._balancer.parameters())
        self._optimizer, self._scheduler = optimizer_of(list(self._model.parameters()), learned, config)
        self._at = _Position()
        self._best_model: dict[str, Tensor] = {}
        self._best_metrics: dict[str, float] = {}
        self._loss_sums = torch.zeros(len(chosen), dtype=torch.float64, device=self._device)
        self._fallbacks = torch.zeros((), dtype=torch.int64, device=self._device)
        self._memory = PeakMemory(self._device)
        self._saved = time.monotonic()

    @property
    def steps(self) -> int:
        """How many steps the run has if it does not stop early."""
        steps = self.config.train.epochs * self._batches.steps_per_epoch
        return min(steps, self.config.train.max_steps or steps)

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint if there is one.

        Raises:
            InterruptedRunError: if `hooks.stop` said so.
            DivergedError: if a validation metric is not finite.
            ValueError: from the `Balancer`, if a loss is not finite; or if there is no training batch.
            StorageError: if logs or checkpoints cannot be written.
        """
        if self.steps == 0:
            raise ValueError(
                f"The training part should fill at least {self._batches.per_step} batch(es), which "
                f"{self.config.method} takes for a step. Found {len(self._loaders.train)}."
            )
        torch.manual_seed(stream_seed(self.config.seed, "training"))
        self._resume()
        at = self._at
        every = math.ceil(self.steps / _LOGGED_STEPS)
        log = RunLog(self._folder, self.tasks, every=every, step=at.step, epoch=at.epoch)
        try:
            while not self._finished():
                self._train_epoch(log)
                self._end_epoch(log)
        finally:
            log.close()
        return self._outcome()

    def _finished(self) -> bool:
        train, at = self.config.train, self._at
        impatient = train.patience is not None and at.stale >= train.patience
        return at.epoch > train.epochs or (at.step >= self.steps and at.batch == 0) or impatient

    def _train_epoch(self, log: RunLog) -> None:
        at = self._at
        self._model.train()
        batches = self._batches.epoch(at.epoch, at.batch, at.step)
        while at.step < self.steps:
            began = time.perf_counter()
            taken = next(batches, None)
            if taken is None:
                return
            record = self._step(*taken)
            at.seconds += time.perf_counter() - began
            log.step(at.step, at.epoch, record)
            self._after_step(log)

    def _step(self, batch: Any, second: Any) -> StepRecord:
        at = self._at
        self._optimizer.zero_grad(set_to_none=True)
        if second is not None:
            self._measure(second)
        record = self._balancer.backward(self._losses(batch))
        self._optimizer.step()
        at.batch, at.step = at.batch + self._batches.per_step, at.step + 1
        self._loss_sums += record.losses
        if record.fallback is not None:
            self._fallbacks += record.fallback
        return record

    def _measure(self, second: Any) -> None:
        """Show the method its second batch: in evaluation mode if it is one of the validation part."""
        validation = self._balancer.method.second_batch == "validation"
        self._model.train(not validation)
        with torch.set_grad_enabled(not validation):
            self._balancer.measure(self._losses(second))
        self._model.train()

    def _losses(self, batch: Any) -> dict[str, Tensor]:
        losses = self.problem.losses(self._model, batch)
        return {task: losses[task] for task in self.tasks}

    def _after_step(self, log: RunLog) -> None:
        at, train = self._at, self.config.train
        self.hooks.progress(Progress(at.epoch, train.epochs, at.step, self.steps, at.score))
        if self.hooks.stop():
            self._save(log)
            raise InterruptedRunError(f"Stopped after step {at.step} of {self.steps}.")
        if time.monotonic() - self._saved >= self.hooks.checkpoint_seconds:
            self._save(log)

    def _end_epoch(self, log: RunLog) -> None:
        at, train = self._at, self.config.train
        row: Row = {"epoch": at.epoch, "step": at.step, "seconds": at.seconds}
        row["lr"] = self._optimizer.param_groups[0]["lr"]
        means = self._loss_sums / max(at.batch // self._batches.per_step, 1)
        row.update({f"train_{task}": mean for task, mean in zip(self.tasks, means.tolist(), strict=True)})
        last = at.epoch == train.epochs or at.step >= self.steps
        if last or at.epoch % train.evaluate_every == 0:
            row.update(self._validate())
        log.epoch(row)
        at.epoch, at.batch = at.epoch + 1, 0
        self._loss_sums.zero_()
        self._save(log)

    def _validate(self) -> Row:
        at = self._at
        metrics = self._evaluate(self._loaders.validation)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"The validation metric {name} should be finite. Found {value} after epoch {at.epoch}: "
                    "the training has diverged, so try a smaller learning rate."
                )
        at.score = self._score(metrics)
        self._scheduler.step(at.score)
        at.stale += 1
        if at.score < at.best_score:
            at.best_score, at.best_epoch, at.stale = at.score, at.epoch, 0
            self._best_metrics = metrics
            self._best_model = {
                name: value.detach().clone() for name, value in self._model.state_dict().items()
            }
        return {**{f"val_{name}": value for name, value in metrics.items()}, "val_score": at.score}

    def _evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        self._model.eval()
        with torch.no_grad():
            metrics = self.problem.evaluate(self._model, all_moved(batches, self._device))
        return {metric.name: metrics[metric.name] for metric in self._metrics}

    def _score(self, metrics: dict[str, float]) -> float:
        reference = [self.problem.reference[metric.name] for metric in self._metrics]
        values = [metrics[metric.name] for metric in self._metrics]
        return delta_m(values, reference, [metric.higher_is_better for metric in self._metrics])

    def _outcome(self) -> Outcome:
        at = self._at
        self._model.load_state_dict(self._best_model)
        trivial = self.problem.trivial(self.config.seed)
        metrics = {
            "validation": self._best_metrics,
            "test": self._evaluate(self._loaders.test),
            "trivial": {metric.name: trivial[metric.name] for metric in self._metrics},
        }
        return Outcome(
            metrics=metrics,
            validation_score=at.best_score,
            best_epoch=at.best_epoch,
            epochs=at.epoch - 1,
            steps=at.step,
            seconds=at.seconds,
            seconds_per_step=at.seconds / at.step,
            peak_memory_mb=self._peak_memory(),
            fallbacks=int(self._fallbacks),
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
        )

    def _peak_memory(self) -> float | None:
        peaks = [peak for peak in (self._at.peak_memory_mb, self._memory.read()) if peak is not None]
        return max(peaks, default=None)

    def _save(self, log: RunLog) -> None:
        log.flush()
        self._at.peak_memory_mb = self._peak_memory()
        cuda = self._device.type == "cuda"
        state = {
            "config": self.config.model_dump(),
            "position": asdict(self._at),
            "model": self._model.state_dict(),
            "best_model": self._best_model,
            "best_metrics": self._best_metrics,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "balancer": self._balancer.state_dict(),
            "loss_sums": self._loss_sums,
            "fallbacks": self._fallbacks,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if cuda else None,
        }
        save_checkpoint(self._checkpoint, state)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        state = load_checkpoint(self._checkpoint, self.hooks.say)
        if state is None:
            return
        if state["config"] != self.config.model_dump():
            self.hooks.say(f"The checkpoint {self._checkpoint} is of another run. The run starts again.")
            return
        self._at = _Position(**state["position"])
        self._model.load_state_dict(state["model"])
        self._best_model, self._best_metrics = state["best_model"], state["best_metrics"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self._balancer.load_state_dict(state["balancer"])
        self._loss_sums.copy_(state["loss_sums"])
        self._fallbacks.copy_(state["fallbacks"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)
