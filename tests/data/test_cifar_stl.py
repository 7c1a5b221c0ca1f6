"""CIFAR-10 and STL-10 in their binary layouts: every pixel where it belongs, one label space, and bad files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from colour_folders import CIFAR_NAMES, STL_NAMES, cifar_bytes, photographs, stl_bytes, write_cifar, write_stl
from equipoise.data.cifar_stl import (
    CLASSES,
    SHARED,
    check_cifar_stl,
    load_domain,
    read_cifar,
    read_stl,
    reduced,
)
from equipoise.data.colour_domain import PARTS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cifar_stl")
    write_cifar(root)
    write_stl(root)
    return root


def test_a_cifar_record_is_a_label_and_three_planes_row_by_row(root: Path) -> None:
    names, train, test = read_cifar(root / "cifar-10-batches-bin")
    assert list(names) == CIFAR_NAMES
    assert train.pixels.shape == (100, 3, 32, 32) and test.pixels.shape == (20, 3, 32, 32)
    assert train.pixels.dtype == torch.uint8 and train.labels.dtype == torch.int64
    for batch in range(5):
        labels = [k % 10 for k in range(20)]
        expected = photographs(labels, 32, batch)
        assert train.labels[20 * batch : 20 * batch + 20].tolist() == labels
        for image, channel, row, column in ((0, 0, 0, 1), (3, 1, 30, 2), (19, 2, 5, 31)):
            found = int(train.pixels[20 * batch + image, channel, row, column])
            assert found == expected[image, row, column, channel]
        whole = train.pixels[20 * batch : 20 * batch + 20].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(whole, expected)


def test_an_stl_image_is_three_planes_column_by_column() -> None:
    """One bright pixel on black ends up in the square that it belongs to, with a ninth of its value, rounded."""
    images = np.zeros((2, 96, 96, 3), dtype=np.uint8)
    images[0, 3 * 7 + 1, 3 * 20 + 2, 1] = 94  # row 22, column 62, green; 94 / 9 = 10.4
    images[1, 95, 0, 2] = 95  # the lower left corner, blue; 95 / 9 = 10.6
    stored = torch.frombuffer(bytearray(stl_bytes(images)), dtype=torch.uint8).reshape(2, 3, 96, 96)
    found = reduced(stored)
    assert found.shape == (2, 3, 32, 32)
    assert found.nonzero().tolist() == [[0, 1, 7, 20], [1, 2, 31, 0]]
    assert int(found[0, 1, 7, 20]) == 10 and int(found[1, 2, 31, 0]) == 11


def test_stl_images_are_means_of_squares(root: Path) -> None:
    names, train, test = read_stl(root / "stl10_binary")
    assert list(names) == STL_NAMES
    assert train.labels.tolist() == [k % 10 for k in range(100)] and len(test.labels) == 20
    raw = np.frombuffer((root / "stl10_binary/train_X.bin").read_bytes(), dtype=np.uint8)
    for image, channel, row, column in ((0, 0, 0, 0), (99, 2, 31, 3), (7, 1, 4, 30)):
        total = 0
        for y in range(3 * row, 3 * row + 3):
            for x in range(3 * column, 3 * column + 3):
                total += int(raw[((image * 3 + channel) * 96 + x) * 96 + y])  # x * 96: columns come first
        assert int(train.pixels[image, channel, row, column]) == int(total / 9 + 0.5)


@pytest.mark.parametrize("classes", ["shared", "all"])
def test_both_domains_have_one_label_space(root: Path, classes: str) -> None:
    names = CLASSES[classes]
    cifar, stl = (load_domain(root, domain, classes=classes) for domain in ("cifar10", "stl10"))
    for domain, own, raw in ((cifar, CIFAR_NAMES, read_cifar), (stl, STL_NAMES, read_stl)):
        folder = root / ("cifar-10-batches-bin" if own is CIFAR_NAMES else "stl10_binary")
        _, train, test = raw(folder)
        pixels, labels = torch.cat([train.pixels, test.pixels]), torch.cat([train.labels, test.labels])
        rows = torch.cat(list(domain.parts.values()))
        assert len(rows.unique()) == len(rows)
        for row in rows.tolist():
            name = own[int(labels[row])].replace("automobile", "car")
            assert names[int(domain.labels[row])] == name
            assert torch.equal(domain.pixels[row], pixels[row])
        seen = {names[k] for k in domain.labels[rows].unique().tolist()}
        alone = {"frog"} if own is CIFAR_NAMES else {"monkey"}
        assert seen == {*SHARED} | (alone if classes == "all" else set())
        assert len(rows) == len(labels) - (0 if classes == "all" else len(labels) // 10)


def test_the_test_part_is_the_official_one_and_validation_is_a_tenth_of_each_class(root: Path) -> None:
    domain = load_domain(root, "cifar10", classes="all")
    train, validation, test = (domain.parts[part] for part in PARTS)
    assert test.tolist() == list(range(100, 120))
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(100))
    assert domain.labels[validation].bincount().tolist() == [1] * 10
    again = load_domain(root, "cifar10", classes="all")
    assert torch.equal(again.parts["validation"], validation)


def test_caps_take_part_of_what_larger_ones_take(root: Path) -> None:
    few, more = (load_domain(root, "stl10", caps={"train": n, "validation": 2, "test": None}) for n in (5, 9))
    assert [len(few.parts[part]) for part in PARTS] == [5, 2, 18]
    assert {*few.parts["train"].tolist()} < {*more.parts["train"].tolist()}


def test_a_folder_is_checked(root: Path) -> None:
    facts = check_cifar_stl(root)
    assert facts["available"] and not facts["problems"]
    assert facts["cifar10 train"] == {"images": 100, "classes": dict.fromkeys(CIFAR_NAMES, 10)}
    assert facts["stl10 test"]["images"] == 20
    assert facts["notes"][0] == "cifar10: 100 train images; published are 50000"
    facts = check_cifar_stl(root / "nowhere")
    assert not facts["available"] and len(facts["problems"]) == 2


def damage(root: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (root / file).unlink()
    else:
        (root / file).write_bytes(content)


CIFAR, STL = "cifar-10-batches-bin", "stl10_binary"
SECOND_IS_10 = bytes(3073) + b"\x0a" + bytes(3072)
BACKWARDS = "\n".join(reversed(STL_NAMES)).encode()


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        (f"{CIFAR}/data_batch_4.bin", None, FileNotFoundError, r"version of CIFAR-10: .* Found no data_batch_4"),
        (f"{CIFAR}/test_batch.bin", bytes(3072), ValueError, r"records of 3,073 bytes .* Found 3,072 bytes: un"),
        (f"{CIFAR}/test_batch.bin", b"", ValueError, r"at least 1\. Found 0 bytes"),
        (f"{CIFAR}/data_batch_2.bin", SECOND_IS_10, ValueError, r"labels from 0 to 9\. Found 10 in record 1: it"),
        (f"{CIFAR}/batches.meta.txt", b"cat\ndog\n", ValueError, r"names airplane, .*, in this order\. Found cat, dog"),
        (f"{STL}/class_names.txt", BACKWARDS, ValueError, r"Found truck, ship,"),
        (f"{STL}/train_y.bin", bytes(10), ValueError, r"labels from 1 to 10\. Found 0 in record 0"),
        (f"{STL}/test_y.bin", b"\x01" * 19, ValueError, r"as many images as test_y\.bin has labels, 19\. Found 20"),
        (f"{STL}/test_X.bin", bytes(27_000), ValueError, r"should hold records of 27,648 bytes \(3 x 96 x 96 pixels\)"),
        (f"{STL}/train_X.bin", None, FileNotFoundError, r"Found no train_X\.bin\."),
    ],
)  # fmt: skip
def test_a_bad_file_is_named(
    tmp_path: Path, file: str, content: bytes | None, error: type, message: str
) -> None:
    write_cifar(tmp_path, batch=10, test=10)
    write_stl(tmp_path, train=10, test=20)
    damage(tmp_path, file, content)
    domain = "cifar10" if file.startswith(CIFAR) else "stl10"
    with pytest.raises(error, match=message):
        load_domain(tmp_path, domain)
    assert not check_cifar_stl(tmp_path)["available"]


def test_a_domain_without_images_of_a_part_is_refused(tmp_path: Path) -> None:
    """Only frogs, which the nine shared classes leave out."""
    write_cifar(tmp_path)
    frogs = cifar_bytes(photographs([6] * 3, 32, 0), [6] * 3)
    (tmp_path / CIFAR / "test_batch.bin").write_bytes(frogs)
    with pytest.raises(
        ValueError, match=r"should hold images of the domain 'cifar10' for each part\. Found none for test: "
    ):
        load_domain(tmp_path, "cifar10")
    assert len(load_domain(tmp_path, "cifar10", classes="all").parts["test"]) == 3
