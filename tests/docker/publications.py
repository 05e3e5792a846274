"""A publisher's clone and registries of others, as the tests of publishing use and break them."""

import contextlib
import json
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

PASSWORD = "correct horse"  # noqa: S105  # of a key that lives as long as the test
KINDS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",  # what engines push
)
ASK_S = 120  # of a registry on a machine that is busy
_STATED = re.compile(r"^sha256-[0-9a-f]{64}\.(sig|att)$")


def git(root: Path, *words: str) -> None:
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(root), *person, *words], check=True)


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=as it is")


@dataclass
class Clone:
    """A publisher's clone, with commands as a person types them, and a registry of its own."""

    root: Path
    environment: dict[str, str]
    registry: str

    def publish(self, *flags: str, code: int = 0, image: str = "gateway") -> str:
        return self.invoke(
            "images.publish", "--registry", self.registry, "--image", image, *flags, code=code
        ).stderr

    def told(self, *flags: str) -> dict[str, Any]:
        words = ("images.publish", "--registry", self.registry, "--image", "gateway", "--json")
        (told,) = json.loads(self.invoke(*words, *flags).stdout)
        return dict(told)

    def invoke(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert done.returncode == code, f"{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        if code:
            assert PASSWORD not in done.stderr
        return done

    def tags(self, image: str = "gateway") -> list[str]:
        """Return the tags that are ours to set, as the registry lists them."""
        host, _, path = self.registry.partition("/")
        answer = requests.get(f"http://{host}/v2/{path}/{image}/tags/list", timeout=ASK_S)
        return [tag for tag in answer.json().get("tags") or [] if not _STATED.match(tag)]

    def digest(self, tag: str) -> str:
        return digest_of(f"{self.registry}/gateway", tag)


def manifest(name: str, reference: str) -> requests.Response:
    host, _, path = name.partition("/")
    url = f"http://{host}/v2/{path}/manifests/{reference}"
    return requests.get(url, headers={"Accept": ", ".join(KINDS)}, timeout=ASK_S)


def digest_of(name: str, tag: str) -> str:
    return manifest(name, tag).headers["Docker-Content-Digest"]


def put(name: str, tag: str, content: bytes) -> str:
    """Put a manifest under a tag, as somebody else would; return its digest."""
    host, _, path = name.partition("/")
    kind = json.loads(content)["mediaType"]
    url = f"http://{host}/v2/{path}/manifests/{tag}"
    answer = requests.put(url, data=content, headers={"Content-Type": kind}, timeout=ASK_S)
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def delete(name: str, tag: str) -> None:
    """Take away a manifest with all its tags."""
    host, _, path = name.partition("/")
    url = f"http://{host}/v2/{path}/manifests/{digest_of(name, tag)}"
    requests.delete(url, timeout=ASK_S).raise_for_status()


def refused(clone: Clone, tag: str, key: Path, words: str) -> None:
    said = clone.invoke(
        "images.verify", f"{clone.registry}/gateway:{tag}", "--key", f"{key}.pub", code=16
    ).stderr
    assert words in said


def shim(clone: Clone, folder: Path, program: str, words: str, instead: str) -> None:
    """Put a program in the place of another: it does `instead` when its words match, once."""
    folder.mkdir()
    real = shutil.which(program, path=clone.environment["PATH"])
    (folder / program).write_text(
        f"#!/bin/bash\nreal={real}\n"
        f'if [[ "$*" =~ {words} ]] && mkdir {folder}/once 2>/dev/null; then\n{instead}\nfi\n'
        'exec $real "$@"\n'
    )
    (folder / program).chmod(0o755)
    path = f"{folder}:{clone.environment['PATH']}"
    clone.environment = {**clone.environment, "PATH": path}


@contextlib.contextmanager
def way(to: str, port: int, *, ends: bool = False) -> Iterator[str]:
    """Give an address that leads to a registry; one that `ends` carries nothing after one blob."""
    host, _, there = to.partition(":")
    over = threading.Event()

    def send(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := near.recv(1 << 14):
                if over.is_set():
                    return  # the sender waits
                far.sendall(piece)
            far.shutdown(socket.SHUT_WR)

    class Way(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            near: socket.socket = self.request
            with contextlib.suppress(OSError), socket.create_connection((host, int(there))) as far:
                sending = threading.Thread(target=send, args=(near, far))
                sending.start()
                while piece := far.recv(1 << 14):
                    if ends and b"HTTP/1.1 201 " in piece:
                        over.set()
                    near.sendall(piece)
                near.shutdown(socket.SHUT_RDWR)
                sending.join()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    with Server(("127.0.0.1", port), Way) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.shutdown()
