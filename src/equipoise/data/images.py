"""Image files as tensors: the one place that decodes jpg and png."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

MEND = (
    "Reading images needs `pillow`, which is not installed. "
    'Run `pip install "equipoise[celeba]"` or `pip install "equipoise[earth]"`.'
)
_MODES = {8: ("L", "P"), 16: ("I;16", "I;16B", "I")}  # of Pillow: P holds numbers of a palette


def can_read() -> bool:
    """Whether images can be read here; `MEND` says what to do if not."""
    return find_spec("PIL") is not None


def read_image(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Tensor:
    """Decode an image file.

    Other threads run while it decodes and resizes.

    Args:
        path: of the file, in any format that Pillow knows.
        size: (H, W) to resize to, the aspect ratio not kept, or None to leave it. Bilinear over the whole footprint
            of a pixel (Pillow's `BILINEAR`, which is what `torchvision.transforms.Resize` does to such an image).

    Returns:
        uint8 (3, H, W) from 0 to 255, red, green, blue; grey and palette images are converted.

    Raises:
        ModuleNotFoundError: if pillow is missing; the message names the extra.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image, is cut short, or is damaged where the decoder can tell.
    """
    Image = _pillow()
    try:
        with Image.open(path) as image:
            colour = image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # pillow's readers raise any of these
        raise ValueError(
            f"`{path}` should be a whole image file. Found that it cannot be read: {error}. Copy it again."
        ) from error
    if size is not None:
        colour = colour.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(colour.tobytes()), dtype=torch.uint8)
    return pixels.reshape(colour.height, colour.width, 3).permute(2, 0, 1).contiguous()


def read_values(path: str | os.PathLike[str], bits: int) -> Tensor:
    """Decode an image file of one channel whose numbers mean something else than brightness: depths, classes.

    Args:
        path: of the file.
        bits: of a number, 8 or 16.

    Returns:
        int32 (H, W), the numbers as they are in the file.

    Raises:
        ModuleNotFoundError: if pillow is missing; the message names the extra.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image, is cut short, is damaged where the decoder can tell, or has other channels or
            bits.
    """
    Image = _pillow()
    try:
        with Image.open(path) as image:
            if image.mode not in _MODES[bits]:
                raise ValueError(
                    f"it should have 1 channel of {bits} bits, but is of the mode {image.mode!r}"
                )
            values = image.convert("I") if bits == 16 else image
            content = bytearray(values.tobytes())
            shape = (image.height, image.width)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"`{path}` should be a whole image file of numbers. Found that it cannot be read: {error}. Copy it again."
        ) from error
    kind = torch.int32 if bits == 16 else torch.uint8
    return torch.frombuffer(content, dtype=kind).reshape(shape).to(torch.int32)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of an image file by its header alone.

    Raises:
        ModuleNotFoundError: if pillow is missing; the message names the extra.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image.
    """
    Image = _pillow()
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"`{path}` should be an image file. Found that it cannot be read: {error}."
        ) from error


def _pillow() -> ModuleType:
    """Imported when it is needed: what there is can be listed without."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MEND) from error
    module: ModuleType = Image
    return module
