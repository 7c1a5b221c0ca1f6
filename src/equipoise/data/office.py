"""Folders of domains with one folder a class, as Office-31 and Office-Home have: everything is found from the folder.

Layout: ``ROOT/DOMAIN/CLASS/*.jpg`` (Office-Home) or ``ROOT/DOMAIN/images/CLASS/*.jpg`` (Office-31), jpg, jpeg or png.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from equipoise.data.colour_domain import split_within_classes
from equipoise.data.image_cache import Progress
from equipoise.data.listed_images import SHOWN, ListedDomain, check_listed, parts_of, told

ENDINGS = (".jpg", ".jpeg", ".png")
SHARES = {"validation": 0.2, "test": 0.2}
KNOWN: Mapping[str, Mapping[str, int]] = {
    "Office-31": {"amazon": 2817, "dslr": 498, "webcam": 795},
    "Office-Home": {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
}
"""Images of the two published folders, by domain."""
SOURCE = (
    "Office-31: https://faculty.cc.gatech.edu/~judy/domainadapt/ (K. Saenko and others); Office-Home: "
    "https://www.hemanthdv.org/officeHomeDataset.html. Any folder of your own with the same layout will do."
)
CITATION = (
    "K. Saenko, B. Kulis, M. Fritz, T. Darrell, Adapting Visual Category Models to New Domains, ECCV 2010, "
    "https://doi.org/10.1007/978-3-642-15561-1_16; H. Venkateswara, J. Eusebio, S. Chakraborty, S. Panchanathan, Deep "
    "Hashing Network for Unsupervised Domain Adaptation, CVPR 2017, https://arxiv.org/abs/1706.07522"
)
_INNER = "images"
_SPLIT_SEED = 0


class Found(NamedTuple):
    """The domains of a folder.

    Args:
        domains: in the order asked for.
        classes: names, sorted; their places are the labels.
    """

    domains: dict[str, ListedDomain]
    classes: tuple[str, ...]


def domain_names(folder: str | os.PathLike[str]) -> list[str]:
    """The domains of a folder, sorted: those of its folders that hold folders.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no domain.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"`data` should be a folder that holds DOMAIN/CLASS/*.jpg or DOMAIN/{_INNER}/CLASS/*.jpg. Found no folder "
            f"`{root}`; `equipoise data office` says where to get one."
        )
    found = sorted(name for name in _folders(root) if _folders(_inside(root, name)))
    if not found:
        raise ValueError(
            f"`{root}` should hold DOMAIN/CLASS/*.jpg or DOMAIN/{_INNER}/CLASS/*.jpg. Found no folder with folders."
        )
    return found


def find_domains(folder: str | os.PathLike[str], domains: Sequence[str]) -> Found:
    """The images of some domains, split by a draw that is always the same: 60, 20 and 20 % of each class.

    No official split exists. Of the n images of a class in a domain, round(n / 5) are in the test part and as many in
    the validation part.

    Args:
        folder: that holds the domains.
        domains: some of `domain_names`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a class has no image, or the domains have other classes.
    """
    root = Path(folder).expanduser()
    files = {domain: _files(root, domain) for domain in domains}
    _check_classes(root, files)
    classes = tuple(files[domains[0]])
    found = {}
    for domain, by_class in files.items():
        counts = torch.tensor([len(own) for own in by_class.values()])
        labels = torch.arange(len(classes)).repeat_interleave(counts)
        parts = split_within_classes(labels, list(SHARES.values()), _SPLIT_SEED)
        names = [file for own in by_class.values() for file in own]
        found[domain] = ListedDomain(domain, root, names, labels, parts_of(parts))
    return Found(found, classes)


def check_office(folder: str | os.PathLike[str], progress: Progress | None = None) -> dict[str, Any]:
    """Decode a whole folder.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (all domains can be read whole, with the same classes),
        ``problems`` (why not, in words), ``notes`` (other numbers than were published, where the domains are those of a
        published folder), ``classes``, and what `check_listed` says of each domain.
    """
    root = Path(folder).expanduser()
    facts: dict[str, Any] = {"name": "domains with one folder a class", "root": str(root), "available": False}
    try:
        found = find_domains(root, domain_names(root))
    except (FileNotFoundError, ValueError) as error:
        return {**facts, "problems": [str(error)], "notes": []}
    problems, notes = [], []
    for domain, listed in found.domains.items():
        facts[domain] = check_listed(listed, progress)
        problems += [f"{domain}: {told(facts[domain]['bad'])}"] if facts[domain]["bad"] else []
    for title, published in KNOWN.items():
        if set(published) == set(found.domains):
            facts["name"] = title
            notes = [
                f"{domain}: {len(found.domains[domain].files)} images; published are {count}"
                for domain, count in published.items()
                if len(found.domains[domain].files) != count
            ]
    return {
        **facts,
        "classes": len(found.classes),
        "available": not problems,
        "problems": problems,
        "notes": notes,
    }


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _inside(root: Path, domain: str) -> Path:
    """The folder that holds the classes of a domain."""
    return root / domain / _INNER if (root / domain / _INNER).is_dir() else root / domain


def _files(root: Path, domain: str) -> dict[str, list[str]]:
    """The images of a domain by class, paths below the root, sorted."""
    inside = _inside(root, domain)
    prefix = inside.relative_to(root).as_posix()
    found = {}
    for name in _folders(inside):
        with os.scandir(inside / name) as entries:
            images = sorted(e.name for e in entries if e.name.lower().endswith(ENDINGS))
        found[name] = [f"{prefix}/{name}/{image}" for image in images]
    empty = [name for name, images in found.items() if not images]
    if empty or not found:
        raise ValueError(
            f"`{inside}` should hold a folder for each class, with images ({', '.join(ENDINGS)}) in each. Found no "
            f"image for {_some(empty) or 'any class'}: remove the folder, or leave the domain out of `domains`."
        )
    return found


def _check_classes(root: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    everything = sorted({name for by_class in files.values() for name in by_class})
    lacking = {
        domain: [name for name in everything if name not in by_class] for domain, by_class in files.items()
    }
    if any(lacking.values()):
        told_of = "; ".join(f"{domain} without {_some(names)}" for domain, names in lacking.items() if names)
        raise ValueError(
            f"All domains in `{root}` should have the same classes, {len(everything)} in all. Found {told_of}: rename "
            "or remove folders, or choose other `domains`."
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
