"""images/images.lock.yaml: which bytes the tag of a base stood for, and since when."""

import datetime as dt
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import docker
import requests
import yaml
from docker.errors import APIError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cloister import datafiles
from cloister.config import project_root
from cloister.errors import CloisterError, ImageError
from cloister.files import write_atomically

FILE_NAME = "images.lock.yaml"
_HEADER = """\
# Written by `invoke images.lock --update`: every base of images.yaml with the digest that its tag
# had, and the day on which it was first seen there. Images are built from these bytes, whatever
# becomes of the tags; a base that is not in here is refused. The weekly workflow renews the file.
"""
_DIGEST = r"^sha256:[0-9a-f]{64}$"
_REFUSAL = 200  # characters of what a registry said


class Locked(BaseModel):
    """What a tag stood for: the digest of its index or manifest, first seen on `date`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    digest: str = Field(pattern=_DIGEST)
    date: dt.date


Lock = Mapping[str, Locked]
EMPTY: Lock = types.MappingProxyType({})
_LOCK = TypeAdapter(dict[str, Locked])


@dataclass(frozen=True)
class Entry:
    """One base: what is locked, what the registry has, or why that is not known."""

    base: str
    locked: Locked | None
    found: str | None = None
    unknown: str | None = None

    @property
    def state(self) -> Literal["locked", "newer", "missing", "unknown"]:
        """Whether it is locked, and whether the registry has something else by now."""
        if self.locked is None:
            return "missing"
        if self.found is None:
            return "unknown"
        return "locked" if self.found == self.locked.digest else "newer"


def path() -> Path:
    """Return where the lock is."""
    return project_root() / "images" / FILE_NAME


def read(file: Path | None = None) -> Lock:
    """Return what is locked, nothing where there is no file.

    Raises ImageError when the file is not what `write` writes.
    """
    file = file or path()
    try:
        return _LOCK.validate_python(datafiles.load_yaml(file) or {})
    except FileNotFoundError:
        return EMPTY
    except (OSError, ValueError) as error:
        raise ImageError(
            f"`{file}` is not a list of locked images: {_first(error)}",
            hint="restore it from version control, or remove it and run "
            "invoke images.lock --update",
        ) from error


def locked(base: str, lock: Lock) -> str:
    """Return the base with its digest; one that names a digest is locked as it is; pure.

    Raises ImageError when nobody knows the digest.
    """
    if "@" in base:
        return base
    if base not in lock:
        raise ImageError(
            f"the base `{base}` is not locked to a digest",
            hint="invoke images.lock --update, where its registry is reached; or --unlocked, to "
            "take what the tag stands for now",
        )
    return f"{base}@{lock[base].digest}"


def compared(bases: Iterable[str], lock: Lock, resolve: Callable[[str], str]) -> tuple[Entry, ...]:
    """Return every base with what is locked and what `resolve` finds now."""
    entries = []
    for base in dict.fromkeys(bases):
        if "@" in base:
            continue
        try:
            entries.append(Entry(base, lock.get(base), resolve(base)))
        except ImageError as error:
            entries.append(Entry(base, lock.get(base), unknown=error.message))
    return tuple(entries)


def updated(lock: Lock, entries: Iterable[Entry], today: dt.date) -> tuple[Lock, tuple[str, ...]]:
    """Return the new lock and what changed, a line each; pure.

    What did not change keeps its date, so that a file without news is the same file. Raises
    ImageError when the registry of one was not reached: half an update would look like a whole one.
    """
    new: dict[str, Locked] = {}
    changes = []
    for entry in entries:
        if entry.found is None:
            raise ImageError(
                f"{entry.unknown}; nothing was locked",
                hint="try again where the registry is reached",
            )
        old = entry.locked
        if old is not None and old.digest == entry.found:
            new[entry.base] = old
            continue
        new[entry.base] = Locked(digest=entry.found, date=today)
        was = f", was {old.digest} of {old.date}" if old else ""
        changes.append(f"{entry.base}: {entry.found}{was}")
    changes += [f"{base}: no base any more, removed" for base in lock if base not in new]
    return new, tuple(changes)


def render(lock: Lock) -> str:
    """Return the text of the file, sorted; pure."""
    if not lock:
        return f"{_HEADER}\n{{}}\n"
    lines = [
        yaml.safe_dump(
            {base: {"digest": lock[base].digest, "date": lock[base].date}},
            default_flow_style=None,
            sort_keys=False,
            width=1000,
        )
        for base in sorted(lock)
    ]
    return f"{_HEADER}\n{''.join(lines)}"


def write(lock: Lock, file: Path | None = None) -> None:
    """Write the file, whole or not at all."""
    try:
        write_atomically(file or path(), render(lock))
    except CloisterError as error:
        raise ImageError(error.message) from error


def resolver(client: docker.DockerClient) -> Callable[[str], str]:
    """Return a function that asks a tag's registry, through the engine, for its digest.

    It is that of the index where the image is there for several platforms. The function raises
    ImageError when the registry is not reached or refuses.
    """
    api = cast("Any", client.api)  # what it has beside containers and images is untyped

    def resolve(reference: str) -> str:
        try:
            return str(api.inspect_distribution(reference)["Descriptor"]["digest"])
        except APIError as error:
            said = str(error.explanation or error)
            raise ImageError(f"no digest of `{reference}`: {_short(said)}") from error
        except requests.RequestException as error:
            raise ImageError(f"no digest of `{reference}`: {_short(str(error))}") from error

    return resolve


def _short(text: str) -> str:
    return " ".join(text.split())[:_REFUSAL]


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}"
    return str(error).splitlines()[0]
