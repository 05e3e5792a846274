"""What was found for a card: a file in tuned/, which `invoke up` takes and `invoke plan` reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cloister import config, datafiles
from cloister.datafiles import DataError
from cloister.errors import TuningError
from cloister.files import write_atomically
from cloister.loadtest.result import Estimate, Slo
from cloister.tuning import search
from cloister.tuning.result import Tuning


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pages(_Part):
    """The workload that was served, and what a page of it has in the mean."""

    workload: str
    prompt_tokens: float
    output_tokens: float


class Point(_Part):
    """One number of clients of the curve."""

    clients: int
    pages_per_s: float
    e2e_p95_s: float | None


class Profile(_Part):
    """Settings for one card, one model and one engine, and what they serve on it.

    `memory_mib` is the card's, or for a profile of no card in particular (`card` is null) the
    least that a card needs for it. `pages_per_s` is of one card within the SLO, an estimate by the
    roofline when `measured` is false. `settings` are sections of cloister.yaml.
    """

    card: str | None
    memory_mib: int
    model: str
    engine: str
    engine_version: str | None
    measured: bool
    made_at: str | None = None
    command: str | None = None
    why: str
    limit: str | None = None
    slo: Slo
    pages: Pages
    pages_per_s: Estimate
    curve: tuple[Point, ...] = ()
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def class_gb(self) -> int:
        """The size by which a class of cards is called: rounded up to the 8 GiB they come in."""
        return -(-self.memory_mib // 8192) * 8


def folder() -> Path:
    """Return where the profiles lie."""
    return config.project_root() / "tuned"


def of(tuning: Tuning, settings: Mapping[str, Any]) -> Profile:
    """Return the profile of a tuning that has a choice; `settings` are keys of cloister.yaml."""
    choice, kept = tuning.choice, search.recommend(tuning.trials, tuning.space)
    if choice is None or kept is None or kept.trial.best is None:
        raise TuningError("nothing was found that could be kept")
    finalists = [one for one in tuning.finalists if one.configuration == choice.configuration]
    rung = kept.trial.best
    return Profile(
        card=tuning.card,
        memory_mib=tuning.memory_mib,
        model=tuning.model,
        engine=tuning.engine,
        engine_version=tuning.engine_version,
        measured=True,
        made_at=tuning.made_at,
        command=tuning.command,
        why=choice.why,
        limit=kept.trial.limit,
        slo=tuning.slo,
        pages=Pages(
            workload=tuning.workload,
            prompt_tokens=round(rung.prompt_tokens),
            output_tokens=round(rung.output_tokens),
        ),
        pages_per_s=finalists[0].pages_per_s if finalists else rung.pages_per_s,
        curve=tuple(
            Point(clients=one.clients, pages_per_s=one.pages_per_s.value, e2e_p95_s=one.e2e_p95_s)
            for one in kept.trial.rungs
        ),
        settings=_sections(settings),
    )


def _sections(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, rest = key.partition(".")
        found.setdefault(section, {})[rest] = value
    return found


def name(profile: Profile) -> str:
    """Return a profile's file name: card, model, and the engine's version."""
    card = profile.card or f"{profile.class_gb}gb"
    model = profile.model.rpartition("/")[2]
    parts = (card, model, profile.engine_version or "unmeasured")
    return "--".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in parts)


def write(profile: Profile, into: Path) -> Path:
    """Write a profile into a folder under its own name; return its file."""
    path = into / f"{name(profile)}.yaml"
    said = "measured" if profile.measured else "estimated, not measured"
    text = yaml.safe_dump(
        profile.model_dump(mode="json", exclude_none=True), sort_keys=False, width=100
    )
    head = f"# Settings for this card, {said}: `invoke up` takes them where nothing else is set.\n"
    into.mkdir(parents=True, exist_ok=True)
    write_atomically(path, head + text)
    return path


def read(path: Path) -> Profile:
    """Return a profile; raises TuningError for a file that is none."""
    try:
        found = datafiles.load_yaml(path)
        return Profile.model_validate({"card": None, "engine_version": None, **found})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TuningError(f"`{path}`: `{place}`: {first['msg']}") from error
    except (OSError, TypeError, DataError) as error:
        reason, hint = " ".join(str(error).split()), getattr(error, "hint", None)
        raise TuningError(f"`{path}` cannot be read: {reason}", hint=hint) from error
