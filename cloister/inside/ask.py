"""One HTTP request from inside a container, its answer as one line of JSON.

Run as `python3 -m cloister.inside.ask URL [BODY]`: a POST of JSON when there is a body. Ends with
code 0 for any answer below 400, else 1. Standard library only.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status, 0 and the reason as `body` when nothing did."""

    status: int
    headers: dict[str, str]
    body: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Leave a redirect as it is: it is an answer."""


def ask(
    url: str, body: str | None = None, *, method: str | None = None, timeout_s: float
) -> Answer:
    """Send one request, past any proxy that the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    request = urllib.request.Request(  # noqa: S310  # the caller's URL, http by contract
        url,
        data=None if body is None else body.encode(),
        headers={} if body is None else {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            text = answer.read().decode(errors="replace")
            return Answer(answer.status, dict(answer.headers), text)
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read().decode(errors="replace"))
    except (OSError, ValueError) as error:
        return Answer(0, {}, str(getattr(error, "reason", error)))


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
