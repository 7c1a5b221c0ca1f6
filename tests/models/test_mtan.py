"""MTAN against published parameter counts, its defining equations and a forward pass written as plain functions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import equipoise as eq
from equipoise.models.mtan import MTAN
from equipoise.models.segnet import CITYSCAPES, NYUV2, DenseOutput
from models.test_segnet import (
    assert_glorot,
    assert_precise_outputs,
    assert_scaled,
    convolve,
    count,
    images,
    keep_statistics,
    reference_head,
    reference_levels,
    shuffle_norms,
    small,
    windows,
)


def enlarge(x: Tensor, size: torch.Size) -> Tensor:
    """Linear interpolation along rows and columns such that the corners stay where they are."""
    for dim, target in zip((2, 3), size, strict=True):
        length = x.shape[dim]
        at = torch.arange(target, dtype=x.dtype) * (length - 1) / (target - 1)
        distance = (at[:, None] - torch.arange(length)).abs()
        x = torch.tensordot(x, (1 - distance).clamp(min=0), ([dim], [1])).movedim(-1, dim)
    return x


def reference_features(encoder: Any, x: Tensor, task: int) -> Tensor:
    down, up = reference_levels(encoder.backbone, x)
    mask = convolve(down[0][0], encoder.down_masks[task][0])
    for level in range(1, 5):
        y = windows(convolve(mask * down[level - 1][1], encoder.down_carry[level - 1])).amax(4)
        mask = convolve(torch.cat([down[level][0], y], 1), encoder.down_masks[task][level])
    kept = windows(convolve(mask * down[4][1], encoder.down_carry[4])).amax(4)
    for level in range(5):
        y = convolve(enlarge(kept, up[level][0].shape[2:]), encoder.up_carry[level])
        kept = up[level][1] * convolve(torch.cat([up[level][0], y], 1), encoder.up_masks[task][level])
    return kept


@pytest.mark.parametrize(
    ("outputs", "total", "heads"), [(NYUV2, 44_229_073, 111_889), (CITYSCAPES, 41_206_984, 74_376)]
)
def test_has_the_parameters_of_the_published_network(
    outputs: tuple[DenseOutput, ...], total: int, heads: int
) -> None:
    with torch.device("meta"):
        net = MTAN(outputs)
    assert (count(net), count(net.heads), count(net.encoder)) == (total, heads, total - heads)
    assert len(net.heads) == len(outputs)


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_equals_the_same_network_as_plain_functions(size: tuple[int, int]) -> None:
    net = small(MTAN)
    shuffle_norms(net)
    x = images(*size)
    for task, found in enumerate(net(x)):
        expected = reference_head(net.heads[task], reference_features(net.encoder, x, task))
        assert (found - expected).abs().max() < 1e-11 * expected.abs().max()


@pytest.mark.parametrize("size", [(32, 64), (53, 35)])
def test_outputs_have_the_size_of_the_image_and_the_order_of_tasks(size: tuple[int, int]) -> None:
    net = small(MTAN)
    assert [tuple(y.shape) for y in net(images(*size))] == [(2, channels, *size) for channels in (13, 1, 3)]
    assert [tuple(y.shape) for y in net.encoder(images(*size))] == [(2, 3, *size)] * 3


def test_features_are_the_shared_ones_times_masks_between_zero_and_one() -> None:
    net = small(MTAN)
    masks: dict[tuple[str, int, int], Tensor] = {}
    carried: dict[str, list[Tensor]] = {"down": [], "up": []}
    for name in ("down", "up"):
        for task, modules in enumerate(getattr(net.encoder, f"{name}_masks")):
            for level, module in enumerate(modules):
                key = (name, task, level)
                module.register_forward_hook(lambda _m, _i, output, key=key: masks.update({key: output}))
        for module in getattr(net.encoder, f"{name}_carry"):
            module.register_forward_hook(lambda _m, x, _o, name=name: carried[name].append(x[0]))
    features = net.encoder(images())
    down, up = net.encoder.backbone.levels(images())
    assert len(masks) == 2 * 3 * 5
    for (name, task, level), mask in masks.items():
        shared = (down if name == "down" else up)[level].last
        assert mask.shape == shared.shape
        assert ((mask > 0) & (mask < 1)).all()
        if name == "down":
            assert torch.equal(carried["down"][5 * task + level], mask * shared)
        elif level == 4:
            assert torch.equal(features[task], mask * shared)
        else:
            size = list(up[level + 1].first.shape[2:])
            enlarged = functional.interpolate(mask * shared, size, mode="bilinear", align_corners=True)
            assert torch.equal(carried["up"][5 * task + level + 1], enlarged)


def test_closed_masks_leave_nothing_and_open_ones_the_shared_features() -> None:
    net = small(MTAN)
    shared = net.encoder.backbone(images())
    for shift, expected in ((-1000.0, 0 * shared), (1000.0, shared)):
        nn.init.constant_(net.encoder.up_masks[1][4][4].bias, shift)
        found = net.encoder(images())
        assert torch.equal(found[1], expected)
        assert not torch.equal(found[0], expected)


def test_gradients_reach_every_parameter() -> None:
    net = small(MTAN)
    shuffle_norms(net)
    keep_statistics(net)
    torch.stack([output.sin().mean() for output in net(images())]).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_loss_reaches_its_own_masks_and_all_that_is_common() -> None:
    net = small(MTAN)
    for task, output in enumerate(net(images())):
        names, parameters = zip(*net.named_parameters(), strict=True)
        grads = torch.autograd.grad(output.sin().mean(), parameters, retain_graph=True, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            owner = re.search(r"(?:heads|masks)\.(\d)", name)
            assert (grad is not None) == (owner is None or int(owner[1]) == task), name


def test_the_encoder_is_what_a_balancer_shares() -> None:
    net = small(MTAN)
    balancer = eq.Balancer(eq.build_method("mgda", n_tasks=3), shared=net.encoder)
    outputs = net(images())
    mask = net.encoder.up_masks[1][4][4].bias
    (own,) = torch.autograd.grad(outputs[1].sin().mean(), mask, retain_graph=True)
    record = balancer.backward([y.sin().mean() for y in outputs])
    assert torch.allclose(mask.grad, record.weights[1] * own)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_width_scales_every_layer() -> None:
    with torch.device("meta"):
        assert_scaled(MTAN(), MTAN(width=4), 16)


def test_starts_with_glorot_weights_and_no_bias() -> None:
    torch.manual_seed(3)
    assert_glorot(MTAN(width=8))


def test_autocast_rounds_neither_outputs_nor_lengths() -> None:
    assert_precise_outputs(small(MTAN).float())


def test_says_what_is_wrong() -> None:
    for build, message in (
        (lambda: MTAN((), width=1), "`outputs` should name at least 1 output, one per task. Found 0."),
        (lambda: MTAN(width=0), "`width` should be at least 1. Found 0."),
        (lambda: MTAN(width=1)(torch.zeros(1, 3, 31, 32)), "H and W at least 32"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            build()


def test_fewer_levels_are_the_same_equations() -> None:
    """Two levels, written out: the masks of a task on the way down, then on the way up."""
    torch.manual_seed(0)
    encoder = MTAN((DenseOutput(2), DenseOutput(1)), width=2, levels=2).encoder.double().eval()
    image = torch.rand(2, 3, 10, 12, dtype=torch.float64)
    (d1, d2), (u2, u1) = encoder.backbone.levels(image)
    pool = nn.MaxPool2d(2)

    def enlarged(x: Tensor, like: Tensor) -> Tensor:
        return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)

    for found, *modules in zip(encoder(image), encoder.down_masks, encoder.up_masks, strict=True):
        down, up = (list(masks.children()) for masks in modules)
        x = down[0](d1.first) * d1.last
        x = down[1](torch.cat([d2.first, pool(encoder.down_carry[0](x))], 1)) * d2.last
        x = pool(encoder.down_carry[1](x))
        for k, level in enumerate((u2, u1)):
            y = encoder.up_carry[k](enlarged(x, level.first))
            x = up[k](torch.cat([level.first, y], 1)) * level.last
        torch.testing.assert_close(found, x)
