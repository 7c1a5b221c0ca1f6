"""U-Net: parameters counted by hand, sizes, and the equations of its levels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.models.segnet import DenseOutput
from equipoise.models.unet import UNet

OUTPUTS = (DenseOutput(17), DenseOutput(1), DenseOutput(3, unit=True))


@pytest.mark.parametrize("width", [1, 4])
def test_parameters_are_those_of_the_figure(width: int) -> None:
    w = width

    def block(
        inputs: int, outputs: int
    ) -> int:  # weights, biases, and two numbers a channel of the normalisation
        return 9 * inputs * outputs + 3 * outputs

    down = [(3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w)]
    up = [(16 * w, 8 * w), (12 * w, 4 * w), (6 * w, 2 * w), (3 * w, w)]
    shared = sum(block(i, o) + block(o, o) for i, o in down) + sum(block(i, o) for i, o in up)
    model = UNet(OUTPUTS, w)
    assert sum(p.numel() for p in model.encoder.parameters()) == shared
    heads = sum(9 * w * w + w + w * o.channels + o.channels for o in OUTPUTS)
    assert sum(p.numel() for p in model.heads.parameters()) == heads


@pytest.mark.parametrize("size", [(16, 16), (37, 50)])
def test_maps_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    cover, height, normal = UNet(OUTPUTS, 8)(torch.rand(2, 3, *size))
    assert (cover.shape, height.shape, normal.shape) == ((2, 17, *size), (2, 1, *size), (2, 3, *size))
    assert torch.allclose(normal.norm(dim=1), torch.ones(2, *size), atol=1e-5)


def test_levels_follow_the_equations() -> None:
    """The features from the published scheme, level by level."""
    torch.manual_seed(0)
    encoder = UNet(OUTPUTS, 2).encoder.double().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    image = torch.rand(1, 3, 32, 48, dtype=torch.float64)

    def conv(layer: nn.Module, x: Tensor) -> Tensor:
        c, n = (list(layer.children())[k] for k in (0, 1))
        assert isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d) and n.running_mean is not None
        y = functional.conv2d(x, c.weight, c.bias, padding=1)
        shape = (1, -1, 1, 1)
        y = (y - n.running_mean.reshape(shape)) / (n.running_var.reshape(shape) + n.eps).sqrt()  # type: ignore[union-attr]
        return (y * n.weight.reshape(shape) + n.bias.reshape(shape)).clamp(min=0)

    d = [image]
    for k, level in enumerate(encoder.down):
        x = d[-1] if k == 0 else d[-1].unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
        for layer in level.children():
            x = conv(layer, x)
        d.append(x)
    u = d[5]
    for level, skip in zip(encoder.up, (d[4], d[3], d[2], d[1]), strict=True):
        enlarged = nn.Upsample(scale_factor=2, mode="bilinear")(u)
        u = conv(level, torch.cat([enlarged, skip], dim=1))
    assert torch.allclose(encoder(image), u, atol=1e-12)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="`width` should be at least 1. Found 0."):
        UNet(OUTPUTS, 0)
    with pytest.raises(ValueError, match="`outputs` should name at least 1 output"):
        UNet((), 2)
    with pytest.raises(
        ValueError, match=r"H and W at least 16, since they are halved 4 times. Found \(1, 3, 15, 40\)"
    ):
        UNet(OUTPUTS, 2)(torch.rand(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r"shape \(b, 3, H, W\) .* Found \(1, 4, 20, 40\)"):
        UNet(OUTPUTS, 2)(torch.rand(1, 4, 20, 40))
