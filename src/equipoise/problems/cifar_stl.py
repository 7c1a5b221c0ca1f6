"""CIFAR-10 and STL-10: one classifier of small photographs from two sources, each a domain with a loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from equipoise.core.names import check_known
from equipoise.data.cache import data_root
from equipoise.data.cifar_stl import (
    CITATION,
    CLASSES,
    DOMAINS,
    FOLDERS,
    PUBLISHED,
    SIDE,
    SOURCE,
    check_cifar_stl,
    load_domain,
)
from equipoise.training.problem import Description
from equipoise.training.task import Task

from .colour_domains import ColourDomains, read_setup
from .colour_presets import CIFAR_STL
from .domain_options import check_least
from .image_domains import chosen_domains, domain_tasks, full_marks, read_mixture

_WORKERS = 1


class CifarStl(ColourDomains):
    """Ten kinds of things, two domains of unequal size, one network with one head: the first pair of Royer et al.

    Cross-entropy of each domain; metric: its accuracy in percent. Data and parts: see
    `equipoise.data.cifar_stl.load_domain`; values: see `ColourDomains`.
    Reference: A. Royer, T. Blankevoort, B. Ehteshami Bejnordi, Scalarization for Multi-Task and Multi-Domain Learning
    at Scale, NeurIPS 2023, https://arxiv.org/abs/2310.08910.
    Choices where we know of no statement in the paper: the two data sets differ in their tenth class (frog, monkey),
    which `classes` leaves out or keeps as two; both are brought to 32 x 32 pixels; patches of 4 pixels; crops and
    mirroring. The paper draws each image from a mixture of domains; here `mixing="sampled"` draws each batch.

    Args:
        domains: "cifar10", "stl10" or both, in the order wanted, a list or separated by commas.
        classes: "shared" for the 9 classes of both, "all" for 11.
        images: at most this many training images of each domain, or None for all. No draw depends on the seed of a run.
        validation: at most this many validation images of each domain, or None for all.
        test: at most this many test images of each domain, or None for all.
        batch_size: images of a domain in a training step.
        mixing: "together" for a batch of every domain in each step, or "sampled" for a batch of one domain.
        weights: how likely each domain is to be drawn, above 0 and with sum 1, in the order of `domains`, a list or
            separated by commas; None for in proportion to their batches. With mixing="sampled" only.
        samples: training images in an epoch, those of all domains added up; None for as many as there are.
        model: "vit" or "resnet".
        width: of all tokens, 48 (vit) by default; channels of the first convolution, 16 (resnet).
        depth: blocks, 3 (vit) by default; 26 (resnet), see `ResNet`.
        patch: H = W of the patches, 4 (vit).
        crop: pixels that training images are moved by at most, 0 for none.
        flip: mirror about half of the training images.
        workers: threads that read ahead.
        data: the folder that holds both official folders, or None for the default place, which `data` names.

    Raises:
        FileNotFoundError: if a folder or file is missing; the message says where the data come from.
        ValueError: if a file is not as expected, or an option is out of its range.
    """

    name: ClassVar[str] = "cifar_stl"
    tasks: tuple[Task, ...] = domain_tasks(DOMAINS)
    reference: Mapping[str, float] = full_marks(DOMAINS)
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = CIFAR_STL

    def __init__(
        self,
        *,
        domains: str | Sequence[str] | None = None,
        classes: str = "shared",
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        batch_size: int = 128,
        mixing: str = "together",
        weights: str | float | Sequence[float] | None = None,
        samples: int | None = None,
        model: str = "vit",
        width: int | None = None,
        depth: int | None = None,
        patch: int | None = None,
        crop: int = 4,
        flip: bool = True,
        workers: int = _WORKERS,
        data: str | None = None,
    ) -> None:
        names = chosen_domains(domains, DOMAINS)
        check_known("`classes`", classes, CLASSES)
        check_least({"images": images, "validation": validation, "test": test})
        mixture = read_mixture(names, batch_size=batch_size, mixing=mixing, weights=weights, samples=samples)
        sizes = {"width": width, "depth": depth, "patch": patch}
        setup = read_setup(side=SIDE, model=model, sizes=sizes, crop=crop, flip=flip, workers=workers)
        caps = {"train": images, "validation": validation, "test": test}
        folder = data_root(self.name, data)
        found = {name: load_domain(folder, name, classes=classes, caps=caps) for name in names}
        super().__init__(found, DOMAINS, CLASSES[classes], mixture, setup)

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that the option `domains` gives.

        Raises:
            ValueError: on an unknown domain, one that comes twice, or none at all.
        """
        names = chosen_domains(options.get("domains"), DOMAINS)
        return Description(domain_tasks(names), full_marks(names))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Where the data come from, what the folders have to look like, and whether they are in the default place."""
        folder = data_root(cls.name)
        missing = [name for name in FOLDERS.values() if not (folder / name).is_dir()]
        facts: dict[str, Any] = {"available": not missing, "folder": str(folder)}
        if missing:
            facts["problem"] = f"`{folder}` has no {', '.join(missing)}. Give another folder with --data."
        return {
            **facts,
            "source": SOURCE,
            "layout": "cifar-10-batches-bin/data_batch_1.bin to data_batch_5.bin, test_batch.bin, batches.meta.txt; "
            "stl10_binary/train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt",
            "parts": "the official ones; 10 % of each class of the training part, by a fixed draw, are for validation",
            "images": {domain: dict(counts) for domain, counts in PUBLISHED.items()},
            "classes": f"shared: {', '.join(CLASSES['shared'])}; all: also frog (CIFAR-10) and monkey (STL-10)",
            "check": f"equipoise data {cls.name} --data DIR",
            "licence": "none stated by its authors; see the pages of the data sets",
            "citation": CITATION,
        }

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Look through a folder, which takes seconds: see `check_cifar_stl`."""
        return check_cifar_stl(folder)
