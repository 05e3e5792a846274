"""Stub replicas under test: real processes with counts, known timing and faults on command."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from deployments import eventually, free_ports

_PROGRAM = Path(__file__).with_name("stub.py")


def session() -> requests.Session:
    """Return a session that no proxy of the environment gets to see."""
    made = requests.Session()
    made.trust_env = False
    return made


@dataclass
class Stub:
    """One running stub; `address` is what a gateway's upstream says."""

    name: str
    port: int
    control: int
    pid: int
    uds: Path | None = None
    _client: requests.Session = field(default_factory=session, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def behave(self, mode: str, *, times: int | None = None, **options: str | float | None) -> None:
        """Set what the next requests for a page meet; `path=None` means requests of any path.

        `first_ms` and `chunk_ms` replace the stub's own. `refuse` lasts until another mode.
        """
        order = {"mode": mode, "times": times, **options}
        answer = self._client.post(f"http://127.0.0.1:{self.control}/behave", json=order)
        assert answer.status_code == 200, answer.text

    def counts(self) -> dict[str, int]:
        """Return requests by `METHOD path`, and `bytes`, `in_flight`, `completed` and so on."""
        answer = self._client.get(f"http://127.0.0.1:{self.control}/counts", timeout=10)
        assert answer.status_code == 200, answer.text
        counts: dict[str, int] = answer.json()
        return counts


@contextmanager
def stub(name: str = "stub", *, uds: Path | None = None, **options: float) -> Iterator[Stub]:
    """Run one on free ports; options are the program's: chunks, chunk_ms, first_ms, port."""
    control = free_ports(2)
    port = int(options.pop("port", control + 1))
    flags = [f"--{key.replace('_', '-')}={value:g}" for key, value in options.items()]
    command = [sys.executable, str(_PROGRAM), f"--name={name}"]
    command += [f"--port={port}", f"--control={control}", *flags]
    command += [f"--uds={uds}"] if uds else []
    with subprocess.Popen(command) as process:
        running = Stub(name, port, control, process.pid, uds)

        def answers() -> None:
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            running.counts()

        try:
            eventually(answers)
            yield running
        finally:
            process.kill()
            running._client.close()
