"""`python -m cloister.downloader MODEL`: what `invoke download` runs, here or in a container."""

import os
import signal
import sys
from urllib.parse import urlsplit

from cloister.cleaning import printable
from cloister.errors import CloisterError, ModelStoreError

_INTERRUPTED = 130


def _require_endpoint() -> None:
    """Require an address that huggingface_hub does not stumble over when it is imported."""
    named = os.environ.get("HF_ENDPOINT")
    if not named:
        return
    try:
        address = urlsplit(named)
        usable = address.scheme in {"http", "https"} and address.hostname and address.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ModelStoreError(
            "HF_ENDPOINT is no address of a hub", hint="it is named like https://hub.example.org"
        )


def main() -> None:
    """Download one model; end with 4 and a line or two that say why when it cannot be had."""
    try:
        _require_endpoint()
        # Here, because it takes a second, in which Ctrl-C must not print a traceback either.
        from cloister.downloader import command  # noqa: PLC0415

        folder = command.run(sys.argv[1:])
    except CloisterError as error:
        _end(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end("interrupted; run it again: it goes on where it stopped", _INTERRUPTED)
    else:
        sys.stdout.write(f"{folder}\n")


def _end(said: str, code: int) -> None:
    sys.stderr.write(f"{printable(said)}\n")
    sys.stderr.flush()
    os._exit(code)  # streams that still wait must not hold it up


if __name__ == "__main__":
    main()
