"""NYUv2 and CityScapes folders in their published layout, whole and damaged, with numpy as the other reader."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dense_folders import SAMPLES, SIZE, write
from equipoise.data import dense_folder
from equipoise.data.dense_check import check_folder
from equipoise.data.dense_folder import CITYSCAPES, NYUV2, PARTS, DenseFolder, Layout


@pytest.fixture
def nyuv2(tmp_path: Path) -> Path:
    return write(tmp_path / "nyuv2", NYUV2)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("layout", [NYUV2, CITYSCAPES], ids=lambda layout: layout.name)
def test_samples_equal_the_files(layout: Layout, kind: type, tmp_path: Path) -> None:
    root = write(tmp_path, layout, kind)
    for part in PARTS:
        data = DenseFolder(root, layout, part)
        assert len(data) == SAMPLES[part]
        assert data.bad == {} and data.skipped == 0
        for number in range(len(data)):
            sample = data[number]
            assert list(sample) == list(layout.folders)
            for quantity, folder in layout.folders.items():
                array = np.load(root / part / folder / f"{number}.npy")
                channels_last = sample[quantity].numpy()
                if quantity != "label":
                    channels_last = np.stack(list(channels_last), -1)
                np.testing.assert_array_equal(channels_last, array.astype(channels_last.dtype))
                assert sample[quantity].dtype == (torch.int64 if quantity == "label" else torch.float32)


def test_the_layouts_are_the_published_ones() -> None:
    assert NYUV2.folders == {"image": "image", "label": "label", "depth": "depth", "normal": "normal"}
    assert CITYSCAPES.folders == {"image": "image", "label": "label_7", "depth": "depth"}
    assert sum(NYUV2.samples.values()) == 1449 and sum(CITYSCAPES.samples.values()) == 3475
    assert (NYUV2.classes, CITYSCAPES.classes) == (13, 7)
    assert (NYUV2.inverse_depth, CITYSCAPES.inverse_depth) == (False, True)


def test_a_sample_may_be_written_to_and_leaves_the_file_alone(nyuv2: Path) -> None:
    data = DenseFolder(nyuv2, NYUV2, "train")
    data[0]["image"].zero_()
    assert data[0]["image"].any()


def test_order_is_by_number_and_workers_can_read(tmp_path: Path) -> None:
    for number in range(12):
        for quantity, folder in CITYSCAPES.folders.items():
            path = tmp_path / "val" / folder
            path.mkdir(parents=True, exist_ok=True)
            shape = {"image": (2, 3, 3), "label": (2, 3), "depth": (2, 3, 1)}[quantity]
            np.save(path / f"{number}.npy", np.full(shape, number / 100 if quantity != "label" else 0.0))
    (tmp_path / "val" / "image" / ".DS_Store").touch()
    (tmp_path / "val" / "image" / "notes.npy").touch()
    loader = DataLoader(DenseFolder(tmp_path, CITYSCAPES, "val"), batch_size=5, num_workers=1)
    depth = torch.cat([batch["depth"][:, 0, 0, 0] for batch in loader])
    torch.testing.assert_close(depth, torch.arange(12) / 100)


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("<html>404</html>")


def damage_archive(path: Path) -> None:
    np.savez(path.with_suffix(""), np.zeros(3))
    path.with_suffix(".npz").rename(path)


def damage_pickle(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object))


def altered(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: np.save(path, change(np.load(path)))


def put(value: float) -> Callable[[Path], None]:
    def change(array: np.ndarray) -> np.ndarray:
        array[0, 0] = value
        return array

    return altered(change)


HEADERS = [
    ("depth/2.npy", damage_missing, "missing"),
    ("image/1.npy", damage_cut, "unreadable: mmap length is greater than file size"),
    ("image/1.npy", damage_empty, "unreadable: No data left in file"),
    ("label/0.npy", damage_text, "unreadable: "),
    ("label/0.npy", damage_archive, "Found an archive"),
    ("label/0.npy", damage_pickle, "unreadable: "),
    ("image/3.npy", altered(lambda a: (255 * a).astype(np.uint8)), "uint8 in place of floats"),
    ("label/3.npy", altered(lambda a: a.astype(bool)), "bool in place of numbers"),
    ("normal/3.npy", altered(lambda a: a.transpose(2, 0, 1)), "shape (3, 6, 8) in place of (6, 8, 3)"),
    ("image/3.npy", altered(lambda a: a[:5]), "shape (5, 8, 3) in place of (6, 8, 3)"),
    ("depth/3.npy", altered(lambda a: a[..., 0]), "shape (6, 8) in place of (6, 8, 1)"),
    ("label/3.npy", altered(lambda a: a[:0]), "no pixels"),
]
VALUES = [
    ("label/1.npy", put(13), "labels from -1 to 13 in place of -1 to 12"),
    ("label/1.npy", put(-2), "labels from -2 to 12 in place of -1 to 12"),
    ("label/1.npy", put(0.5), "labels that are not whole numbers"),
    ("label/1.npy", put(np.nan), "values that are not finite"),
    ("image/1.npy", put(np.inf), "values that are not finite"),
    ("depth/1.npy", put(np.nan), "values that are not finite"),
    ("depth/1.npy", put(-1), "depth from -1, below 0"),
    ("normal/1.npy", put(2), "normals with components from -0.9"),
]


def number_of(file: str) -> int:
    return int(Path(file).stem)


@pytest.mark.parametrize(("file", "damage", "why"), HEADERS)
def test_a_bad_file_is_told_before_training(
    file: str, damage: Callable[[Path], None], why: str, nyuv2: Path
) -> None:
    damage(nyuv2 / "train" / file)
    message = f"`{nyuv2}/train` should hold a whole copy of NYUv2. Found 1 bad file: {file} ("
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        DenseFolder(nyuv2, NYUV2, "train")
    assert why in str(raised.value)
    assert "Copy again what is bad, or leave these samples out (`skip_bad`)." in str(raised.value)
    assert len(DenseFolder(nyuv2, NYUV2, "val")) == SAMPLES["val"]


@pytest.mark.parametrize(("file", "damage", "why"), VALUES)
def test_bad_values_are_told_when_they_are_read(
    file: str, damage: Callable[[Path], None], why: str, nyuv2: Path
) -> None:
    damage(nyuv2 / "train" / file)
    data = DenseFolder(nyuv2, NYUV2, "train")
    assert data[0]["label"].shape == SIZE
    message = f"`{nyuv2}/train/{file}` should hold what was published. Found {why}"
    with pytest.raises(ValueError, match=re.escape(message)):
        data[1]


@pytest.mark.parametrize(("file", "damage", "why"), [*HEADERS, *VALUES])
def test_bad_samples_are_left_out_and_counted_where_that_is_asked_for(
    file: str, damage: Callable[[Path], None], why: str, nyuv2: Path
) -> None:
    whole = DenseFolder(nyuv2, NYUV2, "train")
    kept = [whole[number] for number in range(len(whole)) if number != number_of(file)]
    damage(nyuv2 / "train" / file)
    data = DenseFolder(nyuv2, NYUV2, "train", skip_bad=True)
    assert data.skipped == 1 and list(data.bad) == [file] and why in data.bad[file]
    assert len(data) == SAMPLES["train"] - 1
    for index, sample in enumerate(kept):
        torch.testing.assert_close(data[index], sample, rtol=0, atol=0)


def test_a_file_that_is_cut_after_the_check_is_named(nyuv2: Path) -> None:
    data = DenseFolder(nyuv2, NYUV2, "train")
    damage_cut(nyuv2 / "train" / "depth" / "2.npy")
    with pytest.raises(
        ValueError, match=r"train/depth/2.npy` should be a whole npy file. Found that it cannot"
    ):
        data[2]


def test_a_missing_folder_is_told(nyuv2: Path) -> None:
    shutil.rmtree(nyuv2 / "train" / "depth")
    shutil.rmtree(nyuv2 / "train" / "normal")
    message = f"`{nyuv2}/train` should hold the folders image, label, depth, normal of NYUv2. Found no depth, normal."
    for skip_bad in (False, True):
        with pytest.raises(FileNotFoundError, match=re.escape(message)):
            DenseFolder(nyuv2, NYUV2, "train", skip_bad=skip_bad)
    with pytest.raises(FileNotFoundError, match="Found no label_7"):
        DenseFolder(nyuv2, CITYSCAPES, "val")


def test_a_half_copied_folder_is_told(nyuv2: Path) -> None:
    for number in (2, 3):
        (nyuv2 / "train" / "normal" / f"{number}.npy").unlink()
    with pytest.raises(ValueError, match=r"2 bad files: normal/2.npy \(missing\), normal/3.npy \(missing\)"):
        DenseFolder(nyuv2, NYUV2, "train")
    data = DenseFolder(nyuv2, NYUV2, "train", skip_bad=True)
    assert data.skipped == 2 and data.numbers == [0, 1]


def test_many_bad_files_are_cut_short_in_words(nyuv2: Path) -> None:
    for folder in ("image", "depth"):
        for number in range(3):
            damage_cut(nyuv2 / "train" / folder / f"{number}.npy")
    with pytest.raises(ValueError, match=r"Found 6 bad files: image/0.npy .* and 1 more\. Copy"):
        DenseFolder(nyuv2, NYUV2, "train")


def test_no_sample_at_all_is_told(nyuv2: Path) -> None:
    for path in (nyuv2 / "val").rglob("*.npy"):
        damage_empty(path)
    with pytest.raises(
        ValueError, match=r"val` should hold whole samples of NYUv2. Found 12 bad files: image/0"
    ):
        DenseFolder(nyuv2, NYUV2, "val", skip_bad=True)
    for path in (nyuv2 / "val").rglob("*.npy"):
        path.unlink()
    with pytest.raises(ValueError, match=r"val` should hold whole samples of NYUv2. Found no npy file."):
        DenseFolder(nyuv2, NYUV2, "val")


def test_the_check_reports_what_is_there(nyuv2: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_folder(nyuv2, NYUV2, progress=lambda done, total: calls.append((done, total)))
    assert json.loads(json.dumps(report)) == report
    assert report["available"] and report["problems"] == []
    assert calls[:16] == [(done, 16) for done in range(1, 17)]
    train = report["parts"]["train"]
    assert (train["samples"], train["published"], train["bad"]) == (4, 795, {})
    shapes = {"image": "6x8x3", "label": "6x8", "depth": "6x8x1", "normal": "6x8x3"}
    for quantity, shape in shapes.items():
        arrays = np.stack([np.load(nyuv2 / "train" / quantity / f"{k}.npy") for k in range(4)])
        marked = arrays != -1 if quantity == "label" else (arrays != 0).any(-1)
        found = train["quantities"][quantity]
        assert found.pop("labelled") == pytest.approx(marked.mean())
        assert found == {
            "files": 4,
            "shapes": {shape: 4},
            "dtypes": {"float64": 4},
            "min": arrays.min(),
            "max": arrays.max(),
        }
    assert report["notes"] == [
        "train: 4 samples; published are 795",
        "train: images of 6x8x3; published are 288x384x3",
        "val: 3 samples; published are 654",
        "val: images of 6x8x3; published are 288x384x3",
    ]


def test_the_check_reports_what_is_not_right(nyuv2: Path) -> None:
    put(99)(nyuv2 / "train" / "label" / "0.npy")
    put(7)(nyuv2 / "train" / "image" / "0.npy")
    damage_cut(nyuv2 / "train" / "depth" / "1.npy")
    shutil.rmtree(nyuv2 / "val" / "normal")
    report = check_folder(nyuv2, NYUV2)
    assert not report["available"]
    assert list(report["parts"]) == ["train"]
    assert list(report["parts"]["train"]["bad"]) == ["label/0.npy", "depth/1.npy"]
    assert report["parts"]["train"]["quantities"]["label"]["max"] == 99
    assert report["parts"]["train"]["quantities"]["depth"]["files"] == 3
    first, second = report["problems"]
    assert first.startswith(
        "train: 2 bad files: label/0.npy (labels from -1 to 99 in place of -1 to 12), depth/1.npy"
    )
    assert second.endswith("of NYUv2. Found no normal.")
    assert any(
        re.fullmatch(r"train: images from 0.\d+ to 7; published are 0 to 1", n) for n in report["notes"]
    )
    for path in (nyuv2 / "train").rglob("*.npy"):
        path.unlink()
    assert check_folder(nyuv2, NYUV2)["problems"][0] == "train: no npy file"


def test_without_numpy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("without_numpy", dense_folder.__file__)
    assert spec is not None and spec.loader is not None
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape('Run `pip install "equipoise[cli]"`.')):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
