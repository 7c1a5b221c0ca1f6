"""The networks of digits by name: an encoder with the sizes that it has, and one head for all domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from equipoise.core.names import check_known
from equipoise.models.lenet import LeNetEncoder
from equipoise.models.mlp import OneHead
from equipoise.models.resnet import ResNet
from equipoise.models.vit import ViT

SIZES: dict[str, dict[str, int]] = {
    "lenet": {"width": 10},
    "resnet": {"width": 16, "depth": 18},
    "vit": {"width": 48, "depth": 3, "patch": 4},
}
"""Network -> the sizes that it has, with their defaults."""
_LENET_FEATURES = 50
_RESNET_WIDTH = 64  # channels of the first convolution of a full ResNet


def network_sizes(name: str, given: Mapping[str, int | None]) -> dict[str, int]:
    """The sizes of a network: those that are given, and the others by default.

    Raises:
        ValueError: on an unknown network, or a size that it has not.
    """
    check_known("`model`", name, SIZES)
    chosen = {size: number for size, number in given.items() if number is not None}
    for size, number in chosen.items():
        if size not in SIZES[name]:
            raise ValueError(f"`{size}` should be left out with model={name!r}. Found {number}.")
    return {**SIZES[name], **chosen}


def network(name: str, side: int, classes: int, sizes: Mapping[str, int]) -> OneHead:
    """Build a classifier of grey images (b, 1, side, side), which gives logits (b, classes).

    Raises:
        ValueError: on a size out of range.
    """
    encoder, features = _ENCODERS[name](side, **sizes)
    return OneHead(encoder, features, classes)


def _lenet(side: int, *, width: int) -> tuple[nn.Module, int]:
    encoder = LeNetEncoder(width, features=_LENET_FEATURES, side=side)
    return encoder, encoder.features


def _resnet(side: int, *, width: int, depth: int) -> tuple[nn.Module, int]:
    encoder = ResNet(depth, width / _RESNET_WIDTH, image_channels=1, small_images=True)
    return encoder, encoder.features


def _vit(side: int, *, width: int, depth: int, patch: int) -> tuple[nn.Module, int]:
    encoder = ViT(side, patch=patch, channels=1, width=width, depth=depth)
    return encoder, encoder.features


_ENCODERS: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "lenet": _lenet,
    "resnet": _resnet,
    "vit": _vit,
}
