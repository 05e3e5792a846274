"""Tuned settings: what `nox -s tune` found for a card and a model, one file each in tuned/.

A file's `settings` are a part of cloister.yaml that lies under the user's own sources and over the
model's profile. Of those for the configured model and engine the last holds that was made on such a
card, else the one for cards of the nearest smaller memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloister import datafiles
from cloister.config.fields import project_root
from cloister.config.keys import leaves
from cloister.config.sources import Reading
from cloister.config.yamlfile import read_part
from cloister.datafiles import DataError
from cloister.errors import ConfigError

FOLDER = "tuned"
_PART = "settings"


class Hardware(Protocol):
    """What an engine runs on."""

    @property
    def name(self) -> str:
        """By which a profile names it."""

    @property
    def memory_mib(self) -> int:
        """All its memory."""

    @property
    def gpu(self) -> bool:
        """Whether it is a card: a processor belongs to no class of cards."""


Ask = Callable[[str], Hardware | None]  # an engine's hardware, None where it has none here


@dataclass(frozen=True)
class _Found:
    path: Path
    card: str | None
    memory_mib: int
    made_at: str


def apply_tuned(reading: Reading, ask: Ask) -> None:
    """Put the tuned values for this hardware under those that were read.

    The hardware is asked for only where a file is for the configured model and engine. Raises
    ConfigError for a file that is no profile.
    """
    model = str(reading.values.get("model.name", leaves()["model.name"].default))
    engine = str(reading.values.get("engine", leaves()["engine"].default))
    fitting = list(_fitting(model, engine))
    hardware = ask(engine) if fitting else None
    chosen = _choose(fitting, hardware) if hardware else None
    if chosen is None:
        return
    tuned = Reading()
    read_part(tuned, chosen, _PART)
    reading.problems += tuned.problems
    for key, value in tuned.values.items():
        if key not in reading.values:
            reading.put(key, value, tuned.origins[key])


def _choose(fitting: list[_Found], hardware: Hardware) -> Path | None:
    same = [one for one in fitting if one.card == hardware.name]
    if same:
        return max(same, key=lambda one: (one.made_at, one.path.name)).path
    if not hardware.gpu:
        return None
    smaller = [one for one in fitting if not one.card and one.memory_mib <= hardware.memory_mib]
    return max(smaller, key=lambda one: one.memory_mib).path if smaller else None


def _fitting(model: str, engine: str) -> Iterator[_Found]:
    for path in sorted((project_root() / FOLDER).glob("*.yaml")):
        try:
            found = datafiles.load_yaml(path)
            theirs = found["model"], found["engine"]
            made_at = str(found.get("made_at", ""))
            one = _Found(path, found.get("card"), int(found["memory_mib"]), made_at)
        except (OSError, DataError) as error:
            reason, hint = " ".join(str(error).split()), getattr(error, "hint", None)
            raise ConfigError(f"`{path}` cannot be read: {reason}", hint=hint) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"`{path}` is no profile of `nox -s tune`: it lacks {error}",
                hint="remove it, or tune again",
            ) from error
        if theirs[0] == model and engine in {"auto", theirs[1]}:
            yield one
