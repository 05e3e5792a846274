"""A Docker engine of a test's own, which may be stopped and killed while the machine's runs on."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from deployments import eventually

_STOP_S = 400  # the longest grace period of a container, and more
_NETWORK = 0x40000000  # CLONE_NEWNET: Python has setns from 3.12 on
_LIBC = ctypes.CDLL(None, use_errno=True)


class PrivateEngine:
    """A dockerd with folders, a socket and namespaces of its own.

    In the machine's network namespace its bridges and rules would meet those of the other engine,
    and dockerd removes a `docker0` that it is not to have, whoever made it. What it mounts ends
    with the process that holds the namespaces.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Whether containers stay when it ends, at its next start.
        self.keeps_containers = False
        self.host = f"unix://{folder}/docker.sock"
        self._program: subprocess.Popen[bytes] | None = None
        own = ("unshare", "--net", "--mount", "--propagation=private")
        # Its own /run, so that it finds no containerd of the machine's.
        script = "ip link set lo up && mount -t tmpfs tmpfs /run && echo && exec sleep infinity"
        self._holder = subprocess.Popen([*own, "sh", "-c", script], stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline(), "the namespaces are not there"

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread, and the threads and programs that it starts, be in its network."""
        with (
            Path("/proc/thread-self/ns/net").open() as before,
            Path(f"/proc/{self._holder.pid}/ns/net").open() as own,
        ):
            _enter(own.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        eventually(self._answers, within_s=240)

    def _run(self) -> None:
        flags = (
            *(f"--data-root={self._folder}/data", f"--exec-root={self._folder}/exec"),
            *(f"--pidfile={self._folder}/dockerd.pid", f"--host={self.host}"),
            *(("--live-restore",) if self.keeps_containers else ()),
        )
        enter = ("nsenter", f"--target={self._holder.pid}", "--net", "--mount")
        with (self._folder / "log").open("ab") as log:
            self._program = subprocess.Popen(
                [*enter, "dockerd", *flags], stdout=log, stderr=log, start_new_session=True
            )

    def end(self, number: signal.Signals) -> None:
        """Send it a signal, and wait until it has ended."""
        if self._program is not None:
            self._program.send_signal(number)
            self._program.wait(_STOP_S)
            self._program = None

    def kill_containerd(self) -> None:
        """Kill the containerd that it started; it starts another one."""
        place = self._folder / "exec" / "containerd" / "containerd.pid"
        number = int(place.read_text())
        os.kill(number, signal.SIGKILL)

        def another() -> None:
            assert int(place.read_text()) != number

        eventually(another, within_s=120)

    def load(self, *references: str) -> None:
        """Copy images of this machine's engine."""
        environment = {**os.environ, "DOCKER_HOST": self.host}
        with subprocess.Popen(["docker", "save", *references], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "load", "--quiet"], stdin=saving.stdout, env=environment, check=True
            )
        assert saving.returncode == 0

    def _answers(self) -> None:
        # One that gave up on its containerd, on a busy machine, is started again as systemd does.
        if self._program is None or self._program.poll() is not None:
            self._run()
        log = (self._folder / "log").read_text()[-2000:]
        # Not by the SDK, which leaves a socket open where nobody answers.
        environment = {**os.environ, "DOCKER_HOST": self.host}
        asked = ["docker", "version", "--format={{.Server.Version}}"]
        done = subprocess.run(asked, env=environment, check=False, capture_output=True, timeout=60)
        assert done.returncode == 0, log

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.keeps_containers:
            self.end(signal.SIGTERM)
            self.keeps_containers = False
        self.start()  # a killed one leaves containers, which only another one ends
        self.end(signal.SIGTERM)
        self._holder.kill()
        self._holder.communicate()


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _NETWORK) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
