"""Vision transformer: an encoder of images whose depth and width are arguments."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .multitask import check_at_least

_HEAD = 32  # channels of a head that the default comes near to,
_LEAST_HEAD = 16  # and those that it leaves it at least
_EXPANSION = 4
_STD = 0.02


class ViT(nn.Module):
    """Maps images to features by self-attention between their patches.

    An image is cut into n = (image / patch)^2 patches x_1 ... x_n, each a vector of patch^2 x channels values, and
        z_0 = [c; x_1 E; ...; x_n E] + P                                                     (n + 1, width)
        a_l = z_{l-1} + attention(norm(z_{l-1})),    z_l = a_l + mlp(norm(a_l)),    l = 1 ... depth
        features = norm(z_depth)[0],                                                         (width,)
    with a learned class token c (width,) and learned position embeddings P (n + 1, width). norm is layer
    normalisation; mlp is two linear layers with GELU and 4 width values between them; for attention see
    `SelfAttention`.

    There are depth (12 width^2 + 13 width) + (patch^2 channels + n + 5) width parameters: 21,665,664 in ViT-S/16
    (image 224, patch 16, channels 3, width 384, depth 12, heads 6), all but those of its classifier.

    The forward pass takes images (b, channels, image, image) and returns (b, features), see the attribute `features`.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, https://arxiv.org/abs/2010.11929,
    equations 1 to 4. ViT-S is from Touvron et al., DeiT, ICML 2021, https://arxiv.org/abs/2012.12877.

    Departures: no dropout. All embeddings and the weights of all layers start from a normal distribution of standard
    deviation 0.02, truncated at 2, as is common, and all biases at 0; the first paper does not say. The default of
    `heads` is for narrow networks; ViT-S, B and L have 64 channels a head.

    Args:
        image: H = W of an image, a multiple of `patch`.
        patch: H = W of a patch.
        channels: of an image.
        width: of all vectors between layers, a multiple of `heads`.
        depth: the number of blocks.
        heads: of each attention; None for that divisor of `width` which is nearest to width / 32, the larger one of
            two, and leaves a head at least 16 channels; 1 where none does. These are 2, 3, 4 and 6 for widths of
            48, 96, 144 and 192.

    Raises:
        ValueError: on a size below 1, one that is not such a multiple, or images of another shape.
    """

    def __init__(
        self,
        image: int = 28,
        *,
        patch: int = 4,
        channels: int = 1,
        width: int = 48,
        depth: int = 3,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"image": image, "patch": patch, "channels": channels, "width": width, "depth": depth}
        for name, size in sizes.items():
            check_at_least(name, size, 1)
        if image % patch:
            raise ValueError(f"`image` should be a multiple of `patch`, {patch}. Found {image}.")
        heads = default_heads(width) if heads is None else heads
        self.features = width
        self.images = (channels, image, image)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (image // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, features) of images (b, channels, image, image)."""
        if images.ndim != 4 or images.shape[1:] != self.images:
            raise ValueError(
                f"`images` should have shape (b, {', '.join(map(str, self.images))}). Found {tuple(images.shape)}."
            )
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        found: Tensor = self.norm(self.blocks(tokens)[:, 0])
        return found

    def _initialise(self) -> None:
        for embeddings in (self.class_token, self.positions):
            nn.init.trunc_normal_(embeddings, std=_STD)
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


class EncoderBlock(nn.Module):
    """a = z + attention(norm(z)), then a + mlp(norm(a)).

    Args:
        width: of the vectors z (b, n, width).
        heads: of the attention.

    Raises:
        ValueError: as `SelfAttention`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, _EXPANSION * width), nn.GELU(), nn.Linear(_EXPANSION * width, width)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Vectors of the same shape (b, n, width)."""
        a = z + self.attention(self.attention_norm(z))
        found: Tensor = a + self.mlp(self.mlp_norm(a))
        return found


class SelfAttention(nn.Module):
    """Each vector becomes a mean of all n, weighted by how well its query fits their keys.

    A head has queries Q, keys K and values V (n, d), d = width / heads, each linear in z, and gives
    softmax(Q K' / sqrt(d)) V. All heads side by side, (n, width), go through a last linear layer.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762, section 3.2.

    Args:
        width: of the vectors z (b, n, width).
        heads: how many there are.

    Raises:
        ValueError: if there is no head, or `width` is not a multiple of them.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_at_least("heads", heads, 1)
        if width % heads:
            raise ValueError(f"`width` should be a multiple of `heads`, {heads}. Found {width}.")
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, z: Tensor) -> Tensor:
        """Vectors of the same shape (b, n, width)."""
        triple = self.queries_keys_values(z).unflatten(2, (3, self.heads, -1))
        queries, keys, values = triple.permute(2, 0, 3, 1, 4)  # each (b, heads, n, d)
        means = functional.scaled_dot_product_attention(queries, keys, values)
        found: Tensor = self.output(means.transpose(1, 2).flatten(2))
        return found


def default_heads(width: int) -> int:
    """The number of heads where none is asked for, see `ViT`."""
    divisors = [n for n in range(1, max(1, width // _LEAST_HEAD) + 1) if width % n == 0]
    return min(reversed(divisors), key=lambda n: abs(n - width / _HEAD))
