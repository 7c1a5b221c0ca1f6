"""Two images on one canvas: one at the top left, the other below and to the right of it, the brighter pixel winning.

S. Sabour, N. Frosst and G. Hinton, Dynamic Routing Between Capsules, NeurIPS 2017, https://arxiv.org/abs/1710.09829,
overlaid digits on a canvas of 36 x 36 pixels, each moved by up to 4 pixels either way. O. Sener and V. Koltun,
Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, https://arxiv.org/abs/1810.04650, fixed the places:
in their code the right image lies 6 pixels below and to the right of the left one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CANVAS = 36


class Pairs(NamedTuple):
    """For each of N canvases the number of its left and of its right image, int64 (N,)."""

    left: Tensor
    right: Tensor


def draw_images(sizes: Sequence[int], wanted: Mapping[str, int | None], seed: int) -> tuple[Tensor, ...]:
    """Some images of each part at random; a smaller draw is part of every larger one.

    Args:
        sizes: how many images each part has.
        wanted: how many to draw of each part, or None for all, by the names of the options that ask for them.
        seed: of the draw.

    Returns:
        The numbers of the images of each part, rising, where images are counted through all parts.

    Raises:
        ValueError: if fewer than 2 images of a part are wanted, or more than there are.
    """
    found, first = [], 0
    for size, (option, number) in zip(sizes, wanted.items(), strict=True):
        if number is not None and not 2 <= number <= size:
            raise ValueError(f"`{option}` should be between 2 and {size}. Found {number}.")
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        found.append(first + order[:number].sort().values)
        first += size
    return tuple(found)


def draw_pairs(images: Tensor, repeats: int, seed: int) -> Pairs:
    """Each image is the left one of `repeats` canvases; the right one is drawn at random from the others.

    Args:
        images: the numbers of the images of one part (n,), at least two different ones.
        repeats: canvases for each left image.
        seed: of the draw.

    Returns:
        ``repeats * n`` pairs, the left images in the order of `images`, over and over. No image is paired with itself;
        one of the same class may be.

    Raises:
        ValueError: if there are fewer than 2 images or no repeats.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"`images` should be at least 2, to make pairs of. Found {n}.")
    if repeats < 1:
        raise ValueError(f"`repeats` should be at least 1. Found {repeats}.")
    generator = torch.Generator().manual_seed(seed)
    left = torch.arange(n).repeat(repeats)
    further = torch.randint(
        1, n, (repeats * n,), generator=generator
    )  # a step of 1 to n - 1 around the circle
    return Pairs(images[left], images[(left + further) % n])


def overlay(pixels: Tensor, left: Tensor, right: Tensor, shift: int) -> Tensor:
    """Lay pairs of images on canvases of 36 x 36 pixels.

    A pixel of the canvas is the greater one of max(left[y, x], right[y - shift, x - shift]), where a place outside of
    an image counts as 0.

    Args:
        pixels: all images, uint8 (n, H, W).
        left: numbers of the left images (b,), whose corner is that of the canvas.
        right: numbers of the right images (b,).
        shift: pixels by which the right images are further down and to the right, 0 to 36 - H.

    Returns:
        uint8 (b, 1, 36, 36).

    Raises:
        ValueError: if the right images would leave the canvas.
    """
    height, width = pixels.shape[1:]
    check_shift(shift, max(height, width))
    canvas = pixels.new_zeros(len(left), CANVAS, CANVAS)
    canvas[:, :height, :width] = pixels[left]
    below = canvas[:, shift : shift + height, shift : shift + width]
    below.copy_(torch.maximum(below, pixels[right]))
    return canvas[:, None]


def check_shift(shift: int, side: int) -> None:
    """Refuse a shift that is negative or moves an image of `side` pixels out of the canvas.

    Raises:
        ValueError: if so.
    """
    if not 0 <= shift <= CANVAS - side:
        raise ValueError(f"`shift` should be between 0 and {CANVAS - side}. Found {shift}.")
