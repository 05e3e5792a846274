"""A model hub of our own, as far as huggingface_hub asks it, with faults on demand."""

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_SLICE = 1 << 14


def safetensors(size: int, names: tuple[str, ...] = ("weight",), seed: int = 0) -> bytes:
    """Return a real file of that format with about `size` bytes of tensors."""
    each = max(2, size // len(names) // 2 * 2)
    offsets = range(0, each * len(names) + 1, each)
    header = {
        name: {"dtype": "BF16", "shape": [each // 2], "data_offsets": [first, first + each]}
        for name, first in zip(names, offsets, strict=False)
    }
    text = json.dumps(header).encode()
    digests = (hashlib.sha512(b"%d %d" % (seed, n)).digest() for n in range(size // 64 + 64))
    return struct.pack("<Q", len(text)) + text + b"".join(digests)[: each * len(names)]


def model(shards: int = 3, shard_bytes: int = 400_000) -> dict[str, bytes]:
    """Return the files of a model of several shards, as the hub would have them."""
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "tie_word_embeddings": True,
        "max_position_embeddings": 128000,
    }
    names = [f"model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps({"words": ["page"] * 2000}).encode(),
        "merges.txt": b"a b\n" * 3000,
        "chat_template.jinja": b"{{ messages }}",
        **{name: safetensors(shard_bytes, seed=n) for n, name in enumerate(names)},
    }


@dataclass
class Hub:
    """One model's files at one commit, and what is wrong with the hub.

    Every fault is by the name of a file: `wrong` has other bytes of the right size, `short` are
    cut for ever, `cuts` says after which share of a file each connection is cut, `statuses` are
    answered one after the other before the file itself (also for `api`). `stalls`, by a part of the
    address, holds the answer back, or drips the `head` or the `body` of one. `pace` is in bytes a
    second, of each connection. `raw`, by a part of the address, is the headers and the content that
    are answered until the client goes. While `hold` bytes are `sent` in all, no more are.
    `connections` counts the open ones.
    """

    name: str
    files: dict[str, bytes]
    branch: str = "main"
    card: Mapping[str, Any] = field(default_factory=dict)
    entries: list[dict[str, Any]] | None = None
    wrong: set[str] = field(default_factory=set)
    short: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    stalls: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: dict[str, tuple[dict[str, str], Iterable[bytes]]] = field(default_factory=dict)
    ranges: bool = True
    token: str | None = None
    gated: bool = False
    commit: str = COMMIT
    pace: int | None = None
    hold: int | None = None
    elsewhere: str | None = None
    port: int = 0
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    connections: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def size(self) -> int:
        return sum(len(content) for content in self.files.values())

    def entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
        if name.endswith((".safetensors", ".bin")):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 100}
            return {**entry, "oid": "0" * 40}
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324  # git's own
        return {**entry, "oid": blob.hexdigest()}

    def tree(self) -> list[dict[str, Any]]:
        return [self.entry(name) for name in self.files] if self.entries is None else self.entries

    def etag(self, name: str) -> str:
        entry = self.entry(name)
        return str(entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        with self.hub.guard:
            self.hub.connections += 1
        super().setup()
        # What a killed client never read must not count as brought.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SLICE)

    def finish(self) -> None:
        super().finish()
        with self.hub.guard:
            self.hub.connections -= 1

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(self.path.partition("?")[0])
        with hub.guard:
            hub.asked.append(path)
            hub.tokens.append(self.headers.get("Authorization"))
        api = f"/api/models/{hub.name}"
        found = re.fullmatch(rf"/{re.escape(hub.name)}/resolve/([^/]+)/(.+)", path)
        key = found[2] if found else "api"
        stalls = [stall for part, stall in hub.stalls.items() if part in path]
        raw = [answer for part, answer in hub.raw.items() if part in path]
        if stalls:
            self._stall(stalls[0])
        elif raw:
            self._raw(*raw[0])
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._refuse(401, "GatedRepo" if hub.gated else "RepoNotFound")
        elif hub.gated:
            self._refuse(403, "GatedRepo")
        elif status := self._next_status(key):
            self._refuse(status, "")
        elif path == f"{api}/tree/{hub.commit}":
            self._json(hub.tree())
        elif path in {api, f"{api}/revision/{hub.branch}", f"{api}/revision/{hub.commit}"}:
            siblings = [{"rfilename": name} for name in hub.files]
            about = {"id": hub.name, "sha": hub.commit, "siblings": siblings, "cardData": hub.card}
            self._json(about)
        elif path.startswith(f"{api}/revision/"):
            self._refuse(404, "RevisionNotFound")
        elif found and key in hub.files and found[1] == hub.commit:
            self._file(key)
        else:
            self._refuse(404, "EntryNotFound" if found else "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815  # the name that the server looks for

    def _stall(self, how: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
        drops = {"hold": b"", "head": head, "body": b" " * 1000}[how]
        if how == "body":
            self.wfile.write(head + b"\r\n")
        self.close_connection = True
        with contextlib.suppress(OSError):
            for drop in drops:
                self.wfile.write(bytes([drop]))
                if self.hub.closed.wait(0.2):
                    return
            self.hub.closed.wait()

    def _raw(self, headers: Mapping[str, str], content: Iterable[bytes]) -> None:
        self.close_connection = True
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            for part in content:
                self.wfile.write(part)

    def _next_status(self, key: str) -> int | None:
        with self.hub.guard:
            waiting = self.hub.statuses.get(key, [])
            return waiting.pop(0) if waiting else None

    def _refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._answer(b"{}", status, {**headers, **self.hub.headers})

    def _json(self, value: object) -> None:
        self._answer(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def _answer(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, name: str) -> None:
        hub, content = self.hub, self.hub.files[name]
        if hub.elsewhere and self.command == "GET":
            self._answer(b"", 302, {"Location": f"{hub.elsewhere}{self.path}"})
            return
        if name in hub.wrong:
            content = bytes(len(content))
        content = content[: hub.short.get(name, len(content))]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and hub.ranges else 0
        body = content[start:]
        headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.commit}
        if asked and hub.ranges:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if asked and hub.ranges else 200)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            end = int(len(content) * hub.cuts[name]) if name in hub.cuts else len(body)
            self._send(name, body[:end])
            self.close_connection = end < len(body)

    def _send(self, name: str, body: bytes) -> None:
        size = min(_SLICE, max(1, self.hub.pace // 20)) if self.hub.pace else _SLICE
        for first in range(0, len(body), size):
            part = body[first : first + size]
            while self.hub.hold is not None and sum(self.hub.sent.values()) >= self.hub.hold:
                time.sleep(0.001)
            try:
                self.wfile.write(part)
            except OSError:  # the client was killed, as it should be
                self.close_connection = True
                return
            with self.hub.guard:
                self.hub.sent[name] += len(part)
            if self.hub.pace:
                time.sleep(len(part) / self.hub.pace)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients are killed here."""


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on every address of this machine until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("0.0.0.0", 0), handler)  # noqa: S104  # containers come here
    hub.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05))
    thread.start()
    try:
        yield hub
    finally:
        hub.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
