"""`nox -s loadtest -- ...`: the flags, and what is printed."""

import argparse
import signal
import sys
from pathlib import Path

from cloister import console
from cloister.errors import CloisterError
from cloister.loadtest.shapes import SHAPES
from loadtests import command

INTERRUPTED = 130  # 128 + SIGINT, as shells say
_MOST = 1e9  # inf and nan are numbers too


def count(text: str) -> int:
    """Return a flag's whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"`{text}` is no number from 1 on")
    return int(text)


def positive(text: str) -> float:
    """Return a flag's number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < _MOST:
        raise argparse.ArgumentTypeError(f"`{text}` is no number above 0")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the flags."""
    made = argparse.ArgumentParser(
        prog="nox -s loadtest --",
        description="Send pages of documents to a service, and report how many it reads a second, "
        "how soon, how well, and what limits it. Without --url: what is up on this machine, or "
        "else an embedded service for the occasion.",
    )
    what = made.add_argument_group("what is tested")
    what.add_argument("--url", help="a service elsewhere, such as https://ocr.example.org")
    what.add_argument("--key-file", type=Path, help="file with its API key (or CLOISTER_API_KEY)")
    what.add_argument("--model", help="the model to ask for (the configured one)")
    what.add_argument("--direct", action="store_true", help="each load without the gateway too")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    pages = made.add_argument_group("which pages")
    pages.add_argument(
        "--workload", help="a name or a YAML file (mixed; quick where nothing is up)"
    )
    pages.add_argument("--documents", nargs="+", metavar="PATH", help="your own instead")
    pages.add_argument("--seed", type=int, default=1, help="the same seed, the same pages")
    pages.add_argument("--synthetic", action="store_true", help="draw lengths: noise for weights")
    load = made.add_argument_group("which load")
    load.add_argument("--shape", choices=SHAPES, default="ladder", help="when pages are sent")
    load.add_argument(
        "--seconds", type=positive, help="of a rung, or in all (30; 10 where nothing is up)"
    )
    load.add_argument("--rate", type=positive, help="pages a second, for all but ladder and replay")
    load.add_argument("--users", type=count, help="clients of a soak in closed loop")
    load.add_argument("--first", type=count, default=1, help="clients of the ladder's first rung")
    load.add_argument(
        "--last", type=count, help="clients of its last rung at most (64; 8 where nothing is up)"
    )
    load.add_argument("--log", type=Path, help="the access log that is replayed")
    slo = made.add_argument_group("what is expected (the workload's own)")
    slo.add_argument("--ttft-p95-s", type=positive, help="seconds to the first text")
    slo.add_argument("--e2e-p95-s", type=positive, help="seconds to the whole page")
    slo.add_argument("--fault-share", type=float, help="share of pages that may fail")
    crew = made.add_argument_group("who sends")
    crew.add_argument("--processes", type=count, default=1, help="processes of this machine")
    crew.add_argument("--workers", type=int, default=0, help="Locust workers elsewhere to wait for")
    crew.add_argument(
        "--web", type=count, nargs="?", const=8089, help="Locust's own page, at a port"
    )
    crew.add_argument("--no-self-check", action="store_true", help="trust the client")
    made.add_argument("--out", type=Path, help="folder of the report (reports/<time>)")
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


def main() -> None:
    """Run it; a user's error is one or two lines and an exit code."""
    flags = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        complete = command.run(flags)
    except CloisterError as error:
        console.say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before anything was measured
        complete = False
    if not complete:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
