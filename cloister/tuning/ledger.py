"""What a tuning has on disk, so that one that was killed goes on where it was."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cloister import datafiles
from cloister.config import Settings
from cloister.errors import TuningError
from cloister.files import write_atomically
from cloister.folders import Folder
from cloister.hardware import Hardware
from cloister.layout import Layout
from cloister.loadtest.result import Slo
from cloister.tuning.knobs import Space, Value
from cloister.tuning.result import NAME, Turn
from cloister.tuning.trial import Trial

_BEGUN, _TRIAL, _TURN = "begun.json", "trial.json", "turn.json"
_LEVELS = 16
_TRIALS = TypeAdapter(Trial)


class Begun(BaseModel):
    """What a tuning was asked for, and what was up before it; `budget_s` is of all its sessions.

    `given` are configurations to be measured as they are, instead of a search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    base: Settings
    previous: Settings | None
    hardware: Hardware
    space: Space
    pruned: tuple[str, ...]
    given: tuple[dict[str, Value], ...]
    workload: str
    seed: int
    slo: Slo
    seconds: float
    first: int | None
    last: int | None
    processes: int
    starts: int
    turns: int
    budget_s: float


@dataclass(frozen=True)
class Ledger:
    """The folder of one tuning."""

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether it has its result."""
        return (self.folder / NAME).exists()

    def begin(self, begun: Begun) -> None:
        """Note what was asked for, in this folder and, by its hash, in the state folder."""
        content = (begun.model_dump_json(indent=2) + "\n").encode()
        write_atomically(self.folder / _BEGUN, content, mode=0o600)
        write_atomically(_mark(begun.base.state_dir, content), b"", mode=0o600)

    def require_own(self, state: Path) -> None:
        """Raise TuningError unless it was begun with this state folder, and has no links.

        A tuning's settings name programs to start, and its folder may come from somebody else.
        """
        if not (self.folder / _BEGUN).exists():
            raise self._no_tuning(f"it has no {_BEGUN}")
        with Folder.open(self.folder, TuningError) as folder:
            require_plain(folder)
            content = folder.read(_BEGUN, datafiles.JSON_BYTES)
        if not _mark(state, content).is_file():
            raise TuningError(
                f"`{self.folder}` was not begun with the state folder `{state}`, expected a tuning "
                "of this deployment; nothing of it was used",
                hint="go on with it where it was begun, with the same `state_dir`",
            )

    def begun(self) -> Begun:
        """Return what was asked for; raises TuningError when this folder is of no tuning."""
        path = self.folder / _BEGUN
        try:
            # Settings take text and numbers, not what pydantic makes of JSON by itself.
            return Begun.model_validate(datafiles.load_json(path))
        except (OSError, ValidationError, ValueError) as error:
            raise self._no_tuning(str(error).splitlines()[0]) from error

    def _no_tuning(self, why: str) -> TuningError:
        return TuningError(
            f"`{self.folder}` has no tuning to go on with: {why}", hint="nox -s tune begins one"
        )

    def trial_folder(self, number: int) -> Path:
        """Return where a trial's load tests are kept; the first is 1."""
        return self.folder / f"trial-{number:02}"

    def turn_folder(self, number: int) -> Path:
        """Return where the load tests of a finalist's start are kept; the first is 1."""
        return self.folder / f"final-{number:02}"

    def keep_trial(self, number: int, trial: Trial, version: str | None) -> None:
        """Keep a trial that is over, with the engine's version."""
        path = self.trial_folder(number) / _TRIAL
        write_atomically(path, _TRIALS.dump_json(trial, indent=2) + b"\n")
        if version:
            write_atomically(self.folder / "version", version)

    def trials(self) -> list[Trial]:
        """Return the trials that are over, in their order."""
        found, number = list[Trial](), 1
        while (path := self.trial_folder(number) / _TRIAL).exists():
            found.append(_TRIALS.validate_json(datafiles.read_json(path)))
            number += 1
        return found

    def version(self) -> str | None:
        """Return the engine's version, None while no engine told it."""
        path = self.folder / "version"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def keep_turns(self, number: int, turns: tuple[Turn, ...]) -> None:
        """Keep what a finalist's start served."""
        path = self.turn_folder(number) / _TURN
        write_atomically(path, TypeAdapter(tuple[Turn, ...]).dump_json(turns, indent=2) + b"\n")

    def turns(self, number: int) -> tuple[Turn, ...] | None:
        """Return what a finalist's start served, None when it was not started yet."""
        path = self.turn_folder(number) / _TURN
        if not path.exists():
            return None
        return TypeAdapter(tuple[Turn, ...]).validate_json(datafiles.read_json(path))


def require_plain(folder: Folder, *, levels: int = _LEVELS) -> None:
    """Raise TuningError for links, devices, and what is another user's or others may change.

    Paths below it may then be opened without it: nobody else can change what they lead to.
    """
    if os.fstat(folder.fileno()).st_mode & stat.S_IWOTH:
        raise TuningError(
            f"`{folder.path}` is everybody's to write into, expected a folder of this user",
            hint=f"chmod o-w {folder.path}",
        )
    if not levels:
        raise TuningError(f"`{folder.path}` is deeper than {_LEVELS} levels of folders")
    for name in folder.names():
        about = folder.find(name)
        if about is not None and stat.S_ISDIR(about.st_mode):
            with folder.sub(name) as inner:
                require_plain(inner, levels=levels - 1)
        else:
            folder.has_own_file(name)


def _mark(state: Path, content: bytes) -> Path:
    return Layout(state).tunings / hashlib.sha256(content).hexdigest()


def last_unfinished(reports: Path) -> Ledger:
    """Return the last tuning in a folder that has no result; raises TuningError for none."""
    found = [Ledger(path.parent) for path in sorted(reports.glob(f"*/{_BEGUN}"))]
    left = [ledger for ledger in found if not ledger.finished]
    if not left:
        raise TuningError(
            f"no tuning in `{reports}` is unfinished", hint="--resume FOLDER names another"
        )
    return left[-1]
