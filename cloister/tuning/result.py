"""What a tuning found: `tuning.json`, of which the page and the profile are views."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cloister import datafiles
from cloister.errors import TuningError
from cloister.loadtest.result import Estimate, Slo
from cloister.tuning.ceiling import Ceiling
from cloister.tuning.knobs import Space, Value
from cloister.tuning.trial import Trial

NAME = "tuning.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Turn(_Part):
    """Pages at a rate, `share` of the finalist's capacity, in open loop, on one of its starts."""

    start: int
    share: float
    rate: float
    pages_per_s: Estimate
    e2e_p95_s: float | None
    attainment: float
    met: bool
    report: str


class Finalist(_Part):
    """A configuration that was started again, as it would serve, by turns with the others.

    `pages_per_s` is the most that it served within the SLO, with the interval over its starts.
    """

    configuration: dict[str, Value]
    turns: tuple[Turn, ...]
    pages_per_s: Estimate


class Choice(_Part):
    """What is recommended; `winner` is false when no finalist was better and the safer is kept."""

    configuration: dict[str, Value]
    winner: bool
    why: str


class Tuning(_Part):
    """A tuning as a whole.

    `card` is the GPU's name, or the processor's cores; `memory_mib` its memory. `synthetic` tells
    that the weights are noise. `pruned` says which
    configurations were not tried and why. `ceiling` is the roofline's bound for the choice's pages.
    `complete` is false when the budget or Ctrl-C ended it before the search was through.
    """

    schema_version: Literal[1] = 1
    made_at: str
    command: str
    version: str
    machine: str
    runtime: str
    engine: str
    engine_version: str | None
    card: str
    memory_mib: int
    model: str
    synthetic: bool = False
    workload: str
    seed: int
    slo: Slo
    budget_s: float
    space: Space
    pruned: tuple[str, ...]
    trials: tuple[Trial, ...]
    finalists: tuple[Finalist, ...]
    choice: Choice | None
    ceiling: Ceiling | None
    complete: bool


def load(path: Path) -> Tuning:
    """Return a tuning by its folder or its tuning.json; raises TuningError when it is none."""
    file = path / NAME if path.is_dir() else path
    try:
        return Tuning.model_validate_json(datafiles.read_json(file))
    except (OSError, ValueError) as error:
        raise TuningError(f"`{file}` is no tuning: {str(error).splitlines()[0]}") from error
