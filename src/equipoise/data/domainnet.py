"""DomainNet: 345 classes in six domains, from the folder of the official downloads.

Layout: ``DOMAIN/CLASS/*.jpg`` or ``*.png`` (the unpacked zip of each domain), and beside the folders
``DOMAIN_train.txt`` and ``DOMAIN_test.txt``, of lines like ``clipart/aircraft_carrier/clipart_001_000001.jpg 0``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.data.colour_domain import split_within_classes
from equipoise.data.image_cache import Progress
from equipoise.data.listed_images import ListedDomain, check_listed, parts_of, told

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
CLASSES = 345
PUBLISHED = {
    "clipart": {"train": 33_525, "test": 14_604},
    "infograph": {"train": 36_023, "test": 15_582},
    "painting": {"train": 50_416, "test": 21_850},
    "quickdraw": {"train": 120_750, "test": 51_750},
    "real": {"train": 120_906, "test": 52_041},
    "sketch": {"train": 48_212, "test": 20_916},
}
"""Lines of the official lists, those of clipart and painting without the duplicates of the first release."""
SOURCE = (
    "http://ai.bu.edu/M3SDA/: the zip of each domain (of clipart and painting the cleaned version, to which the split "
    "lists belong), and for each of them the train and the test list, all in one folder."
)
LICENCE = "fair use notice of its authors; see the page of the data set"
CITATION = (
    "X. Peng, Q. Bai, X. Xia, Z. Huang, K. Saenko, B. Wang, Moment Matching for Multi-Source Domain Adaptation, "
    "ICCV 2019, https://arxiv.org/abs/1812.01754"
)
_SPLIT_SEED = 0
_VALIDATION = 0.1  # of the training images of each class


class Lists(NamedTuple):
    """What the lists of some domains say.

    Args:
        domains: in the order asked for.
        classes: by number; "" for a number that no list has.
    """

    domains: dict[str, ListedDomain]
    classes: tuple[str, ...]


def read_lists(folder: str | os.PathLike[str], domains: Sequence[str]) -> Lists:
    """Read the lists of some domains.

    The test part is the official one; of the official training list, 10 % of each class are the validation part, always
    the same. A class has one number and one folder name in all lists.

    Args:
        folder: that holds the layout above.
        domains: some of `DOMAINS`.

    Raises:
        FileNotFoundError: if a list is missing.
        ValueError: naming list and line that are not as expected, or two lists that disagree.
    """
    root = Path(folder).expanduser()
    missing = [name for domain in domains for name in _files(domain) if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`{root}` should hold the lists of the domains {', '.join(domains)}. Found no {', '.join(missing)}: "
            "`equipoise data domainnet` says where to get them."
        )
    names: dict[int, str] = {}
    found = {domain: _read_domain(root, domain, names) for domain in domains}
    return Lists(found, tuple(names.get(number, "") for number in range(max(names, default=-1) + 1)))


def check_domainnet(folder: str | os.PathLike[str], progress: Progress | None = None) -> dict[str, Any]:
    """Decode a whole folder, as far as there are lists, and compare it with the layout, not with checksums.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (all six domains can be read whole), ``problems`` (why not, in
        words), ``notes`` (other numbers than were published), ``classes``, and what `check_listed` says of each domain
        whose lists can be read.
    """
    root = Path(folder).expanduser()
    facts: dict[str, Any] = {"name": "DomainNet", "root": str(root)}
    problems, notes, names = [], [], dict[int, str]()
    for domain in DOMAINS:
        try:
            listed = read_lists(root, [domain])
            _agree(names, enumerate(listed.classes), f"the lists of {domain}")
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error))
            continue
        facts[domain] = check_listed(listed.domains[domain], progress)
        problems += [f"{domain}: {told(facts[domain]['bad'])}"] if facts[domain]["bad"] else []
        notes += _notes(domain, facts[domain]["parts"])
    if len(names) not in (0, CLASSES):
        notes.append(f"{len(names)} classes; published are {CLASSES}")
    return {**facts, "classes": len(names), "available": not problems, "problems": problems, "notes": notes}


def _files(domain: str) -> tuple[str, str]:
    return f"{domain}_train.txt", f"{domain}_test.txt"


def _read_domain(root: Path, domain: str, names: dict[int, str]) -> ListedDomain:
    """The images of a domain; `names` takes in the classes."""
    (train, train_labels), (test, test_labels) = (
        _read_list(root / file, domain, names) for file in _files(domain)
    )
    twice = [file for file, count in Counter([*train, *test]).items() if count > 1]
    if twice:
        raise ValueError(
            f"The lists of {domain} in `{root}` should name every image once. Found {twice[0]} more than once."
        )
    parts = [
        *split_within_classes(train_labels, [_VALIDATION], _SPLIT_SEED),
        torch.arange(len(test)) + len(train),
    ]
    return ListedDomain(
        domain, root, [*train, *test], torch.cat([train_labels, test_labels]), parts_of(parts)
    )


def _read_list(path: Path, domain: str, names: dict[int, str]) -> tuple[list[str], Tensor]:
    """The files of a list and their labels (n,); an empty list leaves its part empty."""
    files, labels = [], []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        file, _, label = line.strip().rpartition(" ")
        folders = file.split("/")
        if (
            len(folders) != 3
            or folders[0] != domain
            or not label.isdecimal()
            or not int(label) < 10 * CLASSES
        ):
            raise ValueError(
                f"`{path}` should have lines like '{domain}/CLASS/FILE.jpg 0', with the number of the class at the "
                f"end. Found {line!r} in line {number}."
            )
        _agree(names, [(int(label), folders[1])], f"line {number} of `{path}`")
        files.append(file)
        labels.append(int(label))
    return files, torch.tensor(labels, dtype=torch.int64)


def _agree(names: dict[int, str], found: Any, where: str) -> None:
    """Take in numbers of classes with their names, which have to be those that are known."""
    for number, name in found:
        if name and names.setdefault(number, name) != name:
            raise ValueError(
                f"All lists should give a class the same number. Found {number} for {names[number]!r}, and in {where} "
                f"for {name!r}: take all lists from one place."
            )


def _notes(domain: str, parts: Mapping[str, int]) -> list[str]:
    counts = {"train": parts["train"] + parts["validation"], "test": parts["test"]}
    return [
        f"{domain}: {count} images in the {part} list; published are {PUBLISHED[domain][part]}"
        for part, count in counts.items()
        if count != PUBLISHED[domain][part]
    ]
