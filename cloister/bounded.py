"""HTTP answers that end: of so many bytes, and within so many seconds.

A socket's time-out is between two reads, and `read()` has no limit: a server that sends a byte a
second keeps its client, and one that never stops fills the client's memory. Standard library only:
this runs inside the engines' images.
"""

import errno
import http.client
import io
import os
import socket
import time
from typing import Any

# Of one answer, headers included: a streamed page has some 300 bytes a token.
MOST_BYTES = 32 << 20
# Of one engine's metrics, which take a hundred times as long to parse as to receive.
MOST_METRICS_BYTES = 4 << 20
# Of one answer: no model has a context of 16 million tokens.
_MOST_TOKENS = 1 << 24


def tokens(told: object) -> int | None:
    """Return a count of tokens that an engine told, None where it can be none."""
    if not isinstance(told, int) or isinstance(told, bool):
        return None
    return told if 0 <= told <= _MOST_TOKENS else None


class Answer(http.client.HTTPResponse):
    """An answer that raises OSError at the end of its time or of MOST_BYTES.

    Its time is the socket's time-out, and is for all of it, headers included. A compressed one,
    which could become any size, is an HTTPException.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._reader = _Reader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the headers."""
        super().begin()
        encoding = self.getheader("Content-Encoding", "identity")
        if encoding != "identity":
            self.close()
            raise http.client.HTTPException("the answer is compressed, which nobody asked for")

    def stream(self) -> None:
        """Let the body take longer: from now on the time-out is between two reads."""
        self._reader.until_s = None


class _Reader(io.RawIOBase):
    """What a socket receives, until its time or its bytes are over."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock, self._raw, self._left = sock, raw, MOST_BYTES
        self._timeout_s = sock.gettimeout()
        self.until_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left_s())
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return count

    def _left_s(self) -> float | None:
        if self.until_s is None:
            return self._timeout_s
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no whole answer within {self._timeout_s:g} s")
        return left_s

    def close(self) -> None:
        self._raw.close()
        super().close()
