"""ResNet against published parameter counts and a forward pass written as plain functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.models.multitask import chain
from equipoise.models.resnet import HardSharing, ResNet, resnet_stages
from models.sharing_cases import assert_encoder_is_shared, pictures
from models.test_segnet import count, shuffle_norms

BLOCKS = {18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def small(depth: int = 18, *, small_images: bool = True) -> ResNet:
    torch.manual_seed(0)
    net = ResNet(depth, 1 / 32, image_channels=1, small_images=small_images).double()
    shuffle_norms(net)
    return net


class Layers:
    """Convolutions and normalisations of a network in the order in which they were made, used up one by one."""

    def __init__(self, net: nn.Module) -> None:
        self.convolutions = iter([m for m in net.modules() if isinstance(m, nn.Conv2d)])
        self.norms = iter([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)])

    def apply(self, x: Tensor, size: int, stride: int = 1) -> Tensor:
        """The next convolution, which should be `size` wide, and its normalisation by the batch."""
        layer, norm = next(self.convolutions), next(self.norms)
        assert layer.weight.shape[2:] == (size, size)
        y = functional.conv2d(x, layer.weight, stride=stride, padding=(size - 1) // 2)
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt()
        return y * norm.weight[:, None, None] + norm.bias[:, None, None]


def reference(net: ResNet, x: Tensor, depth: int, *, small_images: bool) -> Tensor:
    layers = Layers(net)
    if small_images:
        x = layers.apply(x, 3).clamp(min=0)
    else:
        x = layers.apply(x, 7, 2).clamp(min=0)
        x = functional.pad(x, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
    for level, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            stride = 2 if block == 0 and level > 0 else 1
            if depth in (18, 34):
                y = layers.apply(layers.apply(x, 3, stride).clamp(min=0), 3)
            else:
                y = layers.apply(layers.apply(x, 1).clamp(min=0), 3, stride).clamp(min=0)
                y = layers.apply(y, 1)
            same = y.shape[1:] == x.shape[1:]
            x = (y + (x if same else layers.apply(x, 1, stride))).clamp(min=0)
    assert not [*layers.convolutions, *layers.norms]
    return x.flatten(2).mean(2)


@pytest.mark.parametrize(("depth", "expected"), [(18, 11_689_512), (50, 25_557_032), (101, 44_549_160)])
def test_has_the_parameters_of_the_published_networks(depth: int, expected: int) -> None:
    with torch.device("meta"):
        encoder = ResNet(depth)
        net = HardSharing(encoder, encoder.features, [1000])
    assert count(net) == expected


@pytest.mark.parametrize(("depth", "published"), [(26, 13_946_176), (50, 23_508_032), (101, 42_500_160)])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_bottleneck_networks_have_the_parameters_of_the_formula(
    depth: int, published: int, width: float
) -> None:
    """With c channels inside, a level's first block has 5 in c + 13 c^2 + 20 c parameters, any other 17 c^2 + 12 c.

    The first: 1 x 1 in c, 3 x 3 9 c^2, 1 x 1 4 c^2, shortcut 4 in c, normalisations 2 (c + c + 4 c + 4 c).
    """
    c = inputs = int(64 * width)
    expected = 7 * 7 * 3 * c + 2 * c
    for blocks in BLOCKS[depth]:
        expected += 5 * inputs * c + 13 * c**2 + 20 * c + (blocks - 1) * (17 * c**2 + 12 * c)
        c, inputs = 2 * c, 4 * c
    with torch.device("meta"):
        net = ResNet(depth, width)
    assert count(net) == expected
    assert (expected == published) == (width == 1.0)
    assert net.features == 2048 * width


@pytest.mark.parametrize(("depth", "features"), [(18, 512), (26, 2048), (34, 512), (50, 2048), (101, 2048)])
def test_depth_counts_the_layers_with_weights(depth: int, features: int) -> None:
    with torch.device("meta"):
        net = ResNet(depth)
    shortcuts = sum(
        isinstance(m, nn.Sequential) for name, m in net.named_modules() if name.endswith("shortcut")
    )
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) - shortcuts + 1 == depth
    assert net.features == features


@pytest.mark.parametrize(
    ("depth", "small_images"),
    [(18, True), (18, False), (26, True), (26, False), (34, False), (50, True), (101, False)],
)
def test_equals_the_same_network_as_plain_functions(depth: int, small_images: bool) -> None:
    net = small(depth, small_images=small_images)
    x = pictures(samples=2, size=32)
    expected = reference(net, x, depth, small_images=small_images)
    assert net(x).shape == (2, net.features)
    assert (net(x) - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("size", [28, 36, 64])
def test_takes_images_of_any_size(size: int) -> None:
    for small_images in (True, False):
        assert small(small_images=small_images)(pictures(samples=2, size=size)).shape == (2, 16)


def test_stages_chained_are_the_network() -> None:
    torch.manual_seed(0)
    stages = resnet_stages(18, 1 / 32, image_channels=1, small_images=True)
    net = chain(stages).double()
    shuffle_norms(net)
    x = pictures(size=16)
    assert torch.equal(net(x), small()(x))
    assert [stage.channels for stage in stages] == [2, 2, 4, 8, 16]
    for stage, part in zip(stages, net, strict=True):
        x = part(x)
        assert x.shape[1] == stage.channels


def test_width_scales_every_level() -> None:
    with torch.device("meta"):
        published, wide = ResNet(26), ResNet(26, 2.0)
    for large, little in zip(wide.parameters(), published.parameters(), strict=True):
        assert large.shape[0] == 2 * little.shape[0]
        assert large.shape[2:] == little.shape[2:]


def test_convolutions_start_with_the_variance_of_kaiming_he() -> None:
    torch.manual_seed(0)
    for layer in [m for m in ResNet(18, 0.5).modules() if isinstance(m, nn.Conv2d)]:
        expected = math.sqrt(2 / (layer.out_channels * layer.weight[0, 0].numel()))
        assert abs(float(layer.weight.detach().std()) / expected - 1) < 5 / math.sqrt(layer.weight.numel())


def test_narrow_networks_have_the_same_gradients_in_any_memory_format() -> None:
    gradients = []
    for form in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = ResNet(18, 4 / 64, image_channels=1, small_images=True).to(memory_format=form)  # type: ignore[call-overload]
        # A strided 1 x 1 convolution of 4 channels would corrupt memory here.
        assert not [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size < m.stride]
        net(pictures(size=36).float()).square().mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    for contiguous, other in zip(*gradients, strict=True):
        assert torch.allclose(contiguous, other, rtol=1e-3, atol=1e-5)


def test_a_resnet_is_shared_by_hard_sharing() -> None:
    assert_encoder_is_shared(
        lambda: HardSharing(ResNet(26, 1 / 32, image_channels=1, small_images=True), 64, [3, 2]),
        pictures(size=16),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(19), "`depth` should be one of 18, 26, 34, 50, 101. Found 19."),
        (lambda: ResNet(18, 0.001), "`width` should leave at least 1 of 64 channels. Found 0.001."),
        (lambda: ResNet(18, image_channels=0), "`image_channels` should be at least 1. Found 0."),
        (
            lambda: small()(torch.zeros(2, 3, 32, 32)),
            "`images` should have shape (b, 1, H, W). Found (2, 3, 32, 32).",
        ),
    ],
)
def test_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
