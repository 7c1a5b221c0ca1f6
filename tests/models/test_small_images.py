"""The architectures on small images: parameters counted by hand, learning, and what is refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import equipoise as eq
from equipoise.models.multitask import MultiTaskNet
from equipoise.models.small_images import ARCHITECTURES, small_image_network

LENET = (1 * 81 * 4 + 4) + (4 * 25 * 8 + 8) + (8 * 25 * 6 + 6)  # side 36, width 4, 6 features
FIRST, REST = 1 * 81 * 4 + 4, LENET - (1 * 81 * 4 + 4)
HEADS = 2 * (6 * 3 + 3)
PIXELS = 36 * 36


def network(name: str, experts: int = 4) -> MultiTaskNet:
    torch.manual_seed(0)
    return small_image_network(name, [3, 3], side=36, width=4, features=6, experts=experts)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet", LENET + HEADS),
        ("cross_stitch", 2 * LENET + 3 * 4 + HEADS),
        ("ltb", 2 * LENET + 3 * 4 + HEADS),
        ("mmoe", 4 * LENET + 2 * 4 * PIXELS + HEADS),
        ("cgc", (4 + 2 * 4) * LENET + 2 * 8 * PIXELS + HEADS),
        ("ple", 12 * LENET + (2 * 8 + 12) * PIXELS + 2 * 8 * 4 + HEADS),  # gates of layer 2 read 4 channels
        ("dselect_k", 4 * LENET + 2 * 2 * (2 + 1) * (PIXELS + 1) + HEADS),
    ],
)
def test_parameters_are_those_of_the_parts(name: str, parameters: int) -> None:
    assert count(network(name)) == parameters


def test_resnet_is_a_narrow_resnet18() -> None:
    """Convolutions and their normalisations by hand: stem, then levels of 4, 8, 16 and 32 channels."""

    def layer(inputs: int, outputs: int, size: int) -> int:
        return inputs * outputs * size**2 + 2 * outputs

    expected, inputs = layer(1, 4, 3), 4
    for level in range(4):
        channels = 4 * 2**level
        expected += layer(inputs, channels, 3) + 3 * layer(channels, channels, 3)
        expected += layer(inputs, channels, 1) if level else 0
        inputs = channels
    model = network("resnet")
    assert count(model) == expected + 2 * (32 * 3 + 3)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("method", ["ls", "mgda"])
def test_a_step_with_any_architecture_moves_encoder_and_heads(name: str, method: str) -> None:
    model = network(name)
    balancer = eq.Balancer(eq.build_method(method, 2), tasks=["left", "right"], shared=model.encoder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    losses = losses_of(model, torch.rand(6, 1, 36, 36), torch.arange(6) % 3)
    record = balancer.backward(losses)
    optimizer.step()
    assert torch.isfinite(record.weights).all()
    moved = {
        key: not torch.equal(old, new)
        for (key, new), old in zip(model.named_parameters(), before, strict=True)
    }
    assert all(value for key, value in moved.items() if key.startswith("heads."))
    assert any(value for key, value in moved.items() if key.startswith("encoder."))


def losses_of(model: MultiTaskNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    extra = model.regulariser(images)
    return {
        side: functional.cross_entropy(logits, labels) + more
        for side, logits, more in zip(("left", "right"), model(images), extra, strict=True)
    }


@pytest.mark.parametrize("name", ["lenet", "cross_stitch", "ple"])
@pytest.mark.parametrize("memory", ["auto", "layerwise", "factored"])
def test_balanced_gradients_do_not_depend_on_how_the_channels_lie_in_memory(name: str, memory: str) -> None:
    """LeNets keep their channels last; the same network with its channels first gets the same gradients."""
    images, labels = torch.rand(6, 1, 36, 36), torch.arange(6) % 3
    gradients = []
    for last in (True, False):
        model = network(name)
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and not last:
                module.weight.data = module.weight.data.contiguous()
        method = eq.build_method("cagrad", 2)
        balancer = eq.Balancer(method, tasks=["left", "right"], shared=model.encoder, memory=memory)
        balancer.backward(losses_of(model, images, labels))
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 8
    for first, second in zip(*gradients, strict=True):
        assert torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(second.abs().max()))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`architecture` should be one of lenet, resnet, .*\. Found 'vgg'\."
    ):
        network("vgg")


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`width` should be at least 1\. Found 0\."):
        small_image_network("resnet", [3], side=36, width=0)
    with pytest.raises(ValueError, match=r"`experts` should be at least 2\. Found 1\."):
        network("mmoe", experts=1)
