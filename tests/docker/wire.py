"""What passes over any interface of this machine, as tcpdump sees it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ALL = 0x0003  # ETH_P_ALL, <linux/if_ether.h>
_MOST_BYTES = 65_535
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER_BYTES = 64 << 20
_SOL_PACKET, _STATISTICS = 263, 6  # <linux/socket.h>, <linux/if_packet.h>


class Wire:
    """The frames that had one of some words in them, with the interface that they were seen on."""

    def __init__(self, words: tuple[bytes, ...], tap: socket.socket) -> None:
        self._words, self._tap = words, tap
        self._guard = threading.Lock()
        self._seen: dict[bytes, list[str]] = {word: [] for word in words}

    def seen(self, word: bytes) -> list[str]:
        with self._guard:
            return list(self._seen[word])

    def count_dropped(self) -> int:
        """Return how many frames came too fast to be looked at, since the last time."""
        frames = self._tap.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        return int(struct.unpack("II", frames)[1])

    def look(self, frame: bytes, interface: str) -> None:
        with self._guard:
            for word in self._words:
                if word in frame:
                    self._seen[word].append(interface)


@contextmanager
def listening(*words: bytes) -> Iterator[Wire]:
    """Look at every frame of every interface until the block ends; needs root.

    Frames are looked at in the order in which they passed.
    """
    done = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        tap.settimeout(0.2)
        wire = Wire(words, tap)

        def look() -> None:
            while not done.is_set():
                try:
                    frame, address = tap.recvfrom(_MOST_BYTES)
                except TimeoutError:
                    continue
                wire.look(frame, address[0])

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield wire
        finally:
            done.set()
            thread.join()
