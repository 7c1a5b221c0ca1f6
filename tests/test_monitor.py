"""`equipoise.monitor`: right numbers against plain rows, no wait for the device, and logs that never stop a run."""

import csv
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise as eq
from equipoise.engine import StepRecord
from equipoise.monitor import CSVWriter, Monitor, Row, TensorBoardWriter, WandbWriter
from equipoise.monitor.gramians import conflict_share, grad_norms, pair_cosines, update_cosines
from networks import batch, losses_of, network

SYNCING = ("_local_scalar_dense", "nonzero", "masked_select", "equal.default", "unique")


def balancer(m: int = 2, method: str = "ls", tasks: Sequence[str] | None = None) -> eq.Balancer:
    return eq.Balancer(eq.build_method(method, m), tasks=tasks or list("abcdefghijklmnopqrst"[:m]))


def record(
    losses: Sequence[float], weights: Sequence[float], rows: Tensor | None = None, **more: Any
) -> StepRecord:
    gramian = None if rows is None else rows @ rows.T
    return StepRecord(torch.tensor(weights).double(), torch.tensor(losses).double(), gramian, **more)


class Remembering:
    """A writer that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def open(self, columns: Sequence[str], step: int) -> None:
        self.told.append(("open", list(columns), step))

    def write(self, row: Row) -> None:
        self.told.append(dict(row))

    def close(self) -> None:
        self.told.append("close")


class Failing(Remembering):
    """A writer that fails at one of its methods."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def __repr__(self) -> str:
        return "Failing('there')"

    def open(self, columns: Sequence[str], step: int) -> None:
        if self.at == "open":
            raise OSError("no such disk")

    def write(self, row: Row) -> None:
        self.told.append("write")
        if self.at == "write":
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.told.append("close")
        if self.at == "close":
            raise OSError(28, "No space left on device")


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- numbers against plain rows


@pytest.mark.parametrize("m", [1, 2, 5, 13])
def test_what_a_gramian_tells_is_what_the_rows_tell(m: int) -> None:
    jacobians = torch.randn(3, m, 20, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
    weights = torch.rand(3, m, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    gramians = jacobians @ jacobians.mT
    norms, cosines = grad_norms(gramians), pair_cosines(gramians)
    conflicts, updates = conflict_share(gramians), update_cosines(gramians, weights)
    for k, rows in enumerate(jacobians):
        cosine = torch.nn.functional.cosine_similarity
        pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
        torch.testing.assert_close(norms[k], torch.stack([row.norm() for row in rows]))
        expected = [float(cosine(rows[i], rows[j], dim=0)) for i, j in pairs]
        assert cosines[k].tolist() == pytest.approx(expected, abs=1e-12)
        share = sum(float(rows[i] @ rows[j]) < 0 for i, j in pairs) / max(len(pairs), 1)
        assert float(conflicts[k]) == pytest.approx(share)
        told = StepRecord(weights[k], weights[k], gramians[k]).conflict
        assert told is not None and float(conflicts[k]) == pytest.approx(float(told), rel=1e-6)
        update = weights[k] @ rows
        assert updates[k].tolist() == pytest.approx(
            [float(cosine(update, row, dim=0)) for row in rows], abs=1e-12
        )


def test_cosines_keep_their_digits_over_sixty_decades() -> None:
    rows = torch.tensor([[1e-30, 0.0], [1e30, 1e30], [0.0, -1.0]], dtype=torch.float64)
    half = math.sqrt(0.5)
    assert pair_cosines(rows @ rows.T).tolist() == pytest.approx([half, 0, -half])
    weights = torch.tensor([1e30, 0.0, 1.0], dtype=torch.float64)
    assert update_cosines(rows @ rows.T, weights).tolist() == pytest.approx([half, 0, half])


def test_what_is_undefined_is_not_a_number() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-3.0, -6.0]], dtype=torch.float64)
    gramian = rows @ rows.T
    assert pair_cosines(gramian).isnan().tolist() == [True, False, True]
    assert update_cosines(gramian, torch.tensor([1.0, 1.0, 0.0]).double()).isnan().tolist() == [
        False,
        True,
        False,
    ]
    opposed = torch.tensor([1.0, 1.0, 1 / 3], dtype=torch.float64)  # an update of length 0
    assert update_cosines(gramian, opposed).isnan().all()


def test_rounding_is_not_taken_for_a_direction() -> None:
    for seed in range(20):
        row = torch.randn(1000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rows = torch.stack([row, -3 * row, 0.1 * row])
        gramian = rows @ rows.T
        assert pair_cosines(gramian).abs().max() <= 1
        assert update_cosines(gramian, torch.ones(3).double()).abs().max() <= 1
        assert update_cosines(gramian, torch.tensor([0.7, 0.7 / 3, 0.0]).double()).isnan().all()  # w J = 0


def test_a_length_that_underflows_is_no_length() -> None:
    rows = torch.tensor([[1e-200, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert pair_cosines(rows @ rows.T).isnan().all()
    assert update_cosines(rows @ rows.T, torch.ones(2).double()).isnan().tolist() == [True, False]


def test_a_squared_length_that_rounds_below_zero_is_no_conflict() -> None:
    gramian = torch.tensor([[-1e-20, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(conflict_share(gramian)) == 0
    assert grad_norms(gramian).tolist() == [0, 1]


def test_a_row_of_a_real_step_is_what_autograd_says() -> None:
    model, data = network("mlp"), batch()
    balance = balancer(3, "mgda")
    shared = list(model.encoder.parameters())
    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in losses_of(model, data)
        ]
    )
    with Monitor(balance, every=1) as monitor:
        row = monitor.add(balance.backward(losses_of(model, data)))
    assert row is not None
    update = torch.cat([parameter.grad.flatten() for parameter in shared if parameter.grad is not None])
    for i, (task, own) in enumerate(zip("abc", rows, strict=True)):
        assert row[f"loss_{task}"] == pytest.approx(float(losses_of(model, data)[i].detach()))
        assert row[f"grad_norm_{task}"] == pytest.approx(float(own.norm()), rel=1e-6)
        cosine = torch.nn.functional.cosine_similarity(own, update, dim=0)
        assert row[f"update_cosine_{task}"] == pytest.approx(float(cosine), rel=1e-6)
    assert row["cosine_a_c"] == pytest.approx(
        float(torch.nn.functional.cosine_similarity(rows[0], rows[2], dim=0)), rel=1e-6
    )


# --- rows and intervals


def test_columns_are_means_of_the_interval_and_counts_are_sums() -> None:
    told = Remembering()
    monitor = Monitor(balancer(), every=3, writers=[told])
    first, second = torch.eye(2).double(), torch.tensor([[3.0, 0.0], [-3.0, 0.0]]).double()
    monitor.add(record([1, 10], [0.2, 0.8], first, fallback=torch.tensor(True)))
    monitor.add(record([2, 20], [0.4, 0.6], second, fallback=torch.tensor(True)))
    monitor.add(record([6, 30], [0.6, 0.4]))
    monitor.add(record([7, 40], [0.5, 0.5]))
    monitor.close()
    monitor.close()
    opened, row, rest, closed = told.told
    assert opened == ("open", list(row), 0)
    assert list(row) == [
        "step", "incomplete", "nonfinite", "loss_a", "loss_b", "weight_a", "weight_b", "fallback", "conflict",
        "grad_norm_a", "grad_norm_b", "update_cosine_a", "update_cosine_b", "cosine_a_b",
    ]  # fmt: skip
    along = [0.2 / math.hypot(0.2, 0.8), 0.8 / math.hypot(0.2, 0.8)]  # the second update is -0.6 times (1, 0)
    expected = [3, 0, 0, 3, 20, 0.4, 0.6, 2, 0.5, 2, 2, (along[0] - 1) / 2, (along[1] + 1) / 2, -0.5]
    assert list(row.values()) == pytest.approx(expected)
    assert list(rest.values()) == [4, 0, 0, 7, 40, 0.5, 0.5, *[None] * 7]
    assert isinstance(row["fallback"], int)
    assert closed == "close"


def test_micro_batches_are_counted_and_skipped_steps_left_out() -> None:
    monitor = Monitor(balancer(), every=4)
    missing = [math.nan, math.nan]
    monitor.add(record([1, 1], missing, complete=False))
    monitor.add(record([2, 4], [1, 3], torch.eye(2).double()))
    monitor.add(record([5, 5], missing, torch.full((2, 2), math.inf).double()))
    row = monitor.add(record([math.inf, 0], [1, 1]))
    assert row is not None
    assert (row["incomplete"], row["nonfinite"]) == (1, 2)
    assert [row[f"{kind}_{task}"] for kind in ("loss", "weight", "grad_norm") for task in "ab"] == [
        2,
        4,
        1,
        3,
        1,
        1,
    ]
    assert (row["conflict"], row["cosine_a_b"]) == (0, 0)
    for _ in range(4):
        row = monitor.add(record([1, 1], missing, complete=False))
    assert row is not None and row["incomplete"] == 4 and row["nonfinite"] == 0
    assert row["loss_a"] is None and row["fallback"] is None


def test_absent_tasks_are_left_out_of_their_means() -> None:
    monitor = Monitor(balancer(), every=3)
    monitor.add(record([0, 4], [0, 1], torch.tensor([[0.0, 0], [0, 2]]).double()))
    monitor.add(record([3, 0], [2, 0], torch.tensor([[1.0, 0], [0, 0]]).double()))
    row = monitor.add(record([0, 8], [4, 1]))  # a loss that has come to 0
    assert row is not None
    assert [row[f"{kind}_{task}"] for kind in ("loss", "weight", "grad_norm") for task in "ab"] == [
        1.5,
        6,
        3,
        1,
        1,
        2,
    ]
    assert row["cosine_a_b"] is None
    row = Monitor(balancer(), every=1).add(record([0, 4], [1, 1], torch.tensor([[0.0, 0], [0, 2]]).double()))
    assert row is not None and (row["loss_a"], row["weight_a"], row["grad_norm_a"]) == (0, 1, 0)
    monitor = Monitor(balancer(2, "graddrop"), every=2)
    monitor.add(record([0, 4], [1, 1], torch.tensor([[0.0, 0], [0, 2]]).double()))
    row = monitor.add(record([3, 6], [1, 1], torch.tensor([[1.0, 0], [0, 2]]).double()))
    assert row is not None and (row["loss_a"], row["loss_b"]) == (3, 5)


def test_an_absent_task_of_a_real_step_is_left_out() -> None:
    for method in ("ls", "mgda", "graddrop"):
        model, data = network("mlp"), batch()
        balance = balancer(3, method)
        monitor = Monitor(balance, every=2)
        monitor.add(balance.backward(losses_of(model, data), present=[True, False, True]))
        row = monitor.add(balance.backward(losses_of(model, data)))
        assert row is not None
        assert row["loss_b"] == pytest.approx(float(losses_of(model, data)[1].detach())), method


def test_the_update_of_an_aggregator_is_not_made_up() -> None:
    row = Monitor(balancer(2, "graddrop"), every=1).add(record([1, 2], [1, 1], torch.eye(2).double()))
    assert row is not None
    assert row["update_cosine_a"] is None and row["update_cosine_b"] is None
    assert row["grad_norm_a"] == 1 and row["cosine_a_b"] == 0


def test_one_task_has_no_pairs() -> None:
    row = Monitor(balancer(1), every=1).add(record([2], [0.5], torch.tensor([[3.0, 4.0]]).double()))
    assert row == {
        "step": 1, "incomplete": 0, "nonfinite": 0, "loss_a": 2, "weight_a": 0.5, "fallback": None, "conflict": 0,
        "grad_norm_a": 5, "update_cosine_a": 1,
    }  # fmt: skip


def test_up_to_twelve_tasks_have_a_column_for_each_pair() -> None:
    row = Monitor(balancer(12), every=1).add(record([1] * 12, [1] * 12, torch.eye(12).double()))
    assert row is not None
    assert sum(name.startswith("cosine_") for name in row) == 66
    assert row["cosine_k_l"] == 0


def test_many_tasks_have_their_cosines_summed_up() -> None:
    m = 13
    rows = torch.randn(m, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[4] = 0
    row = Monitor(balancer(m), every=1).add(record([1] * m, [1] * m, rows))
    assert row is not None
    cosines = [
        float(torch.nn.functional.cosine_similarity(rows[i], rows[j], dim=0))
        for i in range(m)
        for j in range(i)
        if 4 not in (i, j)
    ]
    assert row["cosine_min"] == pytest.approx(min(cosines))
    assert row["cosine_mean"] == pytest.approx(sum(cosines) / len(cosines))
    assert row["cosine_max"] == pytest.approx(max(cosines))
    assert not any(name.startswith("cosine_a") for name in row)
    row = Monitor(balancer(m), every=1).add(record([1] * m, [1] * m, torch.zeros(m, 2).double()))
    assert row is not None and row["cosine_min"] is None and row["cosine_max"] is None


def test_records_are_added_up_before_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    gen = torch.Generator().manual_seed(3)
    records = [
        record([1 + k, 2], [0.1 * k, 1], torch.randn(2, 5, generator=gen).double() if k % 3 else None)
        for k in range(10)
    ]
    whole = Monitor(balancer(), every=10)
    monkeypatch.setattr("equipoise.monitor.monitor._KEPT_ENTRIES", 12)  # three Gramians
    pieces = Monitor(balancer(), every=10)
    waited, rows = 0, []
    for one in records:
        whole_row, row = whole.add(one), pieces.add(one)
        waited = max(waited, len(pieces._kept))
        rows.append((whole_row, row))
    expected, found = rows[-1]
    assert expected is not None and found is not None
    assert found == pytest.approx(expected)
    assert waited == 2


def test_a_record_is_kept_though_the_method_goes_on() -> None:
    monitor, one = Monitor(balancer(), every=2), record([1, 2], [3, 4], torch.eye(2).double())
    monitor.add(one)
    for tensor in (one.losses, one.weights, one.gramian):
        assert tensor is not None
        tensor.zero_()
    row = monitor.add(record([1, 2], [3, 4]))
    assert row is not None
    assert (row["loss_b"], row["weight_a"], row["grad_norm_a"]) == (2, 3, 1)


@pytest.mark.parametrize("name", sorted(eq.METHODS))
def test_every_method_has_the_same_columns(name: str) -> None:
    method = eq.build_method(name, 3)
    balance = eq.Balancer(method)
    model, data, told = network("mlp"), batch(), Remembering()
    with Monitor(balance, every=2, writers=[told]) as monitor:
        for _ in range(2):
            if method.second_batch is not None:
                balance.measure(losses_of(model, data))
            monitor.add(balance.backward(losses_of(model, data)))
    opened, row, _ = told.told
    assert opened[1] == list(row) and len(row) == 20
    assert row["loss_task 0"] == pytest.approx(float(losses_of(model, data)[0].detach()))
    assert row["nonfinite"] == 0
    gradients = method.reads > eq.Reads.LOSSES
    assert (row["conflict"] is not None) == gradients
    assert (row["update_cosine_task 1"] is not None) == (gradients and not isinstance(method, eq.Aggregator))


def test_steps_without_a_gramian_do_not_count_in_its_means() -> None:
    balance = eq.Balancer(eq.build_method("mgda+every:steps=3", 3))
    model, data = network("mlp"), batch()
    monitor, row = Monitor(balance, every=3), None
    norms = []
    for _ in range(3):
        one = balance.backward(losses_of(model, data))
        norms.append(one.gramian)
        row = monitor.add(one)
    assert [g is None for g in norms] == [False, True, True]
    assert row is not None and norms[0] is not None
    assert row["grad_norm_task 2"] == pytest.approx(math.sqrt(float(norms[0][2, 2])))


# --- no wait for the device


class NoSync(TorchDispatchMode):
    """Fails at every operation whose result Python would have to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(name in str(func) for name in SYNCING), func
        return func(*args, **(kwargs or {}))


def test_one_vector_goes_to_the_host_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    original = Tensor.tolist

    def counted(self: Tensor) -> Any:
        taken.append(tuple(self.shape))
        return original(self)

    one = record([1, 2], [3, 4], torch.eye(2).double(), fallback=torch.tensor(True))
    monitor = Monitor(balancer(), every=5)
    with pytest.raises(AssertionError), NoSync():  # type: ignore[no-untyped-call]
        one.losses.sum().item()
    monkeypatch.setattr(Tensor, "tolist", counted)
    with NoSync():  # type: ignore[no-untyped-call]
        rows = [monitor.add(one) for _ in range(10)]
    assert [row is not None for row in rows] == [False, False, False, False, True] * 2
    assert taken == [(2, 12)] * 2


def test_nothing_but_the_row_needs_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.monitor.monitor._KEPT_ENTRIES", 4)  # each record is added up at once
    empty = torch.empty(2, device="meta", dtype=torch.float64)
    gramian = torch.empty(2, 2, device="meta", dtype=torch.float64)
    one = StepRecord(empty, empty, gramian, torch.empty((), device="meta", dtype=torch.bool))
    monitor = Monitor(balancer(), every=50)
    for _ in range(49):
        assert monitor.add(one) is None
    assert monitor._sums is not None and monitor._sums.is_meta
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        monitor.add(one)


# --- refusals


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`every` should be at least 1\. Found 0\."):
        Monitor(balancer(), every=0)
    with pytest.raises(ValueError, match=r"`step` should be at least 0\. Found -1\."):
        Monitor(balancer(), step=-1)
    message = r"The tasks should give each column a name of its own\. Found cosine_x_y_z twice\."
    with pytest.raises(ValueError, match=message):
        Monitor(balancer(4, tasks=["x", "y_z", "x_y", "z"]))
    monitor = Monitor(balancer())
    with pytest.raises(ValueError, match=r"`record` should be of 2 tasks\. Found 3\."):
        monitor.add(record([1, 2, 3], [1, 1, 1]))
    monitor.close()
    with pytest.raises(
        RuntimeError, match=r"A record should be added to an open monitor\. Found a closed one\."
    ):
        monitor.add(record([1, 2], [1, 1]))


# --- the csv file


def test_the_file_holds_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    with Monitor(balancer(), every=2, writers=[CSVWriter(path)]) as monitor:
        for value in (1.0, 2.0, 0.123456789):
            monitor.add(record([value, 2], [0.5, 0.25]))
    lines = path.read_text().split("\n")
    assert lines[0].startswith("step,incomplete,nonfinite,loss_a,loss_b,weight_a,weight_b,fallback,conflict,")
    assert lines[1:] == ["2,0,0,1.5,2,0.5,0.25,,,,,,,", "3,0,0,0.12345679,2,0.5,0.25,,,,,,,", ""]


def run_to(path: Path, start: int, steps: int, **more: Any) -> None:
    with Monitor(balancer(**more), every=2, writers=[CSVWriter(path)], step=start) as monitor:
        for _ in range(steps):
            monitor.add(record([1, 2], [3, 4]))


@pytest.mark.parametrize("torn", ["", "6", '6,0,0,1,"2', "6,0,0,1,2,3,4,,,,,,,"])
def test_a_run_that_goes_on_appends_and_cuts_a_torn_line(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log.csv"
    run_to(path, 0, 4)
    before = path.read_text()
    path.write_text(before + torn)
    run_to(path, 4, 3)
    assert path.read_text().startswith(before)
    assert [row["step"] for row in rows_of(path)] == ["2", "4", "6", "7"]
    assert all(len(line.split(",")) == 14 for line in path.read_text().split("\n")[:-1])


def test_a_torn_header_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    run_to(path, 0, 2)
    whole = path.read_bytes()
    for end in (0, 1, 30, whole.index(b"\n"), whole.index(b"\n") + 1):
        path.write_bytes(whole[:end])
        run_to(path, 0, 2)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "text", ["x,y\n1,2\n", "step\n", "step,incomplete,nonfinite,loss_A\n3,", "my notes", "\n"]
)
def test_a_file_of_something_else_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    message = (
        r"log\.csv should begin with the columns of this monitor\. Found '.*': choose another path, or move the "
        r"file away\."
    )
    with pytest.raises(ValueError, match=message):
        run_to(path, 5, 2)
    assert path.read_text() == text


def test_other_tasks_are_another_header(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    run_to(path, 0, 2)
    before = path.read_text()
    with pytest.raises(ValueError, match="should begin with the columns of this monitor"):
        run_to(path, 2, 2, tasks=["b", "a"])
    assert path.read_text() == before


def test_two_runs_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    run_to(path, 0, 2)
    before = path.read_text()
    message = (
        r"log\.csv should be a new file where a run begins\. Found rows: choose another path, or give `step` to go "
        r"on with them\."
    )
    with pytest.raises(ValueError, match=message):
        run_to(path, 0, 2)
    assert path.read_text() == before


def test_task_names_may_hold_anything(tmp_path: Path) -> None:
    path, tasks = tmp_path / "log.csv", ["a,b", 'quo"te\nline']
    run_to(path, 0, 2, tasks=tasks)
    run_to(path, 2, 2, tasks=tasks)
    assert [row['loss_quo"te\nline'] for row in rows_of(path)] == ["2", "2"]


def test_a_path_that_cannot_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    told = Remembering()
    with pytest.raises(IsADirectoryError):
        Monitor(balancer(), writers=[told, CSVWriter(tmp_path / "folder")])
    assert told.told[-1] == "close"
    with pytest.raises(OSError, match="no such disk"):
        Monitor(balancer(), writers=[Failing("open")])


# --- writers that fail


@pytest.mark.parametrize("at", ["write", "close"])
def test_a_writer_that_fails_is_dropped_with_one_warning(at: str) -> None:
    bad, good = Failing(at), Remembering()
    monitor = Monitor(balancer(), every=1, writers=[bad, good])
    message = (
        r"^Failing\('there'\) is dropped, and the training goes on without it: OSError: \[Errno 28\] No space left "
        r"on device$"
    )
    with pytest.warns(RuntimeWarning, match=message) as warned:
        for _ in range(3):
            monitor.add(record([1, 2], [3, 4]))
        monitor.close()
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert bad.told == (["write", "close"] if at == "write" else ["write"] * 3 + ["close"] * 2)
    assert [row["step"] for row in good.told[1:-1]] == [1, 2, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_does_not_stop_the_training() -> None:
    monitor = Monitor(balancer(), every=1, writers=[CSVWriter("/dev/full")])
    message = r"^CSVWriter\('/dev/full'\) is dropped.*: OSError: \[Errno 28\] No space left on device$"
    with pytest.warns(RuntimeWarning, match=message) as warned:
        rows = [monitor.add(record([1, 2], [3, 4])) for _ in range(3)]
        monitor.close()
    assert len(warned) == 1
    assert all(row is not None for row in rows)


LIMITED = """
import resource, signal, sys, threading, warnings
import torch
import equipoise as eq
from equipoise.engine import StepRecord
from equipoise.monitor import CSVWriter, Monitor, TensorBoardWriter
threading.excepthook = lambda args: None  # TensorBoard's thread reports its end
monitor = Monitor(
    eq.Balancer(eq.build_method("ls", 2)), every=1, writers=[CSVWriter("log.csv"), TensorBoardWriter("board")]
)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
one = StepRecord(torch.ones(2).double(), torch.ones(2).double())
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for _ in range(400):
        monitor.add(one)
    monitor.close()
for warning in warned:
    print(warning.message)
print("trained", monitor.step)
"""


def test_files_that_may_not_grow_do_not_stop_the_training(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    first, second, last = done.stdout.splitlines()
    told = [
        line.split(" is dropped, and the training goes on without it: ") for line in sorted((first, second))
    ]
    assert [writer for writer, _ in told] == ["CSVWriter('log.csv')", "TensorBoardWriter('board')"]
    assert all(error == "OSError: [Errno 27] File too large" for _, error in told)
    assert last == "trained 400"
    text = (tmp_path / "log.csv").read_text()
    assert len(text) == 4096 and not text.endswith("\n")  # the last line is torn
    with Monitor(
        balancer(tasks=["task 0", "task 1"]), every=1, writers=[CSVWriter(tmp_path / "log.csv")], step=400
    ):
        pass
    assert (tmp_path / "log.csv").read_text() == text[: text.rindex("\n") + 1]


# --- boards


def test_tensorboard_gets_the_same_numbers_in_groups(tmp_path: Path) -> None:
    gramian = torch.tensor([[4.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    with Monitor(balancer(), every=1, writers=[TensorBoardWriter(tmp_path)]) as monitor:
        for _ in range(2):
            monitor.add(StepRecord(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0]), gramian))
        events = EventAccumulator(str(tmp_path)).Reload()  # though the run goes on
    assert [event.step for event in events.Scalars("loss/a")] == [1, 2]
    found = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert found == {
        "loss/a": 1, "loss/b": 2, "weight/a": 0.5, "weight/b": 0, "grad_norm/a": 2, "grad_norm/b": 3,
        "update_cosine/a": 1, "update_cosine/b": 0, "cosine/a_b": 0, "conflict": 0, "incomplete": 0, "nonfinite": 0,
    }  # fmt: skip


def test_tensorboard_hides_what_came_after_the_step_of_a_resumed_run(tmp_path: Path) -> None:
    for start, value in ((0, 1), (2, 7)):
        with Monitor(balancer(), every=1, writers=[TensorBoardWriter(tmp_path)], step=start) as monitor:
            for _ in range(4 - start):
                monitor.add(record([value, value], [1, 1]))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/a")] == [(1, 1), (2, 1), (3, 7), (4, 7)]


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        ImportError, match=r'TensorBoard logs need tensorboard: pip install "equipoise\[cli\]"\.'
    ):
        Monitor(balancer(), writers=[TensorBoardWriter(tmp_path)])
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    with pytest.raises(ImportError, match=r'W&B logs need wandb: pip install "equipoise\[wandb\]"\.'):
        Monitor(balancer(), writers=[WandbWriter()])


OFFLINE = """
import os
import torch
import equipoise as eq
from equipoise.engine import StepRecord
from equipoise.monitor import Monitor, WandbWriter
writer = WandbWriter(project="balance", dir=".", settings={"x_disable_stats": True})
one = StepRecord(torch.tensor([0.5, 0.25]), torch.tensor([1.0, 2.0]))
with Monitor(eq.Balancer(eq.build_method("ls", 2), tasks=["near", "far"]), every=2, writers=[writer]) as monitor:
    for _ in range(4):
        monitor.add(one)
    print(writer)
print(os.environ["WANDB_ERROR_REPORTING"])
"""


@pytest.mark.slow
def test_wandb_writes_a_run_without_a_host(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    nowhere = "http://127.0.0.1:9"
    home = {"HOME": str(tmp_path), "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_BASE_URL": nowhere}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | home
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OFFLINE],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    shown, reports = done.stdout.splitlines()
    assert shown.startswith("WandbWriter(mode='offline', project='balance'") and "offline-run-" in shown
    assert reports == "false"
    (run,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    history = run.read_bytes()
    for name in (b"loss/near", b"weight/far", b"nonfinite"):
        assert history.count(name) >= 2, name
    assert b"conflict" not in history  # it was not measured
