"""HTTP over Unix sockets for requests, at the URLs that `cloister.endpoint` gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from cloister import bounded, sockets
from cloister.endpoint import UNIX_SCHEME, UnixSocket

PREFIX = f"{UNIX_SCHEME}://"


def below(folder: Path) -> str:
    """Return what the URLs of all sockets below a folder begin with; pure."""
    return f"{UnixSocket(folder).url}%2F"


class UnixAdapter(HTTPAdapter):
    """Carries requests of one session to the sockets that their URLs name.

    requests-unixsocket would follow a link in the socket's place, to any other server.
    """

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,  # noqa: FBT001  # the base's signature
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> urllib3.HTTPConnectionPool:
        """Return the pool of the connections to one socket."""
        del verify, proxies, cert
        path = unquote(urlsplit(str(request.url)).netloc)
        return self._pool(Path(path))

    def request_url(
        self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None
    ) -> str:
        """Return the path and the query, which is all that the server is told."""
        del proxies
        return str(request.path_url)

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()
        super().close()

    def __init__(self) -> None:
        super().__init__()
        self._pools: dict[Path, _Pool] = {}

    def _pool(self, path: Path) -> "_Pool":
        return self._pools.setdefault(path, _Pool(path))


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> "_Connection":
        return _Connection(self._path, timeout=self.timeout.connect_timeout)


class _Connection(urllib3.connection.HTTPConnection):
    response_class = bounded.Answer

    def __init__(self, path: Path, timeout: Any) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def _new_conn(self) -> Any:
        timeout = self.timeout if isinstance(self.timeout, float | int) else None
        try:
            return sockets.connect(self._path, timeout)
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise urllib3.exceptions.NewConnectionError(self, reason) from error
