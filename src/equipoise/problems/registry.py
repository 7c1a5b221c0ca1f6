"""Every benchmark problem by name, without importing any of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from equipoise.core.names import check_known

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
    "table": "equipoise.problems.table:Table",
}
"""Name -> module and class. A class takes its options as keyword arguments and is a `Problem`."""


def problem_class(name: str) -> Any:
    """The class of a problem.

    Raises:
        ValueError: on an unknown name; the nearest one is given.
    """
    check_known("A problem", name, PROBLEMS)
    module, _, attribute = PROBLEMS[name].partition(":")
    return getattr(import_module(module), attribute)
