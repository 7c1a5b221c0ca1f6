"""Decoding against pillow and torchvision's definition of resizing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from equipoise.data.images import can_read, image_size, read_image


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A colourful image (H, W, 3) that jpg keeps well."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    pixels = interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0].mul(255).round()
    return pixels.byte().permute(1, 2, 0).numpy()


def test_a_lossless_file_comes_back_as_it_was(tmp_path: Path) -> None:
    pixels = smooth(21, 17)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.dtype == torch.uint8 and found.is_contiguous()
    assert torch.equal(found, torch.from_numpy(pixels).permute(2, 0, 1))
    assert image_size(tmp_path / "a.png") == (21, 17)


def test_resizing_is_the_antialiased_bilinear_one_of_torch(tmp_path: Path) -> None:
    pixels = smooth(218, 178, seed=1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", size=(64, 48))
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = interpolate(whole, (64, 48), mode="bilinear", antialias=True)[0]
    assert found.shape == (3, 64, 48)
    assert (found.float() - expected).abs().max() <= 1  # pillow rounds after each axis


def test_a_grey_image_gets_three_channels(tmp_path: Path) -> None:
    pixels = smooth(9, 8)[:, :, 0]
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    assert torch.equal(read_image(tmp_path / "grey.png"), torch.from_numpy(pixels).expand(3, 9, 8))


@pytest.mark.parametrize("read", [read_image, image_size])
def test_what_is_no_image_is_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "a.jpg").write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"a\.jpg` should be .* image file\. Found that it cannot be read"):
        read(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        read(tmp_path / "b.jpg")


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    Image.fromarray(smooth(218, 178)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    assert image_size(tmp_path / "a.jpg") == (218, 178)  # the header is whole
    with pytest.raises(
        ValueError, match=r"a\.jpg` should be a whole image file\. .*truncated.* Copy it again"
    ):
        read_image(tmp_path / "a.jpg")


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_read()
    monkeypatch.setitem(sys.modules, "PIL", None)
    for read in (read_image, image_size):
        with pytest.raises(
            ModuleNotFoundError, match=r'needs `pillow`, which .* `pip install "equipoise\[celeba\]"`'
        ):
            read("a.jpg")


def test_pillow_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None; import equipoise.problems.celeba as c; print(c.CelebA.data())"
    )
    assert (
        "img_align"
        in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )
