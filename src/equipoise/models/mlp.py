"""Networks with one linear layer as the heads of all tasks, and the multi-layer perceptron of table problems."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class OneHead(nn.Module):
    """An encoder and one linear layer that has an output for each task.

    Row t of `head.weight` is the head of task t, so hundreds of tasks cost one matrix product. Name the encoder as
    `shared` to the Balancer: every loss reaches the whole of `head`, though it moves its own row only.

    Args:
        encoder: maps inputs to features (b, width), or to anything else with this last dimension.
        width: of the features.
        outputs: one for each task.

    Raises:
        ValueError: if a size is below 1.
    """

    def __init__(self, encoder: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        _check_sizes(width=width, outputs=outputs)
        self.encoder = encoder
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Any) -> Tensor:
        """The outputs (b, outputs), at least float32, under `torch.autocast` too."""
        features = self.encoder(inputs)
        with torch.autocast(features.device.type, enabled=False):
            outputs: Tensor = self.head(features.to(self.head.weight.dtype))
        return outputs


class MLPEncoder(nn.Sequential):
    r"""Maps rows of numbers to features (b, width) by `depth` layers x <- dropout(relu(W x + w)).

    Takes (b, inputs) of any dtype: bytes, such as those of fingerprints, are converted here.

    Args:
        inputs: numbers in a row.
        width: of all layers.
        depth: layers, at least 1.
        dropout: the share of the entries that is set to 0 in training, at least 0 and below 1.

    Raises:
        ValueError: if a size is below 1, or the dropout out of range.
    """

    def __init__(self, inputs: int, width: int, depth: int, dropout: float = 0.0) -> None:
        _check_sizes(inputs=inputs, width=width, depth=depth)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` should be at least 0 and below 1. Found {dropout}.")
        layers: list[nn.Module] = []
        for number in range(depth):
            layers += [nn.Linear(width if number else inputs, width), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
        super().__init__(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        """Features (b, width)."""
        first = self[0]
        assert isinstance(first, nn.Linear)
        features = rows.to(first.weight.dtype)
        for layer in self:
            features = layer(features)
        return features


class MLP(OneHead):
    """A multi-layer perceptron with an output for each task: `encoder` is an `MLPEncoder`, `head` a `Linear`.

    Args:
        inputs: numbers in a row.
        outputs: one for each task.
        width: of all layers.
        depth: layers below the heads, at least 1.
        dropout: see `MLPEncoder`.

    Raises:
        ValueError: if a size is below 1, or the dropout out of range.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 256, depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__(MLPEncoder(inputs, width, depth, dropout), width, outputs)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` should be at least 1. Found {size}.")
