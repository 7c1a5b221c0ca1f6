"""Office-31, Office-Home, or a folder of your own: one classifier, each folder of class folders a domain."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from equipoise.data.cache import data_root
from equipoise.data.images import MEND, can_read
from equipoise.data.listed_images import Reading, read_listed
from equipoise.data.office import CITATION, KNOWN, SOURCE, check_office, domain_names, find_domains
from equipoise.training.problem import Description
from equipoise.training.task import Task

from .colour_domains import ColourDomains, read_setup
from .colour_presets import OFFICE
from .domain_options import check_least
from .image_domains import chosen_domains, domain_tasks, full_marks, read_mixture

_WORKERS = 2


class Office(ColourDomains):
    """The same classes in several domains, found from the folder: the usual small sets of domain adaptation.

    Cross-entropy of each domain; metric: its accuracy in percent. Layout: see `equipoise.data.office`. There is no
    official split: see `equipoise.data.office.find_domains` for ours. Values: see `ColourDomains`. Images are decoded
    once at `side` x `side` pixels, the aspect ratio not kept. No published number belongs to this problem: with these
    data the field trains on one domain and tests on another, from pretrained networks.

    Args:
        data: the folder that holds the domains, or None for the default place, which `data` names.
        domains: names of some of its folders, in the order wanted, a list or separated by commas; None for all.
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
        skip_bad: leave out images whose file is damaged.
        workers: threads that read ahead.
        root: the folder of the caches, or None for the default one.
        progress: called with (done, total) while the images of a domain are decoded for the first time.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the domains have other classes, a file is bad, or an option is out of its range.
    """

    name: ClassVar[str] = "office"
    tasks: tuple[Task, ...] = ()  # those of an instance are its own; see `describe`
    reference: Mapping[str, float] = {}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = OFFICE

    def __init__(
        self,
        *,
        data: str | None = None,
        domains: str | Sequence[str] | None = None,
        images: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        side: int = 64,
        batch_size: int = 32,
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
        root: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        folder = data_root(self.name, data)
        known = domain_names(folder)
        names = chosen_domains(domains, known)
        check_least({"images": images, "validation": validation, "test": test})
        mixture = read_mixture(names, batch_size=batch_size, mixing=mixing, weights=weights, samples=samples)
        sizes = {"width": width, "depth": depth, "patch": patch}
        setup = read_setup(side=side, model=model, sizes=sizes, crop=crop, flip=flip, workers=workers)
        caps = {"train": images, "validation": validation, "test": test}
        own = f"{folder.name}-{zlib.crc32(str(folder.resolve()).encode()):08x}"  # of two folders with the same domains
        reading = Reading(side, caps, skip_bad, data_root(self.name, root) / own, progress)
        found = find_domains(folder, names)
        read = {name: read_listed(listed, reading) for name, listed in found.domains.items()}
        super().__init__(read, known, found.classes, mixture, setup)

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The domains of the folder, or those of them that the option `domains` names.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: on an unknown domain, one that comes twice, or none at all.
        """
        names = chosen_domains(options.get("domains"), domain_names(data_root(cls.name, options.get("data"))))
        return Description(domain_tasks(names), full_marks(names))

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Where such folders come from, what they have to look like, and whether one is in the default place."""
        folder = data_root(cls.name)
        facts: dict[str, Any] = {"available": True, "folder": str(folder)}
        try:
            facts["domains"] = domain_names(folder)
        except (FileNotFoundError, ValueError) as error:
            facts |= {"available": False, "problem": f"{error} Give another folder with --data."}
        if not can_read():
            facts |= {"available": False, "problem": MEND}
        return {
            **facts,
            "source": SOURCE,
            "layout": "DOMAIN/CLASS/*.jpg or DOMAIN/images/CLASS/*.jpg (or .jpeg, .png), with the same classes in all "
            "domains",
            "parts": "60, 20 and 20 % of each class of a domain, by a fixed draw; no official split exists",
            "images": {title: dict(counts) for title, counts in KNOWN.items()},
            "cache": f"{folder}/FOLDER/DOMAIN-SIDE.u8, of 3 SIDE^2 bytes an image",
            "check": f"equipoise data {cls.name} --data DIR",
            "licence": "none stated by its authors; see the pages of the data sets",
            "citation": CITATION,
        }

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        """Look through a folder, image by image: see `check_office`."""
        return check_office(folder, progress)
