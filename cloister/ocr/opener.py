"""The process that opens input files: run as a script, with the standard library only.

A file may lie on a mount that hangs, never end, or not be a file at all. Whoever opens and reads
it may wait without an end, and not even Ctrl-C wakes it then. So this process does it, and the
client ends it, or leaves it behind.

A request is a line of JSON, with or without an open file; so is the answer. Dots in between, one a
second, say that bytes come.
"""

import ctypes
import errno
import hashlib
import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

# A slow share gives one of these before it looks dead: 2 KB a second are enough.
_CHUNK = 1 << 16
_A_DOT_S = 1.0
_REQUEST_BYTES = 1 << 16  # of a path, which the system holds to 4096 bytes
_PR_SET_PDEATHSIG = 1
LEADS_OUT = "a link that leads out of the folder, which is not followed"


class _Refused(Exception):  # noqa: N818  # no error of the program's
    """A file that is not read; the text says why."""


def main() -> None:
    """Answer requests on standard input, a socket, until it is closed."""
    if sys.platform == "linux":
        # Who hangs in a read does not see that the client is gone.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    client = socket.socket(fileno=0)
    while True:
        line, files, _, _ = socket.recv_fds(client, _REQUEST_BYTES, 1)
        while line and not line.endswith(b"\n"):
            line += client.recv(_REQUEST_BYTES)
        if not line:
            return
        request = json.loads(line)
        try:
            if request["do"] == "inspect":
                _inspect(client, request)
            else:
                _compare(client, request, _received(files))
        except _Refused as error:
            _answer(client, {"refused": str(error)})
        except OSError as error:
            reason = error.strerror or str(error)
            _answer(client, {"refused": reason, "errno": error.errno})
        for file in files:
            os.close(file)


def _answer(client: socket.socket, answer: dict[str, Any], files: tuple[int, ...] = ()) -> None:
    socket.send_fds(client, [json.dumps(answer).encode() + b"\n"], files)


def _inspect(client: socket.socket, request: dict[str, Any]) -> None:
    # Not to wait for a pipe's other end, and never to get a terminal.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file = os.open(os.fsencode(request["path"]), flags)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _Refused("not a regular file")
        _require_beneath(file, request["path"], request["root"])
        most = request["most_mib"]
        if found.st_size > most << 20:
            raise _Refused(f"larger than {most} MiB, which `ocr.max_file_mib` allows")
        signature, sha256 = _signature(found), None
        if signature != request["known"]:
            sha256 = _hashed(client, file, found.st_size)
            if _signature(os.fstat(file)) != signature:
                raise _Refused("it changed while it was read")
        os.lseek(file, 0, os.SEEK_SET)
        _answer(client, {"signature": signature, "sha256": sha256}, (file,))
    finally:
        os.close(file)


def _require_beneath(file: int, path: str, root: str | None) -> None:
    """Refuse what a link brought from outside the folder that was asked for.

    What counts is where the open file is, not what the path says: that may have changed since.
    """
    if root is None:
        return
    held = Path(f"/proc/self/fd/{file}")
    place = str(held.readlink()) if held.parent.is_dir() else os.path.realpath(path)
    top = os.path.realpath(root)
    if os.path.commonpath([top, place]) != top:
        raise _Refused(LEADS_OUT)


def _hashed(client: socket.socket, file: int, size: int) -> str:
    hashed, read, told_s = hashlib.sha256(), 0, time.monotonic()
    while chunk := os.read(file, _CHUNK):
        read += len(chunk)
        if read > size:  # it grows, or it is one of the kernel's that have no size
            raise _Refused("it has more bytes than its size says")
        hashed.update(chunk)
        if time.monotonic() - told_s >= _A_DOT_S:
            told_s = time.monotonic()
            client.send(b".")
    if read < size:
        raise _Refused("it has fewer bytes than its size says")
    return hashed.hexdigest()


def _received(files: list[int]) -> int:
    """Return the file that came with a request; the kernel drops it where too many are open."""
    if not files:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return files[0]


def _compare(client: socket.socket, request: dict[str, Any], file: int) -> None:
    """Tell whether an open file is what it was, and what the path's file is now."""
    try:
        by_path = _signature(Path(request["path"]).stat())
    except OSError:
        by_path = None
    found = os.fstat(file)
    same = _signature(found) == request["known"]
    # A new name of it, or none, changes its times too, and not its size.
    if not same and request["known"].partition(":")[0] == str(found.st_size):
        os.lseek(file, 0, os.SEEK_SET)
        try:
            same = _hashed(client, file, found.st_size) == request["sha256"]
        except _Refused:
            same = False  # somebody writes it
    _answer(client, {"path": by_path, "same": same})


def _signature(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


if __name__ == "__main__":
    main()
