"""DomainNet's lists and office folders: which image is in which part with which label, caches, and bad input."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from colour_folders import write_domainnet, write_office
from equipoise.data import domainnet, image_cache, office
from equipoise.data.colour_domain import PARTS, ColourDomain, split_within_classes
from equipoise.data.domainnet import check_domainnet, read_lists
from equipoise.data.images import read_image
from equipoise.data.listed_images import ListedDomain, Reading, read_listed
from equipoise.data.office import check_office, domain_names, find_domains

CLASSES = ["aircraft_carrier", "airplane", "alarm_clock"]
COUNTS = {"clipart": (30, 9), "quickdraw": (33, 6)}
GARMENTS = ["Alarm_Clock", "Backpack", "Zebra"]


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return write_domainnet(tmp_path / "domainnet", COUNTS, CLASSES)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return write_office(tmp_path / "office", {"Art": 5, "Real World": 10}, GARMENTS)


def reading(root: Path, **changed: Any) -> Reading:
    given = {"side": 16, "caps": {}, "skip_bad": False, "root": root, **changed}
    return Reading(**given)


def images_of(found: ColourDomain, part: str) -> dict[str, int]:
    """Digest of each image of a part -> its label."""
    rows = found.parts[part]
    assert len(rows.unique()) == len(rows)
    return {
        hashlib.md5(found.pixels[row].numpy().tobytes()).hexdigest(): int(found.labels[row])
        for row in rows.tolist()
    }


def expected_of(domain: ListedDomain, rows: list[int], side: int = 16) -> dict[str, int]:
    """The same, straight from the files."""
    found = {}
    for row in rows:
        pixels = read_image(domain.folder / domain.files[row], size=(side, side))
        found[hashlib.md5(pixels.numpy().tobytes()).hexdigest()] = int(domain.labels[row])
    return found


def test_lists_give_files_labels_classes_and_the_official_test_part(listed: Path) -> None:
    lists = read_lists(listed, ["quickdraw", "clipart"])
    assert list(lists.domains) == ["quickdraw", "clipart"] and list(lists.classes) == CLASSES
    clipart = lists.domains["clipart"]
    train = [line.split() for line in (listed / "clipart_train.txt").read_text().splitlines()]
    test = [line.split() for line in (listed / "clipart_test.txt").read_text().splitlines()]
    assert list(clipart.files) == [file for file, _ in train + test]
    assert clipart.labels.tolist() == [int(label) for _, label in train + test]
    assert clipart.parts["test"].tolist() == list(range(30, 39))
    assert sorted([*clipart.parts["train"].tolist(), *clipart.parts["validation"].tolist()]) == list(
        range(30)
    )
    held_out = clipart.labels[clipart.parts["validation"]]
    assert sorted(held_out.tolist()) == [0, 1, 2]  # a tenth of the ten of each class


def test_every_image_is_decoded_into_the_cache_and_read_from_it(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = read_lists(listed, ["clipart"]).domains["clipart"]
    seen: list[tuple[int, int]] = []
    first = read_listed(domain, reading(tmp_path / "cache", progress=lambda *done: seen.append(done)))
    assert seen[-1] == (39, 39) and (tmp_path / "cache/clipart-16.u8").stat().st_size == 39 * 3 * 16 * 16
    monkeypatch.setattr(image_cache, "read_image", None)  # not called again
    for found in (first, read_listed(domain, reading(tmp_path / "cache"))):
        for part in PARTS:
            assert images_of(found, part) == expected_of(domain, domain.parts[part].tolist())


def test_some_images_need_no_cache_and_are_the_same_from_it(listed: Path, tmp_path: Path) -> None:
    domain = read_lists(listed, ["quickdraw"]).domains["quickdraw"]
    caps = {"train": 7, "validation": 2, "test": 4}
    alone = read_listed(domain, reading(tmp_path / "cache", caps=caps))
    assert not (tmp_path / "cache").exists() and len(alone.pixels) == 13
    read_listed(domain, reading(tmp_path / "cache"))
    cached = read_listed(domain, reading(tmp_path / "cache", caps=caps))
    assert len(cached.pixels) == 39
    for part, count in caps.items():
        assert len(images_of(alone, part)) == count
        assert images_of(alone, part) == images_of(cached, part)


def test_a_changed_file_is_decoded_again(listed: Path, tmp_path: Path) -> None:
    domain = read_lists(listed, ["clipart"]).domains["clipart"]
    read_listed(domain, reading(tmp_path))
    Image.new("RGB", (5, 5), (255, 255, 255)).save(listed / domain.files[38])
    with pytest.warns(UserWarning, match="it was made from other files"):
        found = read_listed(domain, reading(tmp_path))
    assert int(found.pixels[38].min()) >= 250


@pytest.mark.parametrize("caps", [{}, {"train": 1000}])
def test_bad_files_are_named_or_left_out(listed: Path, tmp_path: Path, caps: dict[str, int]) -> None:
    domain = read_lists(listed, ["clipart"]).domains["clipart"]
    rows = domain.parts["train"].tolist()
    gone, broken = (domain.files[row] for row in rows[:2])
    (listed / gone).unlink()
    message = (
        r"every image of the domain 'clipart'\. Found 1 bad file: .*\(missing\)\. Copy again .*`skip_bad`"
    )
    with pytest.raises(ValueError, match=message):
        read_listed(domain, reading(tmp_path, caps=caps))
    (listed / broken).write_bytes((listed / broken).read_bytes()[:200])
    with pytest.raises(ValueError, match=r"Found 1 bad file: .*\(missing\)"):
        read_listed(domain, reading(tmp_path, caps=caps))
    found = read_listed(domain, reading(tmp_path, caps=caps, skip_bad=True))
    assert set(found.bad) == {gone, broken} and found.bad[broken].startswith("unreadable")
    assert images_of(found, "train") == expected_of(domain, rows[2:])
    assert images_of(found, "test") == expected_of(domain, domain.parts["test"].tolist())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "clipart_train.txt",
            "clipart/airplane/a.jpg one\n",
            r"lines like 'clipart/CLASS/FILE\.jpg 0', .* in line 1\.",
        ),
        ("clipart_train.txt", "clipart/airplane/a.jpg 1\n\n", r"Found '' in line 2\."),
        ("clipart_test.txt", "real/airplane/a.jpg 1\n", r"Found 'real/airplane/a\.jpg 1' in line 1\."),
        ("clipart_test.txt", "clipart/airplane/a.jpg -1\n", r"Found 'clipart/airplane/a\.jpg -1'"),
        ("clipart_test.txt", "clipart/airplane/a.jpg 99999\n", r"99999' in line 1\."),
        (
            "clipart_test.txt",
            "clipart/airplane/a.jpg 2\n",
            r"same number\. Found 2 for 'alarm_clock', and in line 1 of",
        ),
        (
            "clipart_test.txt",
            "clipart/airplane/a.jpg 1\n" * 2,
            r"name every image once\. Found clipart/airplane/a\.jpg mo",
        ),
    ],
)
def test_a_bad_list_is_named(listed: Path, file: str, text: str, message: str) -> None:
    (listed / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lists(listed, ["quickdraw", "clipart"])


def test_a_missing_list_and_an_empty_one_are_told(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"Found no sketch_train\.txt, sketch_test\.txt: `equipoise data domainnet`"
    ):
        read_lists(listed, ["clipart", "sketch"])
    for part in ("train", "test"):
        (listed / f"clipart_{part}.txt").write_text("")
    domain = read_lists(listed, ["clipart"]).domains["clipart"]
    with pytest.raises(
        ValueError, match=r"images of the domain 'clipart' for each part\. Found none for train, valid"
    ):
        read_listed(domain, reading(tmp_path))


def test_domainnet_is_checked_domain_by_domain(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domainnet, "DOMAINS", ("clipart", "quickdraw"))
    seen: list[tuple[int, int]] = []
    facts = check_domainnet(listed, lambda *done: seen.append(done))
    assert facts["available"] and facts["classes"] == 3 and facts["clipart"]["sizes"] == {"40x60": 39}
    assert facts["notes"][0] == "clipart: 30 images in the train list; published are 33525"
    assert seen == [(39, 39), (39, 39)]
    next((listed / "clipart/airplane").iterdir()).unlink()
    (listed / "quickdraw_test.txt").unlink()
    facts = check_domainnet(listed)
    assert not facts["available"]
    assert facts["problems"][0].startswith("clipart: 1 bad file: clipart/airplane/")
    assert "Found no quickdraw_test.txt" in facts["problems"][1]


def test_the_published_counts_add_up() -> None:
    counts = domainnet.PUBLISHED
    assert sum(n for domain in counts.values() for n in domain.values()) == 586_575
    assert {counts[name]["train"] for name in ("clipart", "infograph", "painting")} == {
        33_525,
        36_023,
        50_416,
    }


@pytest.mark.parametrize("inner", ["", "images"])
def test_office_folders_are_found_with_or_without_a_folder_between(tmp_path: Path, inner: str) -> None:
    root = write_office(tmp_path, {"webcam": 5, "amazon": 10}, ["bike", "back_pack"], inner=inner)
    (root / "ImageInfo.csv").write_text("not a domain")
    (root / "empty").mkdir()
    assert domain_names(root) == ["amazon", "webcam"]
    found = find_domains(root, ["webcam", "amazon"])
    assert list(found.domains) == ["webcam", "amazon"] and found.classes == ("back_pack", "bike")
    amazon = found.domains["amazon"]
    middle = f"{inner}/" if inner else ""
    assert amazon.files[0] == f"amazon/{middle}back_pack/frame_0001.jpg" and len(amazon.files) == 20
    for file, label in zip(amazon.files, amazon.labels.tolist(), strict=True):
        assert file.split("/")[-2] == found.classes[label]


def test_office_is_split_within_classes_always_alike(folders: Path) -> None:
    found, again = (find_domains(folders, ["Real World"]).domains["Real World"] for _ in range(2))
    assert {part: len(rows) for part, rows in found.parts.items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }
    for part, rows in found.parts.items():
        assert found.labels[rows].bincount().tolist() == [len(rows) // 3] * 3
        assert torch.equal(rows, again.parts[part])
    assert torch.cat(list(found.parts.values())).sort().values.tolist() == list(range(30))


def test_domains_with_other_classes_are_refused_by_name(folders: Path) -> None:
    (folders / "Art/Backpack").rename(folders / "Art/Back_Pack")
    message = r"same classes, 4 in all\. Found Art without Backpack; Real World without Back_Pack: rename"
    with pytest.raises(ValueError, match=message):
        find_domains(folders, ["Art", "Real World"])
    facts = check_office(folders)
    assert not facts["available"] and "Art without Backpack" in facts["problems"][0]
    assert find_domains(folders, ["Art"]).classes == ("Alarm_Clock", "Back_Pack", "Zebra")


def test_bad_office_folders_are_told(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`data` should be a folder that holds DOMAIN/CLASS.*Found no folder"
    ):
        domain_names(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"Found no folder with folders\."):
        domain_names(folders / "Art")
    for image in (folders / "Art/Zebra").iterdir():
        image.rename(image.with_suffix(".gif"))
    with pytest.raises(
        ValueError, match=r"with images .* in each\. Found no image for Zebra: remove the folder"
    ):
        find_domains(folders, ["Art"])


def test_a_domain_too_small_for_its_parts_is_refused(tmp_path: Path) -> None:
    root = write_office(tmp_path / "o", {"a": 2, "b": 5}, GARMENTS)
    found = find_domains(root, ["a", "b"])
    with pytest.raises(
        ValueError, match=r"images of the domain 'a' for each part\. Found none for validation, test: "
    ):
        read_listed(found.domains["a"], reading(tmp_path))
    assert len(read_listed(found.domains["b"], reading(tmp_path)).parts["test"]) == 3


def test_office_is_checked_and_known_sets_are_recognised(tmp_path: Path) -> None:
    root = write_office(tmp_path, {"amazon": 5, "dslr": 5, "webcam": 5}, ["bike"], inner="images")
    facts = check_office(root)
    assert facts["available"] and facts["name"] == "Office-31" and facts["classes"] == 1
    assert facts["notes"][0] == "amazon: 5 images; published are 2817"
    (root / "dslr/images/bike/frame_0002.jpg").write_bytes(b"no image")
    facts = check_office(root)
    assert not facts["available"] and facts["problems"][0].startswith(
        "dslr: 1 bad file: dslr/images/bike/frame_0002.jpg"
    )
    assert (
        sum(office.KNOWN["Office-31"].values()) == 4110
        and sum(office.KNOWN["Office-Home"].values()) == 15_588
    )


def test_parts_are_drawn_within_classes() -> None:
    labels = torch.tensor([4] * 10 + [0] * 3 + [2] * 20)[
        torch.randperm(33, generator=torch.Generator().manual_seed(0))
    ]
    parts = split_within_classes(labels, [0.2, 0.1], 5)
    assert torch.cat(parts).sort().values.tolist() == list(range(33))
    assert [labels[rows].bincount(minlength=5).tolist() for rows in parts] == [
        [2, 0, 14, 0, 7],
        [1, 0, 4, 0, 2],
        [0, 0, 2, 0, 1],
    ]
    other = split_within_classes(labels, [0.2, 0.1], 6)
    assert not torch.equal(parts[1], other[1])
    assert [len(rows) for rows in split_within_classes(labels[:0], [0.5], 0)] == [0, 0]
