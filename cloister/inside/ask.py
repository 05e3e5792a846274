"""One HTTP request from inside a container, its answer as one line of JSON.

Run as `python3 -m cloister.inside.ask URL [BODY]`: a POST of JSON when there is a body. Ends with
code 0 for any answer below 400, else 1. Standard library only.
"""

import argparse
import http.client
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloister import bounded, sockets
from cloister.endpoint import UNIX_SCHEME


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status, 0 and the reason as `body` when nothing did."""

    status: int
    headers: dict[str, str]
    body: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = sockets.connect(self._path, self.timeout)


def ask(url: str, body: str | None = None, *, timeout_s: float) -> Answer:
    """Send one request, past any proxy that the environment names; a redirect is an answer."""
    parts = urlsplit(url)
    try:
        connection = (
            _UnixConnection(Path(unquote(parts.netloc)), timeout_s)
            if parts.scheme == UNIX_SCHEME
            else http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        )
        connection.response_class = bounded.Answer
        try:
            connection.request(
                "GET" if body is None else "POST",
                (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                body=None if body is None else body.encode(),
                headers={} if body is None else {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(0, {}, str(error) or type(error).__name__)
    return Answer(answer.status, dict(answer.headers), text)


def main() -> None:
    """Print the answer."""
    parser = argparse.ArgumentParser(prog="cloister.inside.ask", description=__doc__)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    parser.add_argument("url")
    parser.add_argument("body", nargs="?")
    options = parser.parse_args()
    answer = ask(options.url, options.body, timeout_s=options.timeout_s)
    json.dump(asdict(answer), sys.stdout)
    sys.exit(0 if 0 < answer.status < 400 else 1)  # noqa: PLR2004  # HTTP's first error


if __name__ == "__main__":
    main()
