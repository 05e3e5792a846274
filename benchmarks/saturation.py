"""False alarms: a fleet whose queue is always full, for half an hour, and what the watchdog did.

Run as `nox -s bench-saturation [-- --minutes 30]`; prints a Markdown line. The time-outs are the
defaults. Ends with code 1 when a replica was restarted or a page was lost.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deployments import Stack, free_ports
from fleets import events
from load import load
from pages import data_url, encoded, page, request

from cloister import console

_REPLICAS, _WORKERS = 2, 1
_CLIENTS = 24
_PATIENCE_S = 60.0


def main() -> None:
    """Run it and say what happened."""
    parser = argparse.ArgumentParser(prog="benchmarks.saturation", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    state = Path(tempfile.mkdtemp(prefix="cloister-"))
    state.chmod(0o755)
    (state / "cloister.yaml").touch()
    settings = {
        "CLOISTER_REPLICAS": str(_REPLICAS),
        "CLOISTER_TESSERACT_WORKERS": str(_WORKERS),
    }
    stack = Stack(state, free_ports(20), settings)
    text = "\n".join("The quick brown fox jumps over the lazy dog 2345" for _ in range(12))
    body = request(data_url(encoded(page(text))))
    try:
        stack.invoke("up")
        before, pids = len(events(stack)), stack.pids()
        waiting = []
        with load(stack.url, at_once=_CLIENTS, page=body, patience_s=_PATIENCE_S) as outcome:
            until_s = time.monotonic() + minutes * 60
            while time.monotonic() < until_s:
                time.sleep(5)
                programs = stack.json("status")["programs"]
                waiting.append(sum(program["waiting"] or 0 for program in programs))
        done, restarted = events(stack)[before:], stack.pids() != pids
    finally:
        stack.invoke("down")
        shutil.rmtree(state)
    console.show("| minutes | pages | lost | pages waiting, least / median | restarts | events |")
    console.show("| --- | --- | --- | --- | --- | --- |")
    middle = sorted(waiting)[len(waiting) // 2]
    console.show(
        f"| {minutes:g} | {outcome.answered} | {outcome.lost} | {min(waiting)} / {middle} "
        f"| {'some' if restarted else 0} | {len(done)} |"
    )
    for event in done:
        console.say(str(event))
    sys.exit(bool(restarted or outcome.lost or done))


if __name__ == "__main__":
    main()
