"""Sessions of requests that keep to their server, and to an answer that ends."""

from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter

from cloister import bounded


class RedirectError(requests.RequestException):
    """A server sent its client elsewhere."""


class Session(requests.Session):
    """Reaches what is mounted, and nothing that an answer or the environment names.

    requests would send even a page for 127.0.0.1 to the proxy that the environment names, and a
    whole page once more to wherever an engine redirects it, Docker's socket included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.adapters.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: no redirect is followed."""
        del resp

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request; raises RedirectError for an answer that is one."""
        answer = super().send(request, **options)
        if 300 <= answer.status_code < 400:  # noqa: PLR2004  # HTTP's redirects
            answer.close()
            raise RedirectError(
                f"it answers with HTTP {answer.status_code}, and no redirect is followed",
                request=request,
                response=answer,
            )
        if options.get("stream"):
            received = answer.raw._original_response  # noqa: SLF001  # urllib3 has no other way
            cast("bounded.Answer", received).stream()
        return answer


class TcpAdapter(HTTPAdapter):
    """Carries requests to hosts; with a fingerprint, to those that show this one certificate."""

    def __init__(self, fingerprint: str | None = None) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Give the pool the fingerprint, which urllib3 compares in place of all other checks."""
        super().init_poolmanager(*arguments, **options, assert_fingerprint=self._fingerprint)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Connection(urllib3.connection.HTTPConnection):
    response_class = bounded.Answer


class _TlsConnection(urllib3.connection.HTTPSConnection):
    response_class = bounded.Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
