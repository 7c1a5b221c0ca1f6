"""DomainNet: one classifier of 345 classes from six kinds of pictures, each a domain with a loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from equipoise.data.cache import data_root
from equipoise.data.domainnet import (
    CITATION,
    CLASSES,
    DOMAINS,
    LICENCE,
    PUBLISHED,
    SOURCE,
    check_domainnet,
    read_lists,
)
from equipoise.data.images import MEND, can_read
from equipoise.data.listed_images import Reading, read_listed
from equipoise.training.problem import Description
from equipoise.training.task import Task

from .colour_domains import ColourDomains, read_setup
from .colour_presets import DOMAINNET
from .domain_options import check_least
from .image_domains import chosen_domains, domain_tasks, full_marks, read_mixture

_WORKERS = 2


class DomainNet(ColourDomains):
    """Clipart, infographics, paintings, quick drawings, photographs and sketches: the large set of Royer et al.

    Cross-entropy of each domain; metric: its accuracy in percent. Parts: see `equipoise.data.domainnet.read_lists`;
    values: see `ColourDomains`. Images are decoded once at `side` x `side` pixels, the aspect ratio not kept, into a
    cache of 3 bytes a pixel for each domain: 7 GB for all 586,575 at 64, 88 GB at 224.
    Reference: A. Royer, T. Blankevoort, B. Ehteshami Bejnordi, Scalarization for Multi-Task and Multi-Domain Learning
    at Scale, NeurIPS 2023, https://arxiv.org/abs/2310.08910.
    Choices where we know of no statement in the paper: the size of the images, the augmentation, and that the
    validation part is cut from the official training list. The paper draws each image from a mixture of domains; here
    `mixing="sampled"` draws each batch.

    Args:
        domains: some of "clipart", "infograph", "painting", "quickdraw", "real" and "sketch", in the order wanted, a
            list or separated by commas; None for all six.
        images: at most this many training images of each domain, or None for all. No draw depends on the seed of a run.
        validation: at most this many validation images of each domain, or None for all.
        test: at most this many test images of each domain, or None for all.
        side: H = W that the images are resized to.
        batch_size: images of a domain in a training step.
        mixing: "together" for a batch of every domain in each step, or "sampled" for a batch of one domain.
        weights: how likely each domain is to be drawn, above 0 and with sum 1, in the order of `domains`, a list or
            separated by commas; None for in proportion to their batches. With mixing="sampled" only.
        samples: training images in an epoch, those of all domains added up; None for as many as there are.
        model: "resnet" or "vit".
        width: channels of the first convolution, 16 (resnet) by default and 64 in a full one; of all tokens, 48 (vit).
        depth: 26 (resnet) by default, see `ResNet`; blocks, 3 (vit).
        patch: H = W of the patches, 4 (vit).
        crop: pixels that training images are moved by at most, 0 for none.
        flip: mirror about half of the training images.
        skip_bad: leave out images whose file is missing or damaged.
        workers: threads that read ahead.
        data: the folder that holds the domains and their lists, or None for the default place, which `data` names.
        root: the folder of the caches, or None for the default one.
        progress: called with (done, total) while the images of a domain are decoded for the first time.

    Raises:
        FileNotFoundError: if a list is missing; the message says where the data come from.
        ValueError: if a list or file is not as expected, or an option is out of its range.
    """

    name: ClassVar[str] = "domainnet"
    tasks: tuple[Task, ...] = domain_tasks(DOMAINS)
    reference: Mapping[str, float] = full_marks(DOMAINS)
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = DOMAINNET

    def __init__(
        self,
        *,
        domains: str | Sequence[str] | None = None,
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        side: int = 64,
        batch_size: int = 64,
        mixing: str = "together",
        weights: str | float | Sequence[float] | None = None,
        samples: int | None = None,
        model: str = "resnet",
        width: int | None = None,
        depth: int | None = None,
        patch: int | None = None,
        crop: int = 8,
        flip: bool = True,
        skip_bad: bool = False,
        workers: int = _WORKERS,
        data: str | None = None,
        root: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        names = chosen_domains(domains, DOMAINS)
        check_least({"images": images, "validation": validation, "test": test})
        mixture = read_mixture(names, batch_size=batch_size, mixing=mixing, weights=weights, samples=samples)
        sizes = {"width": width, "depth": depth, "patch": patch}
        setup = read_setup(side=side, model=model, sizes=sizes, crop=crop, flip=flip, workers=workers)
        caps = {"train": images, "validation": validation, "test": test}
        reading = Reading(side, caps, skip_bad, data_root(self.name, root), progress)
        lists = read_lists(data_root(self.name, data), names)
        found = {name: read_listed(listed, reading) for name, listed in lists.domains.items()}
        super().__init__(found, DOMAINS, lists.classes, mixture, setup)

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
        """Where the data come from, what the folder has to look like, and whether it is in the default place."""
        folder = data_root(cls.name)
        lists = [f"{domain}_{part}.txt" for domain in DOMAINS for part in ("train", "test")]
        missing = [name for name in (*DOMAINS, *lists) if not (folder / name).exists()]
        facts: dict[str, Any] = {"available": not missing, "folder": str(folder)}
        if missing:
            facts["problem"] = f"`{folder}` has no {', '.join(missing)}. Give another folder with --data."
        if not can_read():
            facts |= {"available": False, "problem": MEND}
        return {
            **facts,
            "source": SOURCE,
            "layout": "DOMAIN/CLASS/FILE.jpg, and DOMAIN_train.txt and DOMAIN_test.txt with lines like "
            "'clipart/aircraft_carrier/clipart_001_000001.jpg 0'",
            "parts": "the official lists; 10 % of each class of the training list, by a fixed draw, are for validation",
            "images": {domain: dict(counts) for domain, counts in PUBLISHED.items()},
            "classes": CLASSES,
            "cache": f"{folder}/DOMAIN-SIDE.u8, of 3 SIDE^2 bytes an image",
            "check": f"equipoise data {cls.name} --data DIR",
            "licence": LICENCE,
            "citation": CITATION,
        }

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Look through a folder, image by image: see `check_domainnet`."""
        return check_domainnet(folder, progress)
