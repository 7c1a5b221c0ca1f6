"""The LeNet of the overlaid digits, against the functional form of the published code and a count by hand."""

import pytest
import torch
from torch.nn import functional

from equipoise.models.lenet import LeNetEncoder, lenet_stages
from equipoise.models.multitask import chain
from equipoise.models.resnet import HardSharing


def test_it_has_the_published_number_of_parameters() -> None:
    encoder = 10 * 81 + 10 + 20 * 10 * 25 + 20 + 5 * 5 * 20 * 50 + 50
    heads = 2 * (50 * 10 + 10)
    model = HardSharing(LeNetEncoder(), 50, [10, 10])
    assert sum(p.numel() for p in model.encoder.parameters()) == encoder == 30_890
    assert sum(p.numel() for p in model.parameters()) == encoder + heads == 31_910


def test_it_computes_what_the_published_code_does() -> None:
    """Convolution, ReLU, pooling, twice; then a linear layer with ReLU."""
    torch.manual_seed(0)
    model, images = LeNetEncoder().double(), torch.rand(3, 1, 36, 36).double()
    w1, b1, w2, b2, w3, b3 = model.state_dict().values()
    x = functional.max_pool2d(functional.conv2d(images, w1, b1).relu(), 2)
    x = functional.max_pool2d(functional.conv2d(x, w2, b2).relu(), 2)
    assert torch.allclose(model(images), functional.linear(x.reshape(3, 500), w3, b3).relu(), atol=1e-12)


def test_the_stages_are_those_of_the_encoder() -> None:
    torch.manual_seed(0)
    model, images = LeNetEncoder(3, features=7, side=30), torch.rand(2, 1, 30, 30)
    torch.manual_seed(0)
    stages = lenet_stages(3, features=7, side=30)
    assert torch.equal(chain(stages)(images), model(images))
    for stage in stages:
        images = stage.make()(images)
        assert images.shape[1] == stage.channels


@pytest.mark.parametrize("width", [1, 3, 4, 8, 10])
def test_gradients_do_not_depend_on_how_the_channels_lie_in_memory(width: int) -> None:
    torch.manual_seed(0)
    model, images = LeNetEncoder(width), torch.rand(6, 1, 36, 36)
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    model(images).square().sum().backward()
    w1, b1, w2, b2, w3, b3 = plain = [
        p.detach().double().contiguous().requires_grad_() for p in model.parameters()
    ]
    x = functional.max_pool2d(functional.conv2d(images.double(), w1, b1).relu(), 2)
    x = functional.max_pool2d(functional.conv2d(x, w2, b2).relu(), 2)
    functional.linear(x.flatten(1), w3, b3).relu().square().sum().backward()
    for found, expected in zip(model.parameters(), plain, strict=True):
        assert found.grad is not None and expected.grad is not None
        assert torch.allclose(
            found.grad.double(), expected.grad, rtol=1e-3, atol=1e-4 * float(expected.grad.abs().max())
        )


@pytest.mark.parametrize("side", [20, 23, 28, 36, 64])
def test_any_size_of_images_will_do(side: int) -> None:
    assert LeNetEncoder(2, features=7, side=side)(torch.rand(2, 1, side, side)).shape == (2, 7)


@pytest.mark.parametrize("name", ["width", "features"])
def test_a_size_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` should be at least 1\. Found 0\."):
        LeNetEncoder(**{name: 0})


def test_images_too_small_for_the_kernels_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`side` should be at least 20, to be left with a pixel\. Found 19\."
    ):
        LeNetEncoder(side=19)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 36, 36), (1, 36, 36)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` should have shape \(b, 1, 36, 36\)\. Found \("):
        LeNetEncoder()(torch.rand(shape))
