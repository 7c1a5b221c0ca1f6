"""A stream of random numbers that belongs to one method and is saved with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomStream(nn.Module):
    """Seeded draws whose position in the stream is part of the `state_dict`.

    Every rank of a distributed run that builds it with the same seed draws the same numbers.

    Args:
        seed: where the stream starts.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, size: int) -> Tensor:
        """`size` standard normals (size,) float64 on the CPU."""
        return torch.randn(size, generator=self._generator, dtype=torch.float64)

    def uniform(self, size: int) -> Tensor:
        """`size` numbers uniform on [0, 1) (size,) float64 on the CPU."""
        return torch.rand(size, generator=self._generator, dtype=torch.float64)

    def uniform_like(self, vector: Tensor) -> Tensor:
        """Numbers uniform on [0, 1), shaped, typed and placed like `vector`: for as many as parameters.

        They are drawn where the vector lies, by a generator that this stream seeds.
        """
        seed = int(torch.randint(2**62, (), generator=self._generator))
        there = torch.Generator(vector.device).manual_seed(seed)
        return torch.rand(vector.shape, generator=there, dtype=vector.dtype, device=vector.device)

    def get_extra_state(self) -> Tensor:
        """The position in the stream, as the bytes that torch keeps of a generator."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go to a position in the stream."""
        self._generator.set_state(state.cpu())
