"""The templates of nginx-config/, filled in."""

import functools
import hashlib
import re
from ipaddress import IPv6Address
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloister.endpoint import Route
from cloister.errors import GatewayError
from cloister.gateway import answers, limits
from cloister.gateway.door import Door, Place
from cloister.gateway.refusals import refusals

_TEMPLATES = Path(__file__).parents[2] / "nginx-config"
_GENERATION_DIGITS = 16
# One more try on another replica: a page that kills what reads it must not kill all of them.
_TRIES = 2


def render(door: Door, place: Place) -> str:
    """Return the whole configuration, which tells its own generation, a hash of its text.

    Raises GatewayError for a path that cannot be written into the configuration.
    """
    first = _render(door, place, "")
    digest = hashlib.sha256(first.encode()).hexdigest()[:_GENERATION_DIGITS]
    return _render(door, place, digest)


def replica_path(name: str) -> str:
    """Return below which path of its status socket the gateway passes requests on to a replica."""
    return f"/-/replicas/{name}"


def generation(text: str) -> str:
    """Return the generation that a rendered configuration tells."""
    found = re.search(r"/-/generation \{\s*return 200 '([0-9a-f]*)'", text)
    return found[1] if found else ""


@functools.cache
def _environment() -> Environment:
    """Return the templates; compiling them takes a tenth of a second."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # nginx configuration, not HTML; see `_path`
    )
    environment.filters["path"] = _path
    environment.filters["replica_path"] = replica_path
    environment.tests["passed_on"] = lambda upstream: isinstance(
        upstream.replica.listener.here, Route
    )
    environment.filters["pattern"] = lambda value: re.escape(str(value))
    return environment


def _render(door: Door, place: Place, digest: str) -> str:
    address = door.settings.address
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    keys = door.keys or ()
    return (
        _environment()
        .get_template("nginx.conf.j2")
        .render(
            door.settings.model_dump(mode="json"),
            listens=[f"{host}:{port}" for port in (door.settings.port, *door.further_ports)],
            door=door,
            place=place,
            generation=digest,
            errors=refusals(door.settings, door.answer),
            rules=answers.rules(door.answer),
            rates=limits.rates(keys),
            concurrencies=limits.concurrencies(keys),
            tries=min(_TRIES, len(door.upstreams)),
        )
    )


def _path(value: Path) -> str:
    text = str(value)
    if any(character.isspace() or character in "\"'\\;{}$#" for character in text):
        raise GatewayError(
            f"`{text}` has a character that nginx' configuration gives a meaning to",
            hint="set `state_dir` to a path of plain characters",
        )
    return text
