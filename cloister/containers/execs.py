"""Commands inside a container, within a time limit, which the SDK's own `exec_run` does not have.

Docker keeps the connection of a command open when its container is removed, so that reading it to
its end never returns. And `exec_run` loses output that arrives in one piece with Docker's headers
(docker-py issue 2042): on a busy machine, one command in some 200.
"""

import select
import ssl
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from io import BufferedReader
from typing import Any

from docker.models.containers import Container
from docker.utils.socket import STDERR, STDOUT, read

_LOOK_S = 5.0
_CHUNK_BYTES = 65536  # no record of TLS is longer: none of it waits where poll does not see it
_HEADER = struct.Struct(">BxxxL")  # of each piece of output: its stream and its size


def execute(
    container: Container, command: Sequence[str], *, within_s: float
) -> tuple[int | None, bytes, bytes]:
    """Run a command inside a container; return its exit code, output and errors.

    Raises TimeoutError when it does not end in time, NotFound when the container is removed
    meanwhile, and ConnectionError when a part of the output is missing. The exit code is None when
    Docker closed the connection before the command ended.
    """
    client: Any = container.client
    api = client.api
    identity = api.exec_create(container.id, list(command))["Id"]
    connection = api.exec_start(identity, socket=True)
    # The SDK keeps the answer there. Closing the file that it returns would leave its socket open.
    with closing(connection._response):  # noqa: SLF001
        output = _read_all(connection, container, within_s)
    streams = _split(output)
    code: int | None = api.exec_inspect(identity)["ExitCode"]
    return code, streams[STDOUT], streams[STDERR]


def _read_all(connection: Any, container: Container, within_s: float) -> bytes:
    deadline = time.monotonic() + within_s
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    output = bytearray(_take_buffered(connection))
    while (remaining_s := deadline - time.monotonic()) > 0:
        if poll.poll(min(_LOOK_S, remaining_s) * 1000):
            chunk = read(connection, _CHUNK_BYTES)
            if not chunk:
                return bytes(output)
            output += chunk
        else:
            container.reload()
    raise TimeoutError(f"no end within {within_s:g} s")


def _take_buffered(connection: Any) -> bytes:
    """Return what came with the headers: the SDK's answer keeps it, and reads past it."""
    reader = connection._response.raw._fp.fp  # noqa: SLF001
    if not isinstance(reader, BufferedReader):  # a connection by SSH has no buffer
        return b""
    socket: Any = reader.raw
    timeout_s = socket._sock.gettimeout()  # noqa: SLF001
    socket._sock.settimeout(0)  # noqa: SLF001  # where nothing came, nothing is waited for
    try:
        return reader.read(len(reader.peek()))
    except ssl.SSLWantReadError:
        return b""
    finally:
        socket._sock.settimeout(timeout_s)  # noqa: SLF001


def _split(output: bytes) -> dict[int, bytes]:
    """Return what Docker sent, by stream; an incomplete header at the end is left out."""
    streams = {STDOUT: b"", STDERR: b""}
    at = 0
    while at + _HEADER.size <= len(output):
        stream, size = _HEADER.unpack_from(output, at)
        at += _HEADER.size
        if stream not in streams:
            raise ConnectionError("its output is incomplete")
        streams[stream] += output[at : at + size]
        at += size
    return streams
