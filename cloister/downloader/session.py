"""The connection to a hub: what it answers is bounded before anything is made of it.

huggingface_hub reads an answer of any size, packed as well, follows the links of a listing without
an end, and takes JSON of any depth. A mirror, or whoever sits in its place, may send all of these.
"""

import functools
from collections.abc import Iterator

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from cloister import datafiles
from cloister.datafiles import DataError
from cloister.errors import ModelStoreError

# For a request whose answer is a file of a model, which its reader bounds by the listed size.
FILE = {"cloister_file": True}
_MOST_BYTES = 16 << 20  # a listing of 1,000 files is some 300 KB
_MOST_ANSWERS = 1000
_FILE_STATUSES = frozenset({httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT})


def begin() -> None:
    """Let huggingface_hub make its connections here, and count answers from 0 on."""
    _install()
    _BOUNDS.answers = 0


@functools.cache
def _install() -> None:
    set_client_factory(_client)  # which closes the connections that are there


def unlike(why: str) -> ModelStoreError:
    """Return the error for an answer that no hub gives."""
    return ModelStoreError(
        f"the server does not answer like a model hub: {why}", hint="check HF_ENDPOINT"
    )


def _client() -> httpx2.Client:
    made = default_client_factory()
    hooks = made.event_hooks
    made.event_hooks = {
        "request": [*hooks["request"], _ask_plain],
        "response": [*hooks["response"], _BOUNDS],
    }
    return made


def _ask_plain(request: httpx2.Request) -> None:
    # A packed answer could become any size.
    request.headers["Accept-Encoding"] = "identity"


class _Bounds:
    """Reads answers within bounds, and counts them."""

    answers = 0

    def __call__(self, response: httpx2.Response) -> None:
        is_file = "cloister_file" in response.request.extensions
        if is_file and response.status_code in _FILE_STATUSES:
            return
        self.answers += not is_file
        if self.answers > _MOST_ANSWERS:
            raise unlike(f"it gave more than {_MOST_ANSWERS:,} answers")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise unlike("its answer is packed, which nobody asked for")
        response.stream = _Bounded(response.stream)
        if response.status_code == httpx2.codes.OK:
            response.read()
            try:
                datafiles.check_json(response.content)
            except DataError as error:
                raise unlike(str(error)) from None


class _Bounded(httpx2.SyncByteStream):
    """An answer's bytes; reading too many of them raises ModelStoreError."""

    def __init__(self, stream: object) -> None:
        if not isinstance(stream, httpx2.SyncByteStream):
            raise TypeError("an answer that cannot be read in pieces")
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_BYTES:
                raise unlike(f"an answer is larger than {_MOST_BYTES:,} bytes")
            yield chunk

    def close(self) -> None:
        self._stream.close()


_BOUNDS = _Bounds()
