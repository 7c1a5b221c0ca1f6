"""Overlaid images, pixel by pixel, and the pairs that they are made of."""

import pytest
import torch

from equipoise.data.overlays import CANVAS, draw_images, draw_pairs, overlay


@pytest.mark.parametrize("shift", [0, 3, 6, 8])
def test_a_canvas_is_the_greater_of_two_images_pixel_by_pixel(shift: int) -> None:
    generator = torch.Generator().manual_seed(shift)
    pixels = torch.randint(0, 256, (5, 28, 28), generator=generator, dtype=torch.uint8)
    left, right = torch.tensor([0, 3, 3]), torch.tensor([1, 4, 0])
    found = overlay(pixels, left, right, shift)
    assert found.shape == (3, 1, 36, 36) and found.dtype == torch.uint8
    for i in range(3):
        for y in range(CANVAS):
            for x in range(CANVAS):
                first = int(pixels[left[i], y, x]) if y < 28 and x < 28 else 0
                inside = shift <= y < shift + 28 and shift <= x < shift + 28
                second = int(pixels[right[i], y - shift, x - shift]) if inside else 0
                assert int(found[i, 0, y, x]) == max(first, second)


def test_the_images_themselves_stay_as_they_are() -> None:
    pixels = torch.full((2, 28, 28), 7, dtype=torch.uint8)
    overlay(pixels, torch.tensor([0]), torch.tensor([1]), 4)
    assert bool((pixels == 7).all())


@pytest.mark.parametrize("repeats", [1, 3])
def test_each_image_is_left_equally_often_and_never_with_itself(repeats: int) -> None:
    images = torch.arange(100, 150)
    pairs = draw_pairs(images, repeats, 0)
    assert len(pairs.left) == len(pairs.right) == 50 * repeats
    assert torch.equal(torch.bincount(pairs.left)[100:], torch.full((50,), repeats))
    assert set(pairs.right.tolist()) <= set(images.tolist())
    assert not (pairs.left == pairs.right).any()


def test_the_right_image_is_any_of_the_others_equally_likely() -> None:
    """Chi-square over all pairs of different images: 20 x 19 cells, 90 pairs expected in each."""
    pairs = draw_pairs(torch.arange(20), 1710, 0)
    counts = torch.zeros(20, 20)
    counts.index_put_((pairs.left, pairs.right), torch.ones(len(pairs.left)), accumulate=True)
    others = ~torch.eye(20, dtype=torch.bool)
    statistic = float(((counts[others] - 90) ** 2 / 90).sum())
    freedom = 20 * 18  # each row sums to 1710
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_pairs_depend_on_the_seed_alone() -> None:
    images = torch.arange(30)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (draw_pairs(images, 1, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.right, again.right)
    assert not torch.equal(first.right, other.right)


def test_too_few_images_or_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`images` should be at least 2, to make pairs of\. Found 1\."):
        draw_pairs(torch.arange(1), 1, 0)
    with pytest.raises(ValueError, match=r"`repeats` should be at least 1\. Found 0\."):
        draw_pairs(torch.arange(5), 0, 0)


@pytest.mark.parametrize("shift", [-1, 9])
def test_a_shift_out_of_the_canvas_is_refused(shift: int) -> None:
    pixels = torch.zeros(2, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"`shift` should be between 0 and 8\. Found {shift}\."):
        overlay(pixels, torch.tensor([0]), torch.tensor([1]), shift)


def test_images_of_each_part_are_counted_through() -> None:
    some, more, every = (draw_images([10, 4], {"images": n, "test": 2}, 0) for n in (3, 6, None))
    assert [len(chosen) for chosen in some] == [3, 2]
    assert set(some[0].tolist()) < set(more[0].tolist()) < set(range(10))
    assert every[0].tolist() == list(range(10))
    assert set(every[1].tolist()) < set(range(10, 14))
    assert draw_images([10, 4], {"images": 3, "test": 2}, 1)[0].tolist() != some[0].tolist()


@pytest.mark.parametrize("number", [1, 5])
def test_a_draw_of_too_few_or_too_many_images_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=rf"`test` should be between 2 and 4\. Found {number}\."):
        draw_images([10, 4], {"images": None, "test": number}, 0)
