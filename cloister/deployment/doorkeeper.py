"""The gateway's files: rendered, checked by nginx in a scratch place, swapped, and taken up."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TypeVar

import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister import gateway
from cloister.config import Settings
from cloister.deployment import access, plan, record
from cloister.deployment.access import Access
from cloister.deployment.record import Record, Standing
from cloister.errors import DeploymentError, GatewayError
from cloister.events import Journal
from cloister.files import make_folder, write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.nginx import CONFIGURATION
from cloister.runtimes import GATEWAY, RUNTIMES, Runtime
from cloister.statefolder import closing, locked

_TAKEN_UP_S, _POLL_S, _ASK_S = 20.0, 0.05, 5.0
_DOOR_S = 3 * _TAKEN_UP_S
# The old workers let go of the port a tenth of a second after the new ones took it.
_IN_A_ROW = 4
_LOG_LINES = 3
Seen = TypeVar("Seen")
_PRIVATE, _READABLE, _CLOSED, _ENTERED = 0o600, 0o644, 0o700, 0o755


class Doorkeeper:
    """Changes what is recorded of a deployment, and with it the gateway.

    Commands and the watchdog do so beside each other: each change starts from the record as it is
    then, holds a lock for a moment, and is in force when the call returns.
    """

    def __init__(self, state: Settings, journal: Journal) -> None:
        self._state = state
        self._layout = Layout(state.state_dir)
        self._journal = journal

    def adopt(self, new: Callable[[Record | None], Record]) -> Record:
        """Put a whole new record in force, made from what there is, None where nothing was up."""
        return self._change(new)[1]

    def move(
        self,
        names: Iterable[str],
        to: Standing,
        *,
        only_from: AbstractSet[Standing] | None = None,
        why: str | None = None,
    ) -> bool:
        """Give replicas another standing, those `only_from` some; return whether any was changed.

        Streams under way finish. Raises GatewayError when nginx refuses the files, and when it
        keeps its old ones, such as for a port that is taken.
        """

        def moved(now: Record) -> Record:
            chosen = {name for name in names if name in now.standings}
            if only_from is not None:
                chosen = {name for name in chosen if now.standings[name] in only_from}
            return now.moved(dict.fromkeys(chosen, to))

        before, after = self._change(self._required(moved))
        were = before.standings if before else {}
        changed = [name for name in after.standings if were.get(name) != to]
        changed = [name for name in changed if after.standings[name] == to]
        for name in changed:
            self._journal.note(to, name, why)
        return bool(changed)

    def edit(self, change: Callable[[Record], Record]) -> Record:
        """Change the record otherwise."""
        return self._change(self._required(change))[1]

    def refresh(self) -> None:
        """Let the gateway take keys and certificates as they are now."""
        self._change(self._required(lambda now: now))

    def compare(self, look: Callable[[], Seen]) -> tuple[tuple[str, ...], Seen]:
        """Return in what the gateway's files, and what nginx tells of them, are not as planned.

        With it comes what `look` returns: no command changes the files meanwhile.
        """
        with locked(self._layout.door_lock, wait_s=_DOOR_S):
            now = record.required(self._state)
            running = RUNTIMES[now.settings.runtime].make(now.settings)
            wanted = _files(now, access.read(now.settings), running.place())
            found = [*_differing(self._layout.gateway, wanted)]
            url = f"{plan.of(now).site.status.here.url}/-/generation"
            with running.session() as session:
                if _told(session, url) != gateway.generation(wanted[CONFIGURATION]):
                    found.append("nginx tells another generation")
            return tuple(found), look()

    def _required(self, change: Callable[[Record], Record]) -> Callable[[Record | None], Record]:
        return lambda now: change(now or record.required(self._state))

    def _change(self, change: Callable[[Record | None], Record]) -> tuple[Record | None, Record]:
        with locked(self._layout.door_lock, wait_s=_DOOR_S):
            before = record.read(self._state)
            after = change(before).counted(before)
            running = RUNTIMES[after.settings.runtime].make(after.settings)
            admitted = access.read(after.settings)
            changed = self._write(after, running, admitted)
            if any(one.name == GATEWAY and one.pid for one in running.states()):
                self._take_up(running, after, changed=changed)
                self._forget(admitted)
        return before, after

    def _write(self, after: Record, running: Runtime, admitted: Access) -> bool:
        """Put record and files in place; return True when nginx' files changed.

        nginx tries them in a scratch place first: raises GatewayError when it refuses them, and
        then nothing has changed.
        """
        place = running.place()
        wanted = _files(after, admitted, place)
        if self._present() == wanted[CONFIGURATION]:
            record.write(after)
            return False
        try:
            running.check_gateway(lambda scratch: _files(after, admitted, scratch))
        except OSError as error:
            raise DeploymentError(f"nginx cannot try its files: {error.strerror}") from error
        with closing():
            for private in (self._layout.logs, self._layout.run, self._layout.gateway):
                make_folder(private, _CLOSED)
            # A container's nginx is another user.
            self._layout.gateway.chmod(_CLOSED if place.owner is None else _ENTERED)
        record.write(after)
        _write(self._layout, wanted, place)
        return True

    def _take_up(self, running: Runtime, after: Record, *, changed: bool) -> None:
        """Let the gateway that runs take its files up, and wait until it has.

        Files that did not change are taken up too where it is behind them: a command that was
        killed may have written them and no more.
        """
        wanted = gateway.generation(self._present())
        url = f"{plan.of(after).site.status.here.url}/-/generation"
        with running.session() as session:
            if changed or _told(session, url) not in {"", wanted}:
                running.signal(GATEWAY, "HUP")
                _wait(lambda: _told(session, url) == wanted, lambda: _refuse(running))

    def _present(self) -> str:
        path = self._layout.nginx_configuration
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _forget(self, admitted: Access) -> None:
        """Remove certificates and keys that were replaced."""
        for path in self._layout.gateway.glob("*.pem"):
            if path.name not in admitted.files:
                path.unlink()


def _files(after: Record, admitted: Access, place: Place) -> dict[str, str]:
    """Return all that nginx reads, by name; nginx.conf is the last to be written."""
    door = plan.door(plan.of(after), admitted, after.standings, after.shares)
    return {**admitted.files, CONFIGURATION: gateway.render(door, place)}


def _differing(folder: Path, wanted: Mapping[str, str]) -> Iterator[str]:
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    for name in sorted({*present, *wanted}):
        if name not in wanted:
            yield f"a file too many: {name}"
        elif name not in present:
            yield f"a file is missing: {name}"
        elif _content(present[name]) != wanted[name].encode():
            yield f"other content, or it cannot be read: {name}"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _wait(taken_up: Callable[[], bool], refuse: Callable[[], None]) -> None:
    in_a_row = 0

    def surely() -> bool:
        nonlocal in_a_row
        in_a_row = in_a_row + 1 if taken_up() else 0
        return in_a_row >= _IN_A_ROW

    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(_TAKEN_UP_S),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda _: refuse(),
    )(surely)


def _told(session: requests.Session, url: str) -> str:
    """Return the generation that the gateway tells, nothing when it does not answer."""
    try:
        # A connection of its own each time: on an old one an old worker would answer.
        return session.get(url, timeout=_ASK_S, headers={"Connection": "close"}).text
    except requests.RequestException:
        return ""


def _refuse(running: Runtime) -> None:
    last = running.tail(GATEWAY, _LOG_LINES).strip() or "(nothing)"
    raise GatewayError(
        f"nginx did not take its new files up within {_TAKEN_UP_S:g} s; it said: {last}",
        hint=f"invoke logs --name {GATEWAY}",
    )


def _write(layout: Layout, texts: Mapping[str, str], place: Place) -> None:
    for name, text in texts.items():
        path = layout.gateway / name
        if place.owner is None:
            write_atomically(path, text, mode=_PRIVATE)
        elif name == CONFIGURATION:
            write_atomically(path, text, mode=_READABLE)
        elif os.geteuid() == 0:
            write_atomically(path, text, mode=_PRIVATE)
            os.chown(path, place.owner, -1)
        else:
            # Only root can give a file away. A container sees the folder that it is given, and
            # everybody else on this machine is stopped by the one above.
            with closing():
                layout.state.chmod(_CLOSED)
            write_atomically(path, text, mode=_READABLE)
