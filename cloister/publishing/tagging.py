"""Which tags to set: those that stay are never moved, those that move never go back; pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from cloister.errors import PublishError
from cloister.images import Tags

_RELEASE = re.compile(r"\d+\.\d+\.\d+", re.ASCII)
_BEGINNING = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Decision:
    """Tags to `write`, in order, those that are there (`kept`) and those of something newer."""

    write: tuple[str, ...]
    kept: tuple[str, ...]
    held: tuple[str, ...]


def decide(
    tags: Tags, digest: str, present: Mapping[str, str | None], there: Iterable[str], version: str
) -> Decision:
    """Return what to do about each tag, given what each stands for and all tags that are there.

    Raises PublishError for a tag that stays and stands for something else.
    """
    for tag in tags.fixed:
        require_free(tag, present.get(tag), digest)
    newer = [Version(each) for each in there if _RELEASE.fullmatch(each)]
    newer = [each for each in newer if each > Version(version)]
    held = tuple(tag for tag in tags.moving if _is_older(tag, newer, present))
    wanted = [tag for tag in (*tags.fixed, *tags.moving) if tag not in held]
    kept = tuple(tag for tag in wanted if present.get(tag) == digest)
    return Decision(tuple(tag for tag in wanted if tag not in kept), kept, held)


def require_free(tag: str, found: str | None, digest: str) -> None:
    """Raise PublishError for a tag that stays, when something else has it."""
    if found not in {None, digest}:
        raise PublishError(
            f"the tag `{tag}` stays, and is there for {found}; this one is {digest}",
            hint="publish under a new version, or look who put that there",
        )


def apply(
    decision: Decision, fixed: Iterable[str], digest: str, look: Callable[[str], str | None]
) -> Iterator[str]:
    """Yield each tag to write, having looked again at one that stays: a registry has no locks."""
    staying = set(fixed)
    for tag in decision.write:
        if tag in staying:
            require_free(tag, look(tag), digest)
        yield tag


def _is_older(tag: str, newer: Iterable[Version], present: Mapping[str, str | None]) -> bool:
    """Tell whether a newer release has a tag, or may have it."""
    if _BEGINNING.fullmatch(tag):
        numbers = tuple(map(int, tag.split(".")))
        return any(each.release[: len(numbers)] == numbers for each in newer)
    # Of `latest` that is certain. A fact's tag (`nginx-1.26.3`) that nobody has is free.
    return any(newer) and (tag == "latest" or present.get(tag) is not None)
