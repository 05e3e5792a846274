"""In which order replicas are started, replaced and stopped, so that pages go on: pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cloister import placement
from cloister.deployment.plan import Plan
from cloister.engines import ENGINES
from cloister.placement import Seat
from cloister.runtimes import Changes


@dataclass(frozen=True)
class Step:
    """Replicas to which the same is done at once; after each step the others still read."""

    action: Literal["start", "replace", "stop"]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.action} {', '.join(self.names)}"


def steps(before: Plan | None, after: Plan, changes: Changes) -> tuple[Step, ...]:
    """Return what is to be done to the replicas, in this order; pure.

    Without cards: new ones first, then the changed ones each in its turn, and those that go last.
    On cards memory has to be free before it is taken: only new ones on cards of which nobody gives
    up any come first, and the others last. At each time only one on a card starts, because vLLM
    measures what the others have left to it. Where addresses move, nothing can go on meanwhile:
    everything is replaced at once.
    """
    # Replicas of other names, as earlier versions gave them, hold cards that nobody knows of.
    known = set(before.names) if before else set()
    strange = tuple(sorted(changes.removed - known, key=_number))
    first = [Step("stop", strange)] if strange else []
    going = tuple(sorted(changes.removed & known, key=_number))
    stop = [Step("stop", going)] if going else []
    replaced = [name for name in after.names if name in changes.changed]
    added = [name for name in after.names if name in changes.added]
    if before is not None and _moves(before, after):
        at_once = tuple(name for name in after.names if name in changes.changed)
        replace = [Step("replace", at_once)] if at_once else []
        return (*first, *stop, *replace, *_starts(after, added))
    one_by_one = [Step("replace", (name,)) for name in replaced]
    if ENGINES[after.engine].needs_gpu:
        free = [name for name in added if _cards(after)[name] not in _taken(before, after, changes)]
        late = [name for name in added if name not in free]
        return (*first, *_starts(after, free), *stop, *one_by_one, *_starts(after, late))
    return (*first, *_starts(after, added), *one_by_one, *stop)


def pauses(before: Plan | None, planned: tuple[Step, ...]) -> bool:
    """Tell whether there is a step at which no replica is left that gets pages; pure.

    Those that go get theirs until their own step.
    """
    if before is None:
        return False
    there = set(before.names)
    for step in planned:
        left = there if step.action == "start" else there - set(step.names)
        if not left:
            return True
        there = left if step.action == "stop" else there | set(step.names)
    return False


def _starts(planned: Plan, names: Iterable[str]) -> list[Step]:
    new = [replica for replica in planned.replicas if replica.name in set(names)]
    if not new:
        return []
    seats = [Seat(r.gpu, r.memory_percent or 0) for r in new if r.gpu is not None]
    if not seats:
        return [Step("start", tuple(replica.name for replica in new))]
    return [
        Step("start", tuple(new[index].name for index in wave)) for wave in placement.waves(seats)
    ]


def _cards(planned: Plan) -> dict[str, int | None]:
    return {replica.name: replica.gpu for replica in planned.replicas}


def _taken(before: Plan | None, after: Plan, changes: Changes) -> set[int | None]:
    """Return the cards on which replicas stop, or are replaced by others of another share."""
    places = (_cards(before) if before else {}, _cards(after))
    touched = changes.changed | changes.removed
    return {place[name] for place in places for name in touched if name in place}


def _moves(before: Plan, after: Plan) -> bool:
    """Tell whether an address is to be another's, or a name is to be at another address."""
    old = {replica.listener: replica.name for replica in before.replicas}
    places = {replica.name: replica.listener for replica in before.replicas}
    return any(
        old.get(replica.listener, replica.name) != replica.name
        or places.get(replica.name, replica.listener) != replica.listener
        for replica in after.replicas
    )


def _number(name: str) -> tuple[str, int]:
    family, _, number = name.rpartition("-")
    return family, int(number) if number.isdecimal() else 0
