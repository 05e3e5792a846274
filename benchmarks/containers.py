"""Pages a second through sealed containers, against containers on a network and processes.

The stacks are up at once and read the same pages in turns; only one of them has work at a time.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.engine import make_pages, report, served
from cloister import config, deployment

# The ratio is that of the last to the first: sockets to TCP.
_SIDES = {
    "network": ("runtime=docker", "docker.engine_network=internal"),
    "processes": ("runtime=process",),
    "sealed": ("runtime=docker",),
}


def main() -> None:
    """Run the sides in turns; print medians, and the ratio of sealed containers to a network's."""
    parser = argparse.ArgumentParser(prog="nox -s bench-containers --", description=__doc__)
    parser.add_argument("--pages", type=int, default=30, help="pages a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="turns a side (%(default)s)")
    parser.add_argument("--tag", default=None, help="tag of the images (default: this version)")
    arguments = parser.parse_args()
    pages = make_pages(arguments.pages)
    sides = {}
    with ExitStack() as cleanup:
        for number, (name, own) in enumerate(_SIDES.items()):
            state = cleanup.enter_context(tempfile.TemporaryDirectory())
            Path(state).chmod(0o755)
            flags = [
                *(*own, "engine=tesseract", f"state_dir={state}"),
                f"gateway.port={18001 + 100 * number}",
                f"docker.project=cloister-bench-{number}",
                f"docker.subnet=172.30.{250 + number}.0/24",
                *([f"docker.tag={arguments.tag}"] if arguments.tag else []),
            ]
            settings = config.load(flags=flags, environ={}).settings
            cleanup.callback(deployment.down, settings)
            planned = deployment.up(settings, lambda _: None).plan
            sides[name] = served(planned.url, planned.slots + 1)
        report(sides, pages, arguments.turns)


if __name__ == "__main__":
    main()
