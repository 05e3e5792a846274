"""Another user of the machine, and the folders of root: no page is read, forged or lost by them.

These need root, or `sudo` without a password: docs/testing.md.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import neighbours
import psutil
import pytest
import requests
from deployments import SAMPLES, Stack, deployed, eventually
from pages import data_url, request

from cloister import canary, chat, config, deployment
from cloister.errors import DeploymentError
from cloister.layout import Layout
from cloister.runtimes import GATEWAY

ATTEMPTS = Path(__file__).with_name("neighbour.py").read_text()
HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
# Takes a port as soon as it is free, answers everything, and says how much it got.
SQUAT = """
import select, socket, sys
print("begun", flush=True)
answer = b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}'
server, got = None, 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    if server is None:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.settimeout(0.05)
        try:
            server.bind(("127.0.0.1", int(sys.argv[1])))
            server.listen()
            print("taken", flush=True)
        except OSError:
            server = None
            continue
    try:
        client, _ = server.accept()
    except TimeoutError:
        continue
    got += len(client.recv(1 << 20))
    client.sendall(answer)
    client.close()
print(f"over: {'taken' if server else 'not taken'}, {got} bytes", flush=True)
"""
# Accepts nothing before the end: until then the kernel does not know whose the connections are.
LISTEN_AND_WAIT = """
import socket, sys, time
print("begun", flush=True)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        server.bind(("127.0.0.1", int(sys.argv[1])))
        server.listen()
        break
    except OSError:
        time.sleep(0.001)
print("taken", flush=True)
sys.stdin.read()
server.setblocking(False)
got = 0
try:
    while True:
        client, _ = server.accept()
        got += len(client.recv(1 << 20))
except BlockingIOError:
    print(f"over: taken, {got} bytes", flush=True)
"""
# Beside a program that listens on an IPv4 address, as anybody may.
LISTEN_BY_IPV6 = """
import socket, sys
server = socket.socket(socket.AF_INET6)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
server.bind(("::", int(sys.argv[1])))
server.listen()
print("begun", flush=True)
sys.stdin.read()
"""
PLACE = {"replicas": 1, "tesseract_workers": 1, "healing_canary_s": 3600}


@contextmanager
def umask(mode: int) -> Iterator[None]:
    before = os.umask(mode)
    try:
        yield
    finally:
        os.umask(before)


def read_large_page(stack: Stack, headers: dict[str, str] | None = None) -> str:
    body = request(data_url(canary.page("Page 2345", 3 << 20)))
    url = f"{stack.url}/v1/chat/completions"
    answer = requests.post(url, json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def open_wide() -> Iterator[Stack]:
    """A service with keys, made under a umask that opens everything, in a folder that is open."""
    with umask(0), deployed(**PLACE, gateway_keys="true") as made:
        made.invoke("up")
        yield made


@pytest.mark.parametrize("mode", [0o027, 0o077])
def test_a_large_page_is_read_where_only_the_owner_enters(mode: int) -> None:
    """Root's nginx gave its workers to `nobody`, who could not reach their folder: HTTP 500."""
    with umask(mode), deployed(**PLACE) as outer:
        closed = outer.state / "closed"
        closed.mkdir(mode=0o700)
        settings = {**outer.settings, "CLOISTER_CONFIG": str(outer.state / "cloister.yaml")}
        stack = replace(outer, state=closed / "s", settings=settings)
        try:
            stack.invoke("up")
            assert "Page 2345" in read_large_page(stack)
            stack.invoke("restart", "--name", GATEWAY)
            assert "Page 2345" in read_large_page(stack)
            break_bodies(stack)
        finally:
            stack.invoke("down")
        assert list(closed.glob("s/gateway/body/*")) == []


def break_bodies(stack: Stack) -> None:
    """Let nginx keep no body any more, and require that commands do not call that well."""
    bodies = Layout(stack.state).gateway / "body"
    shutil.rmtree(bodies)
    bodies.touch()
    said = stack.invoke("health", code=8).stderr
    assert "HTTP 500" in said
    bodies.unlink()


@pytest.mark.parametrize("user", [neighbours.USER, neighbours.NOBODY])
def test_no_attempt_of_another_user_comes_to_anything(open_wide: Stack, user: int) -> None:
    key = {"Authorization": f"Bearer {(open_wide.state / 'operator.key').read_text().strip()}"}
    assert "Page 2345" in read_large_page(open_wide, key)
    pids = [process.pid for process in open_wide.processes()]
    assert len(pids) > 5, "supervisord, nginx and its workers, the engine and its worker, ..."
    those = ",".join(map(str, pids))
    printed = neighbours.run(ATTEMPTS, open_wide.state, open_wide.port, those, user=user)
    came: dict[str, str] = json.loads(printed)
    assert len(came) > 40
    assert {name: what for name, what in came.items() if what} == {}
    assert not (open_wide.state / "planted").exists()
    assert "Page 2345" in read_large_page(open_wide, key)
    assert open_wide.json("status")["healthy"]


@contextmanager
def decoy() -> Iterator[int]:
    """Give a process of this user, with what looks like a key among its arguments."""
    command = ["sh", "-c", "read line", "cloister_operator.AAAA"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_each_attempt_comes_to_something_for_who_may_make_it(open_wide: Stack) -> None:
    """One that comes to nothing for the owner and for root would be no attempt at all."""
    key = (open_wide.state / "operator.key").read_text().strip()
    place = (open_wide.state, open_wide.port)
    with decoy() as pid:
        theirs: dict[str, str] = json.loads(neighbours.run(ATTEMPTS, *place, pid))
    assert [name for name, what in theirs.items() if what] == ["finds keys in arguments"]

    def comes_to_nothing(name: str, user: int) -> bool:
        with decoy() as pid:
            printed = neighbours.run(ATTEMPTS, *place, pid, name, key, user=user)
        return not json.loads(printed)[name]

    # The kernel may leave some to root alone (Yama), and a port to its owner alone.
    users = (os.geteuid(), 0)
    shut = [name for name in theirs if all(comes_to_nothing(name, user) for user in users)]
    assert shut == []
    assert "Page 2345" in read_large_page(open_wide, {"Authorization": f"Bearer {key}"})
    open_wide.invoke("status")


def test_nothing_of_another_user_can_be_in_the_way_of_a_command(open_wide: Stack) -> None:
    """Files that say who may lock, enter or write are nobody else's, whatever the umask."""
    mode_of = {
        str(path.relative_to(open_wide.state)): path.lstat().st_mode & 0o077
        for path in open_wide.state.iterdir()
        if path.name != "cloister.yaml"
    }
    assert {name: oct(mode) for name, mode in mode_of.items() if mode} == {}
    listening = {
        connection.laddr.port
        for process in open_wide.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {open_wide.port}


def test_nobody_takes_the_gateways_port_while_it_restarts(open_wide: Stack) -> None:
    """He had it within a millisecond, and with it the pages and keys of clients."""
    with squatting(open_wide.port) as told:
        open_wide.invoke("restart", "--name", GATEWAY)
        for process in open_wide.processes():
            if process.name() == "nginx":
                process.kill()
        eventually(lambda: open_wide.invoke("health"), within_s=120)
        open_wide.invoke("up")
    assert told == ["over: not taken, 0 bytes\n"]


def test_who_listens_beside_the_gateway_is_in_nobodys_way(open_wide: Stack) -> None:
    with neighbours.running(LISTEN_BY_IPV6, open_wide.port):
        open_wide.invoke("health")
        assert open_wide.json("status")["healthy"]


def test_who_takes_the_port_of_a_service_that_died_gets_no_page() -> None:
    """He was sent pages and this machine's own key, and what he answered was a page's text."""
    with deployed(**PLACE, gateway_keys="true") as made:
        made.invoke("up")
        made.kill_all()
        with squatting(made.port, waits=True) as told:
            for command in (("health",), ("ocr", str(SAMPLES / "invoice.png"))):
                said = made.invoke(*command, code=6).stderr
                assert f"a program of user {neighbours.USER} listens on 127.0.0.1" in said
            assert not made.json("status", code=1)["healthy"]
            assert "cannot be used" in made.invoke("up", code=6).stderr
        assert told == ["over: taken, 0 bytes\n"]
        made.invoke("up")


@pytest.mark.parametrize("how", [SQUAT, LISTEN_AND_WAIT])
def test_who_takes_the_port_after_a_command_looked_gets_no_key(how: str) -> None:
    """A command looked once, and sent its pages to whoever listened later."""
    with deployed(**PLACE, gateway_keys="true") as made:
        made.invoke("up")
        recorded = deployment.required(config.load(environ=made.environment).settings)
        enter = deployment.of_this_machine(recorded.settings)
        with chat.session(enter) as session:
            assert session.get(f"{enter.url}/v1/models", timeout=60).ok
            made.kill_all()
            with (
                squatting(made.port, how, waits=True) as told,
                pytest.raises(DeploymentError, match=f"a program of user {neighbours.USER} "),
            ):
                session.get(f"{enter.url}/v1/models", timeout=60)
            assert told == ["over: taken, 0 bytes\n"]


@contextmanager
def squatting(port: int, how: str = SQUAT, *, waits: bool = False) -> Iterator[list[str]]:
    """Let another user take a port once he can; give what he says in the end."""
    told: list[str] = []
    with neighbours.running(how, port) as program:
        assert program.stdin
        assert program.stdout
        if waits:
            assert program.stdout.readline() == "taken\n"
        yield told
        program.stdin.close()
        told += [line for line in program.stdout if line != "taken\n"]


def test_a_lock_of_an_earlier_version_is_no_way_to_block_a_command(fresh: Stack) -> None:
    lock = Layout(fresh.state).lock
    for name in ("lock", "door.lock"):
        (fresh.state / name).touch(mode=0o644)
    with neighbours.running(HOLD, lock):
        fresh.invoke("down")
        assert lock.stat().st_mode & 0o077 == 0
        fresh.invoke("keys.create", "first")


COMMANDS: dict[str, tuple[str, ...]] = {
    "up": (),
    "status": (),
    "down": (),
    "keys.list": (),
    "keys.create": ("first",),
    "ocr": (str(SAMPLES / "invoice.png"),),
}


@pytest.mark.parametrize("kind", ["folder", "above", "link", "planted"])
def test_a_state_folder_that_another_user_made_is_refused(fresh: Stack, kind: str) -> None:
    theirs = fresh.state / "theirs"
    fresh.state.chmod(0o1777)
    make = f"import os; os.umask(0); os.mkdir({str(theirs)!r}); os.chmod({str(theirs)!r}, 0o777)"
    neighbours.run(make)
    state: Any = theirs
    if kind == "above":
        state = theirs / "state"
        state.mkdir(mode=0o700)
    elif kind == "link":
        state = fresh.state / "link"
        neighbours.run(f"import os; os.symlink('/var/empty', {str(state)!r})")
    elif kind == "planted":
        state = fresh.state / "state"
        state.mkdir()
        state.chmod(0o777)
        neighbours.run(f"open({str(state / 'keys.json')!r}, 'w').write('[]')")
    fresh.settings["CLOISTER_STATE_DIR"] = str(state)
    before = sorted(theirs.rglob("*"))
    for command, arguments in COMMANDS.items():
        said = fresh.invoke(command, *arguments, code=6).stderr
        assert f"belongs to user {neighbours.USER}" in said, command
    assert sorted(theirs.rglob("*")) == before
    shutil.rmtree(fresh.state / "state", ignore_errors=True)
    fresh.settings.pop("CLOISTER_STATE_DIR")
    fresh.state.chmod(0o755)
