"""The variants of questions that compare methods, sizes or planted groups."""

from __future__ import annotations

import random

from equipoise.core import MethodSpec

from .question import Arm, Contrast, Facts, Variant
from .variants import against, given, go, plain

SIZES = (2, 8, 32, 128, 512)
NOISES = (0.0, 0.5, 1.0, 2.0)
CANDIDATES = 6  # settings of each method that are tried before


def many_methods(facts: Facts) -> list[Variant]:
    """Methods that weigh very differently."""
    rows = plain("ls", "si", "rlw", "dwa", "uw", "famo", "mgda", "nashmtl")
    return [*rows, go("go4align", groups=facts.groups)]


def method_contrasts(facts: Facts) -> list[Contrast]:
    """Each against equal weights."""
    names = [row.name for row in many_methods(facts) if row.name != "ls"]
    return against("ls", names, "Is {} better than equal weights?")


def scaled(facts: Facts) -> list[Variant]:
    """Methods whose cost grows differently with the number of tasks."""
    k = min(5, facts.tasks)
    go4align = MethodSpec("go4align", {"groups": k})
    every = MethodSpec("go4align", {"groups": k}, (("every", {"steps": 10}),))
    return [
        *plain("ls", "famo"),
        Variant("go4align", go4align.label),
        go("go4align, no groups", clustering="none", groups=facts.tasks),
        Variant("go4align, every 10 steps", every.label),
        *plain("mgda"),
    ]


def sizes(facts: Facts) -> list[Arm]:
    """A run directory for each number of tasks."""
    del facts
    return [Arm(f"tasks-{count}", {"tasks": count, "groups": min(5, count)}, count) for count in SIZES]


def planted(facts: Facts) -> list[Variant]:
    """Found groups against none, known and random ones."""
    k = facts.groups
    known = [] if facts.known is None else [given("known groups", facts.known)]
    return [
        Variant("equal weights", "ls"),
        go("found", groups=k),
        go("no groups", clustering="none", groups=facts.tasks),
        *known,
        go("shuffled groups", groups=k, clustering="shuffled"),
    ]


def planted_contrasts(facts: Facts) -> list[Contrast]:
    """Whether groups help, found or known, and whether members matter."""
    del facts
    return [
        Contrast("Do the groups found help?", ("found",), ("no groups",)),
        Contrast("Do the known groups help?", ("known groups",), ("no groups",)),
        Contrast("Do members matter?", ("found",), ("shuffled groups",)),
        Contrast("Are the known groups better than those found?", ("known groups",), ("found",)),
    ]


def noises(facts: Facts) -> list[Arm]:
    """A run directory for each noise of the scales."""
    del facts
    return [Arm(f"noise-{noise:g}", {"noise": noise}, noise) for noise in NOISES]


def candidates(facts: Facts) -> list[str]:
    """Equally many settings of fixed weights, FAMO and GO4Align; the first of each is its default."""
    return [label for labels in _candidates(facts).values() for label in labels]


def _candidates(facts: Facts) -> dict[str, list[str]]:
    stream = random.Random(0)
    m, k = facts.tasks, facts.groups
    steps = (1e-4, 1e-3, 1e-2)
    counts = (k, m if k != m else max(m - 1, 1))
    fixed = [
        MethodSpec("constant", {"weights": [round(m * share, 4) for share in _simplex(stream, m)]}).label
        for _ in range(CANDIDATES - 1)
    ]
    famo = [(lr, decay) for lr in (0.025, 0.005, 0.1) for decay in (1e-5, 1e-3)]
    return {
        "fixed weights": [MethodSpec("constant", {"weights": [1.0] * m}).label, *fixed],
        "famo": [MethodSpec("famo", {"lr": lr, "weight_decay": decay}).label for lr, decay in famo],
        "go4align": [
            MethodSpec("go4align", {"groups": count, "step": step}).label for count in counts for step in steps
        ],
    }  # fmt: skip


def _simplex(stream: random.Random, m: int) -> list[float]:
    """A uniform draw from the simplex (m,)."""
    draws = [stream.expovariate(1.0) for _ in range(m)]
    return [draw / sum(draws) for draw in draws]


def tuned(facts: Facts) -> list[Variant]:
    """Equal weights, and of each method the setting that validated best."""
    rows = plain("ls")
    for name, labels in _candidates(facts).items():
        tried = [label for label in labels if label in facts.first]
        if tried:
            rows.append(Variant(f"{name}, tuned", min(tried, key=lambda label: facts.first[label].score)))
    return rows


def tuned_contrasts(facts: Facts) -> list[Contrast]:
    """The adaptive rules against equal and fixed weights, and against each other."""
    del facts
    go4align, famo, fixed = "go4align, tuned", "famo, tuned", "fixed weights, tuned"
    return [
        Contrast("Is go4align better than equal weights?", (go4align,), ("ls",)),
        Contrast("Is famo better than equal weights?", (famo,), ("ls",)),
        Contrast("Does go4align beat tuned fixed weights?", (go4align,), (fixed,)),
        Contrast("Does famo beat tuned fixed weights?", (famo,), (fixed,)),
        Contrast("Is go4align better than famo?", (go4align,), (famo,)),
        Contrast("Are tuned fixed weights better than equal ones?", (fixed,), ("ls",)),
    ]
