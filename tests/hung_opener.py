"""The process that opens input files, with files that hang or change, as their path says.

`hung` and `drip` are on a mount whose server is gone or slow, which nobody can make without being
root; `longer`, `shorter` and `other` are written by somebody else while they are read. With
`late` it happens when the file is compared at its document's end. For `full` the system has no
further open files.
"""

import errno
import importlib.util
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[1] / "cloister" / "ocr" / "opener.py"

CHANGES = {"longer": b"0123456789", "shorter": b"0", "other": b"01234"}


def main() -> None:
    spec = importlib.util.spec_from_file_location("opener", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    opener: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(opener)
    inspect, compare = opener._inspect, opener._compare

    def hang(client: socket.socket, request: dict[str, Any]) -> None:
        if "late" not in request["path"]:
            happen(opener, client, request["path"])
        inspect(client, request)

    def hang_late(client: socket.socket, request: dict[str, Any], file: int) -> None:
        if "late" in request["path"]:
            happen(opener, client, request["path"])
        compare(client, request, file)

    opener._inspect, opener._compare = hang, hang_late
    opener.main()


def happen(opener: Any, client: socket.socket, path: str) -> None:
    """Do what a path says."""
    if "hung" in path:
        signal.pause()
    while "drip" in path:
        client.send(b".")
        time.sleep(0.01)
    if "full" in path:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
    for name, content in CHANGES.items():
        if name in path:
            change(opener, Path(path), content)


def change(opener: Any, path: Path, content: bytes) -> None:
    """Change a file once it is read."""
    read = opener.os.read

    def meanwhile(file: int, size: int) -> bytes:
        path.write_bytes(content)
        opener.os.read = read
        return bytes(read(file, size))

    opener.os.read = meanwhile


if __name__ == "__main__":
    main()
