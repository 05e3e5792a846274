"""nginx with our rendered configuration before engines of any kind, in a scratch folder."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import requests
from deployments import eventually, free_ports

from cloister import nginx
from cloister.config import GatewaySettings
from cloister.endpoint import Listener, TcpAddress, parse
from cloister.engines import AnswerLimits, Replica
from cloister.files import write_atomically
from cloister.gateway import Door, Place, Tls, Upstream, generation, render
from cloister.keys import Key

PEM = "tls.pem"
NOBODY = "127.0.0.1:9"  # the discard port: a metrics exporter that is not there


@dataclass
class Gateway:
    """One nginx; `door` is what it was told last, `files` are the certificates beside it.

    `descriptors` is how many files and connections a worker may have open, None for the usual.
    """

    door: Door
    folder: Path
    port: int
    logs: Path
    files: Mapping[str, str] = field(default_factory=dict)
    descriptors: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.door.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def status_url(self) -> str:
        return f"http://{self.door.status}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def processes(self) -> list[psutil.Process]:
        master = psutil.Process(self.pid)
        return [master, *master.children()]

    def log(self) -> list[dict[str, Any]]:
        # Without what is after the last newline: a line that is being written.
        lines = (self.logs / "access.log").read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def errors(self) -> str:
        return (self.logs / "gateway-error.log").read_text()

    def write(self) -> str:
        program = nginx.find(None)
        user = nginx.worker_user()
        place = Place(
            self.folder,
            self.logs,
            worker_user=user,
            version=nginx.version(program),
            modules=nginx.modules(program),
        )
        text = render(self.door, place)
        if self.descriptors is not None:
            text = text.replace("nofile 4096;", f"nofile {self.descriptors};")
        for name, content in self.files.items():
            write_atomically(self.folder / name, content, mode=0o600)
        write_atomically(self.folder / nginx.CONFIGURATION, text)
        return generation(text)

    def reload(self, door: Door, files: Mapping[str, str] | None = None) -> None:
        """Take up another door, and return once a new worker answers."""
        self.door, self.files = door, files or self.files
        wanted = self.write()
        os.kill(self.pid, signal.SIGHUP)
        eventually(lambda: self._tells(wanted))

    def replace_workers(self, door: Door) -> None:
        """Take up another door, and return once no worker of before is left.

        The old ones are told to end a tenth of a second after the new ones have begun.
        """
        before = {process.pid for process in self.processes()[1:]}
        self.reload(door)

        def gone() -> None:
            assert before.isdisjoint(process.pid for process in self.processes()[1:])

        eventually(gone)

    def start(self) -> None:
        wanted = self.write()
        command = nginx.command(nginx.find(None), self.folder / nginx.CONFIGURATION)
        self.process = subprocess.Popen(command)
        eventually(lambda: self._tells(wanted))

    def _tells(self, wanted: str) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.errors()
        close = {"Connection": "close"}
        told = requests.get(f"{self.status_url}/-/generation", headers=close, timeout=5)
        assert told.text == wanted


@contextmanager
def gateway(
    addresses: Sequence[str],
    *,
    max_conns: int = 0,
    weights: Sequence[int] = (),
    keys: tuple[Key, ...] | None = None,
    pem: str | None = None,
    logs: Path | None = None,
    **settings: Any,
) -> Iterator[Gateway]:
    """Serve until the end; `addresses` are those of the engines, as `host:port`.

    Of the settings `moved_s` is the door's own. `pem` is a certificate and its key, as
    `cloister.certificates.load` returns them.
    """
    with tempfile.TemporaryDirectory(prefix="cloister-gateway-") as folder:
        Path(folder).chmod(0o755)
        first = free_ports(2)
        moved_s = settings.pop("moved_s", 310)
        chosen = GatewaySettings(port=first, **settings)
        told = Door(
            settings=chosen,
            upstreams=tuple(
                Upstream(_replica(number, address), weight, max_conns)
                for number, (address, weight) in enumerate(
                    zip(addresses, weights or (1,) * len(addresses), strict=True), start=1
                )
            ),
            answer=AnswerLimits(chosen.max_answer_mib or 64, chosen.max_answer_s or 3600),
            moved_s=moved_s,
            exporter=parse(NOBODY),
            status=TcpAddress("127.0.0.1", first + 1),
            keys=keys,
            tls=Tls(PEM) if pem else None,
        )
        files = {PEM: pem} if pem else {}
        made = Gateway(told, Path(folder), first, logs or Path(folder), files)
        try:
            made.start()
            yield made
        finally:
            if made.process is not None:
                made.process.send_signal(signal.SIGTERM)
                try:
                    made.process.wait(30)
                finally:
                    made.process.kill()


def _replica(number: int, address: str) -> Replica:
    return Replica(f"stub-{number}", Listener.at(parse(address)))


def without(door: Door, name: str) -> Door:
    """Return the door with one replica marked down."""
    marked = (replace(u, down=u.down or u.replica.name == name) for u in door.upstreams)
    return replace(door, upstreams=tuple(marked))
