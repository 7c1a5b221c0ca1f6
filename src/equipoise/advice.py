"""Which balancing method to try first, and why: rules of thumb with their reasons, not a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Preference = Literal["cost", "balance", "no-conflict", "reference"]
PREFERENCES: dict[str, str] = {
    "cost": "one backward pass a step, whatever the number of tasks",
    "balance": "even progress of all tasks",
    "no-conflict": "no task's loss may rise to first order",
    "reference": "a baseline that any other method has to beat",
}
NO_ANSWER = (
    "Every question should have an answer. Found none: give --tasks, --roomy or --no-roomy, "
    "--missing-labels or --all-labels, and --prefer."
)
_MANY_TASKS = 10


@dataclass(frozen=True)
class Advice:
    """A method as it is written in commands, and why to try it."""

    method: str
    reason: str


def advise(n_tasks: int, *, roomy: bool, missing_labels: bool, prefer: Preference) -> list[Advice]:
    """What to try first, second and third, always with a reference to compare with.

    Args:
        n_tasks: the number of tasks or domains m.
        roomy: whether there is memory for m gradients of the shared parameters, and time for m backward passes.
        missing_labels: whether batches lack the labels of some tasks.
        prefer: a key of `PREFERENCES`.

    Returns:
        Up to four entries, the first choice first.

    Raises:
        ValueError: if there is nothing to balance, or the preference is unknown.
    """
    if n_tasks < 2:
        raise ValueError(f"The number of tasks should be at least 2 to be balanced. Found {n_tasks}.")
    if prefer not in PREFERENCES:
        raise ValueError(f"The preference should be one of {', '.join(PREFERENCES)}. Found {prefer!r}.")
    if prefer == "reference":
        return _references()
    first = (
        _by_gradients(n_tasks, prefer) if roomy and prefer != "cost" else _by_losses(n_tasks, missing_labels)
    )
    if prefer == "no-conflict" and not roomy:
        first = [
            Advice(
                "upgrad+every:steps=10",
                "only gradients tell of conflict; measured at every tenth step they cost little time, though the "
                "memory of m gradients is needed then; between those steps a loss may rise",
            ),
            *first,
        ]
    return [*first, _references()[0]]


def _by_losses(n_tasks: int, missing_labels: bool) -> list[Advice]:
    groups = 2 if n_tasks < _MANY_TASKS else 5
    go4align = Advice(
        f"go4align:groups={groups}",
        "one backward pass; evens out risks of different scale, and tasks with alike risks share a weight"
        + (f", which steadies {n_tasks} of them" if n_tasks >= _MANY_TASKS else ""),
    )
    famo = Advice(
        "famo",
        "one backward pass; lowers all losses at an alike relative rate; balancer.after_step(losses) is optional",
    )
    uw = Advice(
        "uw", "one backward pass; learns a weight per task; add balancer.parameters() to the optimizer"
    )
    if missing_labels:
        return [
            Advice(go4align.method, go4align.reason + "; an absent task's state goes on from its last loss"),
            Advice("uw", uw.reason + "; an absent task's weight rests"),
        ]
    return [go4align, famo]


def _by_gradients(n_tasks: int, prefer: Preference) -> list[Advice]:
    nash = Advice(
        "nashmtl" if n_tasks < _MANY_TASKS else "nashmtl+every:steps=10",
        "the same bargaining power for every task whatever its scale"
        + (
            "; solved at every tenth step, since each solve costs m backward passes"
            if n_tasks >= _MANY_TASKS
            else ""
        ),
    )
    if prefer == "no-conflict":
        upgrad = Advice("upgrad", "to first order no loss rises, and large gradients keep their say")
        mgda = Advice("mgda", "to first order no loss rises; slow where tasks disagree or differ in scale")
        return [upgrad, nash, mgda]
    return [nash, Advice("imtl_g", "equal projections on all task gradients, in closed form")]


def _references() -> list[Advice]:
    return [
        Advice("ls", "the plain sum, tuned with the same budget: on current evidence hard to beat"),
        Advice("si", "sum of log losses: takes the units out, for one line"),
        Advice("rlw", "random weights: a method that does not beat them has not balanced anything"),
    ]


def asked(
    tasks: int | None,
    roomy: bool | None,
    missing: bool | None,
    prefer: str | None,
    *,
    prompt: Callable[..., Any],
    confirm: Callable[..., bool],
) -> tuple[int, bool, bool, str]:
    """What the advice depends on; asks for what is None, by `prompt` for a value and by `confirm` for yes or no."""
    question = "Prefer " + "; ".join(f"{name} ({meaning})" for name, meaning in PREFERENCES.items())
    prefer = prefer or prompt(question, default="balance")
    tasks = prompt("How many tasks", type=int) if tasks is None else tasks
    roomy = confirm("Room and time for a gradient per task?") if roomy is None else roomy
    missing = confirm("Do batches lack labels of some tasks?") if missing is None else missing
    return tasks, roomy, missing, prefer
