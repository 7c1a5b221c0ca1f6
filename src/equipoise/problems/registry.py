"""Every benchmark problem by name, without importing any of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from equipoise.core.names import check_known

from .own import own_class

PROBLEMS: dict[str, str] = {
    "qm9": "equipoise.problems.qm9:QM9",
    "nyuv2": "equipoise.problems.nyuv2:NYUv2",
    "cityscapes": "equipoise.problems.cityscapes:CityScapes",
    "celeba": "equipoise.problems.celeba:CelebA",
    "earth": "equipoise.problems.earth:Earth",
    "multi_mnist": "equipoise.problems.multi_mnist:MultiMNIST",
    "multi_fashion": "equipoise.problems.multi_mnist:MultiFashion",
    "digits": "equipoise.problems.digits:Digits",
    "cifar_stl": "equipoise.problems.cifar_stl:CifarStl",
    "domainnet": "equipoise.problems.domainnet:DomainNet",
    "office": "equipoise.problems.office:Office",
    "taskonomy": "equipoise.problems.taskonomy:Taskonomy",
    "chemicals": "equipoise.problems.chemicals:Chemicals",
    "census": "equipoise.problems.census:Census",
    "synthetic": "equipoise.problems.synthetic:Synthetic",
    "fronts": "equipoise.problems.fronts:Fronts",
    "table": "equipoise.problems.table:Table",
}
"""Name -> module and class. A class takes its options as keyword arguments and is a `Problem`."""


def problem_class(name: str) -> Any:
    """The class of a problem.

    Args:
        name: a key of `PROBLEMS`, or the place of a problem of the user's own, such as "tones:Tones". Such a problem is
            known by its own name from then on, as long as this process lives.

    Raises:
        ValueError: on an unknown name (the nearest one is given), or if there is no problem at that place.
    """
    if ":" in name:
        return _remembered(own_class(name), name)
    check_known("A problem", name, PROBLEMS)
    module, _, attribute = PROBLEMS[name].partition(":")
    return getattr(import_module(module), attribute)


def _remembered(cls: Any, place: str) -> Any:
    if PROBLEMS.setdefault(cls.name, place) != place:
        raise ValueError(
            f"The `name` of {place!r} should be one that no other problem has. Found {cls.name!r}, which is "
            f"{PROBLEMS[cls.name]}."
        )
    return cls
