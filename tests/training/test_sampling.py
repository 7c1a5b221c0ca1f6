"""Batches of samples come in an order of seed and epoch alone, however many threads read ahead."""

import threading
import time

import pytest
import torch
from torch import Tensor

from equipoise.training.sampling import SampleBatches


def noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
    return batch + torch.rand(len(batch), generator=generator)


def of(size: int = 3, workers: int = 0, seed: int = 0, **options: bool) -> SampleBatches[Tensor]:
    part = torch.arange(100, 110)
    return SampleBatches(
        torch.Tensor.double, part, size=size, seed=seed, workers=workers, augment=noisy, **options
    )


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    epochs = [torch.cat(list(of().epoch(number))).floor() for number in (1, 2)]
    for found in epochs:
        assert sorted(found.tolist()) == list(range(100, 110))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert torch.cat(list(of(seed=1).epoch(1))).floor().tolist() != epochs[0].tolist()


def test_iterating_keeps_the_order_and_augments_nothing() -> None:
    assert torch.cat(list(of())).tolist() == list(range(100, 110))


@pytest.mark.parametrize("workers", [1, 3])
def test_neither_threads_nor_where_an_epoch_is_entered_change_a_batch(workers: int) -> None:
    plain = list(of().epoch(4))
    for start in range(len(plain)):
        found = list(of(workers=workers).epoch(4, start))
        assert len(found) == len(plain) - start
        assert all(torch.equal(a, b) for a, b in zip(found, plain[start:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(of(workers=workers), of(), strict=True))


def test_each_batch_of_each_epoch_draws_its_own_numbers() -> None:
    drawn = [(batch % 1).tolist()[0] for number in range(1, 6) for batch in of().epoch(number)]
    assert len(set(drawn)) == len(drawn)


def test_a_smaller_last_batch_is_left_out_where_that_is_wanted() -> None:
    assert [len(batch) for batch in of().epoch(1)] == [3, 3, 3, 1]
    assert [len(batch) for batch in of(drop_last=True).epoch(1)] == [3, 3, 3]
    assert (len(of()), len(of(drop_last=True))) == (4, 3)
    assert len(list(of(drop_last=True))) == 4


def test_threads_read_while_nobody_waits() -> None:
    reading = threading.Event()
    second = threading.Event()

    def read(index: Tensor) -> Tensor:
        if int(index[0]) > 0:
            second.set()
        reading.set()
        return index

    batches = iter(SampleBatches(read, torch.arange(4), size=1, workers=1))
    next(batches)
    assert second.wait(10), "the second batch should be read before it is asked for"


def test_a_stop_within_an_epoch_ends_the_threads() -> None:
    batches = iter(SampleBatches(lambda index: index, torch.arange(100), size=1, workers=2))
    next(batches)
    del batches
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("equipoise-read") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_of_a_read_comes_with_its_batch() -> None:
    def read(index: Tensor) -> Tensor:
        if int(index[0]) == 2:
            raise OSError("sample 2 cannot be read")
        return index

    batches = iter(SampleBatches(read, torch.arange(4), size=1, workers=2))
    assert [int(next(batches)), int(next(batches))] == [0, 1]
    with pytest.raises(OSError, match="sample 2 cannot be read"):
        next(batches)


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (0, {"size": 1}, r"`part` should hold at least 1 sample\. Found 0\."),
        (3, {"size": 0}, r"`size` should be at least 1\. Found 0\."),
        (3, {"size": 1, "workers": -1}, r"`workers` should be at least 0\. Found -1\."),
    ],
)
def test_bad_arguments_are_refused(part: int, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleBatches(lambda index: index, torch.arange(part), **options)  # type: ignore[arg-type]
