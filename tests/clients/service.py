"""Where the service under test is, as the programs of docs/clients.md are told it."""

import os
from dataclasses import dataclass
from pathlib import Path

TEXT = "Client 2345"  # on the page that they read
OLMOCR = "allenai/olmOCR-2-7B-1025"
# Each looks for the private authority somewhere else.
_AUTHORITY = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True)
class Service:
    """Address, key and authority of one stack."""

    url: str
    key: str
    authority: Path | None

    @property
    def environment(self) -> dict[str, str]:
        trusted = dict.fromkeys(_AUTHORITY, str(self.authority)) if self.authority else {}
        host = self.url.partition("://")[2].rpartition(":")[0]
        own = {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.key, "NO_PROXY": host}
        # No proxies, no settings of the person who runs the tests.
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**inherited, **own, **trusted}
