"""The worker process: draws one page at a time, within limits, and says so on its standard output.

A job is a line of JSON. So is the answer; an image follows it, as long as the line says.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from cloister.rendering.drawing import Drawing, UnreadableError
from cloister.rendering.source import Source

_OPEN_FILES = 32
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer jobs until standard input ends; the argument is the memory in MiB."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _confine(int(sys.argv[1]) << 20)
    answers.write(b"\n")  # ready; up to here a traceback is worth seeing
    answers.flush()
    # Libraries print over broken files, and what they print must not look like an answer.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    source = Source()
    for line in jobs:
        _answer(source, json.loads(line), answers)
        answers.flush()


def _answer(source: Source, job: dict[str, Any], answers: BinaryIO) -> None:
    image = b""
    try:
        answer, image = _done(source, job)
    except UnreadableError as error:
        answer = {"unreadable": error.message}
    except MemoryError:
        source.close()
        answer = {"memory": True}
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.write(image)


def _done(source: Source, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    pages = source.open(Path(job["path"]))
    if job["do"] == "count":
        return {"count": pages.count}, b""
    if job["do"] == "blank":
        first, of = job["part"]
        return {"blank": pages.blank(job["number"], (first, of))}, b""
    drawing = job["drawing"]
    drawn = pages.draw(job["number"], Drawing(**{**drawing, "part": tuple(drawing["part"])}))
    answer = {
        "mime": drawn.mime,
        "width": drawn.width,
        "height": drawn.height,
        "text": drawn.text,
        "rebuilt": drawn.rebuilt,
        "bytes": len(drawn.image),
    }
    return answer, drawn.image


def _confine(memory_bytes: int) -> None:
    """Limit what a document that takes this process over, or is merely huge, can do."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if sys.platform != "linux":
        return  # other kernels do not keep to RLIMIT_AS; the end of standard input ends a worker
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    space = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    # A worker that is busy when the parent is killed would not see the end of its input. The
    # signal comes when the thread that started it ends, which is after the worker's own end.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
