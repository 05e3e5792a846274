"""A model hub of our own, as far as huggingface_hub asks it."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One model's files; `corrupt` names one whose bytes are not what the hub says of it."""

    model: str
    files: Mapping[str, bytes]
    corrupt: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 100}
            return {**entry, "oid": "0" * 40}
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324  # git's own
        return {**entry, "oid": blob.hexdigest()}

    def etag(self, name: str) -> str:
        entry = self.entry(name)
        return str(entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on every address of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(path)
            name = path.removeprefix(f"/{hub.model}/resolve/{COMMIT}/")
            if path == f"/api/models/{hub.model}/tree/{COMMIT}":
                self._answer(json.dumps([hub.entry(name) for name in hub.files]).encode())
            elif path.startswith(f"/api/models/{hub.model}"):
                siblings = [{"rfilename": name} for name in hub.files]
                about = {"id": hub.model, "sha": COMMIT, "siblings": siblings}
                self._answer(json.dumps(about).encode())
            elif name in hub.files:
                content = hub.files[name]
                wrong = bytes(len(content)) if name == hub.corrupt else content
                self._answer(wrong, hub.etag(name))
            else:
                self._answer(b"{}", status=404)

        do_HEAD = do_GET  # noqa: N815  # the name that the server looks for

        def _answer(self, body: bytes, etag: str = "", status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if etag:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)  # noqa: S104  # containers come here
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
