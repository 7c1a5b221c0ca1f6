"""ViT against published parameter counts, a forward pass written as plain functions, and plain autograd."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import equipoise as eq
from equipoise.models.resnet import HardSharing
from equipoise.models.vit import ViT, default_heads
from models.sharing_cases import assert_encoder_is_shared, assert_precise_outputs, losses_of, pictures
from models.test_segnet import count


def shuffled(net: ViT) -> ViT:
    """In float64, with values everywhere, so that every parameter matters."""
    torch.manual_seed(0)
    for parameter in net.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def small(**changes: int) -> ViT:
    return shuffled(
        ViT(**{"image": 8, "patch": 4, "channels": 1, "width": 8, "depth": 2, "heads": 2, **changes})
    )


def drawn(samples: int, channels: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, channels, size, size, dtype=torch.float64, generator=generator)


def patches_of(images: Tensor, patch: int) -> Tensor:
    """Patches (b, n, channels, patch, patch), row by row."""
    rows = [strip.split(patch, 3) for strip in images.split(patch, 2)]
    return torch.stack([piece for strip in rows for piece in strip], dim=1)


def image_of(patches: Tensor, across: int) -> Tensor:
    """The image of patches (b, n, channels, patch, patch)."""
    strips = [torch.cat(strip.unbind(1), dim=3) for strip in patches.split(across, 1)]
    return torch.cat(strips, dim=2)


def norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean) / (var + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(x: Tensor, state: dict[str, Tensor], name: str, heads: int) -> Tensor:
    width = x.shape[-1]
    each = width // heads
    q, k, v = linear(x, state, f"{name}.queries_keys_values").split(width, dim=-1)
    found = []
    for start in range(0, width, each):
        head = slice(start, start + each)
        fits = torch.einsum("bqc,bkc->bqk", q[..., head], k[..., head]) / math.sqrt(each)
        exponentials = (fits - fits.amax(-1, keepdim=True)).exp()
        found.append(exponentials / exponentials.sum(-1, keepdim=True) @ v[..., head])
    return linear(torch.cat(found, dim=-1), state, f"{name}.output")


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def reference(net: ViT, images: Tensor, *, patch: int, depth: int, heads: int) -> Tensor:
    """Equations 1 to 4 of the paper."""
    state = dict(net.state_dict())
    x = patches_of(images, patch).flatten(2) @ state["embed.weight"].flatten(1).T + state["embed.bias"]
    z = torch.cat([state["class_token"].repeat(len(images), 1, 1), x], dim=1) + state["positions"]
    for layer in range(depth):
        at = f"blocks.{layer}"
        a = z + attention(norm(z, state, f"{at}.attention_norm"), state, f"{at}.attention", heads)
        inside = gelu(linear(norm(a, state, f"{at}.mlp_norm"), state, f"{at}.mlp.0"))
        z = a + linear(inside, state, f"{at}.mlp.2")
    return norm(z, state, "norm")[:, 0]


@pytest.mark.parametrize("depth", [3, 6])
@pytest.mark.parametrize("width", [48, 96])
def test_has_the_parameters_of_the_formula(depth: int, width: int) -> None:
    block = 3 * width * (width + 1) + width * (width + 1)  # queries, keys and values; what follows the heads
    block += 4 * width * (width + 1) + width * (4 * width + 1) + 2 * 2 * width  # the MLP, and two norms
    patches = (28 // 4) ** 2
    ends = width * (4 * 4 + 1) + (1 + patches + 1) * width + 2 * width
    assert count(ViT(width=width, depth=depth)) == depth * block + ends
    assert depth * block + ends == depth * (12 * width**2 + 13 * width) + (16 + patches + 5) * width


@pytest.mark.parametrize(("width", "heads", "expected"), [(384, 6, 22_050_664), (768, 12, 86_567_656)])
def test_has_the_parameters_of_the_published_networks(width: int, heads: int, expected: int) -> None:
    with torch.device("meta"):
        encoder = ViT(224, patch=16, channels=3, width=width, depth=12, heads=heads)
        net = HardSharing(encoder, encoder.features, [1000])
    assert count(net) == expected


@pytest.mark.parametrize(
    ("image", "patch", "channels", "heads", "depth"),
    [(8, 4, 1, 2, 2), (12, 4, 3, 4, 1), (6, 2, 2, 1, 3), (4, 4, 1, 8, 1)],
)
def test_equals_the_same_network_as_plain_functions(
    image: int, patch: int, channels: int, heads: int, depth: int
) -> None:
    net = small(image=image, patch=patch, channels=channels, heads=heads, depth=depth)
    x = drawn(3, channels, image)
    expected = reference(net, x, patch=patch, depth=depth, heads=heads)
    assert net(x).shape == (3, net.features) == (3, 8)
    assert (net(x) - expected).abs().max() < 1e-10 * expected.abs().max()


def test_patches_have_an_order_only_by_their_position_embeddings() -> None:
    net, x = small(image=12), drawn(2, 1, 12)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    moved = image_of(patches_of(x, 4)[:, order], across=3)
    assert not torch.allclose(net(x), net(moved), rtol=1e-3)
    with torch.no_grad():
        net.positions.zero_()
    assert not torch.equal(x, moved)
    assert torch.allclose(net(x), net(moved), rtol=1e-12)


def test_every_patch_matters() -> None:
    net, x = small(image=12), drawn(2, 1, 12).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sin().sum(), x)
    assert patches_of(gradient, 4).abs().amax((2, 3, 4)).min() > 1e-4


def test_a_gradient_reaches_every_parameter_but_the_bias_of_keys() -> None:
    net = small()
    net(drawn(3, 1, 8)).sin().square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("queries_keys_values.bias"):
            queries, keys, values = parameter.grad.split(8)
            assert min(float(queries.abs().min()), float(values.abs().min())) > 1e-9
            assert keys.abs().max() < 1e-12  # softmax does not see what all keys have in common
        else:
            assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize(
    ("width", "heads"), [(48, 2), (96, 3), (144, 4), (192, 6), (16, 1), (8, 1), (33, 1), (64, 2), (80, 2)]
)
def test_heads_by_default(width: int, heads: int) -> None:
    assert default_heads(width) == heads
    net = ViT(8, width=width, depth=1)
    assert {m.heads for m in net.modules() if hasattr(m, "heads")} == {heads}


@pytest.mark.parametrize("width", range(1, 400))
def test_default_heads_keep_to_their_rule(width: int) -> None:
    allowed = [n for n in range(1, width + 1) if width % n == 0 and width / n >= 16] or [1]
    heads = default_heads(width)
    assert heads in allowed
    nearest = min(abs(n - width / 32) for n in allowed)
    assert heads == max(n for n in allowed if abs(n - width / 32) == nearest)


def test_starts_from_small_weights_and_no_biases() -> None:
    torch.manual_seed(0)
    for name, parameter in ViT(width=96).named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            spread = float(parameter.detach().square().mean().sqrt())
            assert abs(spread / 0.02 - 1) < 5 / math.sqrt(2 * parameter.numel()), name


def test_the_same_seed_gives_the_same_numbers() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        net = ViT(8, width=16, depth=2)
        y = net(drawn(3, 1, 8).float())
        y.sin().sum().backward()
        found.append([y, *(p.grad for p in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_evaluation_and_training_agree_and_draw_no_number() -> None:
    net, x = small(), drawn(3, 1, 8)
    before = torch.get_rng_state()
    assert torch.equal(net.train()(x), net.eval()(x))
    assert torch.equal(before, torch.get_rng_state())


def sharing() -> HardSharing:
    return HardSharing(ViT(8, patch=4, width=8, depth=2, heads=2), 8, [3, 2])


def test_a_vit_is_shared_by_hard_sharing() -> None:
    assert_encoder_is_shared(sharing, pictures())
    assert_precise_outputs(sharing(), pictures())


@pytest.mark.parametrize(
    ("memory", "budget_gb", "chosen"),
    [
        ("auto", None, "rows"),
        (
            "auto",
            1000 * 2 * 8 / 1e9,
            "factored",
        ),  # room for 1000 of the 1944 parameters of both tasks in float64
        ("rows", None, "rows"),
        ("layerwise", None, "layerwise"),
        ("factored", None, "factored"),
    ],
)
def test_mgda_balances_all_parameters_in_every_exact_memory_mode(
    memory: str, budget_gb: float | None, chosen: str
) -> None:
    """Two tasks by hand: the shortest convex combination of their gradients over the whole encoder."""
    net = HardSharing(small(), 8, [3, 2]).double()
    x = pictures()
    shared = list(net.encoder.parameters())
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses_of(net, x)]
    a, b = (torch.cat([g.flatten() for g in row]) for row in rows)
    weight = float(((b - a) @ b / (a - b).square().sum()).clamp(0, 1))
    assert 0.01 < weight < 0.99
    fresh = copy.deepcopy(net)
    method = eq.build_method("mgda", n_tasks=2)
    balancer = eq.Balancer(method, shared=fresh.encoder, memory=memory, budget_gb=budget_gb)
    record = balancer.backward(losses_of(fresh, x))
    assert balancer.memory == chosen
    assert record.weights is not None
    given = record.weights / record.weights.sum()
    assert given.tolist() == pytest.approx([weight, 1 - weight], rel=1e-6)
    scale = float(record.weights.sum())
    for parameter, first, second in zip(fresh.encoder.parameters(), *rows, strict=True):
        expected = scale * (weight * first + (1 - weight) * second)
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViT(30), "`image` should be a multiple of `patch`, 4. Found 30."),
        (lambda: ViT(0), "`image` should be at least 1. Found 0."),
        (lambda: ViT(patch=0), "`patch` should be at least 1. Found 0."),
        (lambda: ViT(channels=0), "`channels` should be at least 1. Found 0."),
        (lambda: ViT(width=0), "`width` should be at least 1. Found 0."),
        (lambda: ViT(depth=0), "`depth` should be at least 1. Found 0."),
        (lambda: ViT(heads=0), "`heads` should be at least 1. Found 0."),
        (lambda: ViT(heads=5), "`width` should be a multiple of `heads`, 5. Found 48."),
        (
            lambda: ViT()(torch.zeros(2, 3, 28, 28)),
            "`images` should have shape (b, 1, 28, 28). Found (2, 3, 28, 28).",
        ),
        (lambda: ViT()(torch.zeros(28, 28)), "`images` should have shape (b, 1, 28, 28). Found (28, 28)."),
    ],
)
def test_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
