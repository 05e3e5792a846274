"""The state folder, which holds everything that a deployment writes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths below one state folder."""

    state: Path

    @property
    def run(self) -> Path:
        """The supervisor's files."""
        return self.state / "run"

    @property
    def sockets(self) -> Path:
        """A folder for each program that listens, with its Unix socket."""
        return self.run / "http"

    @property
    def spool(self) -> Path:
        """The folder of the lines that nginx writes for the exporter."""
        return self.sockets / "spool"

    @property
    def gateway(self) -> Path:
        """The configuration of nginx, and its temporary files where it runs as a process."""
        return self.state / "gateway"

    @property
    def logs(self) -> Path:
        """One log a process, and the access log."""
        return self.state / "logs"

    @property
    def docker(self) -> Path:
        """What the docker runtime adds to the files in compose/."""
        return self.state / "docker"

    @property
    def record(self) -> Path:
        """What is to run, and which replicas get pages."""
        return self.state / "deployment.json"

    @property
    def keys(self) -> Path:
        """The hashes of the API keys."""
        return self.state / "keys.json"

    @property
    def operator_key(self) -> Path:
        """The key by which this machine's own commands enter."""
        return self.state / "operator.key"

    @property
    def tls(self) -> Path:
        """The local authority, and the certificates that it made."""
        return self.state / "tls"

    @property
    def lock(self) -> Path:
        """Held by the command that changes the deployment."""
        return self.state / "lock"

    @property
    def tuning_lock(self) -> Path:
        """Held by a tuning."""
        return self.state / "tuning.lock"

    @property
    def tunings(self) -> Path:
        """An empty file for each tuning that was begun with this state folder."""
        return self.state / "tunings"

    @property
    def readings(self) -> Path:
        """For each run folder of `invoke ocr` a file: what was given to be read into it."""
        return self.state / "readings"

    @property
    def proof_lock(self) -> Path:
        """Held by a proof of the seal, whose containers another one would take for strangers."""
        return self.state / "proof.lock"

    @property
    def door_lock(self) -> Path:
        """Held, for moments, by whoever changes what the gateway is told."""
        return self.state / "door.lock"

    @property
    def events(self) -> Path:
        """What happened to the fleet and why, a line of JSON each."""
        return self.state / "events.jsonl"

    @property
    def watch(self) -> Path:
        """What the watchdog saw last."""
        return self.run / "watch.json"

    @property
    def nginx_configuration(self) -> Path:
        """The rendered gateway."""
        return self.gateway / "nginx.conf"
