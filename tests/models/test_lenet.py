"""The LeNet of the overlaid digits, against the functional form of the published code and a count by hand."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from equipoise.models.lenet import LeNet, LeNetEncoder


def test_it_has_the_published_number_of_parameters() -> None:
    convolutions = 10 * 81 + 10 + 20 * 10 * 25 + 20
    expected = convolutions + 5 * 5 * 20 * 50 + 50 + 2 * (50 * 10 + 10)
    assert sum(p.numel() for p in LeNet().parameters()) == expected == 31_910


def test_it_computes_what_the_published_code_does() -> None:
    """Convolution, ReLU, pooling, twice; a linear layer with ReLU; then one linear layer a task."""
    torch.manual_seed(0)
    model, images = LeNet().double(), torch.rand(3, 1, 36, 36).double()
    state: OrderedDict[str, Tensor] = OrderedDict(model.state_dict())
    w1, b1, w2, b2, w3, b3, *heads = state.values()
    x = functional.max_pool2d(functional.conv2d(images, w1, b1).relu(), 2)
    x = functional.max_pool2d(functional.conv2d(x, w2, b2).relu(), 2)
    x = functional.linear(x.reshape(3, 500), w3, b3).relu()
    expected = [functional.linear(x, heads[0], heads[1]), functional.linear(x, heads[2], heads[3])]
    found = model(images)
    assert len(found) == 2
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_each_task_has_a_head_and_shares_the_encoder() -> None:
    model = LeNet(3, 4, width=2, features=6, side=20)
    model(torch.rand(2, 1, 20, 20))[1].sum().backward()
    assert [head.weight.grad is not None for head in model.heads] == [False, True, False]
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert model(torch.rand(5, 1, 20, 20))[2].shape == (5, 4)


@pytest.mark.parametrize("side", [20, 23, 28, 36, 64])
def test_any_size_of_images_will_do(side: int) -> None:
    assert LeNetEncoder(2, features=7, side=side)(torch.rand(2, 1, side, side)).shape == (2, 7)


def test_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert {logits.dtype for logits in LeNet()(torch.rand(2, 1, 36, 36))} == {torch.float32}


@pytest.mark.parametrize("name", ["tasks", "classes", "width", "features"])
def test_a_size_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` should be at least 1\. Found 0\."):
        LeNet(**{name: 0})


def test_images_too_small_for_the_kernels_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`side` should be at least 20, to be left with a pixel\. Found 19\."
    ):
        LeNet(side=19)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 36, 36), (1, 36, 36)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` should have shape \(b, 1, 36, 36\)\. Found \("):
        LeNet()(torch.rand(shape))
