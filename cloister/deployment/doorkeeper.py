"""The gateway's files: rendered, checked by nginx in a scratch place, swapped, and taken up."""

import os
from collections.abc import Mapping

import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister import gateway
from cloister.deployment.access import Access
from cloister.deployment.plan import Entry, Plan, door
from cloister.errors import GatewayError
from cloister.files import write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.nginx import CONFIGURATION
from cloister.runtimes import GATEWAY, Runtime

_TAKEN_UP_S, _POLL_S, _ASK_S = 20.0, 0.05, 5.0
# The old workers let go of the port a tenth of a second after the new ones took it.
_IN_A_ROW = 4
_LOG_LINES = 3
_PRIVATE, _READABLE, _CLOSED = 0o600, 0o644, 0o700


class Doorkeeper:
    """Changes one deployment's gateway: its replicas, keys and certificates."""

    def __init__(self, planned: Plan, running: Runtime, admitted: Access) -> None:
        self.planned = planned
        self.running = running
        self._access = admitted
        self._layout = Layout(planned.settings.state_dir)

    def swap(self, entry: Entry) -> None:
        """Change the files, and wait until a gateway that runs has taken them up.

        Streams under way finish with the old workers. Raises GatewayError when nginx refuses the
        files, and when it keeps its old ones, such as for a port that is taken.
        """
        changed = self.write(entry)
        if any(one.name == GATEWAY for one in self.running.states()):
            self.take_up(changed=changed)

    def write(self, entry: Entry) -> bool:
        """Put the files in place, unless they are there; return True when they changed.

        nginx tries them in a scratch place first: raises GatewayError when it refuses them, and
        then nothing has changed.
        """
        place = self.running.place()
        wanted = self._files(entry, place)
        if self._present() == wanted[CONFIGURATION]:
            return False
        self.running.check_gateway(lambda scratch: self._files(entry, scratch))
        for private in (self._layout.logs, self._layout.run):
            private.mkdir(mode=_CLOSED, parents=True, exist_ok=True)
        _write(self._layout, wanted, place)
        return True

    def take_up(self, *, changed: bool) -> None:
        """Let the gateway that runs take its files up, and wait until it has.

        Files that did not change are taken up too where it is behind them: a command that was
        killed may have written them and no more.
        """
        wanted = gateway.generation(self._present())
        with self.running.session() as session:
            if changed or self._told(session) not in {"", wanted}:
                self.running.signal(GATEWAY, "HUP")
                self._wait(session, wanted)
        self._forget()

    def _wait(self, session: requests.Session, wanted: str) -> None:
        in_a_row = 0

        def told() -> bool:
            nonlocal in_a_row
            in_a_row = in_a_row + 1 if self._told(session) == wanted else 0
            return in_a_row >= _IN_A_ROW

        Retrying(
            retry=retry_if_result(lambda done: not done),
            stop=stop_after_delay(_TAKEN_UP_S),
            wait=wait_fixed(_POLL_S),
            retry_error_callback=lambda _: self._refuse(),
        )(told)

    def _told(self, session: requests.Session) -> str:
        """Return the generation that the gateway tells, nothing when it does not answer."""
        host, port = self.planned.site.status
        url = f"http://{host}:{port}/-/generation"
        try:
            # A connection of its own each time: on an old one an old worker would answer.
            return session.get(url, timeout=_ASK_S, headers={"Connection": "close"}).text
        except requests.RequestException:
            return ""

    def _files(self, entry: Entry, place: Place) -> dict[str, str]:
        """Return all that nginx reads, by name; nginx.conf is the last to be written."""
        text = gateway.render(door(self.planned, self._access, entry), place)
        return {**self._access.files, CONFIGURATION: text}

    def _present(self) -> str:
        path = self._layout.nginx_configuration
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _refuse(self) -> None:
        last = self.running.tail(GATEWAY, _LOG_LINES).strip() or "(nothing)"
        raise GatewayError(
            f"nginx did not take its new files up within {_TAKEN_UP_S:g} s; it said: {last}",
            hint="invoke logs --name gateway",
        )

    def _forget(self) -> None:
        """Remove certificates and keys that were replaced."""
        for path in self._layout.gateway.glob("*.pem"):
            if path.name not in self._access.files:
                path.unlink()


def _write(layout: Layout, texts: Mapping[str, str], place: Place) -> None:
    for name, text in texts.items():
        path = layout.gateway / name
        if name == CONFIGURATION:
            write_atomically(path, text)
        elif place.owner is None:
            write_atomically(path, text, mode=_PRIVATE)
        elif os.geteuid() == 0:
            write_atomically(path, text, mode=_PRIVATE)
            os.chown(path, place.owner, -1)
        else:
            # Only root can give a file away. A container sees the folder that it is given, and
            # everybody else on this machine is stopped by the one above.
            layout.state.chmod(_CLOSED)
            write_atomically(path, text, mode=_READABLE)
