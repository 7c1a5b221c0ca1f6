"""The architectures for several tasks, made of LeNets for small grey images, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from .cgc import CGC, PLE
from .cross_stitch import CrossStitch
from .dselect_k import DSelectK
from .lenet import LeNetEncoder, lenet_stages
from .ltb import LearningToBranch
from .mmoe import MMoE
from .multitask import MultiTaskNet, Stage, check_at_least
from .resnet import HardSharing, ResNet

_RESNET_WIDTH = 64  # channels of the first convolution of a full ResNet


@dataclass(frozen=True)
class _Sizes:
    outputs: Sequence[int]
    side: int
    width: int
    features: int
    experts: int

    def expert(self) -> Callable[[], nn.Module]:
        return partial(LeNetEncoder, self.width, features=self.features, side=self.side)


def small_image_network(
    name: str, outputs: Sequence[int], *, side: int, width: int = 10, features: int = 50, experts: int = 4
) -> MultiTaskNet:
    """Build one of `ARCHITECTURES` for grey images, with one linear head per task.

    Args:
        name: "lenet" or "resnet" (ResNet-18 for small images), both with hard parameter sharing; "cross_stitch", with a
            LeNet for each task; "ltb", whose blocks are the stages of a LeNet; "mmoe", "cgc", "ple" or "dselect_k",
            whose experts are LeNets.
        outputs: classes of each task.
        side: H = W of the images, at least 20.
        width: channels of the first convolution.
        features: of a LeNet; a ResNet has 8 x width.
        experts: in all for "mmoe" and "dselect_k"; for "cgc" and "ple" (in each of its two layers) this many shared
            ones, and as many for each task.

    Raises:
        ValueError: on an unknown name, or sizes out of range.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"`architecture` should be one of {', '.join(ARCHITECTURES)}. Found {name!r}.")
    check_at_least("width", width, 1)
    check_at_least("experts", experts, 2)
    return ARCHITECTURES[name](_Sizes(outputs, side, width, features, experts))


def _lenet(sizes: _Sizes) -> MultiTaskNet:
    return HardSharing(sizes.expert()(), sizes.features, sizes.outputs)


def _resnet(sizes: _Sizes) -> MultiTaskNet:
    encoder = ResNet(18, sizes.width / _RESNET_WIDTH, image_channels=1, small_images=True)
    return HardSharing(encoder, encoder.features, sizes.outputs)


def _cross_stitch(sizes: _Sizes) -> MultiTaskNet:
    return CrossStitch(lenet_stages(sizes.width, features=sizes.features, side=sizes.side), sizes.outputs)


def _ltb(sizes: _Sizes) -> MultiTaskNet:
    stages = lenet_stages(sizes.width, features=sizes.features, side=sizes.side)
    return LearningToBranch(stages, sizes.outputs)


def _mmoe(sizes: _Sizes) -> MultiTaskNet:
    return MMoE(sizes.expert(), sizes.features, sizes.outputs, inputs=sizes.side**2, experts=sizes.experts)


def _cgc(sizes: _Sizes) -> MultiTaskNet:
    return CGC(
        sizes.expert(),
        sizes.features,
        sizes.outputs,
        inputs=sizes.side**2,
        shared=sizes.experts,
        own=sizes.experts,
    )


def _ple(sizes: _Sizes) -> MultiTaskNet:
    first, second, last = lenet_stages(sizes.width, features=sizes.features, side=sizes.side)
    layers = [first, Stage(lambda: nn.Sequential(second.make(), last.make()), last.channels)]
    return PLE(layers, sizes.outputs, inputs=sizes.side**2, shared=sizes.experts, own=sizes.experts)


def _dselect_k(sizes: _Sizes) -> MultiTaskNet:
    return DSelectK(
        sizes.expert(), sizes.features, sizes.outputs, inputs=sizes.side**2, experts=sizes.experts
    )


ARCHITECTURES: dict[str, Callable[[_Sizes], MultiTaskNet]] = {
    "lenet": _lenet,
    "resnet": _resnet,
    "cross_stitch": _cross_stitch,
    "ltb": _ltb,
    "mmoe": _mmoe,
    "cgc": _cgc,
    "ple": _ple,
    "dselect_k": _dselect_k,
}
"""Name -> builder."""
