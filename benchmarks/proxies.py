"""What stands between client and engine in the gateway's benchmark: nothing, nginx or HAProxy."""

import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import requests
from deployments import eventually, free_ports
from gateways import gateway
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from stubs import Stub

from cloister import shell
from cloister.config import GatewaySettings
from cloister.endpoint import parse

_SBIN = (Path("/usr/sbin"), Path("/usr/local/sbin"), Path("/opt/homebrew/bin"))
_SAMPLE_S = 0.1
# The same stub under two names, so that there is another replica to try.
_UPSTREAMS = 2


@dataclass(frozen=True)
class Side:
    """One way to the engine: its port and its first process."""

    name: str
    port: int
    pid: int | None = None

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the proxy."""
        if self.pid is None:
            return []
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]


@dataclass
class Memory:
    """The largest that a proxy's processes had together."""

    pss_mib: float = 0
    rss_mib: float = 0
    spilled_mib: float = 0

    def look(self, side: Side) -> None:
        """Look once."""
        pss = rss = 0
        for process in side.processes():
            usage = process.memory_full_info()
            pss, rss = pss + usage.pss, rss + usage.rss
        self.pss_mib = max(self.pss_mib, pss / 2**20)
        self.rss_mib = max(self.rss_mib, rss / 2**20)
        files = sum(map(_unlinked, side.processes()))
        self.spilled_mib = max(self.spilled_mib, files / 2**20)


def _unlinked(process: psutil.Process) -> int:
    """Return the bytes of files that only this process knows: nginx takes their names at once."""
    blocks = 0
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found = entry.stat()
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                blocks += found.st_blocks
    return 512 * blocks


@contextmanager
def watched(side: Side) -> Iterator[Memory]:
    """Look at a proxy's memory again and again."""
    memory, over = Memory(), threading.Event()

    def look() -> None:
        while True:
            memory.look(side)
            if over.wait(_SAMPLE_S):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


@dataclass
class Proxies:
    """Starts the ways to one stub; the access log goes to `exporter` too."""

    stub: Stub
    exporter: str
    settings: GatewaySettings = field(
        default_factory=lambda: GatewaySettings(max_connections_per_address=65535)
    )

    @contextmanager
    def direct(self) -> Iterator[Side]:
        """No proxy."""
        yield Side("direct", self.stub.port)

    @contextmanager
    def nginx(self, *, tcp: bool = False) -> Iterator[Side]:
        """Nginx as it is rendered for a deployment, or with the same engine by `tcp`."""
        addresses = [self.stub.address if tcp else f"unix:{self.stub.uds}"] * _UPSTREAMS
        most = self.settings.max_connections_per_address
        with gateway(addresses, max_connections_per_address=most) as running:
            running.reload(replace(running.door, exporter=parse(self.exporter)))
            yield Side("nginx by TCP" if tcp else "nginx", running.port, running.pid)

    @contextmanager
    def haproxy(self, *, retries: bool) -> Iterator[Side]:
        """HAProxy for the same job, or `streaming`, which cannot send a page a second time."""
        program = shell.find("haproxy", _SBIN)
        if program is None:
            raise SystemExit("haproxy is not installed; apt-get install haproxy")
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            trim_blocks=True,
            autoescape=False,  # noqa: S701  # HAProxy's configuration, not HTML
        )
        with tempfile.TemporaryDirectory(prefix="cloister-bench-") as scratch:
            port, configuration = free_ports(1), Path(scratch, "haproxy.cfg")
            text = environment.get_template("haproxy.cfg.j2").render(
                settings=self.settings,
                port=port,
                retries=retries,
                upstreams=[self.stub.address] * _UPSTREAMS,
                exporter=self.exporter,
            )
            configuration.write_text(text)
            name = "haproxy" if retries else "haproxy streaming"
            command = [str(program), "-db", "-f", str(configuration)]
            with _running(name, command, port, Path(scratch)) as side:
                yield side


@contextmanager
def _running(name: str, command: list[str], port: int, folder: Path) -> Iterator[Side]:
    """Run a proxy until the block ends; it is up when it passes a request on."""
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def answers() -> None:
        output = (folder / "output.log").read_text()
        if process.poll() is not None:
            raise SystemExit(f"{name} ended: {output}")
        requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).raise_for_status()

    try:
        eventually(answers)
        yield Side(name, port, process.pid)
    finally:
        process.terminate()
        process.wait()
