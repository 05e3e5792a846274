"""Which of the profiles in tuned/ is a card's, by its name or by its memory."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cloister import config, gpus
from cloister.config import Settings
from cloister.errors import TuningError
from cloister.tuning import profile
from cloister.tuning.profile import Profile

Shelf = Mapping[str, Profile]


def shelf(folder: Path | None = None) -> Shelf:
    """Return the profiles of a folder, tuned/ unless told, by their files' names."""
    files = sorted((folder or profile.folder()).glob("*.yaml"))
    return {file.stem: profile.read(file) for file in files}


def choose(profiles: Shelf, cards: Sequence[gpus.Card], text: str | None = None) -> str:
    """Return the name of the profile of a card named by a part of its name, or of the first here.

    A measured one goes before one that is not, then the newest. Raises TuningError when there is
    none, or when there are several that differ in card, model or engine.
    """
    if text is not None:
        found = _named(profiles, text)
        wanted = f"a card like `{text}`"
    elif cards:
        found = for_card(profiles, cards[0])
        wanted = f"{cards[0].name}, {cards[0].memory_mib:,} MiB"
    else:
        raise TuningError("this machine has no GPU to plan for", hint=_known(profiles))
    if not found:
        raise TuningError(f"tuned/ has no profile for {wanted}", hint=_known(profiles))
    kinds = {(_card(name), profiles[name].model, profiles[name].engine) for name in found}
    if len(kinds) > 1:
        _refuse_several(wanted, found)
    return max(
        found, key=lambda name: (profiles[name].measured, profiles[name].made_at or "", name)
    )


def for_card(profiles: Shelf, card: gpus.Card) -> tuple[str, ...]:
    """Return the names of a card's own profiles; without one, those of the class it belongs to."""
    own = tuple(name for name, one in profiles.items() if one.card == card.name)
    classes = {
        name: one.memory_mib
        for name, one in profiles.items()
        if one.card is None and one.memory_mib <= card.memory_mib
    }
    best = max(classes.values(), default=0)
    return own or tuple(name for name, memory_mib in classes.items() if memory_mib == best)


def settings(chosen: Profile) -> Settings:
    """Return the settings that a profile asks for, over the defaults; raises ConfigError."""
    own = (
        f"{section}.{key}={_text(value)}"
        for section, keys in chosen.settings.items()
        for key, value in keys.items()
    )
    flags = (f"model.name={chosen.model}", f"engine={chosen.engine}", *own)
    return config.load(flags=flags, environ={config.CONFIG_VARIABLE: os.devnull}).settings


def _named(profiles: Shelf, text: str) -> tuple[str, ...]:
    words = _words(text)
    exact = tuple(name for name in profiles if _words(_card(name)) == words)
    return exact or tuple(name for name in profiles if words and _has(_words(_card(name)), words))


def _has(own: Iterable[str], words: Iterable[str]) -> bool:
    """Tell whether every word begins one of a card's own: `a100 40` is NVIDIA A100-SXM4-40GB."""
    return all(any(mine.startswith(word) for mine in own) for word in words)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _card(name: str) -> str:
    return name.partition("--")[0]


def _known(profiles: Shelf) -> str:
    cards = ", ".join(dict.fromkeys(_card(name) for name in profiles))
    return f"`--card` takes a part of {cards}" if cards else "`--profile FILE`"


def _refuse_several(wanted: str, found: Sequence[str]) -> NoReturn:
    raise TuningError(
        f"{len(found)} profiles are for {wanted}: {', '.join(found)}",
        hint=f"more of the card's name, or `--profile tuned/{found[0]}.yaml`",
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
