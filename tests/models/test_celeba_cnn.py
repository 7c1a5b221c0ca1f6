"""The CelebA network against its published parameter count and a forward pass written as plain functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import equipoise as eq
from equipoise.models.celeba_cnn import CelebACNN
from models.test_segnet import count, images, shuffle_norms, small

# Channels at width 2; "|" is a halving of the image.
LAYERS = {"code": "2 | 4 4 | 8 8 | 16 16", "text": "2 | 4 | 8 | 16 16"}


def normalise(x: Tensor, norm: Any) -> Tensor:
    """Batch normalisation over all but the channels, then ReLU."""
    dims = [dim for dim in range(x.ndim) if dim != 1]
    shape = [-1, *[1] * (x.ndim - 2)]
    x = (x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()
    y: Tensor = x * norm.weight.view(shape) + norm.bias.view(shape)
    return y.clamp(min=0)


def reference(net: Any, x: Tensor, form: str) -> list[Tensor]:
    convolutions = iter([m for m in net.encoder.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in net.encoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)])
    for token in LAYERS[form].split():
        if token == "|":
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
        else:
            x = normalise(functional.conv2d(x, next(convolutions).weight, padding=1), next(norms))
            assert x.shape[1] == int(token)
    x = x.flatten(2).mean(2)
    for linear in [m for m in net.encoder.modules() if isinstance(m, nn.Linear)]:
        x = normalise(x @ linear.weight.T, next(norms))
    assert not [*convolutions, *norms]
    return [(x @ head.weight.T + head.bias)[:, 0] for head in net.heads]


def test_has_the_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        net = CelebACNN()
    assert (count(net), count(net.heads), len(net.heads)) == (5_197_160, 40 * 513, 40)
    assert count(net.encoder) == 5_197_160 - 40 * 513
    layers = [m for m in net.encoder.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 9


def test_the_form_of_the_text_has_five_convolutions() -> None:
    with torch.device("meta"):
        net = CelebACNN(form="text")
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512, 512]
    assert [m.out_features for m in net.encoder.modules() if isinstance(m, nn.Linear)] == [512, 512]


@pytest.mark.parametrize("form", ["code", "text"])
@pytest.mark.parametrize("size", [(16, 16), (19, 26)])
def test_equals_the_same_network_as_plain_functions(
    form: Literal["code", "text"], size: tuple[int, int]
) -> None:
    net = small(CelebACNN, width=2, tasks=4, form=form)
    shuffle_norms(net)
    x = images(*size, batch=5)
    found = net(x)
    assert [y.shape for y in found] == [(5,)] * 4
    for y, expected in zip(found, reference(net, x, form), strict=True):
        assert (y - expected).abs().max() < 1e-11 * expected.abs().max()


def test_gradients_reach_every_parameter_of_the_encoder_and_the_own_head() -> None:
    net = small(CelebACNN, tasks=3)
    shuffle_norms(net)
    for task, output in enumerate(net(images(batch=4))):
        names, parameters = zip(*net.named_parameters(), strict=True)
        grads = torch.autograd.grad(output.sin().mean(), parameters, retain_graph=True, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            reached = name.startswith(("encoder", f"heads.{task}."))
            assert (grad is not None and bool(grad.abs().max() > 0)) == reached, name


def test_the_encoder_is_what_a_balancer_shares() -> None:
    net = small(CelebACNN, tasks=3)
    balancer = eq.Balancer(eq.build_method("mgda", n_tasks=3), shared=net.encoder)
    record = balancer.backward([y.sin().mean() for y in net(images(batch=4))])
    assert record.gramian is not None
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(y.sin().mean(), list(net.encoder.parameters()))])
        for y in (net(images(batch=4))[task] for task in range(3))
    ]
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert (record.gramian - expected).abs().max() < 1e-9 * expected.max()


def test_width_scales_every_layer() -> None:
    with torch.device("meta"):
        published, narrow = CelebACNN(), CelebACNN(width=8)
    for (name, large), little in zip(published.named_parameters(), narrow.parameters(), strict=True):
        rows = 1 if name.startswith("heads") else 8
        assert large.shape[0] == rows * little.shape[0], name
        if large.ndim > 1 and large.shape[1] != 3:
            assert large.shape[1] == 8 * little.shape[1], name


def test_autocast_does_not_round_logits() -> None:
    net = small(CelebACNN, tasks=2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {y.dtype for y in net(images().float())} == {torch.float32}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CelebACNN(0), "`tasks` should be at least 1. Found 0."),
        (lambda: CelebACNN(width=0), "`width` should be at least 1. Found 0."),
        (lambda: CelebACNN(image_channels=0), "`image_channels` should be at least 1. Found 0."),
        (lambda: CelebACNN(form="paper"), "`form` should be one of code, text. Found 'paper'."),  # type: ignore[arg-type]
    ],
)
def test_says_what_is_wrong_with_an_argument(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8, 8), (2, 3, 7, 8), (2, 3, 8, 7)])
def test_says_what_is_wrong_with_images(shape: tuple[int, ...]) -> None:
    message = (
        "`images` should have shape (b, 3, H, W) with H and W at least 8, since they are halved 3 times. "
        f"Found {shape}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        CelebACNN(width=1)(torch.zeros(shape))


def test_takes_the_smallest_image_and_other_channels() -> None:
    assert small(CelebACNN, image_channels=2)(images(8, 8)[:, :2])[39].shape == (2,)
