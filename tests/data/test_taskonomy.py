"""Taskonomy: the layouts, the split, every stored number in its unit, and what is missing or bad."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise.data.images import read_values
from equipoise.data.taskonomy import (
    OBJECTS,
    QUANTITIES,
    SPLITS,
    View,
    find_views,
    read_split,
    read_target,
    spread,
)
from equipoise.data.taskonomy_check import check_taskonomy
from taskonomy_folder import OMNIDATA, stored, write_taskonomy

ALL = list(QUANTITIES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_taskonomy(tmp_path / "taskonomy")


@pytest.mark.parametrize("layout", [OMNIDATA, "{task}/{building}", "{building}/{task}"])
@pytest.mark.parametrize("inner", ["", "splits_taskonomy"])
def test_views_are_found_in_every_layout(tmp_path: Path, layout: str, inner: str) -> None:
    root = write_taskonomy(tmp_path, layout=layout)
    if inner:
        (root / inner).mkdir()
        (root / "train_val_test_tiny.csv").rename(root / inner / "train_val_test_tiny.csv")
    found = find_views(root, "tiny", ALL)
    names = [(view.building, view.point, view.view) for view in found.views]
    buildings = ["almena", "cauthron", "corozal", "ihlen"]
    assert names == [(building, 10 + k, k) for building in buildings for k in range(3)]
    assert {part: rows.tolist() for part, rows in found.parts.items()} == {
        "train": [0, 1, 2, 3, 4, 5],
        "validation": [6, 7, 8],
        "test": [9, 10, 11],
    }
    for task in ("rgb", *ALL):
        assert all(found.file(view, task).is_file() for view in found.views)
    assert not found.bad and found.absent == {"train": (), "validation": (), "test": ()}


def test_views_are_sorted_by_number(root: Path) -> None:
    folder = root / "rgb/taskonomy/ihlen"
    (folder / "point_12_view_2_domain_rgb.png").rename(folder / "point_9_view_2_domain_rgb.png")
    (folder / "notes.txt").write_text("no view")
    found = find_views(root, "tiny", [])
    assert [view.point for view in found.views if view.building == "ihlen"] == [9, 10, 11]


@pytest.mark.parametrize("task", ALL)
def test_every_number_comes_out_in_its_unit(root: Path, task: str) -> None:
    """At the size of the files, nothing is resized: pixel by pixel from what was written."""
    found = find_views(root, "tiny", [task])
    raw = stored(11, 32)[task]  # the second view of the second building
    target = read_target(found.file(View("cauthron", 11, 1), task), task, 32)
    for row in range(32):
        for column in (0, 1, 2, 3, 17, 31):
            value = raw[row, column]
            if task == "segment_semantic":
                assert int(target[row, column]) == int(value) - 1
            elif task.startswith("depth"):
                expected = 0 if value == 65_535 else int(value) / 512
                assert float(target[0, row, column]) == pytest.approx(expected, rel=1e-6)
            elif task == "normal":
                vector = [int(v) / 127.5 - 1 for v in value]
                length = sum(v * v for v in vector) ** 0.5
                unit = [v / length if length > 0.5 else 0 for v in vector]
                assert target[:, row, column].tolist() == pytest.approx(unit, abs=1e-6)
            else:
                full = 255 if task == "reshading" else 65_535
                number = int(value[0]) if task == "reshading" else int(value)
                assert float(target[0, row, column]) == pytest.approx(number / full, rel=1e-6)
    if task == "segment_semantic":
        assert target.dtype == torch.int64 and int(target[30, 0]) == 16 and OBJECTS[16] == "vase"
        assert target[31].eq(-1).all() and not target[:31].eq(-1).any()
    if task == "normal":
        assert target[:, 0, :3].eq(0).all() and target.norm(dim=0)[1:].sub(1).abs().max() < 1e-6


@pytest.mark.parametrize("task", ALL)
def test_smaller_maps_take_the_nearest_pixel_or_the_mean(root: Path, task: str) -> None:
    path = find_views(root, "tiny", [task]).file(View("almena", 10, 0), task)
    whole, small = read_target(path, task, 32), read_target(path, task, 8)
    assert small.shape == (*whole.shape[:-2], 8, 8)
    if QUANTITIES[task].encoding in ("map16", "map8"):
        assert torch.allclose(small, whole.reshape(1, 8, 4, 8, 4).mean((2, 4)), atol=1e-6)
    else:
        assert torch.equal(small, whole[..., 2::4, 2::4])


def test_missing_files_are_told_or_their_views_left_out(root: Path) -> None:
    gone = ["normal/taskonomy/almena/point_11_view_1_domain_normal.png"]
    gone += ["reshading/taskonomy/almena/point_11_view_1_domain_reshading.png"]
    for file in gone:
        (root / file).unlink()
    message = r"every task for every image\. Found 1 of 12 images without one, such as normal/taskonomy/almena/point_11"
    with pytest.raises(ValueError, match=message):
        find_views(root, "tiny", ALL)
    assert len(find_views(root, "tiny", ["depth_zbuffer"]).views) == 12
    found = find_views(root, "tiny", ALL, skip_bad=True)
    assert len(found.views) == 11 and View("almena", 11, 1) not in found.views
    assert dict(found.bad) == dict.fromkeys(gone, "missing")
    assert [len(rows) for rows in found.parts.values()] == [5, 3, 3]


def remove(root: Path, building: str, task: str) -> None:
    for file in (root / task / "taskonomy" / building).iterdir():
        file.unlink()


def test_absent_buildings_are_counted_and_an_empty_part_refused(root: Path) -> None:
    remove(root, "almena", "rgb")
    assert find_views(root, "tiny", ALL).absent["train"] == ("almena",)
    remove(root, "corozal", "rgb")
    with pytest.raises(
        ValueError, match=r"Found none for validation: download a building of it, such as corozal\."
    ):
        find_views(root, "tiny", ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,train,test\n", r"begin with the columns id, train, val, test\. Found id, train, test\."),
        ("", r"begin with the columns .* Found \."),
        ("id,train,val,test\nalmena,1,0\n", r"behind each building\. Found 'almena,1,0' in line 2\."),
        ("id,train,val,test\nalmena,1,1,0\n", r"Found 'almena,1,1,0' in line 2\."),
        ("id,train,val,test\nalmena,yes,0,0\n", r"Found 'almena,yes,0,0' in line 2\."),
    ],
)
def test_a_bad_split_file_is_named(root: Path, text: str, message: str) -> None:
    (root / "train_val_test_tiny.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(root, "tiny")


def test_a_building_may_be_in_no_part(root: Path) -> None:
    with open(root / "train_val_test_tiny.csv", "a") as file:
        file.write("wando,0,0,0\n")
    assert "wando" not in str(read_split(root, "tiny"))


def test_a_folder_without_split_file_or_images_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"split file train_val_test_full\.csv, or .* Found neither: `equip"
    ):
        find_views(root, "full", ALL)
    (tmp_path / "train_val_test_tiny.csv").write_text((root / "train_val_test_tiny.csv").read_text())
    with pytest.raises(
        FileNotFoundError, match=r"in rgb/taskonomy/BUILDING, .* Found none of 4 buildings, such as alm"
    ):
        find_views(tmp_path, "tiny", ALL)


@pytest.mark.parametrize(
    ("task", "array", "message"),
    [
        ("depth_zbuffer", np.zeros((8, 8), np.uint8), r"1 channel of 16 bits, but is of the mode 'L'"),
        ("segment_semantic", np.zeros((8, 8), np.uint16), r"1 channel of 8 bits, but is of the mode 'I;16'"),
        ("edge_texture", np.zeros((8, 8, 3), np.uint8), r"1 channel of 16 bits, but is of the mode 'RGB'"),
        (
            "segment_semantic",
            np.full((8, 8), 18, np.uint8),
            r"classes from 0 to 17\. Found 18: is it another kind",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, task: str, array: Any, message: str) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        read_target(tmp_path / "a.png", task, 8)


def test_a_cut_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 65_536, (64, 64), dtype=np.uint16)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png", 16).tolist() == numbers.tolist()
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with pytest.raises(
        ValueError, match=r"a\.png` should be a whole image file of numbers\. Found that it cannot be"
    ):
        read_values(tmp_path / "a.png", 16)
    with pytest.raises(FileNotFoundError):
        read_values(tmp_path / "b.png", 16)


def test_a_folder_is_checked(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    facts = check_taskonomy(root, lambda *done: seen.append(done))
    assert facts["available"] and facts["split"] == "tiny" and facts["tasks"] == ALL
    assert facts["images"] == {"train": 6, "validation": 3, "test": 3} and seen[-1] == (12, 12)
    assert facts["values"]["segment_semantic"] == [-1, 16] and facts["values"]["depth_zbuffer"][0] == 0
    assert facts["notes"] == ["images of 32x32 pixels; published are 512x512"]
    (root / "edge_texture/taskonomy/ihlen/point_10_view_0_domain_edge_texture.png").write_bytes(b"no image")
    (root / "normal/taskonomy/ihlen/point_11_view_1_domain_normal.png").unlink()
    facts = check_taskonomy(root)
    assert not facts["available"] and len(facts["bad"]) == 2
    assert facts["problems"][0].startswith("2 bad file(s), such as normal/taskonomy/ihlen/point_11_view_1")
    assert "Found neither" in check_taskonomy(root / "nowhere")["problems"][0]


def test_a_task_without_files_is_noted(root: Path) -> None:
    for building in ("almena", "cauthron", "corozal", "ihlen"):
        remove(root, building, "keypoints2d")
    facts = check_taskonomy(root)
    assert (
        facts["available"]
        and facts["notes"][0] == "no files of the tasks keypoints2d: leave them out of `tasks`"
    )


def test_numbers_of_buildings_and_even_spreads() -> None:
    assert [sum(counts) for counts in SPLITS.values()] == [35, 138, 482, 537]
    assert spread(12, 4) == [0, 3, 6, 9] and spread(3, 4) == [0, 1, 2] and spread(5, 3) == [0, 1, 3]
