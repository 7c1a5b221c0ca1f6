"""The questions that `equipoise study NAME` answers, by name."""

from __future__ import annotations

from collections.abc import Mapping

from . import variants as rows
from . import variants_methods as methods
from .question import Facts, Question


def _found_once(facts: Facts) -> list[str]:
    return [rows.go("found", groups=facts.groups).label]


def _against_kmeans(kind: str) -> str:
    return f"Is {kind} better than exact k-means?"


_ALL = (
    Question(
        "grouping",
        (1, 2, 8, 13),
        "Does grouping help, and what about it?",
        "GO4Align with the groups that it finds, without groups, with groups of the same sizes dealt to the tasks at "
        "random in each step, with random groups, with indicators dealt at random (the right weights on the wrong "
        "tasks), and with frozen groups: those that another run, of a seed that the study does not use, had most often "
        "in the second half of its training. Frozen random groups have the same sizes. Known groups are those that the "
        "problem planted or `--known` gives.",
        rows.grouping,
        rows.grouping_contrasts,
        first=_found_once,
        least_tasks=3,
        looks=frozenset({"groups"}),
    ),
    Question(
        "clustering",
        (3,),
        "Does it matter how numbers are put into groups?",
        "Exact k-means is the optimum of the paper's lower problem, which Lloyd's iteration approaches. The others "
        "solve another problem, or approximate this one. None has a setting that was tuned.",
        rows.clustering,
        lambda facts: [
            contrast
            for row in rows.clustering(facts)[1:]
            for contrast in rows.against("kmeans", (row.name,), _against_kmeans(row.name))
        ],
        least_tasks=3,
        looks=frozenset({"groups", "cost"}),
    ),
    Question(
        "indicator",
        (4,),
        "What should tasks be grouped by?",
        "The risk (gamma = P Q), the loss, its rate, the norm of the task gradient, its cosine to the mean "
        "gradient, and random numbers; and the weights of other methods as indicators, as in Table 4 of the paper. "
        "Features of the last shared layer: add --set memory=features.",
        rows.indicator,
        rows.indicator_contrasts,
        least_tasks=3,
        looks=frozenset({"groups", "cost"}),
    ),
    Question(
        "components",
        (6,),
        "Which part of GO4Align does the work: P, Q, or the groups?",
        "The full factorial: scale-balance P (Eq. 5) on or off, smooth-alignment Q (Eq. 6) on or off, groups on or "
        "off. With both off the raw losses are the indicator. A main effect is the mean over the four pairs of "
        "variants that differ in that part alone.",
        rows.components,
        rows.component_contrasts,
        least_tasks=3,
    ),
    Question(
        "beta",
        (16,),
        "How much does the step size beta matter, and should q forget?",
        "beta of Eq. 6 from 1e-6 to 1e-1, and log q times a decay at each step, which the published form does not "
        "have.",
        rows.beta,
        rows.beta_contrasts,
        least_tasks=3,
        looks=frozenset({"sweep"}),
    ),
    Question(
        "k",
        (1, 15),
        "How many groups, and can the number be found without trying all?",
        "K from 1 (equal weights) to m (no groups), and the number that the gap statistic or a Bayesian information "
        "criterion finds in the indicators of each step. The elbow of the curve is the K that is farthest below the "
        "line from its first to its last point, as Fig. 6 of the GO4Align paper is read.",
        rows.k_sweep,
        rows.k_contrasts,
        least_tasks=3,
        looks=frozenset({"sweep", "groups"}),
    ),
    Question(
        "scaling",
        (5,),
        "What does it cost with 2 to 512 tasks?",
        "Time and memory of a step on synthetic tasks, as ratios to equal weights, and the share of GO4Align's step "
        "that is its grouping, timed alone. A few steps each: nothing is learnt, and scores mean nothing.",
        methods.scaled,
        lambda facts: [],
        arms=methods.sizes,
        option="tasks",
        problem="synthetic",
        looks=frozenset({"memory"}),
    ),
    Question(
        "convergence",
        (10, 12),
        "Do methods whose tasks converge together have better scores?",
        "Methods that weigh very differently; for each run the convergence difference (standard deviation over "
        "tasks of the epoch of convergence), and how the shares of the risks move, before and after they are "
        "weighted.",
        methods.many_methods,
        methods.method_contrasts,
        looks=frozenset({"convergence", "cost"}),
    ),
    Question(
        "tuned",
        (7, 9, 17),
        "Do adaptive rules beat fixed weights that were tuned as much?",
        "Of fixed weights, FAMO and GO4Align six settings each are trained on the first seed; the one that "
        "validates best is trained on the others. Equal weights have no setting but the learning rate, which `--lr` "
        "gives all of them.",
        methods.tuned,
        methods.tuned_contrasts,
        first=methods.candidates,
        first_seed="same",
        looks=frozenset({"choice"}),
    ),
    Question(
        "planted",
        (8,),
        "Are planted groups found, and does it help?",
        "Tasks in known groups, whose scales get noisier from arm to arm until the groups overlap: how far the groups "
        "found agree with the planted ones, and whether found, known or no groups are better.",
        methods.planted,
        methods.planted_contrasts,
        arms=methods.noises,
        option="noise",
        problem="synthetic",
        least_tasks=3,
        looks=frozenset({"groups"}),
    ),
)  # fmt: skip
QUESTIONS: Mapping[str, Question] = {question.name: question for question in _ALL}
"""Name -> question."""
