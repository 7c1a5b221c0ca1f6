"""Folders of CelebA as published, and spoilt in every way: against pillow and a reading of the lists line by line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from celeba_folder import COUNTS, write_celeba
from equipoise.benchmark.published import published
from equipoise.data import celeba, image_cache
from equipoise.data.celeba import ATTRIBUTES, PARTS, PUBLISHED, Faces, draw, load_celeba, read_lists
from equipoise.data.celeba_check import check_celeba
from equipoise.data.images import read_image


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "celeba"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def read(path: str, **options: Any) -> torch.Tensor:
        names.append(Path(path).name)
        return read_image(path, **options)

    monkeypatch.setattr(image_cache, "read_image", read)
    return names


def plain(folder: Path) -> dict[str, tuple[torch.Tensor, dict[str, bool], str]]:
    """File -> pixels, attributes and part, read without the code under test."""
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    parts = dict(line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
    found = {}
    for line in lines[2:]:
        file, *values = line.split()
        with Image.open(folder / "img_align_celeba" / file) as image:
            small = image.resize((64, 64), Image.Resampling.BILINEAR)
        pixels = torch.tensor(list(small.get_flattened_data()), dtype=torch.uint8).view(64, 64, 3)
        labels = dict(zip(lines[1].split(), (int(value) > 0 for value in values), strict=True))
        found[file] = (pixels.permute(2, 0, 1), labels, PARTS[int(parts[file])])
    return found


def compare(faces: Faces, folder: Path, files: dict[str, list[str]]) -> None:
    """The faces are those of the files, part by part."""
    expected = plain(folder)
    for part, rows in faces.parts.items():
        assert len(rows) == len(files[part])
        for row, file in zip(rows.tolist(), files[part], strict=True):
            pixels, labels, its_part = expected[file]
            assert torch.equal(faces.pixels[row], pixels)
            assert faces.labels[row].tolist() == [labels[name] for name in ATTRIBUTES]
            assert its_part == part


def all_files() -> dict[str, list[str]]:
    names = iter(f"{number:06d}.jpg" for number in range(1, sum(COUNTS) + 1))
    return {part: [next(names) for _ in range(count)] for part, count in zip(PARTS, COUNTS, strict=True)}


def test_the_attributes_and_parts_are_the_published_ones() -> None:
    assert list(published("celeba").single_task) == list(ATTRIBUTES)
    assert sum(PUBLISHED.values()) == 202_599


def test_pixels_labels_and_parts_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    faces = load_celeba(folder, tmp_path / "cache")
    compare(faces, folder, all_files())
    assert faces.bad == {}
    assert faces.pixels.dtype == torch.uint8 and faces.labels.dtype == torch.bool


def test_the_second_time_nothing_is_decoded(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    first = load_celeba(folder, tmp_path / "cache", progress=lambda *now: seen.append(now))
    assert len(decoded) == 40 and seen == [(40, 40)]
    again = load_celeba(folder, tmp_path / "cache", progress=lambda *now: seen.append(now))
    assert len(decoded) == 40 and len(seen) == 1
    assert torch.equal(first.pixels, again.pixels)


def test_another_file_makes_the_cache_stale(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    load_celeba(folder, tmp_path / "cache")
    shutil.copy(
        folder / "img_align_celeba" / "000002.jpg", folder / "img_align_celeba" / "000001.jpg"
    )  # another size
    decoded.clear()
    with pytest.warns(UserWarning, match="will be built again: it was made from other files"):
        faces = load_celeba(folder, tmp_path / "cache")
    assert len(decoded) == 40
    compare(faces, folder, all_files())


def test_columns_are_found_by_name_and_rows_by_file(folder: Path, tmp_path: Path) -> None:
    path = folder / "list_attr_celeba.txt"
    first, names, *lines = path.read_text().splitlines()
    turned = [" ".join([line.split()[0], *line.split()[:0:-1]]) for line in lines]
    path.write_text("\n".join([first, " ".join(names.split()[::-1]), *turned]) + "\n")
    partition = folder / "list_eval_partition.txt"
    partition.write_text("\n".join(partition.read_text().splitlines()[::-1]) + "\n")
    compare(load_celeba(folder, tmp_path / "cache"), folder, all_files())


def test_a_sample_is_decoded_alone_and_taken_from_the_cache_if_there_is_one(
    folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    alone = load_celeba(folder, tmp_path / "cache", images=10)
    assert len(decoded) == 10 and not (tmp_path / "cache").exists()
    known = {file: pixels for file, (pixels, _, _) in plain(folder).items()}
    files = {
        part: [
            file for row in rows for file, pixels in known.items() if torch.equal(pixels, alone.pixels[row])
        ]
        for part, rows in alone.parts.items()
    }
    assert [len(names) for names in files.values()] == [6, 2, 2]
    compare(alone, folder, files)
    load_celeba(folder, tmp_path / "cache")
    decoded.clear()
    compare(load_celeba(folder, tmp_path / "cache", images=10), folder, files)
    assert decoded == []


def test_smaller_samples_are_part_of_larger_ones() -> None:
    part = torch.tensor([0] * 80 + [1] * 10 + [2] * 10, dtype=torch.uint8)
    few, more = (draw(part, images).tolist() for images in (20, 50))
    assert set(few) < set(more) and few == sorted(few)
    assert [part[rows].bincount().tolist() for rows in (few, more)] == [[16, 2, 2], [40, 5, 5]]
    assert part[draw(part, 3)].tolist().count(1) == 1
    assert draw(part, 1000).tolist() == list(range(100))
    with pytest.raises(ValueError, match=r"`images` should be at least 3, one for each part\. Found 2\."):
        draw(part, 2)


def test_missing_and_corrupt_images_are_named_and_counted(
    folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    spoil(folder)
    with pytest.raises(
        ValueError, match=r"should hold every image that is listed\. Found 1 bad file: 000003\.jpg"
    ):
        load_celeba(folder, tmp_path / "cache")
    assert decoded == [], "what is missing shows at once"
    faces = load_celeba(folder, tmp_path / "cache", skip_bad=True)
    assert list(faces.bad) == ["000003.jpg", "000005.jpg", "000030.jpg"]
    assert faces.bad["000003.jpg"] == "missing"
    assert "unreadable: " in faces.bad["000005.jpg"] and "truncated" in faces.bad["000030.jpg"]
    left = {part: [file for file in names if file not in faces.bad] for part, names in all_files().items()}
    restored(folder)
    compare(faces, folder, left)


def test_corrupt_images_are_refused_with_the_cache_kept(
    folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    spoil(folder)
    shutil.copy(folder / "img_align_celeba" / "000004.jpg", folder / "img_align_celeba" / "000003.jpg")
    with pytest.raises(
        ValueError,
        match=r"Found 2 bad files: 000005\.jpg \(unreadable: .*\), 000030\.jpg \(unreadable: .*\)\. "
        r"Copy again what is bad, or leave these images out \(`skip_bad`\)\.",
    ):
        load_celeba(folder, tmp_path / "cache")
    decoded.clear()
    for images, bad in ((None, 2), (40, 2), (3, 0)):
        assert len(load_celeba(folder, tmp_path / "cache", images=images, skip_bad=True).bad) == bad
    assert decoded == []
    sample = load_celeba(folder, tmp_path / "other", images=40, skip_bad=True)
    assert sorted(sample.bad) == ["000005.jpg", "000030.jpg"]
    assert sum(len(rows) for rows in sample.parts.values()) == 38


def spoil(folder: Path) -> None:
    """One image is missing, one is none, one is cut."""
    images = folder / "img_align_celeba"
    for number in (3, 5, 30):
        shutil.copy(images / f"{number:06d}.jpg", folder / f"{number:06d}.jpg")
    (images / "000003.jpg").unlink()
    (images / "000005.jpg").write_text("<html>Not found</html>")
    content = (images / "000030.jpg").read_bytes()
    (images / "000030.jpg").write_bytes(content[: len(content) // 2])


def restored(folder: Path) -> None:
    for path in folder.glob("*.jpg"):
        shutil.move(path, folder / "img_align_celeba" / path.name)


def test_a_part_without_images_is_refused(folder: Path, tmp_path: Path) -> None:
    partition = folder / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace(".jpg 1", ".jpg 0"))
    with pytest.raises(ValueError, match=r"should have images of each part\. Found none for validation\."):
        load_celeba(folder, tmp_path / "cache")


@pytest.mark.parametrize("name", [celeba.FOLDER, celeba.LABELS, celeba.PARTITION])
def test_a_missing_part_of_the_layout_is_named(folder: Path, name: str) -> None:
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(
        FileNotFoundError,
        match=rf"celeba` should hold img_align_celeba, list_attr_celeba\.txt and list_eval_partition\.txt\. "
        rf"Found no {name}: `equipoise data celeba` says where to get them\.",
    ):
        load_celeba(folder)


def line(number: int, old: str, new: str) -> Callable[[str], str]:
    """Replaces a text in one line, counted from 1."""

    def change(text: str) -> str:
        lines = text.splitlines()
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)
        return "\n".join(lines) + "\n"

    return change


SPOILT_LABELS: list[tuple[Callable[[str], str], str]] = [
    (
        lambda text: "",
        r"names of the 40 attributes in its second line\. Found 0 names; missing or unknown: 5_o_Cl",
    ),
    (line(2, "Bald", "Hairy"), r"Found 40 names; missing or unknown: Bald, Hairy\."),
    (line(2, "Bald", ""), r"Found 39 names; missing or unknown: Bald\."),
    (line(2, "Bald", "Young"), r"Found 40 names; missing or unknown: Bald\."),
    (line(2, "Bald", "Bald Bald"), r"Found 41 names; missing or unknown: 5_o_Clock_Shadow"),
    (
        line(1, "40", "202599"),
        r"first line how many images follow\. Found '202599' and 40 lines: copy it again\.",
    ),
    (line(5, "jpg", "jpg 1"), r"a file and 40 times -1 or 1 in line 5\. Found 41 values\."),
    (line(5, "-1", ""), r"in line 5\. Found 39 values\."),
    (line(5, "-1", "0"), r"in line 5\. Found 40 values, and among them 0\."),
    (line(5, "000003.jpg", ""), r"in line 5\. Found 39 values\."),
    (line(5, "000003", "000004"), r"should list every image once\. Found more than once: 000004\.jpg\."),
    (
        line(5, "000003", "999999"),
        r"same images as list_attr_celeba\.txt\. Found 2 in one of the two only: 000003",
    ),
]


@pytest.mark.parametrize(("spoil_it", "message"), SPOILT_LABELS)
def test_a_spoilt_list_of_attributes_is_named(
    folder: Path, spoil_it: Callable[[str], str], message: str
) -> None:
    path = folder / "list_attr_celeba.txt"
    path.write_text(spoil_it(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_lists(folder)
    found = check_celeba(folder)
    assert not found["available"] and len(found["problems"]) == 1


@pytest.mark.parametrize(
    ("spoil_it", "message"),
    [
        (
            line(2, " 0", " 3"),
            r"0, 1 or 2 \(for train, validation, test\) in line 2\. Found '000002\.jpg 3'\.",
        ),
        (line(2, " 0", ""), r"in line 2\. Found '000002\.jpg'\."),
        (
            line(2, "000002", "000001"),
            r"list_eval_partition\.txt` should list every image once\. .*000001\.jpg",
        ),
        (line(2, "000002.jpg 0", ""), r"in line 2\. Found ''\."),
    ],
)
def test_a_spoilt_partition_is_named(folder: Path, spoil_it: Callable[[str], str], message: str) -> None:
    path = folder / "list_eval_partition.txt"
    path.write_text(spoil_it(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_lists(folder)


def test_the_check_of_a_good_folder_tells_counts_sizes_and_ranges(written: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = check_celeba(written, lambda *now: seen.append(now))
    assert found["available"] and found["problems"] == [] and seen == [(40, 40)]
    assert [tuple(part.values()) for part in found["parts"].values()] == [
        (24, 162_770, 0),
        (8, 19_867, 0),
        (8, 19_962, 0),
    ]
    assert found["sizes"] == {"178x218": 40} and found["unlisted"] == 0
    decoded = [
        torch.from_numpy(np.array(Image.open(path))) for path in (written / "img_align_celeba").iterdir()
    ]
    assert found["min"] == min(int(pixels.min()) for pixels in decoded)
    assert found["max"] == max(int(pixels.max()) for pixels in decoded)
    young = [labels["Young"] for _, labels, _ in plain(written).values()]
    assert found["positive"]["Young"] == pytest.approx(sum(young) / 40)
    assert found["notes"] == [
        "train: 24 images; published are 162770",
        "validation: 8 images; published are 19867",
        "test: 8 images; published are 19962",
    ]


def test_the_check_names_what_is_bad_and_what_is_odd(folder: Path) -> None:
    spoil(folder)
    images = folder / "img_align_celeba"
    shutil.copy(images / "000001.jpg", images / "spare.jpg")
    with Image.open(images / "000002.jpg") as image:
        image.resize((64, 64)).save(images / "000002.jpg")
    attributes = folder / "list_attr_celeba.txt"
    first, names, *lines = attributes.read_text().splitlines()
    attributes.write_text("\n".join([first, names, *(f"{row[:-2]} 1" for row in lines)]) + "\n")
    found = check_celeba(folder)
    assert not found["available"]
    assert list(found["bad"]) == ["000003.jpg", "000005.jpg", "000030.jpg"]
    (problem,) = found["problems"]
    assert problem.startswith("3 bad files: 000003.jpg (missing), 000005.jpg (unreadable: ")
    assert [part["bad"] for part in found["parts"].values()] == [2, 1, 0]
    assert found["sizes"] == {"178x218": 36, "64x64": 1}
    assert found["notes"][3:] == [
        "images of 178x218, 64x64 pixels; published are 178x218",
        "1 jpg file(s) that are in no list, and are not used",
        "attributes that all images have, or none: Young",
    ]


def test_the_check_of_no_folder_says_so(tmp_path: Path) -> None:
    found = check_celeba(tmp_path / "nowhere")
    assert not found["available"]
    assert "Found no img_align_celeba, list_attr_celeba.txt, list_eval_partition.txt" in found["problems"][0]
