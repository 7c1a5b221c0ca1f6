"""Pictures of dense prediction: the right colours in the right place, small enough, and told apart by everybody."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from equipoise.report.build import write_report
from equipoise.report.raster import (
    CLASS_COLOURS,
    agreement,
    class_colours,
    coloured,
    reduced,
    value_range,
)
from equipoise.training.pictures import Picture, load_pictures, save_pictures
from report.made_up import LAND, dense, made_up_pictures, write_pictures
from report.run_directory import Shape, write_run_directory

SHAPE = Shape(methods=("ls", "famo"), seeds=2, epochs=2, steps=4, problem="earth", baselines="none")

# Machado et al. 2009, table 1, severity 1.0, on linear RGB
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
NORMAL = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
# Oklab, https://bottosson.github.io/posts/oklab
CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def oklab(colour: str, sight: list[list[float]]) -> list[float]:
    """A colour as it is seen."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    seen = [min(max(v, 0.0), 1.0) for v in times(sight, linear)]
    return times(OKLAB, [v ** (1 / 3) for v in times(CONES, seen)])


@pytest.mark.parametrize("sight", [NORMAL, PROTANOPIA, DEUTERANOPIA])
def test_colours_of_classes_are_told_apart_with_any_sight(sight: list[list[float]]) -> None:
    seen = [oklab(colour, sight) for colour in CLASS_COLOURS]
    # 0.02 is just noticeable
    assert min(math.dist(a, b) for a, b in itertools.combinations(seen, 2)) > 0.07


def test_classes_keep_their_colour_and_the_unlabelled_have_none() -> None:
    label = torch.tensor([[[0, 1], [-1, 2]]])
    picture = Picture("cover", "classes", label, classes=("a", "b", "c"))
    image = coloured(picture, label[0])
    assert image.shape == (2, 2, 4)
    assert image[..., 3].tolist() == [[255, 255], [0, 255]]
    assert "#" + bytes(image[1, 1, :3].tolist()).hex() == CLASS_COLOURS[2]


def test_of_more_classes_than_colours_the_rarest_share_one() -> None:
    label = torch.arange(25).repeat_interleave(torch.arange(25) + 1)[None, None]
    colours = class_colours(Picture("cover", "classes", label, classes=tuple(map(str, range(25)))))
    assert len(set(colours[:5])) == 1
    assert set(colours[5:]) == set(CLASS_COLOURS)
    assert colours[24] == CLASS_COLOURS[0]


def test_normals_are_the_usual_colours() -> None:
    up = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    image = coloured(Picture("normals", "normal", up[None]), up)
    assert image.tolist() == [[[128, 128, 255, 255], [128, 128, 128, 0]]]


def test_scalars_stay_numbers_and_their_scale_ignores_the_ends() -> None:
    values = torch.cat([torch.arange(1000.0), torch.tensor([math.nan, 1e6])])[None, None]
    assert value_range(values) == (10.0, 990.0)
    assert value_range(torch.full((1, 2, 2), math.nan)) == (0.0, 1.0)
    assert value_range(torch.full((1, 2, 2), 3.0)) == (2.5, 3.5)
    assert coloured(Picture("height", "scalar", values), values[0]).isnan().sum() == 1


def test_large_images_are_reduced_without_new_classes() -> None:
    label = (torch.arange(300)[:, None] // 100 * 7).expand(300, 400)[None]
    small = reduced(label, 100, smooth=False)
    assert small.shape == (1, 75, 100)
    assert small.unique().tolist() == [0, 7, 14]
    assert small[0, :, 0].tolist() == [0] * 25 + [7] * 25 + [14] * 25
    image = torch.tensor([0.0, 1.0]).repeat(150)[:, None].expand(1, 3, 300, 400)
    assert reduced(image, 100, smooth=True).mean() == pytest.approx(0.5)
    assert reduced(label, 400, smooth=False) is label


def test_agreement_counts_labelled_pixels_only() -> None:
    label = torch.tensor([[[0, 1], [-1, 2]]])
    cover = Picture("cover", "classes", label, classes=("a", "b", "c"))
    assert agreement(cover, torch.tensor([[[0, 1], [0, 0]]])) == "66.7 %"
    height = Picture("height", "scalar", torch.tensor([[[1.0, math.nan]]]), unit="m")
    assert agreement(height, torch.tensor([[[3.0, 9.0]]])) == "2.00 m"
    flat = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]]])
    normals = Picture("normals", "normal", flat)
    tilted = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]]]) / 2**0.5
    assert agreement(normals, tilted) == "45.0°"
    nothing = Picture("cover", "classes", torch.full((1, 2, 2), -1), classes=("a",))
    assert agreement(nothing, torch.zeros(1, 2, 2)) == ""
    assert agreement(Picture("input", "colour", torch.rand(1, 3, 2, 2)), torch.rand(1, 3, 2, 2)) == ""


def write_run(directory: Path, shape: Shape = SHAPE) -> Path:
    """A run directory without logs, so that the pictures are most of what is drawn."""
    write_run_directory(directory, shape, dense())
    for log in (directory / "runs").rglob("*.csv"):
        log.unlink()
    return directory


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_run(tmp_path_factory.mktemp("run"))
    write_pictures(directory, tiles=6, size=(96, 128))
    return write_report(directory)


def figure(html: str, name: str) -> str:
    return html[(start := html.index(f'id="figure-{name}"')) : html.index("</figure>", start)]


def images(text: str) -> list[Any]:
    found = re.findall(r'"data:image/png;base64,([^"]+)"', text)
    return [
        Image.open(io.BytesIO(base64.b64decode(data.replace("\n", "")))).convert("RGBA") for data in found
    ]


def test_there_is_a_grid_per_task_with_input_truth_and_predictions(report: Path) -> None:
    html = report.read_text()
    for place, task in enumerate(("land cover", "elevation", "normals"), start=1):
        text = figure(html, f"pictures_{place}")
        assert f"Pictures: {task}" in text
        assert "6 rows of images: input, truth, and the predictions of ls and famo." in text
        assert (report.parent / "figures" / f"pictures_{place}.png").read_bytes().startswith(b"\x89PNG")
        assert len(images(text)) >= 6 * 4
    assert "hatched: unlabelled" in figure(html, "pictures_1")
    assert "Mean absolute error on these tiles only: ls" in figure(html, "pictures_2")
    assert len(html) < 8e6


def test_the_colours_of_the_page_are_those_of_the_labels(report: Path) -> None:
    first = load_pictures(report.parent / "runs" / "ls-lr0.001-seed0")
    truth = first[1].truth
    shown = images(figure(report.read_text(), "pictures_1"))
    alpha = [image.getchannel("A").histogram()[0] for image in shown]
    assert sum(count > 0 for count in alpha) == 6  # the truth of six tiles has unlabelled pixels
    wanted = {tuple(int(CLASS_COLOURS[k][p : p + 2], 16) for p in (1, 3, 5)) for k in range(len(LAND))}
    place = next(index for index, count in enumerate(alpha) if count)
    seen = {pixel[:3] for _, pixel in shown[place].getcolors(2**20) if pixel[3]}
    assert seen <= wanted
    assert len(seen) == len(truth[0].unique()) - 1


def test_a_page_of_large_pictures_stays_small(tmp_path: Path) -> None:
    methods = ("ls", "uw", "famo", "si", "rlw", "dwa", "mgda", "nashmtl", "cagrad:c=0.4")
    shape = dataclasses.replace(SHAPE, methods=methods, seeds=1, epochs=1, steps=1)
    directory = write_run(tmp_path, shape)
    write_pictures(directory, tiles=1, size=(288, 384))
    html = write_report(directory).read_text()
    assert len(html) < 9e6  # 5 MB are the script that draws, and the images are full of noise
    for place in (1, 2, 3):
        (left,) = re.findall(r"Not shown, for want of room[^:]*: (\w+)\.", figure(html, f"pictures_{place}"))
        assert left in {method.split(":")[0] for method in methods}
        assert left not in re.findall(r"predictions of (.*?)\.", figure(html, f"pictures_{place}"))[0]


def test_a_prediction_of_other_images_is_left_out_and_named(tmp_path: Path) -> None:
    directory = write_run(tmp_path, dataclasses.replace(SHAPE, seeds=1))
    write_pictures(directory, tiles=1, size=(16, 16))
    folder = directory / "runs" / "famo-lr0.001-seed0"
    pictures = load_pictures(folder)
    save_pictures(folder, [dataclasses.replace(p, truth=p.truth.flip(-1)) for p in pictures])
    html = write_report(directory).read_text()
    assert "the predictions of ls." in html
    assert "saw other images: famo." in html


def test_a_run_without_predictions_has_no_figure(tmp_path: Path) -> None:
    directory = write_run(tmp_path, dataclasses.replace(SHAPE, methods=("ls",), seeds=1))
    save_pictures(directory / "runs" / "ls-lr0.001-seed0", made_up_pictures(0, 1, (8, 8), LAND)[:1])
    assert "pictures_1" not in write_report(directory).read_text()
