"""Sessions of requests that keep to their server, and to an answer that ends."""

import socket
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter

from cloister import bounded
from cloister.sockdiag import Guard


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
    """Carries requests to hosts; with a fingerprint, to those that show this one certificate.

    With a guard to those only whose program it lets pass; it raises DeploymentError.
    """

    def __init__(self, fingerprint: str | None = None, guard: Guard | None = None) -> None:
        self._fingerprint, self._guard = fingerprint, guard
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Give the pool the fingerprint, which urllib3 compares in place of all other checks."""
        super().init_poolmanager(*arguments, **options, assert_fingerprint=self._fingerprint)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_Pool, guard=self._guard),
            "https": partial(_TlsPool, guard=self._guard),
        }


class _Connection(urllib3.connection.HTTPConnection):
    response_class = bounded.Answer

    def __init__(self, *arguments: Any, guard: Guard | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guard = guard

    def _new_conn(self) -> socket.socket:
        return _guarded(super()._new_conn(), self._guard)


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    pass


def _guarded(made: socket.socket, guard: Guard | None) -> socket.socket:
    """Return a new connection, to which nothing was sent, if its other end may be there."""
    if guard is not None:
        try:
            guard.require(made)
        except BaseException:
            made.close()
            raise
    return made


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
