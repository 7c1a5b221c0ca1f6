"""The published augmentation: what was drawn is read off numbered pixels, and torch's own resizing redoes it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from equipoise.data.dense_augment import SCALES, zoom_and_flip

Batch = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(b: int, height: int, width: int) -> Batch:
    """Labels that number the pixels, and random images, depth and normals."""
    generator = seeded(99)
    return {
        "image": torch.rand(b, 3, height, width, generator=generator, dtype=torch.float64),
        "label": torch.arange(height * width).reshape(1, height, width).repeat(b, 1, 1),
        "depth": 1 + torch.rand(b, 1, height, width, generator=generator, dtype=torch.float64),
        "normal": normalize(torch.randn(b, 3, height, width, generator=generator).double(), dim=1),
    }


def drawn(before: Batch, after: Batch, k: int) -> tuple[float, int, int, bool]:
    """Scale, top, left and flip of sample k, from the numbers of the pixels and the change of depth."""
    label = after["label"][k]
    flipped = bool(label[0, 0] > label[0, -1])
    top, left = divmod(int(label.min()), label.shape[1])
    ratio = before["depth"][k].flatten()[label.flatten()] / after["depth"][k].flatten()
    scale = min(SCALES, key=lambda scale: abs(scale - float(ratio[0])))
    torch.testing.assert_close(ratio, torch.full_like(ratio, scale))
    return scale, top, left, flipped


@pytest.mark.parametrize("size", [(288, 384), (128, 256), (25, 37), (5, 4)])
def test_it_does_what_the_published_code_does_with_each_sample(size: tuple[int, int]) -> None:
    height, width = size
    before = numbered(12, *size)
    after = zoom_and_flip(before, generator=seeded(), depth="distance")
    kinds = set()
    for k in range(12):
        scale, top, left, flipped = drawn(before, after, k)
        kinds.add((scale, flipped))
        h, w = int(height / scale), int(width / scale)
        for name, value in before.items():
            planes = value[k].reshape(1, -1, height, width)[..., top : top + h, left : left + w].double()
            smooth: dict[str, Any] = {"mode": "nearest"}
            if name in ("image", "normal"):
                smooth = {"mode": "bilinear", "align_corners": True}
            planes = interpolate(planes, size=size, **smooth)[0]
            planes = planes.flip(-1) if flipped else planes
            if name == "normal" and flipped:
                planes[0] = -planes[0]
            if name == "depth":
                planes = planes / scale
            expected = planes.reshape(value[k].shape).to(value.dtype)
            torch.testing.assert_close(after[name][k], expected)
    assert len(kinds) == 6


def test_draws_cover_all_scales_places_and_flips_evenly() -> None:
    before = numbered(3000, 6, 9)
    after = zoom_and_flip(before, generator=seeded(), depth="distance")
    found = [drawn(before, after, k) for k in range(3000)]
    scales = Counter(scale for scale, *_ in found)
    flips = sum(flipped for *_, flipped in found)
    assert all(abs(count - 1000) < 120 for count in scales.values()) and len(scales) == 3
    assert abs(flips - 1500) < 120
    for scale in SCALES:
        places = Counter((top, left) for s, top, left, _ in found if s == scale)
        every = {(i, j) for i in range(6 - int(6 / scale) + 1) for j in range(9 - int(9 / scale) + 1)}
        assert set(places) == every
        assert min(places.values()) > 0.5 * max(places.values())


def test_one_generator_gives_one_result_and_moves_on() -> None:
    before = numbered(4, 8, 8)
    first, again = seeded(), seeded()
    one = zoom_and_flip(before, generator=first, depth="distance")
    torch.testing.assert_close(one, zoom_and_flip(before, generator=again, depth="distance"), rtol=0, atol=0)
    assert not torch.equal(one["label"], zoom_and_flip(before, generator=first, depth="distance")["label"])


def test_draws_do_not_depend_on_what_the_batch_holds() -> None:
    before = numbered(8, 8, 8)
    whole = zoom_and_flip(before, generator=seeded(), depth="distance")
    part = {name: before[name] for name in ("image", "label")}
    found = zoom_and_flip(part, generator=seeded(), depth="inverse")
    assert list(found) == ["image", "label"]
    torch.testing.assert_close(found, {name: whole[name] for name in found}, rtol=0, atol=0)


def test_without_zoom_and_flip_nothing_changes() -> None:
    before = numbered(3, 7, 5)
    after = zoom_and_flip(before, generator=seeded(), depth="distance", scales=(1.0,), flip=0)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(after[name].data_ptr() != value.data_ptr() for name, value in before.items())


def test_a_flip_mirrors_the_world_and_twice_is_none() -> None:
    before = numbered(3, 7, 5)
    once = zoom_and_flip(before, generator=seeded(), depth="distance", scales=(1.0,), flip=1)
    for name, value in before.items():
        mirrored = value.flip(-1)
        if name == "normal":
            mirrored = mirrored * torch.tensor([-1.0, 1, 1]).double().reshape(1, 3, 1, 1)
        torch.testing.assert_close(once[name], mirrored, rtol=0, atol=0)
    twice = zoom_and_flip(once, generator=seeded(), depth="distance", scales=(1.0,), flip=1)
    torch.testing.assert_close(twice, before, rtol=0, atol=0)


def test_inverse_depth_grows_with_the_zoom_and_as_published_shrinks() -> None:
    before = numbered(24, 9, 9)
    inverse = {**before, "depth": 1 / before["depth"]}
    distance = zoom_and_flip(before, generator=seeded(), depth="distance")["depth"]
    right = zoom_and_flip(inverse, generator=seeded(), depth="inverse")["depth"]
    flawed = zoom_and_flip(inverse, generator=seeded(), depth="inverse-as-published")["depth"]
    torch.testing.assert_close(1 / right, distance)
    squared = (right / flawed).amax((1, 2, 3))
    assert {round(value, 3) for value in squared.tolist()} == {1.0, 1.44, 2.25}


def test_pixels_without_depth_stay_without() -> None:
    before = numbered(24, 9, 9)
    before["depth"][:, :, ::2] = 0
    after = zoom_and_flip(before, generator=seeded(), depth="inverse")
    hidden = before["depth"][0].flatten()[after["label"].flatten()] == 0
    assert torch.equal(after["depth"].flatten() == 0, hidden)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scales": (1.0, 0.5)}, "`scales` should each be at least 1. Found [1.0, 0.5]."),
        ({"scales": ()}, "`scales` should each be at least 1. Found []."),
        ({"flip": 1.5}, "`flip` should be between 0 and 1. Found 1.5."),
        ({"flip": float("nan")}, "`flip` should be between 0 and 1. Found nan."),
        (
            {"depth": "metres"},
            "`depth` should be one of distance, inverse, inverse-as-published. Found 'metres'.",
        ),
    ],
)
def test_errors_say_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"depth": "distance", **wrong}
    with pytest.raises(ValueError, match=re.escape(message)):
        zoom_and_flip(numbered(2, 4, 4), generator=seeded(), **arguments)


def test_sizes_that_differ_are_told() -> None:
    batch = {**numbered(2, 4, 4), "depth": torch.ones(2, 1, 4, 5)}
    with pytest.raises(ValueError, match=r"one number and size of images. Found .*'depth': \(2, 4, 5\)"):
        zoom_and_flip(batch, generator=seeded(), depth="distance")
