"""Run as `python -m cloister.watchdog --state-dir FOLDER`, kept alive by the supervisor."""

import argparse
import logging
import os
import signal
import threading
from pathlib import Path

from cloister.config import Settings
from cloister.watchdog.notes import log_errors
from cloister.watchdog.watch import Watch

_AFTER_ERROR_S = 2.0
# Of one step of a round: at most a change of the gateway, which bounds all that it waits for.
_HUNG_S = 300


def main() -> None:
    """Watch until SIGTERM; what cannot be done in one round is said and tried in the next.

    Where one step of a round hangs, SIGALRM ends this process, and its supervisor starts it again.
    """
    parser = argparse.ArgumentParser(prog="cloister.watchdog", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    watch = Watch(Settings(state_dir=options.state_dir), _arm)
    pause_s = 0.0
    while not over.wait(pause_s):
        pause_s = _AFTER_ERROR_S
        _arm()
        with log_errors("this round"):
            pause_s = watch.round()
        signal.alarm(0)
    logging.shutdown()
    os._exit(0)  # threads may wait minutes for a test page, and nobody for them


def _arm() -> None:
    signal.alarm(_HUNG_S)


if __name__ == "__main__":
    main()
