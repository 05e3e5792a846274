"""What a tuning has on disk, so that one that was killed goes on where it was."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from cloister import datafiles, statefolder
from cloister.config import Settings
from cloister.errors import TuningError
from cloister.files import write_atomically
from cloister.folders import Folder, shown
from cloister.hardware import Hardware
from cloister.layout import Layout
from cloister.loadtest.result import Slo
from cloister.tuning.knobs import Space, Value
from cloister.tuning.result import NAME, Turn
from cloister.tuning.trial import Trial

_BEGUN, _TRIAL, _TURN, _VERSION = "begun.json", "trial.json", "turn.json", "version"
_LEVELS = 16
_VERSION_BYTES = 4096  # an engine's version is some 20
_TRIALS, _TURNS = TypeAdapter(Trial), TypeAdapter(tuple[Turn, ...])
_Parsed = TypeVar("_Parsed")


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

    def begin(self, begun: Begun) -> Begun:
        """Note what was asked for, in the state folder by its hash, then in this folder.

        Returns what `resume` would. Killed in between, it leaves an empty mark, which nothing
        uses, and no tuning.
        """
        content = _text(begun)
        statefolder.require_own(begun.base.state_dir)
        write_atomically(_mark(begun.base.state_dir, content), b"", mode=0o600)
        write_atomically(self.folder / _BEGUN, content, mode=0o600)
        return _begun(content)

    def resume(self, state: Path) -> Begun:
        """Return what was asked for, from the very bytes whose hash the state folder has.

        A tuning's settings name programs to start, and its folder may come from somebody else:
        raises TuningError unless it was begun with this state folder, is this user's alone and
        has no links, DeploymentError for a state folder that others can change.
        """
        if not (self.folder / _BEGUN).exists():
            raise self._no_tuning(f"it has no {_BEGUN}")
        with Folder.open(self.folder, TuningError) as folder:
            require_plain(folder)
            content = folder.read(_BEGUN, datafiles.JSON_BYTES)
        statefolder.require_own(state)
        if not _mark(state, content).is_file():
            raise TuningError(
                f"`{self.folder}` was not begun with the state folder `{state}`, expected a tuning "
                "of this deployment; nothing of it was used",
                hint="go on with it where it was begun, with the same `state_dir`",
            )
        try:
            return _begun(content)
        except ValueError as error:
            raise self._no_tuning(str(error).splitlines()[0]) from error

    def end(self, begun: Begun) -> None:
        """Remove the mark of a tuning that has its result.

        Begun by another version, whose text of it differs, it keeps its mark, which is empty.
        """
        _mark(begun.base.state_dir, _text(begun)).unlink(missing_ok=True)

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
            write_atomically(self.folder / _VERSION, version)

    def trials(self) -> list[Trial]:
        """Return the trials that are over, in their order."""
        found, number = list[Trial](), 1
        while (path := self.trial_folder(number) / _TRIAL).exists():
            found.append(_kept(path, _trial))
            number += 1
        return found

    def version(self) -> str | None:
        """Return the engine's version, None while no engine told it."""
        path = self.folder / _VERSION
        return _kept(path, _version) if path.exists() else None

    def keep_turns(self, number: int, turns: tuple[Turn, ...]) -> None:
        """Keep what a finalist's start served."""
        path = self.turn_folder(number) / _TURN
        write_atomically(path, _TURNS.dump_json(turns, indent=2) + b"\n")

    def turns(self, number: int) -> tuple[Turn, ...] | None:
        """Return what a finalist's start served, None when it was not started yet."""
        path = self.turn_folder(number) / _TURN
        if not path.exists():
            return None
        return _kept(path, _turns)


def require_plain(folder: Folder, *, levels: int = _LEVELS) -> None:
    """Raise TuningError for links, devices, and what is another user's or others may change.

    Paths below it may then be opened without it: nobody else can change what they lead to.
    """
    _require_closed(folder.path, os.fstat(folder.fileno()))
    if not levels:
        raise TuningError(f"`{folder.path}` is deeper than {_LEVELS} levels of folders")
    for name in folder.names():
        about = folder.find(name)
        if about is not None and stat.S_ISDIR(about.st_mode):
            with folder.sub(name) as inner:
                require_plain(inner, levels=levels - 1)
        elif folder.has_own_file(name) and about is not None:
            _require_closed(folder.path / name, about)


def _require_closed(path: Path, about: os.stat_result) -> None:
    """Raise TuningError for what others may change.

    The group counts as others even where it has the user's name: who else is in it, a directory of
    users (LDAP) need not tell. A tuning's own files never are the group's to change.
    """
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if about.st_mode & stat.S_IWOTH else "its group"
        raise TuningError(
            f"`{shown(path)}` can be changed by {who}, expected by this user alone",
            hint=f"if nobody did: chmod go-w {shown(path)}, or chmod -R go-w for all of the tuning",
        )


def _text(begun: Begun) -> bytes:
    return (begun.model_dump_json(indent=2) + "\n").encode()


def _begun(content: bytes) -> Begun:
    # Settings take text and numbers, not what pydantic makes of JSON by itself.
    return Begun.model_validate(datafiles.parse_json(content))


def _trial(path: Path) -> Trial:
    return _TRIALS.validate_json(datafiles.read_json(path))


def _turns(path: Path) -> tuple[Turn, ...]:
    return _TURNS.validate_json(datafiles.read_json(path))


def _version(path: Path) -> str:
    return datafiles.read_text(path, _VERSION_BYTES)


def _kept(path: Path, read: Callable[[Path], _Parsed]) -> _Parsed:
    """Return what a file of an earlier session has; raises TuningError where that is nothing."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise TuningError(
            f"`{path}` is not what a tuning keeps: {str(error).splitlines()[0]}",
            hint="remove the folder of this start, and it is made again; or begin another tuning",
        ) from error


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
