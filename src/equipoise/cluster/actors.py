"""Actors of Ray that take one task after another, on this machine or a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .connection import ClusterError, Place, connect, variables

_LOOK_SECONDS = 60.0  # that a worker may take to start before something is said or done about it


@dataclass(frozen=True)
class Ended:
    """How a task of an actor has ended.

    Args:
        task: as it was submitted.
        value: what came of it.
        died: whether the actor died over it, alone or with its node, so that nothing came of it.
    """

    task: Any
    value: Any = None
    died: bool = False


@dataclass(eq=False)
class _Hand:
    """An actor, what is done once it has started, and its task."""

    actor: Any
    started: Any
    task: Any = None
    question: Any = None


class Actors:
    """At most `place.workers` actors, started when there is a task for them and used again; Ray is started or joined.

    Args:
        kind: the class of the actors; its method `work(task)` does a task. Must be importable where they run.
        arguments: of the class.
        place: where they work.
        say: told what the user should know.
        concurrency: calls of methods that an actor takes at a time; `ask` needs 2.

    Raises:
        ClusterError: if Ray is not installed, the cluster cannot be reached, or this machine lacks the GPUs.
    """

    def __init__(
        self,
        kind: type,
        arguments: tuple[Any, ...],
        place: Place,
        say: Callable[[str], None] = lambda text: None,
        *,
        concurrency: int = 1,
    ) -> None:
        self._ray = connect(place)
        self._place = place
        needs = {"num_cpus": place.cpus, "num_gpus": place.gpus, "max_concurrency": concurrency}
        self._actor = self._ray.remote(**needs, runtime_env={"env_vars": variables(place)})(kind)
        self._arguments = arguments
        self._say = say
        self._most = place.workers
        self._idle: list[_Hand] = []
        self._running: dict[Any, _Hand] = {}
        self._looked = time.monotonic()

    @property
    def running(self) -> list[Any]:
        """The tasks under way."""
        return [hand.task for hand in self._running.values()]

    @property
    def room(self) -> int:
        """How many more tasks there is room for."""
        return self._most - len(self._running)

    def submit(self, task: Any) -> None:
        """Give a task to an actor that has none, or to a new one."""
        if self._idle:
            hand = self._idle.pop()
        else:
            actor = self._actor.remote(*self._arguments)
            hand = _Hand(actor, actor.__ray_ready__.remote())
            self._looked = time.monotonic()
        hand.task = task
        self._running[hand.actor.work.remote(task)] = hand

    def ended(self, timeout: float | None = None) -> Iterator[Ended]:
        """The tasks that end within so many seconds, as soon as there is one; None waits for it.

        Raises:
            ClusterError: if an actor could not start.
            Exception: the task's own.
        """
        since = time.monotonic()
        while self._running:
            left = _LOOK_SECONDS if timeout is None else max(0.0, since + timeout - time.monotonic())
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=min(left, _LOOK_SECONDS))
            for one in done:
                yield self._end(one)
            if done or (timeout is not None and time.monotonic() - since >= timeout):
                break
            self._look()
        self._look()

    def ask(self, method: str) -> Iterator[tuple[Any, Any]]:
        """Call a method of every actor at work; gives (task, answer) for earlier calls that are answered by now."""
        hands = [hand for hand in [*self._idle, *self._running.values()] if hand.question is not None]
        for hand in hands:
            if self._ray.wait([hand.question[1]], timeout=0)[0]:
                (task, answer), hand.question = hand.question, None
                try:
                    yield task, self._ray.get(answer)
                except self._ray.exceptions.RayError:
                    continue  # the actor has died, which its task tells
        for hand in self._running.values():
            if hand.question is None:
                hand.question = (hand.task, getattr(hand.actor, method).remote())

    def tell(self, method: str) -> None:
        """Call a method of every actor at work, and wait for nothing."""
        for hand in self._running.values():
            getattr(hand.actor, method).remote()

    def close(self) -> None:
        """Let all actors go, with what they are at, and Ray as well."""
        self._let_go()
        self._running.clear()
        self._ray.shutdown()

    def _end(self, done: Any) -> Ended:
        errors = self._ray.exceptions
        hand = self._running.pop(done)
        try:
            value = self._ray.get(done)
        except (errors.RayActorError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            if "creation task" in str(error):  # it could not begin, and no other would
                raise ClusterError(f"A worker should be able to start. {error}") from error
            self._ray.kill(hand.actor)  # it may be alive where only its node could not be reached
            self._let_go()  # idle ones may have died with it, and would take tasks with them
            return Ended(hand.task, died=True)
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        self._idle.append(hand)
        return Ended(hand.task, value)

    def _look(self) -> None:
        """Idle actors make room where one cannot start, as on a cluster that has lost a node."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        hands = list(self._running.values())
        waiting = [hand for hand in hands if not self._ray.wait([hand.started], timeout=0)[0]]
        if waiting and self._idle:
            self._most = max(self._most - 1, 1)
            self._say(f"There is no room for another worker; {self._most} go on.")
            self._let_go()
        elif waiting and len(waiting) == len(hands):
            free = {name: self._ray.available_resources().get(name, 0) for name in ("CPU", "GPU")}
            self._say(
                f"No worker has started for a minute. Each takes {self._place.cpus:g} CPUs and {self._place.gpus:g} "
                f"GPUs; free are {free['CPU']:g} CPUs and {free['GPU']:g} GPUs in all. Still waiting."
            )

    def _let_go(self) -> None:
        for hand in self._idle:
            self._ray.kill(hand.actor)
        self._idle.clear()
