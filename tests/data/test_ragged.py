"""Ragged tensors against Python lists."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.ragged import spans, starts


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_spans_are_the_ranges_of_the_items(lengths: list[int], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    start = starts(torch.tensor(lengths))
    begin = [sum(lengths[:k]) for k in range(len(lengths) + 1)]
    assert start.tolist() == begin
    flat, owner = spans(start, torch.tensor(index, dtype=torch.int64))
    assert flat.tolist() == [x for k in index for x in range(begin[k], begin[k + 1])]
    assert owner.tolist() == [row for row, k in enumerate(index) for _ in range(lengths[k])]
