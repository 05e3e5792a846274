"""Under which tags an image is published, and its annotations."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from cloister.errors import ImageError
from cloister.images.catalogue import LABEL, MODEL_LABEL, REVISION_LABEL, Image
from cloister.images.facts import MODEL

# The grammar of the distribution specification.
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_COMMIT_CHARACTERS, _MODEL_CHARACTERS = 12, 8
_NUMBERS = 3  # of a version
_ANNOTATED = (
    *("title", "description", "version", "created", "revision", "licenses"),
    *("base.name", "base.digest"),
)


class Tags(NamedTuple):
    """`fixed` tags name one image for ever, `moving` ones the newest release that fits."""

    fixed: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()


def tags(
    image: Image, facts: Mapping[str, str], version: str, revision: str, *, released: bool
) -> Tags:
    """Return the tags of an image that was built of the commit `revision`; pure.

    A commit gives `sha-` alone. A release adds its version, fixed, and what moves on with each
    release: `latest`, the version's beginnings, and `NAME-VALUE` for every fact, because the next
    build has the same nginx in other bytes. A pre-release moves nothing. An image with a model
    inside has a name of its own for each, so that it never takes the place of the one without.
    Raises ImageError for a commit or a version that is none, and for what cannot be a tag.
    """
    missing = [fact.name for fact in image.facts if fact.name not in facts]
    if missing:
        raise ImageError(f"{image.name} lacks the facts {', '.join(missing)}")
    if not _COMMIT.fullmatch(revision):
        raise ImageError(
            f"{image.name} was built of `{revision}`, which is no commit",
            hint="invoke images.build, in a checkout",
        )
    fixed, moving = [f"sha-{revision[:_COMMIT_CHARACTERS]}"], []
    if released:
        number = _version(version)
        fixed.append(version)
        if not number.is_prerelease:
            named = [f"{fact.name}-{facts[fact.name]}" for fact in image.facts]
            moving = ["latest", *_beginnings(number), *named]
    return _checked(image, _with_model(fixed, moving, facts.get(MODEL)))


def annotations(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return the OCI annotations of an image: those of its labels that are ours and say something.

    A label of a base stays out: it describes the base.
    """
    ours = (*(f"{LABEL}{key}" for key in _ANNOTATED), MODEL_LABEL, REVISION_LABEL)
    return {key: labels[key] for key in ours if labels.get(key)}


def _version(text: str) -> Version:
    """Return the version of a release as its numbers; one that is written otherwise is refused."""
    refused = ImageError(
        f"`{text}` is not the version of a release", hint="such as 1.4.0 or 1.5.0rc1"
    )
    try:
        number = Version(text)
    except InvalidVersion as error:
        raise refused from error
    odd = number.local or number.is_devrelease or number.is_postrelease or number.epoch
    if odd or str(number) != text or len(number.release) != _NUMBERS:
        raise refused
    return number


def _beginnings(number: Version) -> tuple[str, ...]:
    minor = f"{number.major}.{number.minor}"
    # Before 1.0 every minor version may break what was: `0` would promise what nobody keeps.
    return (minor, str(number.major)) if number.major else (minor,)


def _with_model(fixed: list[str], moving: list[str], revision: str | None) -> Tags:
    if revision is None:
        return Tags(tuple(fixed), tuple(moving))
    model = f"{MODEL}-{revision[:_MODEL_CHARACTERS]}"
    # `VERSION-model` is what `docker.baked` asks for. It may get another model one day.
    plain = [tag for tag in fixed if not tag.startswith("sha-")]
    moved = [f"{tag}-{MODEL}" for tag in (*plain, *moving)]
    return Tags(tuple(f"{tag}-{model}" for tag in fixed), (*moved, *([model] if moving else [])))


def _checked(image: Image, found: Tags) -> Tags:
    for tag in (*found.fixed, *found.moving):
        if not _TAG.fullmatch(tag):
            raise ImageError(
                f"`{tag}` of {image.name} cannot be a tag",
                hint="letters, digits, `_`, `.` and `-`, 128 at most",
            )
    return found
