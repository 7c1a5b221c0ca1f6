"""The variants of each question, as labels of methods that depend on the number of tasks and groups."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from equipoise.core import MethodSpec

from .question import Contrast, Facts, Variant

BETAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
DECAYS = (0.99, 0.9)
_MOST_K = 8  # values of k in a sweep


def go(name: str, *, x: float | None = None, **options: Any) -> Variant:
    """A variant of GO4Align."""
    return Variant(name, MethodSpec("go4align", options).label, x)


def plain(*labels: str) -> list[Variant]:
    """Methods that are called by their labels."""
    return [Variant(label, label) for label in labels]


def against(reference: str, names: Sequence[str], question: str) -> list[Contrast]:
    """Each name against one reference; `{}` in the question stands for the name."""
    return [Contrast(question.format(name), (name,), (reference,)) for name in names]


def grouping(facts: Facts) -> list[Variant]:
    """With and without groups, and groups that were not found in the indicators of the step."""
    k = facts.groups
    rows = [
        Variant("equal weights", "ls"),
        go("one group", groups=1),
        go("found", groups=k),
        go("no groups", clustering="none", groups=facts.tasks),
        go("shuffled groups", groups=k, clustering="shuffled"),
        go("random groups", groups=k, clustering="random"),
        go("shuffled indicators", groups=k, indicator="shuffled"),
    ]
    frozen = next((one.groups for one in facts.first.values() if one.groups), None)
    if frozen is not None:
        rows.append(given("frozen groups", frozen))
        rows.append(given("frozen random groups", _dealt(frozen)))
    if facts.known is not None:
        rows.append(given("known groups", facts.known))
    return rows


def _dealt(groups: Sequence[int]) -> list[int]:
    """Groups of the same sizes, dealt at random; not those that are given, if there are others."""
    draws = (random.Random(seed).sample(groups, len(groups)) for seed in range(20))
    return next((draw for draw in draws if draw != list(groups)), list(groups))


def given(name: str, groups: Sequence[int]) -> Variant:
    """A variant of GO4Align whose groups never change."""
    return go(name, groups=max(groups) + 1, clustering="given", assignment=list(groups))


def grouping_contrasts(facts: Facts) -> list[Contrast]:
    """What the groups owe to being there, to their sizes, to their members, and to being found anew."""
    del facts
    return [
        Contrast("Does grouping help, against a weight for each task?", ("found",), ("no groups",)),
        Contrast("Is it better than equal weights?", ("found",), ("equal weights",)),
        Contrast("Does one group do what equal weights do?", ("one group",), ("equal weights",)),
        Contrast("Do its members matter, or only its sizes?", ("found",), ("shuffled groups",)),
        Contrast("Is it better than random groups of equal size?", ("found",), ("random groups",)),
        Contrast("Does it matter which task has which weight?", ("found",), ("shuffled indicators",)),
        Contrast("Does finding the groups anew at each step help?", ("found",), ("frozen groups",)),
        Contrast(
            "Do members matter where the groups never change?", ("frozen groups",), ("frozen random groups",)
        ),
        Contrast("Would the known groups be better?", ("known groups",), ("found",)),
        Contrast("Do the known groups help, against a weight for each task?", ("known groups",), ("no groups",)),
    ]  # fmt: skip


def clustering(facts: Facts) -> list[Variant]:
    """Every way to group numbers."""
    kinds = ("kmeans", "spectral", "spectral-linear", "sdp", "agglomerative", "quantile")
    return [go(kind, groups=facts.groups, clustering=kind) for kind in kinds]


def indicator(facts: Facts) -> list[Variant]:
    """What tasks are grouped by, and the weights of other methods as indicators (Table 4 of the paper)."""
    kinds = ("risk", "loss", "rate", "grad_norm", "cosine", "random")
    rows = [go(kind, groups=facts.groups, indicator=kind) for kind in kinds]
    for base in ("mgda", "nashmtl", "famo"):
        grouped = MethodSpec(base, {}, (("grouped", {"groups": facts.groups}),)).label
        rows += [Variant(base, base), Variant(f"{base}, grouped", grouped)]
    return rows


def indicator_contrasts(facts: Facts) -> list[Contrast]:
    """Each against the risk, and each method against its grouped weights."""
    kinds = [row.name for row in indicator(facts)[1:6]]
    return [
        *against("risk", kinds, "Is {} a better indicator than the risk?"),
        *(
            Contrast(f"Does grouping the weights of {base} help?", (f"{base}, grouped",), (base,))
            for base in ("mgda", "nashmtl", "famo")
        ),
    ]


_PARTS = {"loss": "raw losses", "scale": "P", "smooth": "Q", "risk": "P and Q"}


def components(facts: Facts) -> list[Variant]:
    """Scale-balance P on or off, smooth-alignment Q on or off, groups on or off."""
    rows = [Variant("equal weights", "ls")]
    for part, name in _PARTS.items():
        rows.append(go(name, clustering="none", groups=facts.tasks, indicator=part))
        rows.append(go(f"{name}, grouped", groups=facts.groups, indicator=part))
    return rows


def component_contrasts(facts: Facts) -> list[Contrast]:
    """Main effects of the factorial, the effect of groups on the whole, and the whole against equal weights."""
    names = [row.name for row in components(facts)[1:]]
    p, q = _split(names, "P"), _split(names, "Q")
    grouped = _split(names, "grouped")
    return [
        Contrast("Does scale-balance P help (main effect)?", *p),
        Contrast("Does smooth-alignment Q help (main effect)?", *q),
        Contrast("Do groups help (main effect)?", *grouped),
        Contrast("Do groups help with P and Q?", ("P and Q, grouped",), ("P and Q",)),
        Contrast("Do groups help with P alone?", ("P, grouped",), ("P",)),
        Contrast("Are P, Q and groups better than P alone?", ("P and Q, grouped",), ("P",)),
        Contrast("Are P, Q and groups better than equal weights?", ("P and Q, grouped",), ("equal weights",)),
    ]


def _split(names: Sequence[str], word: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that have a word, and those that do not."""
    having = tuple(name for name in names if word in name.replace(",", "").split())
    return having, tuple(name for name in names if name not in having)


def beta(facts: Facts) -> list[Variant]:
    """The step size of Eq. 6, and logarithms of q that forget."""
    k = facts.groups
    return [
        *(go(f"beta {step:g}", groups=k, step=step, x=step) for step in BETAS),
        *(go(f"beta 0.0001, decay {decay:g}", groups=k, step=1e-4, decay=decay) for decay in DECAYS),
        *(go(f"beta 0.01, decay {decay:g}", groups=k, step=1e-2, decay=decay) for decay in DECAYS),
    ]


def beta_contrasts(facts: Facts) -> list[Contrast]:
    """Each against 1e-4, the value of the authors' code; forgetting against the same beta."""
    names = [row.name for row in beta(facts) if row.x is not None and row.x != 1e-4]
    forgetting = [
        Contrast(f"Is forgetting ({step}, decay {decay:g}) better?", (f"{step}, decay {decay:g}",), (step,))
        for step in ("beta 0.0001", "beta 0.01")
        for decay in DECAYS
    ]
    return [*against("beta 0.0001", names, "Is {} better than 1e-4?"), *forgetting]


def sweep_k(tasks: int) -> list[int]:
    """Numbers of groups from 1 to m: all of them up to 8, else 8 that are evenly spread on a logarithmic scale."""
    if tasks <= _MOST_K:
        return list(range(1, tasks + 1))
    return sorted({round(tasks ** (place / (_MOST_K - 1))) for place in range(_MOST_K)})


def k_sweep(facts: Facts) -> list[Variant]:
    """Every number of groups, and numbers that the gap statistic and BIC find at each step."""
    return [
        *(go(f"K = {k}", groups=k, x=k) for k in sorted({*sweep_k(facts.tasks), facts.groups})),
        go("K by gap", groups="auto", criterion="gap"),
        go("K by BIC", groups="auto", criterion="bic"),
    ]


def k_contrasts(facts: Facts) -> list[Contrast]:
    """The problem's number of groups against one, all, and those that are found."""
    own, all_groups = f"K = {facts.groups}", f"K = {facts.tasks}"
    others = {"K = 1": "one group", all_groups: "a group for each task"}
    return [
        *(
            Contrast(f"Is {own} better than {said}?", (own,), (name,))
            for name, said in others.items()
            if name != own
        ),
        *against(own, ("K by gap", "K by BIC"), f"Is {{}} better than {own}?"),
    ]
