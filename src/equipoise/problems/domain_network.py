"""The networks of problems with several domains by name: an encoder with the sizes that it has, one head for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import nn

from equipoise.core.names import check_known
from equipoise.models.lenet import LeNetEncoder
from equipoise.models.mlp import OneHead
from equipoise.models.resnet import ResNet
from equipoise.models.vit import ViT

_LENET_FEATURES = 50
_RESNET_WIDTH = 64  # channels of the first convolution of a full ResNet


class ImageShape(NamedTuple):
    """Of images (b, channels, side, side).

    Args:
        side: H = W.
        channels: 1 for grey images, 3 for colours.
        small: whether the first layer of a ResNet keeps the size of the image, see `ResNet`.
    """

    side: int
    channels: int
    small: bool = True


def network_sizes(
    name: str, given: Mapping[str, int | None], known: Mapping[str, Mapping[str, int]]
) -> dict[str, int]:
    """The sizes of a network: those that are given, and the others by default.

    Args:
        name: of the network.
        given: size -> number, or None where it is left out.
        known: network -> the sizes that it has, with their defaults.

    Raises:
        ValueError: on an unknown network, or a size that it has not.
    """
    check_known("`model`", name, known)
    chosen = {size: number for size, number in given.items() if number is not None}
    for size, number in chosen.items():
        if size not in known[name]:
            raise ValueError(f"`{size}` should be left out with model={name!r}. Found {number}.")
    return {**known[name], **chosen}


def network(name: str, sizes: Mapping[str, int], shape: ImageShape, classes: int) -> OneHead:
    """Build a classifier of images (b, channels, side, side), which gives logits (b, classes).

    Args:
        name: "lenet" (grey images only), "resnet" or "vit".
        sizes: of the network, see `network_sizes`.
        shape: of the images.
        classes: in all.

    Raises:
        ValueError: on a size out of range.
    """
    encoder, features = image_encoder(name, sizes, shape)
    return OneHead(encoder, features, classes)


def image_encoder(name: str, sizes: Mapping[str, int], shape: ImageShape) -> tuple[nn.Module, int]:
    """Build an encoder of images (b, channels, side, side), and say how many features (b, features) it gives.

    Args: see `network`.

    Raises:
        ValueError: on a size out of range.
    """
    return _ENCODERS[name](shape, **sizes)


def _lenet(shape: ImageShape, *, width: int) -> tuple[nn.Module, int]:
    assert shape.channels == 1
    encoder = LeNetEncoder(width, features=_LENET_FEATURES, side=shape.side)
    return encoder, encoder.features


def _resnet(shape: ImageShape, *, width: int, depth: int) -> tuple[nn.Module, int]:
    factor = width / _RESNET_WIDTH
    encoder = ResNet(depth, factor, image_channels=shape.channels, small_images=shape.small)
    return encoder, encoder.features


def _vit(shape: ImageShape, *, width: int, depth: int, patch: int) -> tuple[nn.Module, int]:
    encoder = ViT(shape.side, patch=patch, channels=shape.channels, width=width, depth=depth)
    return encoder, encoder.features


_ENCODERS: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "lenet": _lenet,
    "resnet": _resnet,
    "vit": _vit,
}
