"""A gateway with keys before two stub engines and a stub exporter, for whoever attacks it."""

import datetime as dt
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import requests
from gateways import Gateway, gateway
from key_guessing import GOOD
from load import PATH
from stubs import Stub, stub

from cloister import certificates, chat, keys
from cloister.chat import Pass
from cloister.endpoint import parse
from cloister.keys import Key

# Texts that must turn up in no log.
EXPIRED = "cloister_expired.Zc5yKe9rLd1uBf7gTa3hMp0jXo6wVq2nSi8bRt4vG-E"
WRONG = "cloister_good.hWvPq0vAqz1kTt3mFDx6Yl8sNnJb4Gc7RuEoXwSi2_R"
WORDS = "the-words-of-a-page"
QUERY = "asked-in-a-query"

# What may reach an engine.
PAGE = "POST /v1/chat/completions"
ALLOWED = {PAGE, "GET /v1/models", "HEAD /v1/models", "GET /health"}


@dataclass(frozen=True)
class Siege:
    """What is attacked, and who sits behind it."""

    door: Gateway
    engines: tuple[Stub, ...]
    exporter: Stub
    authority: Path | None = None

    def seen(self) -> Counter[str]:
        """Return what the engines were asked, by `METHOD path`."""
        return sum((_asked(one) for one in self.engines), Counter())

    def scraped(self) -> Counter[str]:
        """Return what the exporter was asked."""
        return _asked(self.exporter)

    def read_a_page(self) -> requests.Response:
        enter = Pass(self.door.url, key=GOOD, authorities=self.authority)
        with chat.session(enter) as session:
            body = {"model": "stub", "messages": [{"role": "user", "content": WORDS}]}
            return session.post(f"{self.door.url}{PATH}", json=body, timeout=20)


def _asked(one: Stub) -> Counter[str]:
    return Counter({name: count for name, count in one.counts().items() if " " in name})


@contextmanager
def siege(tls: Path | None = None) -> Iterator[Siege]:
    """Serve until the end; over TLS with a folder for an authority and a certificate."""
    authority = pem = None
    if tls:
        authority = certificates.authority(tls)
        pem = certificates.load(*certificates.server(tls, [], 10)).text
    now = dt.datetime.now(dt.UTC)
    told = (_key(GOOD, None), _key(EXPIRED, now - dt.timedelta(seconds=1)))
    with ExitStack() as stack:
        first, second, exporter = (
            stack.enter_context(stub(name, chunks=2))
            for name in ("stub-engine-1", "stub-engine-2", "stub-exporter")
        )
        # nginx sends its log there, and would complain about a port that nobody has.
        sink = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        sink.bind(("127.0.0.1", exporter.port))
        addresses = [first.address, second.address]
        door = stack.enter_context(
            gateway(addresses, keys=told, pem=pem, metrics_allow=(), max_body_mib=2)
        )
        door.replace_workers(replace(door.door, exporter=parse(exporter.address)))
        yield Siege(door, (first, second), exporter, authority)


def _key(secret: str, expires: dt.datetime | None) -> Key:
    name = secret.removeprefix("cloister_").partition(".")[0]
    created = dt.datetime.now(dt.UTC)
    return Key(name=name, digest=keys.digest(secret), created=created, expires=expires)
