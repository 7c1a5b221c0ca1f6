"""Crops and mirroring against plain slices."""

import pytest
import torch

from equipoise.data.image_augment import crop_and_flip


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (2, False), (0, True), (1, True)])
def test_each_image_is_a_window_of_its_padded_self_mirrored_or_not(crop: int, flip: bool) -> None:
    images = torch.randint(
        1, 256, (400, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = crop_and_flip(images, torch.Generator().manual_seed(1), crop=crop, flip=flip)
    assert found.shape == images.shape and found.dtype == torch.uint8
    padded = torch.nn.functional.pad(images, (crop,) * 4)
    seen = set()
    for before, after in zip(padded, found, strict=True):
        windows = {
            (down, right, mirrored): window.flip(2) if mirrored else window
            for down in range(2 * crop + 1)
            for right in range(2 * crop + 1)
            for mirrored in ((False, True) if flip else (False,))
            for window in [before[:, down : down + 5, right : right + 7]]
        }
        (place,) = [place for place, window in windows.items() if torch.equal(window, after)]
        seen.add(place)
    assert len(seen) == (2 * crop + 1) ** 2 * (1 + flip)  # all of them come up in 400 draws


def test_the_draws_are_those_of_the_generator() -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    first, again, other = (
        crop_and_flip(images, torch.Generator().manual_seed(seed), crop=1, flip=True) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
