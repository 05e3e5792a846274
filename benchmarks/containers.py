"""Pages a second through sealed containers against the same engine and gateway as processes.

Both stacks are up at once and read the same pages in turns; only one of them has work at a time.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.engine import make_pages, report, served
from cloister import config, deployment


def main() -> None:
    """Run both sides in turns and print medians and ratio."""
    parser = argparse.ArgumentParser(prog="nox -s bench-containers --", description=__doc__)
    parser.add_argument("--pages", type=int, default=30, help="pages a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="turns a side (%(default)s)")
    parser.add_argument("--tag", default=None, help="tag of the images (default: this version)")
    arguments = parser.parse_args()
    pages = make_pages(arguments.pages)
    sides = {}
    with ExitStack() as cleanup:
        for port, runtime in ((18001, "process"), (18201, "docker")):
            state = cleanup.enter_context(tempfile.TemporaryDirectory())
            Path(state).chmod(0o755)
            flags = [
                *(f"runtime={runtime}", "engine=tesseract", f"state_dir={state}"),
                *(f"gateway.port={port}", f"engines.first_port={port + 100}"),
                *("docker.project=cloister-bench", "docker.subnet=172.30.250.0/24"),
                *([f"docker.tag={arguments.tag}"] if arguments.tag else []),
            ]
            settings = config.load(flags=flags, environ={}).settings
            cleanup.callback(deployment.down, settings)
            planned = deployment.up(settings, lambda _: None).plan
            sides[runtime] = served(planned.url, planned.slots + 1)
        report(sides, pages, arguments.turns)


if __name__ == "__main__":
    main()
