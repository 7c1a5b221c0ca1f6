"""The multi-layer perceptron with one layer for all heads, written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.models.mlp import MLP, MLPEncoder, OneHead


def test_outputs_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    model = MLP(5, 3, width=4, depth=2).double()
    rows = torch.randn(6, 5, dtype=torch.float64)
    first, second = (layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear))
    hidden = (rows @ first.weight.T + first.bias).clamp(min=0)
    features = (hidden @ second.weight.T + second.bias).clamp(min=0)
    assert torch.allclose(model.encoder(rows), features)
    assert torch.allclose(model(rows), features @ model.head.weight.T + model.head.bias)


def test_bytes_are_read_as_numbers() -> None:
    model = MLP(8, 2, width=4, depth=1)
    rows = torch.randint(0, 2, (5, 8), dtype=torch.uint8)
    assert torch.equal(model(rows), model(rows.float()))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = MLPEncoder(8, 400, 1, dropout=0.5)
    rows = torch.ones(1, 8)
    kept = encoder.eval()(rows)
    dropped = encoder.train()(rows)
    zero = (dropped == 0) & (kept > 0)
    assert 0.35 < float(zero.sum()) / float((kept > 0).sum()) < 0.65
    assert torch.allclose(dropped[dropped > 0], 2 * kept[dropped > 0])


def test_outputs_are_wide_under_autocast() -> None:
    model = MLP(8, 2, width=4, depth=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encoder(torch.ones(1, 8)).dtype == torch.bfloat16
        assert model(torch.ones(1, 8)).dtype == torch.float32


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"^`width` should be at least 1\. Found 0\.$"):
        MLP(4, 2, width=0)
    with pytest.raises(ValueError, match=r"^`depth` should be at least 1\. Found 0\.$"):
        MLP(4, 2, depth=0)
    with pytest.raises(ValueError, match=r"^`outputs` should be at least 1\. Found 0\.$"):
        OneHead(nn.Identity(), 3, 0)
    with pytest.raises(ValueError, match=r"^`dropout` should be at least 0 and below 1\. Found 1\.$"):
        MLPEncoder(4, 2, 1, dropout=1)
