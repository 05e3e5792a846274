"""Events that a suite's processes append to the file SUITE_EVENTS, as JSON lines.

The runner reads them while the suite runs. Without the variable nothing is recorded.
"""

import json
import os
from pathlib import Path

EVENTS = "SUITE_EVENTS"


def append(**event: object) -> None:
    """Append one event to the file that the variable names now."""
    append_to(os.environ.get(EVENTS), **event)


def append_to(path: str | None, **event: object) -> None:
    """Append one event to a file, if there is one."""
    if path:
        # One write to a file opened for appending: lines of several processes do not mix.
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
