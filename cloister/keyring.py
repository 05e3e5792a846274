"""`invoke keys.*` and `invoke tls.create`: what is changed is in force when the command ends."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister import certificates, deployment, keys, userfile
from cloister.config import Settings
from cloister.errors import AccessError, CloisterError
from cloister.keys import Key
from cloister.layout import Layout
from cloister.statefolder import locked


@dataclass(frozen=True)
class Limits:
    """What a key may do: a rate such as "60/min", requests at once, and until when."""

    rate: str | None = None
    concurrency: int | None = None
    expires: dt.datetime | None = None


@dataclass(frozen=True)
class Created:
    """A new key, with the secret that nobody can tell again.

    `asked` is whether a gateway is up that asks for keys; it knows this one then.
    """

    key: Key
    secret: str
    asked: bool


@dataclass(frozen=True)
class Certificates:
    """Where certificates lie that were made."""

    authority: Path
    certificate: Path
    client: Path | None


def create(settings: Settings, name: str, limits: Limits) -> Created:
    """Make a key, and let a gateway that asks for keys take it.

    Raises AccessError for what cannot be made, GatewayError when the gateway cannot take it, and
    ConfigError when cloister.yaml cannot say that keys are asked for; then there is no such key.
    """
    if name == keys.OPERATOR:
        raise AccessError(f"`{name}` is the key of this machine's own commands; take another name")
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        made, secret = keys.create(layout, name, **vars(limits))
        try:
            up = deployment.reload(settings)
            if not settings.gateway.keys:
                userfile.set_keys("gateway", {"keys": True})
        except CloisterError:
            keys.revoke(layout, name)  # nobody was shown it
            raise
    recorded = deployment.recorded(settings)
    return Created(made, secret, up and recorded is not None and recorded.settings.gateway.keys)


def revoke(settings: Settings, name: str) -> Key:
    """Forget a key; a gateway that is up refuses it when this returns.

    Raises AccessError when there is none of that name.
    """
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        revoked = keys.revoke(layout, name)
        deployment.reload(settings)
    return revoked


def listing(settings: Settings) -> tuple[Key, ...]:
    """Return all keys, as they were made."""
    return keys.read(Layout(settings.state_dir))


def make_certificates(
    settings: Settings, names: Sequence[str], days: int, *, client: str | None
) -> Certificates:
    """Make a certificate under an authority of this service's own, and name it in cloister.yaml.

    With `client` also one for a client, and clients are asked for one from then on. The authority
    is made once; a further call makes a new certificate under it, which a gateway that is up with
    the old one takes.
    """
    if not 1 <= days <= certificates.AUTHORITY_DAYS:
        raise AccessError(f"--days must be from 1 to {certificates.AUTHORITY_DAYS}")
    if client is not None:
        keys.require_name(client)
    folder = Layout(settings.state_dir).tls
    with locked(Layout(settings.state_dir).lock):
        authority = certificates.authority(folder)
        certificate, key = certificates.server(folder, names, days)
        values = {"certificate": str(certificate), "certificate_key": str(key)}
        made = None
        if client is not None:
            made = certificates.client(folder, client, days)
            own = certificates.client(folder, keys.OPERATOR, days)
            values |= {"client_ca": str(authority), "client_certificate": str(own)}
        gateway = settings.gateway
        if any(str(getattr(gateway, name)) != value for name, value in values.items()):
            userfile.set_keys("gateway", values)
        deployment.reload(settings)
    return Certificates(authority, certificate, made)
