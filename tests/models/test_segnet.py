"""SegNet against published parameter counts, loops by hand and a forward pass written as plain functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import equipoise as eq
from equipoise.models.segnet import CITYSCAPES, NYUV2, DenseHead, DenseOutput, SegNet

CONVOLUTIONS = (2, 2, 3, 3, 3)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(cls: Callable[..., Any] = SegNet, **changes: Any) -> Any:
    torch.manual_seed(0)
    return cls(**({"width": 3} | changes)).double()


def images(height: int = 32, width: int = 64, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, dtype=torch.float64, generator=generator)


def convolve(x: Tensor, block: nn.Module) -> Tensor:
    """A convolution, normalisation by the statistics of the batch, and what follows it: ReLU or sigmoid."""
    for layer, norm, last in zip(*[iter(block.children())] * 3, strict=True):
        y = functional.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt()
        y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
        x = 1 / (1 + (-y).exp()) if isinstance(last, nn.Sigmoid) else y * (y > 0)
    return x


def windows(x: Tensor) -> Tensor:
    """The four values of each 2 x 2 window, (b, c, H / 2, W / 2, 4)."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(4)


def unpool(x: Tensor, where: Tensor) -> Tensor:
    """Each value of x where its window of `where` has its first largest value."""
    b, c, h, w = where.shape
    placed = functional.one_hot(windows(where).argmax(4), 4) * x[..., None]
    return placed.reshape(b, c, h // 2, w // 2, 2, 2).transpose(3, 4).reshape(b, c, h, w)


def reference_levels(net: Any, x: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """First and last feature of each level, by plain functions: the encoder's, then the decoder's."""
    down: list[tuple[Tensor, Tensor]] = []
    up: list[tuple[Tensor, Tensor]] = []
    for level in range(5):
        first = last = convolve(x, net.down_first[level])
        for further in net.down_rest[level]:
            last = convolve(last, further)
        down.append((first, last))
        x = windows(last).amax(4)
    for level in range(5):
        first = unpool(x, down[4 - level][1])
        x = convolve(first, net.up_first[level])
        for further in net.up_rest[level]:
            x = convolve(x, further)
        up.append((first, x))
    return down, up


def reference_head(head: Any, x: Tensor) -> Tensor:
    x = functional.conv2d(x, head.mix.weight, head.mix.bias, padding=1)
    x = functional.conv2d(x, head.map.weight, head.map.bias)
    return x / x.square().sum(1, keepdim=True).sqrt() if head.unit else x


def shuffle_norms(net: nn.Module) -> None:
    """Scales and shifts of the normalisations that a mistake cannot hide behind."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)


def keep_statistics(net: nn.Module) -> None:
    """Normalisation by fixed statistics from here on, those of `images()`, so that biases have an effect."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net(images())
    net.eval()


@pytest.mark.parametrize(
    ("outputs", "total", "heads"), [(NYUV2, 25_055_185, 111_889), (CITYSCAPES, 25_017_672, 74_376)]
)
def test_has_the_parameters_of_the_published_network(
    outputs: tuple[DenseOutput, ...], total: int, heads: int
) -> None:
    with torch.device("meta"):
        net = SegNet(outputs)
    assert (count(net), count(net.heads), count(net.encoder)) == (total, heads, total - heads)
    assert len(net.heads) == len(outputs)


def test_layers_are_those_of_segnet() -> None:
    encoder = small().encoder
    assert [1 + len(rest) for rest in encoder.down_rest] == list(CONVOLUTIONS)
    assert [1 + len(rest) for rest in encoder.up_rest] == list(CONVOLUTIONS[::-1])
    assert [block[0].out_channels for block in encoder.down_first] == [3, 6, 12, 24, 24]
    assert [block[0].out_channels for block in encoder.up_first] == [24, 12, 6, 3, 3]


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_equals_the_same_network_as_plain_functions(size: tuple[int, int]) -> None:
    net = small()
    shuffle_norms(net)
    x = images(*size)
    features = reference_levels(net.encoder, x)[1][-1][1]
    expected = [reference_head(head, features) for head in net.heads]
    for found, wanted in zip(net(x), expected, strict=True):
        assert (found - wanted).abs().max() < 1e-11 * wanted.abs().max()


@pytest.mark.parametrize("size", [(32, 64), (53, 35)])
def test_outputs_have_the_size_of_the_image_and_the_order_of_tasks(size: tuple[int, int]) -> None:
    found = small().float()(images(*size).float())
    assert [tuple(y.shape) for y in found] == [(2, channels, *size) for channels in (13, 1, 3)]
    found = small(outputs=(DenseOutput(1), DenseOutput(7)))(images(*size))
    assert [tuple(y.shape) for y in found] == [(2, channels, *size) for channels in (1, 7)]
    assert torch.equal(small().encoder(images(*size)), small().encoder.levels(images(*size))[1][-1].last)


def test_only_normals_have_length_one() -> None:
    logits, _, normals = small()(images())
    assert (normals.norm(dim=1) - 1).abs().max() < 1e-12
    assert (logits.norm(dim=1) - 1).abs().min() > 1e-6
    assert (normals.amin((0, 2, 3)) < 0).any()


def test_a_normal_of_length_zero_stays_zero() -> None:
    head = DenseHead(3, DenseOutput(3, unit=True))
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(head(torch.ones(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("size", [(32, 64), (35, 47)])
def test_unpooling_puts_values_back_where_they_came_from(size: tuple[int, int]) -> None:
    net = small(width=1)
    down, up = net.encoder.levels(images(*size, batch=1))
    pooled = functional.max_pool2d(down[-1].last, 2)
    for step, level in enumerate(up):
        where = down[4 - step].last[0].tolist()
        expected = torch.zeros_like(down[4 - step].last[0]).tolist()
        values = pooled[0].tolist()
        for c, plane in enumerate(values):
            for i, row in enumerate(plane):
                for j, value in enumerate(row):
                    window = [(2 * i, 2 * j), (2 * i, 2 * j + 1), (2 * i + 1, 2 * j), (2 * i + 1, 2 * j + 1)]
                    p, q = max(window, key=lambda at: where[c][at[0]][at[1]])
                    expected[c][p][q] = value
        assert level.first[0].tolist() == expected
        pooled = level.last


def test_gradients_reach_every_parameter() -> None:
    net = small()
    shuffle_norms(net)
    keep_statistics(net)
    losses = [output.sin().mean() for output in net(images())]
    torch.stack(losses).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_loss_reaches_the_encoder_and_its_own_head() -> None:
    net = small()
    for task, output in enumerate(net(images())):
        for other, head in enumerate(net.heads):
            grads = torch.autograd.grad(
                output.sin().mean(), list(head.parameters()), retain_graph=True, allow_unused=True
            )
            assert all((grad is not None) == (task == other) for grad in grads)


def test_the_encoder_is_what_a_balancer_shares() -> None:
    net = small()
    balancer = eq.Balancer(eq.build_method("mgda", n_tasks=3), shared=net.encoder)
    outputs = net(images())
    expected = [
        torch.autograd.grad(y.sin().mean(), net.heads[0].map.bias, retain_graph=True, allow_unused=True)[0]
        for y in outputs
    ]
    record = balancer.backward([y.sin().mean() for y in outputs])
    assert expected[1] is expected[2] is None
    assert torch.allclose(net.heads[0].map.bias.grad, record.weights[0] * expected[0])


def test_width_scales_every_layer() -> None:
    with torch.device("meta"):
        published, narrow = SegNet(), SegNet(width=4)
    assert_scaled(published, narrow, 16)


def assert_scaled(published: Any, narrow: Any, factor: int) -> None:
    fixed = {"heads.0.map": 13, "heads.1.map": 1, "heads.2.map": 3}
    for (name, large), little in zip(published.named_parameters(), narrow.parameters(), strict=True):
        rows = fixed.get(name.rsplit(".", 1)[0])
        assert large.shape[0] == (rows or factor * little.shape[0]), name
        assert little.shape[0] == (rows or large.shape[0] // factor), name
        if large.ndim == 4 and large.shape[1] != 3:
            assert large.shape[1] == factor * little.shape[1], name
        assert large.shape[2:] == little.shape[2:], name


def test_starts_with_glorot_weights_and_no_bias() -> None:
    torch.manual_seed(3)
    assert_glorot(SegNet(width=8))


def assert_glorot(net: nn.Module) -> None:
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        weight = module.weight.detach()
        expected = math.sqrt(2 / ((module.in_channels + module.out_channels) * weight[0, 0].numel()))
        assert abs(float(weight.std()) / expected - 1) < 5 / math.sqrt(weight.numel())
        assert module.bias is not None
        assert not module.bias.any()
    assert len(convolutions) > 20


def test_autocast_rounds_neither_outputs_nor_lengths() -> None:
    assert_precise_outputs(small().float())


def assert_precise_outputs(net: nn.Module) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(images().float())
    assert {y.dtype for y in outputs} == {torch.float32}
    assert (outputs[2].norm(dim=1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SegNet(()), "`outputs` should name at least 1 output, one per task. Found 0."),
        (lambda: SegNet(width=0), "`width` should be at least 1. Found 0."),
        (lambda: SegNet(width=1, image_channels=0), "`image_channels` should be at least 1. Found 0."),
        (
            lambda: SegNet((DenseOutput(0),), width=1),
            "`channels` of an output should be at least 1. Found 0.",
        ),
    ],
)
def test_says_what_is_wrong_with_an_argument(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (1, 3, 31, 64), (1, 3, 64, 31)])
def test_says_what_is_wrong_with_images(shape: tuple[int, ...]) -> None:
    message = (
        "`images` should have shape (b, 3, H, W) with H and W at least 32, since they are halved 5 times. "
        f"Found {shape}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        SegNet(width=1)(torch.zeros(shape))


def test_takes_the_smallest_image_and_other_channels() -> None:
    assert small(image_channels=2)(images(32, 32, batch=1)[:, :2])[0].shape == (1, 13, 32, 32)


def test_a_network_of_fewer_levels_has_the_first_of_them() -> None:
    """Two levels of 2 and 4 channels: convolutions with bias and normalisation, counted by hand."""

    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 3 * outputs

    encoder = SegNet(width=2, levels=2).encoder
    down = conv(3, 2) + conv(2, 2) + conv(2, 4) + conv(4, 4)
    up = conv(4, 2) + conv(2, 2) + conv(2, 2) + conv(2, 2)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == down + up
    assert encoder(torch.rand(2, 3, 5, 7)).shape == (2, 2, 5, 7)
    with pytest.raises(ValueError, match="H and W at least 4, since they are halved 2 times"):
        encoder(torch.rand(2, 3, 3, 4))
    for levels in (0, 6):
        with pytest.raises(ValueError, match=f"`levels` should be from 1 to 5. Found {levels}."):
            SegNet(levels=levels)
