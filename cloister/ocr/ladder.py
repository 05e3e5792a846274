"""What is tried next with a page that was not read: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloister.ocr.judging import Kind


@dataclass(frozen=True)
class Step:
    """How a page is asked for: the least temperature, the share of its resolution, its pieces."""

    temperature: float = 0.0
    scale: float = 1.0
    pieces: int = 1


FIRST = Step()
# A loop needs other words or another picture, a cut text less of the page, a page that was taken
# for an empty one another picture. That is a smaller one first: a model that shrinks pages would
# make the same of a larger one. What a broken engine says changes by itself.
_STEPS: Mapping[Kind, Sequence[Step]] = {
    "loop": (Step(0.2), Step(0.4, 0.75), Step(0.2, 1, 2)),
    "truncated": (Step(0, 1, 2), Step(0.2, 1, 2)),
    "empty": (Step(0, 0.75), Step(0.4, 1.5), Step(0, 1, 2)),
    "garbage": (Step(0.2), Step(0.2, 0.75), Step(0, 1, 2)),
    "refusal": (Step(0.2), Step(0.4, 0.75), Step(0, 1, 2)),
    "too large": (Step(0, 0.5), Step(0, 0.25)),
    "engine": (FIRST, FIRST, FIRST),
    "torn": (),
    "rejected": (),
}


def following(kind: Kind, tried: Sequence[Step], *, attempts: int, samples: bool) -> Step | None:
    """Return the step after those that were tried, None when there is none left.

    `attempts` is the most steps of a page. Where the engine does not sample, other temperatures
    are the same attempt again.
    """
    if len(tried) >= attempts:
        return None
    done = list(tried)
    for step in _STEPS[kind]:
        same = [one for one in done if _alike(one, step, samples=samples)]
        if not same:
            return step
        done.remove(same[0])  # what stands on a ladder twice is tried twice
    return None


def _alike(one: Step, other: Step, *, samples: bool) -> bool:
    pictures = (one.scale, one.pieces) == (other.scale, other.pieces)
    return pictures and (not samples or one.temperature == other.temperature)
