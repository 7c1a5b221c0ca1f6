"""Precision, micro-batches, memory, missing labels, domains and workers: right steps, and bit for bit the same
steps however the run was stopped."""

import copy
import csv
import gc
import math
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.training.checkpoint import load_checkpoint
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome
from equipoise.training.setup import stream_seed
from toy import Batch, Mixed, Partial, Toy, ToyBatches, Worker

# Problem, method and settings of the runs that are stopped and resumed.
SETUPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bf16": ("Toy", "nashmtl", {"precision": "bf16"}),
    "fp16": ("Toy", "go4align:groups=2", {"precision": "fp16"}),
    "fp16 rows": ("Partial", "nashmtl", {"precision": "fp16"}),
    "fp16 learned": ("Toy", "uw", {"precision": "fp16", "accumulate": 2}),
    "accumulate": ("Toy", "rlw", {"accumulate": 3}),
    "accumulate rows": ("Toy", "excess_mtl", {"accumulate": 3}),
    "accumulate two batches": ("Toy", "modo", {"accumulate": 2}),
    "layerwise": ("Toy", "mgda", {"memory": "layerwise"}),
    "sketch": ("Toy", "mgda", {"memory": "sketch"}),
    "streamed": ("Partial", "mgda", {"memory": "streamed", "accumulate": 2}),
    "factored": ("Partial", "mgda", {"memory": "factored"}),
    "budget": ("Partial", "mgda", {"budget_gb": 1e-7}),
    "labels": ("Partial", "famo", {}),
    "labels rows": ("Partial", "nashmtl", {"accumulate": 2}),
    "labels two batches": ("Partial", "modo", {}),
    "labels fp16": ("Partial", "dwa:window=2", {"precision": "fp16", "accumulate": 2}),
    "domains": ("Mixed", "relobralo", {}),
    "domains rows": ("Mixed", "cagrad", {"accumulate": 2}),
    "domains together": ("Together", "graddrop", {"precision": "bf16"}),
    "domains fp16": ("Mixed", "uw", {"precision": "fp16"}),
    "workers": ("Worker", "famo", {}),
}

ELSEWHERE = ["bf16", "fp16 learned", "labels rows", "domains rows", "workers"]


def problem_of(name: str) -> Toy:
    if name == "Together":
        return Mixed(together=True)
    kinds: dict[str, type[Toy]] = {"Toy": Toy, "Partial": Partial, "Mixed": Mixed, "Worker": Worker}
    return kinds[name]()


def config(method: str = "ls", **train: Any) -> RunConfig:
    settings = {"epochs": 9, "max_steps": 10, "plateau_patience": 0, **train}
    return RunConfig(problem="toy", method=method, lr=0.01, seed=3, train=TrainConfig(**settings))


def run(
    where: Path, how: RunConfig, problem: Toy | None = None, stop: int | None = None, **hooks: Any
) -> Outcome:
    asked = iter(range(1, 1_000_000))
    told = Hooks(stop=lambda: next(asked) == stop, **hooks)
    return Trainer(problem or Toy(), how, where / "logs", where / "run.pt", told).run()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def left_behind(where: Path) -> tuple[Any, ...]:
    """All that a run leaves, but for the clock."""
    state = load_checkpoint(where / "run.pt", print)
    assert state is not None
    for name in ("seconds", "data_seconds", "evaluation_seconds", "peak_memory_mb"):
        state["position"].pop(name)
    return state, rows(where / "logs" / "steps.csv"), rows(where / "logs" / "epochs.csv")


def assert_same(found: Any, expected: Any) -> None:
    """Equal to the last bit, NaN included."""
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize("name", SETUPS)
def test_ten_steps_are_five_and_five_more(name: str, tmp_path: Path) -> None:
    problem, method, train = SETUPS[name]
    how = config(method, **train)
    run(tmp_path / "whole", how, problem_of(problem))
    for stop in (1, 4):
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "parts", how, problem_of(problem), stop)
    assert run(tmp_path / "parts", how, problem_of(problem)).steps == 10
    assert_same(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"))


_FIRST_HALF = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r}); sys.path.insert(0, {here!r})
import torch; torch.set_num_threads(1)
from test_setups import *
for name in ELSEWHERE:
    problem, method, train = SETUPS[name]
    try:
        run(Path({where!r}) / name, config(method, **train), problem_of(problem), 5)
    except InterruptedRunError:
        print(name)
"""


def test_a_run_goes_on_in_another_process(tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = _FIRST_HALF.format(tests=str(here.parent), here=str(here), where=str(tmp_path / "parts"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ELSEWHERE
    for name in ELSEWHERE:
        problem, method, train = SETUPS[name]
        how = config(method, **train)
        run(tmp_path / "parts" / name, how, problem_of(problem))
        run(tmp_path / "whole" / name, how, problem_of(problem))
        assert_same(left_behind(tmp_path / "parts" / name), left_behind(tmp_path / "whole" / name))


def plain(
    problem: Toy, steps: int, accumulate: int = 1, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The parameters after some steps of equal weights, in plain PyTorch; batches without a label are passed over."""
    model, train = problem.model(3), problem.loaders(3).train
    torch.manual_seed(stream_seed(3, "training"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    done, epoch = 0, 0
    while done < steps:
        epoch += 1
        window = []
        for batch in islice(train.epoch(epoch), len(train) // accumulate * accumulate):
            with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                losses = problem.losses(model, batch)
            if losses:
                window.append(losses)
                (sum(losses.values()) / accumulate).backward()  # type: ignore[union-attr]
            if len(window) == accumulate and done < steps:
                optimizer.step()
                window, done = [], done + 1
                optimizer.zero_grad()
        optimizer.zero_grad()
    return model.state_dict()


def last_model(where: Path) -> dict[str, Tensor]:
    state = load_checkpoint(where / "run.pt", print)
    assert state is not None
    model: dict[str, Tensor] = state["model"]
    return model


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_micro_batches_equal_plain_pytorch(accumulate: int, tmp_path: Path) -> None:
    run(tmp_path, config(epochs=3, max_steps=6, plateau_patience=99, accumulate=accumulate))
    for name, value in plain(Toy(), 6, accumulate).items():
        torch.testing.assert_close(last_model(tmp_path)[name], value, rtol=1e-5, atol=1e-7)


def test_a_rest_of_an_epoch_that_fills_no_step_is_left_out(tmp_path: Path) -> None:
    found = run(tmp_path, config(epochs=2, max_steps=None, accumulate=3))  # 8 batches of an epoch
    assert found.steps == 4
    assert [row["step"] for row in rows(tmp_path / "logs" / "epochs.csv")] == ["2", "4"]
    with pytest.raises(ValueError, match=r"should fill at least 9 batch\(es\), which ls takes.* Found 8\."):
        run(tmp_path / "long", config(accumulate=9))


def test_bf16_runs_the_forward_passes_under_autocast(tmp_path: Path) -> None:
    class Watched(Toy):
        def losses(self, model: nn.Module, batch: Batch) -> Any:
            types.append(model(batch[0]).dtype)
            return super().losses(model, batch)

        def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
            (x, y) = next(iter(loader))
            assert model(x).dtype == torch.float32
            return self._metrics(model(x), y)

    types: list[torch.dtype] = []
    run(tmp_path, config(precision="bf16", max_steps=3), Watched())
    assert types == [torch.bfloat16] * 3
    run(tmp_path / "plain", config(precision="bf16", max_steps=4, plateau_patience=99))
    for name, value in plain(Toy(), 4, dtype=torch.bfloat16).items():
        torch.testing.assert_close(last_model(tmp_path / "plain")[name], value, rtol=1e-5, atol=1e-7)


class Loud(Toy):
    """Losses with large gradients."""

    def shared(self, model: nn.Module) -> nn.Module:
        return model

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {task: 30 * loss for task, loss in super().losses(model, batch).items()}


@pytest.mark.parametrize("method", ["go4align:groups=2", "nashmtl", "rlw"])
def test_steps_that_the_scaler_skips_are_counted_and_touch_nothing(method: str, tmp_path: Path) -> None:
    """The scale starts at 65536, which makes gradients of 30 more than float16 holds."""
    first = Trainer(Toy(), config(method), tmp_path / "new", tmp_path / "new.pt")
    before = copy.deepcopy((first.model.state_dict(), first._balancer.state_dict()["state"]))
    with pytest.raises(InterruptedRunError):
        run(tmp_path, config(method, precision="fp16"), Loud(), stop=1)
    state = load_checkpoint(tmp_path / "run.pt", print)
    assert state is not None
    assert state["position"]["overflows"] == state["position"]["step"] == 1
    assert state["stepper"]["scaler"]["scale"] == 32768.0
    assert_same(state["model"], before[0])
    assert_same(dict(state["balancer"]["state"]), dict(before[1]))
    run(tmp_path, config(method, precision="fp16"), Loud())
    logged = rows(tmp_path / "logs" / "epochs.csv")
    assert int(logged[0]["skipped_steps"]) > 0
    assert logged[-1]["skipped_steps"] == ""
    after = load_checkpoint(tmp_path / "run.pt", print)
    assert after is not None
    assert not torch.equal(after["model"]["0.weight"], before[0]["0.weight"])


def labelled_batches(problem: Toy, epoch: int) -> list[list[int]]:
    """How many labels of each task the batches of an epoch have."""
    batches = problem.loaders(3).train.epoch(epoch)
    return [[int((~y[task].isnan()).sum()) for task in "ab"] for _, y in batches]


def test_partly_labelled_batches_equal_plain_pytorch(tmp_path: Path) -> None:
    counts = labelled_batches(Partial(), 1)
    blank = counts.count([0, 0])
    assert blank > 0
    assert any(0 in pair and pair != [0, 0] for pair in counts)
    steps = len(counts) - blank
    run(tmp_path, config(epochs=1, max_steps=None), Partial())
    for name, value in plain(Partial(), steps).items():
        torch.testing.assert_close(last_model(tmp_path)[name], value, rtol=1e-5, atol=1e-7)
    (row,) = rows(tmp_path / "logs" / "epochs.csv")
    assert (row["step"], row["unlabelled_batches"]) == (str(steps), str(blank))
    logged = rows(tmp_path / "logs" / "steps.csv")
    seen = [pair for pair in counts if pair != [0, 0]]
    assert [[step["loss_a"] == "", step["loss_b"] == ""] for step in logged] == [
        [n == 0 for n in pair] for pair in seen
    ]
    for i, task in enumerate("ab"):  # the mean over samples, not over batches
        pairs = [
            (pair[i], float(step[f"loss_{task}"])) for pair, step in zip(seen, logged, strict=True) if pair[i]
        ]
        mean = sum(n * loss for n, loss in pairs) / sum(n for n, _ in pairs)
        assert float(row[f"train_{task}"]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("method", ["upgrad", "mgda", "imtl_g"])
def test_micro_batches_with_counts_equal_one_large_batch(method: str, tmp_path: Path) -> None:
    """One labelled sample of two, and then two of two, weigh as in a batch of four."""
    halves = Partial(whole=True, missing=0.4, batch_size=2, dropout=False)
    large = Partial(whole=True, missing=0.4, batch_size=4, dropout=False)
    counts = labelled_batches(halves, 1)
    assert any(counts[i][1] != counts[i + 1][1] for i in range(0, 16, 2))
    run(tmp_path / "halves", config(method, epochs=1, accumulate=2), halves)
    run(tmp_path / "large", config(method, epochs=1), large)
    for name, value in last_model(tmp_path / "large").items():
        torch.testing.assert_close(last_model(tmp_path / "halves")[name], value, rtol=1e-4, atol=1e-6)
    for name in ("steps.csv", "epochs.csv"):
        pairs = zip(rows(tmp_path / "halves/logs" / name), rows(tmp_path / "large/logs" / name), strict=True)
        for one, other in pairs:
            assert one.keys() == other.keys()
            for key in one:
                assert (one[key] == "") == (other[key] == "")
                if one[key] and not key.startswith("val"):
                    assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-3, abs=1e-5), key


def masked(problem: Toy, keep: Any) -> type[Toy]:
    """A problem whose batches lack labels by the number of the epoch and of the batch."""

    class Batches(ToyBatches):
        def epoch(self, number: int, start: int = 0) -> Any:
            for i, (x, y) in enumerate(super().epoch(number, start), start):
                yield x, {task: values for task, values in y.items() if keep(task, number, i)}

    class Masked(type(problem)):  # type: ignore[misc]
        def loaders(self, seed: int) -> Any:
            loaders = super().loaders(seed)
            train = loaders.train
            loaders.__dict__["train"] = Batches(train.x, train.y, train.batch_size, train.seed)
            return loaders

        def losses(self, model: nn.Module, batch: Batch) -> Any:
            x, y = batch
            return {task: (model(x)[:, "ab".index(task)] - y[task]).square().mean() for task in y}

    return Masked


def test_an_epoch_without_a_label_of_some_task_is_fine(tmp_path: Path) -> None:
    run(
        tmp_path,
        config(epochs=3, max_steps=None),
        masked(Toy(), lambda task, epoch, i: task == "a" or epoch != 2)(),
    )
    logged = rows(tmp_path / "logs" / "epochs.csv")
    assert [row["train_b"] == "" for row in logged] == [False, True, False]
    assert all(row["train_a"] for row in logged)


def test_an_epoch_without_any_label_makes_no_step(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        config(epochs=3, max_steps=None, accumulate=2),
        masked(Toy(), lambda t, epoch, i: epoch != 2)(),
    )
    assert outcome.steps == 8
    logged = rows(tmp_path / "logs" / "epochs.csv")
    assert [row["step"] for row in logged] == ["4", "4", "8"]
    assert [row["unlabelled_batches"] for row in logged] == ["", "8", ""]


def test_a_step_that_runs_out_of_labels_is_filled_up_with_the_first_batches(tmp_path: Path) -> None:
    class Watched(masked(Toy(), lambda task, epoch, i: i in (1, 2, 4))):  # type: ignore[misc]
        def losses(self, model: nn.Module, batch: Batch) -> Any:
            found = super().losses(model, batch)
            if found:
                used.append(batch[0])
            return found

    used: list[Tensor] = []
    outcome = run(tmp_path, config(epochs=1, max_steps=None, accumulate=2), Watched())
    assert outcome.steps == 2
    order = list(Toy().loaders(3).train.epoch(1))
    for found, place in zip(used, (1, 2, 4, 1), strict=True):
        torch.testing.assert_close(found, order[place][0])
    assert rows(tmp_path / "logs" / "epochs.csv")[0]["unlabelled_batches"] == "5"


def test_a_first_epoch_that_is_cut_short_may_lack_labels_of_a_task(tmp_path: Path) -> None:
    late = masked(Toy(), lambda task, epoch, i: task == "a" or i > 0)()
    outcome = run(tmp_path, config("ls", epochs=1, max_steps=1), late)
    assert outcome.steps == 1


@pytest.mark.parametrize("method", ["ls", "nashmtl"])
def test_a_task_without_any_label_is_an_error_that_names_it(method: str, tmp_path: Path) -> None:
    class Never(masked(Toy(), lambda task, epoch, i: task == "a")):  # type: ignore[misc]
        def shared(self, model: nn.Module) -> nn.Module:
            return model

    with pytest.raises(
        ValueError, match=r"should have a label in the first epoch of training\. Found none for b: "
    ):
        run(tmp_path, config(method, max_steps=None), Never())


def test_a_single_task_run_passes_over_the_batches_of_others(tmp_path: Path) -> None:
    outcome = run(tmp_path, config("stl:task=b", epochs=1, max_steps=None), Partial())
    labels = [pair[1] for pair in labelled_batches(Partial(), 1)]
    assert outcome.steps == sum(n > 0 for n in labels) < len(labels)


class Follows(eq.Weighting):
    """Weighs by the validation losses."""

    second_batch = "validation"

    def forward(self, stats: eq.TaskStats) -> Tensor:
        return torch.where(stats.present, 1 + stats.other.losses, 0.0)


def validated(parts: list[Any]) -> type[Toy]:
    class Validated(Toy):
        def loaders(self, seed: int) -> Any:
            loaders = super().loaders(seed)
            loaders.__dict__["validation"] = parts
            return loaders

        def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
            return {"a_mae": 1.0, "b_r2": 0.1, "b_mae": 1.0}

        def losses(self, model: nn.Module, batch: Batch) -> Any:
            return super().losses(model, batch) if batch[1] else {}

    return Validated


def test_validation_batches_without_a_label_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(eq.METHODS, "follows", Follows)
    (x, y), (x2, y2), *_ = Toy().loaders(3).train.epoch(99)
    parts = [(x, {}), (x, y), (x2, y2), (x, {})]
    how = config("follows")
    run(tmp_path / "whole", how, validated(parts)())
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", how, validated(parts)(), 5)
    run(tmp_path / "parts", how, validated(parts)())
    assert_same(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"))
    with pytest.raises(
        ValueError, match=r"validation part should have a label in some batch, since Follows .* none"
    ):
        run(tmp_path / "none", how, validated([(x, {}), (x, {})])())


def test_a_worker_that_raises_ends_the_run_which_goes_on_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long torch waits for a worker to end, of which one that has raised takes all.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    fault = tmp_path / "fault"
    how = config("famo", max_steps=None, epochs=3)
    whole = run(tmp_path / "whole", how, Worker())
    assert whole.metrics == run(tmp_path / "here", how, Toy()).metrics
    fault.touch()
    for _ in range(2):  # resuming without mending fails again, and spoils nothing
        with pytest.raises(OSError, match="sample 17 cannot be read"):
            run(tmp_path / "parts", how, Worker(fault=str(fault)), checkpoint_seconds=0.0)
        gc.collect()  # the iterator, before another worker is forked
    state = load_checkpoint(tmp_path / "parts" / "run.pt", print)
    assert state is not None
    assert 0 < state["position"]["step"] < 8
    logged = rows(tmp_path / "parts" / "logs" / "steps.csv")
    assert logged == rows(tmp_path / "whole" / "logs" / "steps.csv")[: state["position"]["step"]]
    fault.unlink()
    assert run(tmp_path / "parts", how, Worker(fault=str(fault))).metrics == whole.metrics
    assert_same(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"))


def test_memory_reaches_the_balancer(tmp_path: Path) -> None:
    how = config("mgda", memory="layerwise")
    trainer = Trainer(Partial(), how, tmp_path / "logs", tmp_path / "run.pt")
    assert trainer._balancer.memory == "layerwise"
    with pytest.raises(ValueError, match=r"`memory` should be 'rows'.* reads the whole Jacobian"):
        Trainer(Partial(), config("excess_mtl", memory="layerwise"), tmp_path / "logs", tmp_path / "run.pt")
    trainer = Trainer(Partial(), config("mgda", budget_gb=1e-7), tmp_path / "logs", tmp_path / "run.pt")
    trainer.run()
    assert trainer._balancer.memory != "rows"


def test_a_checkpoint_of_another_version_is_said_and_not_used(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(tmp_path, config(), stop=3)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    del state["stepper"]
    torch.save(state, tmp_path / "run.pt")
    said: list[str] = []
    assert run(tmp_path, config(), say=said.append).steps == 10
    assert said == [f"The checkpoint {tmp_path / 'run.pt'} is of another version. The run starts again."]


def test_a_checkpoint_from_before_a_setting_existed_is_used(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(tmp_path, config(), stop=3)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    for name in ("precision", "accumulate", "memory", "budget_gb"):
        del state["config"]["train"][name]
    torch.save(state, tmp_path / "run.pt")
    said: list[str] = []
    steps: list[int] = []
    run(tmp_path, config(), say=said.append, progress=lambda progress: steps.append(progress.step))
    assert said == []
    assert steps[0] == 4
    state["config"]["train"]["unknown"] = 1
    torch.save(state, tmp_path / "run.pt")
    run(tmp_path, config(), say=said.append)
    assert said == [f"The checkpoint {tmp_path / 'run.pt'} is of another run. The run starts again."]
