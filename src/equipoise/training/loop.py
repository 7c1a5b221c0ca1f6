"""The one training loop: every problem, every method, stopped and resumed at any step."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from equipoise.build import build_method
from equipoise.core import Method, MethodSpec
from equipoise.engine import Balancer

from .batches import StepBatches, of_tasks
from .config import RunConfig
from .evaluation import Best, Evaluation, LastEpochs
from .logs import Row, RunLog, steps_between
from .memory import PeakMemory
from .outcome import Hooks, InterruptedRunError, Outcome, Progress
from .pictures import keep_pictures
from .position import Position
from .precision import loss_scaler
from .problem import Problem
from .reading import check_apart, reported, reported_last
from .saving import Saver, Stateful
from .setup import optimizer_of, stream_seed, task_of, with_streams
from .stepping import Stepper


class Trainer:
    """Trains one model by one method, selects an epoch by the validation part, and reads the test part once.

    The selection score, which the learning rate may follow too, is delta_m of the validation metrics
    against the problem's fixed reference values, over the task's own metrics in a single-task run (`stl:task=NAME`).
    With `report="last"` nothing is selected: the test part is read in each of the last epochs, and their mean reported.
    The same configuration gives the same numbers, bit for bit on a CPU with a given number of threads,
    however often the run is stopped and resumed.

    Args:
        problem: what to train.
        config: how.
        folder: where the logs go.
        checkpoint: the file to resume from, and to write.
        hooks: what the caller wants to hear and say.
        adopt: go on from the checkpoint of another configuration too, whose network has the same parameters.
        test: whether the test part is read; from a checkpoint at the end of training only that is left to do.

    Raises:
        ValueError: on a method that does not exist or a task that the problem does not have.
    """

    def __init__(
        self,
        problem: Problem,
        config: RunConfig,
        folder: Path,
        checkpoint: Path,
        hooks: Hooks | None = None,
        *,
        adopt: bool = False,
        test: bool = True,
    ) -> None:
        self.problem = problem
        self.config = config
        self.hooks = hooks or Hooks()
        self._folder, self._test = folder, test
        self._device = torch.device(config.device)
        spec = MethodSpec.parse(config.method)
        alone = task_of(spec, [task.name for task in problem.tasks])
        spec = spec if alone is None else MethodSpec("stl", {}, spec.wrappers)
        chosen = [task for task in problem.tasks if alone in (None, task.name)]
        self.tasks = [task.name for task in chosen]
        method = build_method(with_streams(spec, stream_seed(config.seed, "method")), len(chosen))
        self._loaders = of_tasks(problem.loaders(config.seed), self.tasks)
        check_apart(self._loaders, config.train, test=test)
        self._batches = StepBatches(self._loaders, method.second_batch, self._device, config.train.accumulate)
        self.model = problem.model(config.seed).to(self._device)
        metrics = [metric for task in chosen for metric in task.metrics]
        self._evaluation = Evaluation(problem, self.model, metrics, self._device)
        self._prepare(method)
        self._best = Best()
        self._last = LastEpochs()
        self._at = Position()
        self._saver = Saver(checkpoint, config, self._device, self.hooks.say, adopt=adopt)
        self._memory = PeakMemory(self._device)
        self._saved = time.monotonic()

    def _prepare(self, method: Method) -> None:
        """The pieces of a step, from the Balancer to the optimizer."""
        train = self.config.train
        scaler = loss_scaler(train.precision, self._device)
        self._balancer = Balancer(
            method.to(self._device),
            tasks=self.tasks,
            shared=self.problem.shared(self.model),
            scaler=scaler,
            accumulate=train.accumulate,
            memory=train.memory,
            budget_gb=train.budget_gb,
        )
        learned = list(self._balancer.parameters())
        self._optimizer, self._scheduler = optimizer_of(
            list(self.model.parameters()), learned, self.config, self._batches.steps_per_epoch, self.steps
        )
        self._stepper = Stepper(
            self.problem,
            self.model,
            self._balancer,
            self._optimizer,
            self._batches,
            scaler=scaler,
            train=train,
        )

    @property
    def steps(self) -> int:
        """How many steps the run has if it does not stop early."""
        steps = self.config.train.epochs * self._batches.steps_per_epoch
        return min(steps, self.config.train.max_steps or steps)

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint if there is one; errors are those of `advance`."""
        self._train(self.config.train.epochs)
        return self._outcome()

    def advance(self, until: int) -> tuple[dict[str, float], float]:
        """Train until the end of an epoch, from the checkpoint if there is one, and leave a checkpoint there.

        Args:
            until: the epoch, from 1; nothing is trained if the checkpoint is beyond it.

        Returns:
            The validation metrics of the network as it is then, and the score that they make: lower is better.

        Raises:
            InterruptedRunError: if `hooks.stop` said so.
            DivergedError: if a validation metric is not finite.
            NotFiniteError: from the `Balancer`, if a loss or a gradient is not finite.
            ValueError: if there is no training batch.
            StorageError: if logs or checkpoints cannot be written.
        """
        self._train(until)
        metrics = self._evaluation.validate(self._loaders.validation, self._at.epoch - 1)
        return metrics, self._evaluation.score(metrics)

    def _train(self, until: int) -> None:
        if self.steps == 0:
            raise ValueError(
                f"The training part should fill at least {self._batches.per_step} batch(es), which "
                f"{self.config.method} takes for a step. Found {len(self._loaders.train)}."
            )
        torch.manual_seed(stream_seed(self.config.seed, "training"))
        at = self._at = self._saver.resume(self._parts())
        every = steps_between(self.steps, len(self.tasks))
        log = RunLog(self._folder, self.tasks, every=every, step=at.step, epoch=at.epoch)
        try:
            while not self._finished() and at.epoch <= until:
                self._train_epoch(log)
                self._end_epoch(log)
        finally:
            log.close()

    def _finished(self) -> bool:
        train, at = self.config.train, self._at
        impatient = train.patience is not None and at.stale >= train.patience
        return at.epoch > train.epochs or (at.step >= self.steps and at.batch == 0) or impatient

    def _train_epoch(self, log: RunLog) -> None:
        at = self._at
        self.model.train()
        epoch = self._batches.epoch(at.epoch, at.batch)
        while at.step < self.steps:
            began, waited = time.perf_counter(), epoch.waited
            if epoch.left >= self._batches.per_step:
                self._scheduler.before_step(self._batches.done(at.epoch, at.batch))
            record = self._stepper.step(epoch, at)
            if record is None:
                return
            at.seconds += time.perf_counter() - began
            at.data_seconds += epoch.waited - waited
            log.step(at.step, at.epoch, record)
            self._after_step(log)

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
        row.update(self._labels())
        counts = self._counts
        score = None
        if counts or at.epoch % train.evaluate_every == 0:
            began = time.perf_counter()
            row.update(self._validate(counts))
            score = at.score
            at.evaluation_seconds += time.perf_counter() - began
        self._scheduler.end_epoch(score, at.epoch)
        log.epoch(row)
        at.epoch, at.batch, at.unlabelled, at.overflows = at.epoch + 1, 0, 0, 0
        self._stepper.tally.clear()
        self._save(log)

    def _labels(self) -> Row:
        """The mean training losses of the epoch, and what was passed over in it.

        Raises:
            ValueError: naming the tasks without a label in the first epoch, if it has to show all.
        """
        at = self._at
        means = dict(zip(self.tasks, self._stepper.tally.means.tolist(), strict=True))
        never = [task for task, mean in means.items() if math.isnan(mean)]
        if at.epoch == 1 and never and self._batches.shows_all(at.step):
            raise ValueError(
                f"Every task should have a label in the first epoch of training. Found none for {', '.join(never)}: "
                f"compare the names in the problem's `losses` with its tasks, or train without them."
            )
        row: Row = {f"train_{task}": mean for task, mean in means.items()}
        passed = {"unlabelled_batches": at.unlabelled, "skipped_steps": at.overflows}
        row.update({name: count for name, count in passed.items() if count})
        return row

    @property
    def _counts(self) -> bool:
        """Whether this epoch is one of those that have to be looked at: the last, or of the last that are reported."""
        train, at = self.config.train, self._at
        if at.step >= self.steps:
            return True
        last = min(train.epochs, math.ceil(self.steps / self._batches.steps_per_epoch))
        return at.epoch > last - (train.last_epochs if train.report == "last" else 1)

    def _validate(self, counts: bool) -> Row:
        at = self._at
        metrics = self._evaluation.validate(self._loaders.validation, at.epoch)
        at.score = self._evaluation.score(metrics)
        if counts and self.config.train.report == "last":
            same = self._loaders.test is self._loaders.validation
            self._last.add(metrics, metrics if same else self._evaluation.measure(self._loaders.test))
        at.stale += 1
        if at.score < at.best_score:
            at.best_score, at.best_epoch, at.stale = at.score, at.epoch, 0
            self._best.keep(metrics, self.model)
        return {**{f"val_{name}": value for name, value in metrics.items()}, "val_score": at.score}

    def _read(self) -> dict[str, dict[str, float]]:
        """The metrics by part of the data; the model is that of the best epoch then, unless the last ones count."""
        if self.config.train.report == "last":
            return reported_last(self._last)
        return reported(self._evaluation, self._loaders, self._best, self.model, test=self._test)

    def _outcome(self) -> Outcome:
        at = self._at
        began = time.perf_counter()
        metrics, epoch = self._read(), at.best_epoch if self.config.train.report == "best" else at.epoch - 1
        at.evaluation_seconds += time.perf_counter() - began
        if self._test:
            metrics["trivial"] = self._evaluation.chosen(self.problem.trivial(self.config.seed))
        if self._test and len(self.tasks) == len(self.problem.tasks):
            keep_pictures(self.problem, self.model, self._device, self._folder)
        return Outcome(
            metrics=metrics,
            validation_score=self._evaluation.score(metrics["validation"]),
            best_epoch=epoch,
            epochs=at.epoch - 1,
            steps=at.step,
            seconds=at.seconds,
            seconds_per_step=at.seconds_per_step,
            data_seconds=at.data_seconds,
            evaluation_seconds=at.evaluation_seconds,
            peak_memory_mb=self._memory.peak(at.peak_memory_mb),
            fallbacks=self._stepper.fallbacks,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            forwards=at.forwards,
            backwards=at.backwards,
        )

    def _parts(self) -> dict[str, Stateful]:
        return {
            "model": self.model,
            "best": self._best,
            "last": self._last,
            "optimizer": self._optimizer,
            "scheduler": self._scheduler,
            "balancer": self._balancer,
            "stepper": self._stepper,
        }

    def _save(self, log: RunLog) -> None:
        log.flush()
        self._at.peak_memory_mb = self._memory.peak(self._at.peak_memory_mb)
        self._saver.save(self._at, self._parts())
        self._saved = time.monotonic()
