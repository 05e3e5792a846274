"""Who may enter and by what certificate: read from the state folder and from the user's files."""

import hashlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cloister import certificates, keys, ports
from cloister.chat import Pass
from cloister.config import Settings
from cloister.errors import AccessError
from cloister.gateway import Tls, url
from cloister.keys import Key
from cloister.layout import Layout

_DIGITS = 16


@dataclass(frozen=True)
class Access:
    """The keys, None when nobody needs one, and the PEM files that nginx is given beside them.

    A file's name has a hash of its text: a new certificate is a new file, and the one moment at
    which everything changes is when nginx.conf is replaced.
    """

    keys: tuple[Key, ...] | None = None
    tls: Tls | None = None
    files: dict[str, str] = field(default_factory=dict)


def read(settings: Settings) -> Access:
    """Return who may enter; raises AccessError for keys or certificates that cannot be used."""
    gateway = settings.gateway
    present = None
    if gateway.keys:
        keys.ensure_operator(Layout(settings.state_dir))
        present = keys.read(Layout(settings.state_dir))
    if gateway.certificate is None or gateway.certificate_key is None:
        return Access(present)
    pem = certificates.load(gateway.certificate, gateway.certificate_key)
    files = {_name("tls", pem.text): pem.text}
    if gateway.client_ca is not None:
        text = certificates.authorities(gateway.client_ca)
        files[_name("clients", text)] = text
    return Access(present, Tls(*files), files)


def of_this_machine(settings: Settings) -> Pass:
    """Return how this machine's own commands enter the gateway of a deployment.

    Raises AccessError when there are to be keys, and the one for that is missing, and
    DeploymentError where another user's program listens in the gateway's place.
    """
    gateway = settings.gateway
    to = urlsplit(url(gateway))
    ports.require_ours(str(to.hostname), gateway.port, settings.state_dir)
    key = keys.operator(Layout(settings.state_dir)) if gateway.keys else None
    if gateway.keys and key is None:
        raise AccessError("the key of this machine's own commands is missing", hint="invoke up")
    pinned = None
    if gateway.certificate is not None and gateway.certificate_key is not None:
        pinned = certificates.load(gateway.certificate, gateway.certificate_key).fingerprint
    return Pass(
        url=url(gateway),
        key=key,
        host=next(iter(gateway.server_names), None),
        fingerprint=pinned,
        client_certificate=gateway.client_certificate,
        guard=ports.guard(settings.state_dir),
    )


def _name(what: str, text: str) -> str:
    return f"{what}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}.pem"
