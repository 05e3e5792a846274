"""What is to run and which replicas get pages, so that every command and the watchdog agree."""

import json
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloister import statefolder
from cloister.config import Settings
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.placement import Seat

# unproven: has to read a page first. cold: gets no more pages than it reads at once. serving: gets
# its share. draining: finishes what it has. sick: the watchdog took it out.
Standing = Literal["unproven", "cold", "serving", "draining", "sick"]


class Record(BaseModel):
    """A deployment: its settings, and the state of each replica.

    `cores` and `seats` are what it was planned with. `shares` are the replicas' weights while a
    canary is out, and `previous` are the settings to which a rollout would go back. `under_way` is
    the command that is changing it, or that was killed while it did. `taken` counts how often
    commands took each program in hand, so that the watchdog, which looks only now and then, does
    not take one that was replaced in between for one that died. `images` are the identities of the
    images that the containers were made of; a record of an older version has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: Settings
    cores: int
    seats: tuple[Seat, ...] = ()
    standings: dict[str, Standing] = Field(default_factory=dict)
    shares: dict[str, int] = Field(default_factory=dict)
    previous: Settings | None = None
    under_way: str | None = None
    taken: dict[str, int] = Field(default_factory=dict)
    images: dict[str, str] = Field(default_factory=dict)

    def moved(self, standings: dict[str, Standing]) -> "Record":
        """Return the record with replicas in another state."""
        return self.model_copy(update={"standings": {**self.standings, **standings}})

    def with_taken(self, names: Iterable[str]) -> "Record":
        """Return the record after a command has started shared programs again."""
        more = {name: self.taken.get(name, 0) + 1 for name in names}
        return self.model_copy(update={"taken": {**self.taken, **more}})

    def counted(self, before: "Record | None") -> "Record":
        """Return the record with the counts of the one before, and of whom this one takes."""
        were = before.standings if before else {}
        # A new record, such as a command's target, has none of the counts of the one before.
        earlier = before.taken if before else {}
        names = (*earlier, *self.taken)
        taken = {name: max(earlier.get(name, 0), self.taken.get(name, 0)) for name in names}
        for name, standing in self.standings.items():
            if standing in {"unproven", "draining"} and were.get(name) != standing:
                taken[name] = taken.get(name, 0) + 1
        return self.model_copy(update={"taken": taken})

    def serves(self, name: str) -> bool:
        """Tell whether a replica gets pages."""
        return self.standings.get(name) in {"serving", "cold"}


def wider(record: Record, other: Record) -> Record:
    """Return a record with the further replicas of another one, which has more; pure."""
    settings, count = record.settings, other.settings.replicas
    further = count - settings.replicas
    weights = settings.engines.weights and (*settings.engines.weights, *[1] * further)
    engines = settings.engines.model_copy(update={"weights": weights})
    wide = settings.model_copy(update={"replicas": count, "engines": engines})
    seats = record.seats and (*record.seats, *other.seats[settings.replicas :])
    return record.model_copy(update={"settings": wide, "seats": seats})


def write(record: Record) -> None:
    """Keep the record."""
    path = Layout(record.settings.state_dir).record
    write_atomically(path, record.model_dump_json(indent=2) + "\n", mode=0o600)


def read(settings: Settings) -> Record | None:
    """Return what is recorded in the settings' state folder, None when nothing is up.

    Raises DeploymentError when the record is damaged or of another version.
    """
    path = Layout(settings.state_dir).record
    statefolder.require_own(settings.state_dir)
    try:
        return Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError) as error:
        raise DeploymentError(
            f"`{path}` cannot be read: {str(error).splitlines()[0]}",
            hint="invoke down, then invoke up",
        ) from error


def erase(settings: Settings) -> None:
    """Forget the deployment, and what its watchdog saw: the next one's processes are others."""
    layout = Layout(settings.state_dir)
    layout.record.unlink(missing_ok=True)
    layout.watch.unlink(missing_ok=True)


def required(settings: Settings) -> Record:
    """Return the record; raises DeploymentError when nothing is up."""
    found = read(settings)
    if found is None:
        raise DeploymentError(f"nothing is up in `{settings.state_dir}`", hint="invoke up")
    return found
