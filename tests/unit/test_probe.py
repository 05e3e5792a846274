"""The probe against real namespaces, real sockets and a real filter of system calls.

Needs `unshare`, `nsenter` and `setpriv` of util-linux, `ip` of iproute2, and a kernel that lets
this user make user namespaces: without them nothing here could be shown, so it fails.
"""

import errno
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from cloister.inside import probe
from cloister.inside.ways import (
    descriptors,
    interfaces,
    local,
    mounts,
    process,
    streams,
    syscalls,
)

ROOT = Path(__file__).parents[2]
PORT = 4000
INSIDE, OUTSIDE, OUTSIDE6, NOBODY = "10.9.0.1", "10.9.0.2", "fe80::2", "10.9.0.77"
EVERYBODY = "255.255.255.255"
LONG_S = 60  # for what takes a moment on a quiet machine
NEW_SPACE = ("unshare", "--user", "--map-root-user", "--net")
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
# What every kernel that this runs on lets an unprivileged process do.
HARMLESS = ("kcmp", "mknodat", "personality", "process_vm_readv", "ptrace", "setxattr", "symlinkat")
Attempt = dict[str, Any]
IS_X86 = os.uname().machine == "x86_64"

# Writes the nonces that arrive to a file, a line each, and answers connections but for "silent",
# datagrams that begin with "echo", and names at port 53 with the code that ends their first label.
SINK = """
import select, socket, sys

log, port = open(sys.argv[1], "a", buffering=1), int(sys.argv[2])
sinks, kept = {}, []


def listen(host, at, kind, protocol):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sink = socket.socket(family, kind, protocol)
    except OSError:
        return  # a protocol that this kernel has not
    if family == socket.AF_INET6:
        sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sink.bind((host, at))
    if kind == socket.SOCK_STREAM:
        sink.listen()
    sinks[sink] = at


def answer(query):
    code = int(chr(query[12 + query[12]]))
    return query[:2] + bytes([0x80, code]) + query[4:]


def hear(data):
    print(data.decode(errors="replace"), file=log)
    return data


def accept(sink):
    connection, _ = sink.accept()
    kept.append(connection)
    data = connection.recv(600)
    if sinks[sink] == 53:
        connection.sendall(data[:2] + answer(data[2:]))
    elif not data.startswith(b"silent"):
        connection.sendall(hear(data))
        kept.pop().close()


def receive(sink):
    data, sender = sink.recvfrom(600)
    if sinks[sink] == 53:
        sink.sendto(answer(data), sender)
    elif hear(data).startswith(b"echo"):
        sink.sendto(data, sender)


for host in ("0.0.0.0", "::"):
    listen(host, port, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    listen(host, port, socket.SOCK_DGRAM, 136)
    listen(host, port, socket.SOCK_STREAM, 0)
listen("0.0.0.0", 53, socket.SOCK_DGRAM, 0)
listen("0.0.0.0", 53, socket.SOCK_STREAM, 0)
print("ready", flush=True)
while True:
    for sink in select.select(sinks, [], [])[0]:
        try:
            (accept if sink.type == socket.SOCK_STREAM else receive)(sink)
        except OSError:
            pass  # whoever asked has gone
"""

# Refuses the system calls of its first argument, user namespaces and AF_VSOCK; a call of another
# architecture is fatal. Then it becomes the program of its other arguments.
FILTER = """
import ctypes, json, os, struct, sys

denied, arch, clone, clone3, opening = json.loads(sys.argv[1])
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


def load(at): return (0x20, 0, 0, at)
def equal(value, no): return (0x15, 0, no, value)
def end(how): return (0x06, 0, 0, how)


program = [load(4), equal(arch, 0), load(0)]
program[2:2] = [(0x05, 0, 0, 1), end(KILL)]
program[1] = (0x15, 0, 1, arch)
program += [(0x35, 0, 1, 0x40000000), end(KILL)]
for number in denied:
    program += [equal(number, 1), end(EPERM)]
program += [equal(clone3, 1), end(ENOSYS)]
program += [equal(clone, 4), load(16), (0x45, 0, 1, 0x10000000), end(EPERM), end(ALLOW)]
program += [equal(opening, 4), load(16), equal(40, 1), end(EPERM), end(ALLOW)]
program += [end(ALLOW)]
code = b"".join(struct.pack("HBBI", *one) for one in program)
memory = ctypes.create_string_buffer(code)
header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory))
loaded = ctypes.create_string_buffer(header)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
if libc.prctl(22, 2, ctypes.addressof(loaded), 0, 0):
    raise OSError(ctypes.get_errno(), "no filter")
os.execv(sys.argv[2], sys.argv[2:])
"""

ABSTRACT = """
import socket, sys

sink = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2]))
sink.bind("\\0" + sys.argv[1])
if sys.argv[2] != "SOCK_DGRAM":
    sink.listen()
print("ready", flush=True)
while True:
    (sink.recv(200) if sys.argv[2] == "SOCK_DGRAM" else sink.accept())
"""


# The probe as it is, but for its haste: `patience_s` is how long it waits for an answer. `change`
# is a line of code that changes what it tries.
PROBE = """
from cloister.inside import probe
from cloister.inside.ways import compat, datagrams, naming, streams, syscalls

probe.LIMIT_S = {limit_s}
{change}
if {patience_s}:
    datagrams.PATIENCE_S = streams.PATIENCE_S = {patience_s}
    naming._ANSWER_S = streams._GREETING_S = {patience_s}
probe.main()
"""


def run_probe(
    prefix: Sequence[str], *attempts: Attempt, patience_s: float | None = None, change: str = ""
) -> list[dict[str, Any]]:
    code = PROBE.format(limit_s=LONG_S, patience_s=patience_s, change=change)
    command = [*prefix, sys.executable, "-c", code, json.dumps(attempts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=LONG_S)
    assert done.returncode == 0, done.stderr.decode()
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(results) == len(attempts)
    return results


def has_protocol(kind: int, protocol: int) -> bool:
    """Ask a process: unit tests have no such sockets."""
    code = f"import socket; socket.socket(socket.AF_INET, {kind}, {protocol})"
    done = subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0


@dataclass(frozen=True)
class Space:
    """A network namespace, held by a process."""

    pid: int

    @property
    def enter(self) -> tuple[str, ...]:
        return "nsenter", f"--target={self.pid}", "--user", "--net", "--preserve-credentials"

    def run(self, script: str) -> str:
        command = [*self.enter, "sh", "-ec", script]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def probe(self, *attempts: Attempt, patience_s: float | None = None) -> list[dict[str, Any]]:
        return run_probe([*self.enter, *UNPRIVILEGED], *attempts, patience_s=patience_s)


@contextmanager
def started(*command: str) -> Iterator[int]:
    """Run a program that prints a line when it is ready, until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            yield running.pid
        finally:
            running.kill()


@contextmanager
def held(*prefix: str) -> Iterator[Space]:
    with started(*prefix, "sh", "-c", "echo ready; exec sleep infinity") as pid:
        yield Space(pid)


@dataclass(frozen=True)
class Pair:
    """Two namespaces joined by a cable: `inside` has no route, `outside` has a sink."""

    inside: Space
    outside: Space
    log: Path

    def await_arrival(self, nonce: str) -> None:
        deadline = time.monotonic() + LONG_S
        while nonce not in self.log.read_text(encoding="utf-8").splitlines():
            assert time.monotonic() < deadline, f"{nonce} did not arrive"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    log = tmp_path_factory.mktemp("sink") / "log"
    log.touch()
    with held(*NEW_SPACE) as inside, held(*inside.enter, "unshare", "--net") as outside:
        for space in (inside, outside):
            space.run("""
                for filter in all default; do
                    echo 0 > /proc/sys/net/ipv4/conf/$filter/rp_filter
                done
                echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
                echo 0 0 > /proc/sys/net/ipv4/ping_group_range
                ip link set lo up
            """)
        inside.run(f"""
            ip link add v0 type veth peer name v1 netns {outside.pid}
            ip addr add {INSIDE}/24 dev v0 noprefixroute
            ip link set v0 up
        """)
        outside.run(f"""
            ip addr add {OUTSIDE}/24 dev v1
            ip link set v1 up
            ip addr add {OUTSIDE6}/64 dev v1 nodad
        """)
        sink = (*outside.enter, sys.executable, "-c", SINK, str(log), str(PORT))
        with started(*sink):
            yield Pair(inside, outside, log)


# --- Over the network.


ROUTELESS: tuple[Attempt, ...] = (
    {"host": OUTSIDE, "device": "each"},
    {"host": OUTSIDE, "device": "v0", "dontroute": True},
    {"device": "each", "broadcast": True},
    {"multicast": True},
    {"multicast": True, "device": "v0"},
    {"host": OUTSIDE6, "device": "v0"},
    {"host": "ff02::1", "device": "each"},
    {"host": "ff02::1", "multicast": True},
)


@pytest.mark.parametrize("protocol", ["udp", "udplite"])
def test_datagrams_arrive_without_a_route(pair: Pair, protocol: str) -> None:
    nonces = [f"{protocol}-{number}" for number in range(len(ROUTELESS))]
    common = {"kind": "udp", "protocol": protocol, "port": PORT}
    ways = [{**common, "nonce": n, **way} for n, way in zip(nonces, ROUTELESS, strict=True)]
    results = pair.inside.probe(*ways)
    assert [result["reached"] for result in results] == [False] * len(ways)
    details = {result["detail"] for result in results}
    if protocol == "udplite" and not has_protocol(socket.SOCK_DGRAM, 136):
        assert all("EPROTONOSUPPORT" in detail for detail in details)
        return
    assert details == {"sent; no answer, by v0"}
    for nonce in nonces:
        pair.await_arrival(nonce)


def test_an_echo_reaches_by_the_interface_and_nothing_by_the_routes(pair: Pair) -> None:
    way = {"kind": "udp", "host": OUTSIDE, "port": PORT, "nonce": "echo-1"}
    routed, direct = pair.inside.probe(way, {**way, "device": "v0"}, patience_s=LONG_S)
    assert routed == {"reached": False, "detail": "Network is unreachable (ENETUNREACH)"}
    assert direct == {"reached": True, "detail": "echo-1"}


def test_nothing_is_sent_without_an_answer_but_sent(pair: Pair) -> None:
    way = {"kind": "udp", "host": OUTSIDE, "port": PORT + 1, "nonce": "lost"}
    assert pair.outside.probe(way) == [{"reached": False, "detail": "sent; no answer"}]


def test_a_closed_port_tells_that_the_datagram_arrived(pair: Pair) -> None:
    """The machine quotes what it took in, whatever routes the sender has."""
    way = {"kind": "udp", "host": OUTSIDE, "nonce": "quoted", "connected": True}
    past = {**way, "port": PORT + 2, "device": "each", "dontroute": True}
    (unheard,) = pair.inside.probe({**past, "broadcast": True, "host": EVERYBODY})
    closed, routed, answered = pair.inside.probe(
        past,
        {**way, "port": PORT + 2},
        {**past, "port": PORT, "nonce": "echo-quoted"},
        patience_s=LONG_S,
    )
    assert closed == {"reached": True, "detail": "it arrived, and nobody listens there"}
    assert unheard == {"reached": True, "detail": "sent; no answer, by v0"}
    assert routed == {"reached": False, "detail": "Network is unreachable (ENETUNREACH)"}
    assert answered == {"reached": True, "detail": "echo-quoted"}


def test_a_connection_is_made_by_the_interface(pair: Pair) -> None:
    way = {"kind": "tcp", "host": OUTSIDE, "port": PORT, "nonce": "hello-1"}
    routed, device, each, by6, absent = pair.inside.probe(
        way,
        {**way, "device": "v0", "nonce": "hello-2"},
        {**way, "device": "each", "nonce": "hello-3"},
        {**way, "device": "v0", "host": OUTSIDE6, "nonce": "hello-4"},
        {**way, "device": "v9"},
        patience_s=LONG_S,
    )
    assert routed == {"reached": False, "detail": "Network is unreachable (ENETUNREACH)"}
    assert device == {"reached": True, "detail": "hello-2"}
    assert each == {"reached": True, "detail": "hello-3"}
    assert by6 == {"reached": True, "detail": "hello-4"}
    assert absent == {"reached": False, "detail": "v9: No such device (ENODEV)"}
    for number in (2, 3, 4):
        pair.await_arrival(f"hello-{number}")


def test_a_connection_on_which_nothing_is_said_is_one(pair: Pair) -> None:
    way = {"kind": "tcp", "host": OUTSIDE, "port": PORT}
    quiet, silent, tls = pair.outside.probe(
        way, {**way, "nonce": "silent"}, {"kind": "https", "host": OUTSIDE, "port": PORT}
    )
    assert quiet == {"reached": True, "detail": "connected"}
    assert silent == {"reached": True, "detail": "connected; timed out"}
    assert tls["reached"]
    assert tls["detail"].startswith("connected, without TLS: ")


def test_what_does_not_answer_takes_no_longer_than_the_patience(pair: Pair) -> None:
    begun = time.monotonic()
    results = pair.inside.probe(
        {"kind": "tcp", "host": NOBODY, "port": PORT, "device": "v0"},
        {"kind": "icmp", "host": NOBODY, "device": "v0"},
        {"kind": "udp", "host": NOBODY, "port": PORT, "nonce": "n", "device": "v0"},
    )
    assert time.monotonic() - begun < LONG_S
    assert [result["reached"] for result in results] == [False] * 3
    assert all(result["detail"] and "broken" not in result for result in results)


@pytest.mark.parametrize(("protocol", "kind", "number"), [("mptcp", 1, 262), ("sctp", 1, 132)])
def test_other_streams_are_tried_as_far_as_the_kernel_has_them(
    pair: Pair, protocol: str, kind: int, number: int
) -> None:
    (result,) = pair.outside.probe(
        {"kind": "tcp", "host": OUTSIDE, "port": PORT, "protocol": protocol, "nonce": protocol},
        patience_s=LONG_S,
    )
    if not has_protocol(kind, number):
        assert not result["reached"]
        assert "SUPPORT" in result["detail"], "the error that says so"
    elif protocol == "mptcp":  # its peer may speak TCP
        assert result == {"reached": True, "detail": protocol}
    else:
        assert not result["reached"], "nobody listens"


def test_a_ping_is_answered_by_the_interface(pair: Pair) -> None:
    routed, device, by6 = pair.inside.probe(
        {"kind": "icmp", "host": OUTSIDE},
        {"kind": "icmp", "host": OUTSIDE, "device": "each"},
        {"kind": "icmp", "host": OUTSIDE6, "device": "v0"},
        patience_s=LONG_S,
    )
    assert not routed["reached"]
    assert device == by6 == {"reached": True, "detail": "pong"}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_name_server_that_knows_the_name_was_reached(pair: Pair, tcp: bool) -> None:  # noqa: FBT001
    way = {"kind": "dns", "server": OUTSIDE, "tcp": tcp}
    known, unknown, refused, text = pair.outside.probe(
        {**way, "name": "code0.example"},
        {**way, "name": "code3.example"},
        {**way, "name": "code5.example"},
        {**way, "name": "code0.example", "type": "TXT"},
        patience_s=LONG_S,
    )
    assert known == text == {"reached": True, "detail": "NOERROR"}
    assert unknown == {"reached": True, "detail": "NXDOMAIN"}
    assert refused == {"reached": False, "detail": "refused with code 5"}


def test_without_an_interface_nothing_is_reached() -> None:
    ways: list[Attempt] = [
        {"kind": "udp", "port": PORT, "nonce": "n", **route}
        for route in ({"device": "each", "broadcast": True}, {"multicast": True})
    ]
    ways += [
        {"kind": "udp", "port": PORT, "nonce": "n", "host": host, "device": "each"}
        for host in (OUTSIDE, OUTSIDE6, "ff02::1")
    ]
    ways += [{"kind": "tcp", "port": PORT, "host": OUTSIDE, "device": "each"}]
    others: list[Attempt] = [
        {"kind": "tcp", "host": OUTSIDE, "port": PORT},
        {"kind": "tcp", "host": "2001:db8::1", "port": PORT},
        {"kind": "udp", "host": OUTSIDE, "port": PORT, "nonce": "n"},
        {"kind": "icmp", "host": OUTSIDE},
        {"kind": "dns", "server": OUTSIDE, "name": "code0.example"},
        {"kind": "dns", "server": OUTSIDE, "name": "code0.example", "tcp": True},
        {"kind": "https", "host": OUTSIDE},
        {"kind": "resolve", "name": "cloister.invalid"},
        {"kind": "raw"},
        {"kind": "interfaces"},
    ]
    results = run_probe([*NEW_SPACE, *UNPRIVILEGED], *ways, *others)
    assert [result["reached"] for result in results] == [False] * len(results)
    assert {r["detail"] for r in results[: len(ways)]} == {"no interface but lo"}
    assert all(result["detail"] and "broken" not in result for result in results)
    # That there is no address to send from, as over IPv6, is a reason and no shortage.
    assert not any("late" in result for result in results)


# Leaves no port to send from, and no room at an abstract socket.
USED_UP = """
import signal, socket
kept = [socket.socket(socket.AF_UNIX)]
kept[0].bind("\\0full")
kept[0].listen(0)
for port in (40000, 40001):
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            kept.append(socket.socket(family, kind))
            if family == socket.AF_INET6:
                kept[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            kept[-1].bind(("", port))
try:
    while True:
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].setblocking(False)
        kept[-1].connect("\\0full")
except BlockingIOError:
    print("ready", flush=True)
signal.pause()
"""


def test_what_a_suspect_uses_up_does_not_count_as_shut() -> None:
    here = {"host": "127.0.0.1", "port": PORT}
    tried: list[tuple[str, Attempt]] = [
        ("EADDRNOTAVAIL", {"kind": "tcp", **here}),
        ("EAGAIN", {"kind": "udp", **here, "nonce": "n"}),
        ("EAGAIN", {"kind": "udp", "host": "::1", "port": PORT, "nonce": "n"}),
        ("EAGAIN", {"kind": "udp", **here, "nonce": "n", "connected": True}),
        ("EAGAIN", {"kind": "dns", "server": "127.0.0.1", "name": "code0.example"}),
        ("EADDRNOTAVAIL", {"kind": "dns", "server": "127.0.0.1", "name": "a.example", "tcp": True}),
        ("EADDRNOTAVAIL", {"kind": "https", **here}),
        ("EAGAIN", {"kind": "abstract", "name": "full"}),
    ]
    with held(*NEW_SPACE) as space:
        space.run("""
            ip link set lo up
            echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range
        """)
        with started(*space.enter, sys.executable, "-c", USED_UP):
            results = space.probe(*(way for _, way in tried))
    for (code, way), result in zip(tried, results, strict=True):
        assert not result["reached"], way
        assert result["detail"].endswith(f"({code})"), way
        assert result.get("late"), way


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_an_attempt_without_room_is_told_apart(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(**_: Any) -> Any:
        raise OSError(code, "used up")

    monkeypatch.setitem(probe._KINDS, "raw", fail)
    result = probe.attempt({"kind": "raw"})
    assert (result["reached"], result.get("late")) == (False, True)


def test_a_connection_without_a_port_is_not_under_way() -> None:
    opened = Mock(connect=Mock(side_effect=BlockingIOError(errno.EAGAIN, "no port")))
    with pytest.raises(BlockingIOError):
        streams._begin(opened, ("192.0.2.1", PORT), None)
    opened.connect.side_effect = BlockingIOError(errno.EINPROGRESS, "under way")
    streams._begin(opened, ("192.0.2.1", PORT), None)


def test_interfaces_are_named(pair: Pair) -> None:
    (inside,) = pair.inside.probe({"kind": "interfaces"})
    assert inside == {"reached": True, "detail": "v0 (up)"}


def test_an_interface_that_is_down_is_a_way_whatever_its_name() -> None:
    with held(*NEW_SPACE) as space:
        (alone,) = space.probe({"kind": "interfaces"})
        space.run("ip link set lo name away; ip link add sit0 type veth peer name lo")
        named, sent = space.probe(
            {"kind": "interfaces"},
            {"kind": "udp", "device": "each", "host": OUTSIDE, "port": PORT, "nonce": "n"},
        )
    assert (alone["reached"], alone["detail"]) == (False, "nothing but lo")
    assert named["reached"]
    assert {"sit0 (down)", "lo (down)"} == set(named["detail"].split(", "))
    assert not sent["reached"]
    assert sent["detail"] != "no interface but lo", "it was tried"


@pytest.mark.parametrize(("is_up", "reached"), [(0, False), (1, True)])
def test_the_kernels_own_tunnel_is_told_and_no_way_until_it_is_up(
    monkeypatch: pytest.MonkeyPatch,
    is_up: int,
    reached: bool,  # noqa: FBT001
) -> None:
    types = {"lo": 772, "sit0": 776}
    flags = {"lo": 1, "sit0": is_up}
    values = {interfaces._GET_FLAGS: flags, interfaces._GET_TYPE: types}
    monkeypatch.setattr(interfaces, "list_names", lambda: list(types))
    monkeypatch.setattr(interfaces, "_query", lambda name, request, _: values[request][name])
    result = interfaces.inspect_interfaces()
    assert result["reached"] is reached
    assert "sit0" in result["detail"]


# --- Sockets of this machine.


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_SEQPACKET", "SOCK_DGRAM"])
def test_an_abstract_socket_is_reached_in_its_own_namespace_only(pair: Pair, kind: str) -> None:
    name = f"cloister-{os.getpid()}-{kind}"
    command = (*pair.inside.enter, sys.executable, "-c", ABSTRACT, name, kind)
    way = {"kind": "abstract", "name": name, "nonce": "n"}
    with started(*command):
        (own,) = pair.inside.probe(way)
        (other,) = pair.outside.probe(way)
    assert own["reached"]
    assert own["detail"].startswith("connected")
    assert other == {"reached": False, "detail": "Connection refused (ECONNREFUSED)"}


# --- What the kernel offers.


def test_a_socket_family_is_opened_or_names_its_error() -> None:
    route, raw, raw6, packets, none = run_probe(
        [*NEW_SPACE, *UNPRIVILEGED],
        {"kind": "socket", "family": 16, "type": 3, "protocol": 0},
        {"kind": "socket", "family": 2, "type": 3, "protocol": 255},
        {"kind": "socket", "family": 10, "type": 3, "protocol": 58},
        {"kind": "socket", "family": 17, "type": 3},
        {"kind": "socket", "family": 45},
    )
    refused = {"reached": False, "detail": "Operation not permitted (EPERM)"}
    assert route == {"reached": True, "detail": "opened"}
    assert raw == raw6 == packets == refused
    assert "EAFNOSUPPORT" in none["detail"]
    privileged, frames = run_probe(
        NEW_SPACE, {"kind": "socket", "family": 2, "type": 3, "protocol": 255}, {"kind": "raw"}
    )
    assert privileged["reached"]
    assert frames["reached"]


@pytest.mark.parametrize("make", ["veth", "address", "route"])
def test_the_network_is_changed_with_the_right_and_put_back(make: str) -> None:
    way = {"kind": "netlink", "make": make}
    with held(*NEW_SPACE) as space:
        space.run("ip link set lo up")
        command = "ip -o link; ip -o addr; ip route show table all"
        before = space.run(command)
        (refused,) = space.probe(way)
        (allowed,) = run_probe(space.enter, way)
        assert space.run(command) == before
    assert refused == {"reached": False, "detail": "Operation not permitted (EPERM)"}
    assert allowed == {"reached": True, "detail": f"made: {make}"}


def test_what_the_kernel_looks_at_was_let_through() -> None:
    (result,) = run_probe(NEW_SPACE, {"kind": "netlink", "make": "no-such-kind"})
    assert result["reached"]
    assert result["detail"].startswith("let through: ")


def filtered() -> list[str]:
    """Return the command that loads a filter against all system calls that the probe tries."""
    own = "x86_64" if IS_X86 else "aarch64"
    numbers = {name: getattr(call, own) for name, call in syscalls._CALLS.items()}
    by_argument = {"clone_user", "clone3_user", "socket"}
    denied = [n for name, n in numbers.items() if n >= 0 and name not in by_argument]
    arch = 0xC000003E if IS_X86 else 0xC00000B7
    rules = [denied, arch, *(numbers[name] for name in ("clone_user", "clone3_user", "socket"))]
    return [sys.executable, "-c", FILTER, json.dumps(rules)]


def test_system_calls_are_judged_both_ways(tmp_path: Path) -> None:
    own = {"kind": "syscall", "path": "/proc/self/ns/net"}
    ways = [{**own, "name": name} for name in syscalls._CALLS]
    prefix = [*NEW_SPACE, *UNPRIVILEGED]
    folder = f"syscalls._FOLDER = {str(tmp_path)!r}"
    allowed, refused = (
        dict(zip(syscalls._CALLS, run_probe(way, *ways, change=folder), strict=True))
        for way in (prefix, [*prefix, *filtered()])
    )
    assert {name for name in HARMLESS if allowed[name]["reached"]} == set(HARMLESS), allowed
    assert allowed["process_vm_readv"]["detail"] == "returned 8"
    # What needs a capability is refused even without a filter.
    assert {name for name in ("mount", "setns", "chroot") if allowed[name]["reached"]} == set()
    assert {name for name, result in refused.items() if result["reached"]} == set(), refused
    absent = {"not on this machine"} if not IS_X86 else set()
    reasons = {"Operation not permitted (EPERM)", "Function not implemented (ENOSYS)"}
    assert {result["detail"] for result in refused.values()} <= reasons | absent
    assert list(tmp_path.iterdir()) == []


def test_user_namespaces_are_found_by_every_call_that_makes_them() -> None:
    names = ("unshare_user", "clone_user", "clone3_user")
    ways = [{"kind": "syscall", "name": name} for name in names]
    results = run_probe([*NEW_SPACE, *UNPRIVILEGED], *ways)
    assert [result["reached"] for result in results] == [True] * 3, results


def test_a_call_of_another_architecture_is_fatal_under_the_filter_only() -> None:
    ways: list[Attempt] = [{"kind": "syscall32"}, {"kind": "syscall32", "call": "socket"}]
    x32 = {"kind": "syscall", "name": "socket", "x32": True}
    prefix = [*NEW_SPACE, *UNPRIVILEGED]
    plain = run_probe(prefix, *ways)
    unix = run_probe(prefix, *ways, change="compat._FAMILY = 1")
    results = run_probe([*prefix, *filtered()], *ways, x32)
    if not IS_X86:
        (detail,) = {result["detail"] for result in (*plain, *unix, *results)}
        assert detail == "not on this machine"
        return
    assert results == [{"reached": False, "detail": "killed by SIGSYS"}] * 3
    assert unix == [{"reached": True, "detail": "opened"}] * 2, "Unix sockets are everywhere"
    assert plain[0]["reached"]
    assert plain[1]["reached"]


def test_what_this_machine_lacks_is_told_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without 32-bit calls answers one as a wrong address; another processor has none."""

    def fault(**_: Any) -> None:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    def lack(**_: Any) -> None:
        raise OSError(errno.ENOSYS, "")

    strange = {"syscall32": fault, "faults": fault, "lacks": lack}
    monkeypatch.setattr(probe, "_KINDS", {**probe._KINDS, **strange})
    found = {kind: probe.attempt({"kind": kind}) for kind in strange}
    assert found["syscall32"] == {"reached": False, "detail": "killed by SIGSEGV", "missing": True}
    assert found["faults"] == {"reached": False, "detail": "killed by SIGSEGV"}
    assert found["lacks"]["missing"]
    monkeypatch.undo()
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    for other in ({"kind": "syscall32"}, {"kind": "syscall", "name": "socket", "x32": True}):
        result = {"reached": False, "detail": "not on this machine", "missing": True}
        assert probe.attempt(other) == result


def test_vsock_is_refused_under_the_filter() -> None:
    way = {"kind": "socket", "family": 40, "connect": [[2, 1], [1, 1]]}
    prefix = [*NEW_SPACE, *UNPRIVILEGED]
    (plain,) = run_probe(prefix, way)
    (result,) = run_probe([*prefix, *filtered()], way)
    assert result == {"reached": False, "detail": "Operation not permitted (EPERM)"}
    # Which machines have it is not for this test to say.
    tries = plain["detail"].count("; context") if plain["reached"] else 2
    assert tries == 2
    assert plain["reached"] or "EAFNOSUPPORT" in plain["detail"]


# --- Files.


def test_devices_are_opened_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, missing = tmp_path / "pipe", tmp_path / "missing"
    os.mkfifo(pipe)
    monkeypatch.setattr(local, "_list_block_devices", lambda: [str(missing)])
    monkeypatch.setattr(local, "_DEVICES", (str(pipe),))
    opened = probe.attempt({"kind": "device"})
    assert opened == {"reached": True, "detail": f"{pipe} for reading"}
    monkeypatch.setattr(local, "_DEVICES", ())
    absent = probe.attempt({"kind": "device"})
    assert absent == {"reached": False, "detail": f"{missing}: No such file or directory (ENOENT)"}


def test_every_block_device_is_among_the_devices() -> None:
    names = {path.name for path in Path("/sys/block").iterdir()}
    assert {f"/dev/{name.replace('!', '/')}" for name in names} <= set(local._list_block_devices())


def test_the_kernels_files_are_opened_for_writing_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    agent = tmp_path / "b" / "release_agent"
    agent.write_text("/bin/agent", encoding="utf-8")
    pattern, missing = f"{tmp_path}/*/release_agent", f"{tmp_path}/missing"
    monkeypatch.setattr(local, "_KERNEL_FILES", (missing, pattern))
    result = probe.attempt({"kind": "proc"})
    assert result == {"reached": True, "detail": f"{agent} for writing"}
    assert agent.read_text(encoding="utf-8") == "/bin/agent"
    monkeypatch.setattr(local, "_KERNEL_FILES", (missing, f"{tmp_path}/*/none"))
    absent = probe.attempt({"kind": "proc"})
    assert not absent["reached"]
    assert absent["detail"].endswith("No such file or directory (ENOENT)")


# --- What there is to know about processes.


def test_facts_are_those_of_every_process_that_shares_with_the_first_one(tmp_path: Path) -> None:
    """It has a file open that no folder lists, and a secret in its environment."""
    secret = "hunter2-and-more"  # noqa: S105  # of nothing
    environment = {**os.environ, "CLOISTER_TOKEN": secret}
    script = """
        ulimit -c 0; exec 9>"$0"; echo page >&9; rm "$0"
        echo ready; exec sleep infinity
    """
    command = ["sh", "-c", script, f"{tmp_path}/x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()
            facts = probe.attempt({"kind": "facts", "containers": {"a": running.pid}, "others": {}})
        finally:
            running.kill()
    (told,) = (one for one in facts["processes"] if one["pid"] == running.pid)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs", "Uid", "Seccomp"):
        assert f"{name}:\t{told[name]}\n" in status
    assert (told["comm"], told["core"]) == ("sleep", ["0", "0"])
    assert told["namespaces"]["net"] == str(Path("/proc/self/ns/net").readlink())
    device = tmp_path.stat().st_dev
    deleted = {"path": f"{tmp_path}/x (deleted)", "device": device, "bytes": 5}
    assert deleted in told["deleted"]
    container = facts["containers"]["a"]
    assert "CLOISTER_TOKEN" in container["environment"]
    assert container["links"]["lo"] == [1, 1]
    root = next(mount for mount in container["mounts"] if mount["point"] == "/")
    assert root["file"] == [Path("/").stat().st_dev, Path("/").stat().st_ino]
    assert secret not in json.dumps(facts)
    # This process shares all its namespaces.
    assert os.getpid() in {one["pid"] for one in facts["processes"]}


def test_who_left_one_namespace_shares_the_others_and_is_told_apart() -> None:
    with held(*NEW_SPACE) as space, held(*space.enter, *NEW_SPACE) as other:
        facts = probe.attempt({"kind": "facts", "containers": {"a": space.pid}, "others": {}})
    first, second = (
        next(one for one in facts["processes"] if one["pid"] == pid)
        for pid in (space.pid, other.pid)
    )
    assert first["namespaces"]["mnt"] == second["namespaces"]["mnt"]
    for kind in ("net", "network"):
        assert first["namespaces"][kind] != second["namespaces"][kind]


def test_a_process_is_found_by_the_namespace_of_any_of_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = """
import ctypes, sys, threading
def enter():
    with open(sys.argv[1]) as namespace:
        assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
    print("ready", flush=True)
    threading.Event().wait()
threading.Thread(target=enter).start()
"""
    monkeypatch.setattr(process, "_NAMESPACES", ("net",))  # the others are shared by all here
    with held(*NEW_SPACE) as space:
        path = f"/proc/{space.pid}/ns/net"
        elsewhere = (*space.enter, "unshare", "--net")
        with started(*elsewhere, sys.executable, "-c", script, path) as pid:
            facts = probe.attempt({"kind": "facts", "containers": {"a": space.pid}, "others": {}})
    networks: dict[int, list[str]] = {one["pid"]: [] for one in facts["processes"]}
    for one in facts["processes"]:
        networks[one["pid"]].append(one["namespaces"]["net"])
    assert set(networks) == {space.pid, pid}
    assert networks[space.pid][0] in networks[pid]
    assert len(set(networks[pid])) == 2


OPENED = """
import ctypes, signal, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listening, datagrams, local, frames, packets = kept = [socket.socket(*kind) for kind in (
    (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_DGRAM),
    (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_PACKET, socket.SOCK_RAW),
    (socket.AF_INET, socket.SOCK_RAW, 255),
)]
listening.bind(("127.0.0.1", 4000))
listening.listen()
queued = socket.create_connection(("127.0.0.1", 4000))
datagrams.bind(("::", 4001))
local.bind("\\0left \\n here")
for path in sys.argv[1:]:
    with open(path) as namespace:
        assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
print("ready", flush=True)
signal.pause()
"""


def test_sockets_that_whoever_opened_them_has_left_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_NAMESPACES", ("net",))
    ask = {"kind": "facts", "others": {}}
    with held(*NEW_SPACE) as space, held(*space.enter, "unshare", "--net") as elsewhere:
        opening = (*space.enter, sys.executable, "-c", OPENED)
        with started(*opening, f"/proc/{elsewhere.pid}/ns/net") as pid:
            facts = probe.attempt({**ask, "containers": {"a": space.pid, "b": elsewhere.pid}})
            held_sockets = descriptors.read_descriptors(Path(f"/proc/{pid}"))[1]
            assert set(descriptors.list_sockets(Path(f"/proc/{space.pid}"))) == held_sockets
    left = facts["containers"]["a"]["sockets"]
    kinds = [one.partition(" ")[0] for one in left]
    assert kinds == ["packet", "raw", "tcp", "tcp", "udp6", "unix"]
    assert {"tcp 0100007F:0FA0", "unix @left"} <= set(left)
    assert facts["containers"]["b"]["sockets"] == []


def test_the_sockets_of_dockers_resolver_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = "0: {} 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n"
    own = "0B00007F:8F3B", "0200007F:8F3B"
    (tmp_path / "net" / "tcp").write_text("\n" + "".join(map(line.format, own)))
    assert descriptors.list_sockets(tmp_path) == {77: "tcp 0200007F:8F3B"}


def test_a_deleted_file_that_is_in_memory_alone_is_told(tmp_path: Path) -> None:
    script = """
import ctypes, os, signal, sys
with open(sys.argv[1], "w+b") as file:
    file.write(b"page")
    file.flush()
    # Python's own keeps a descriptor.
    ctypes.CDLL(None).mmap(None, 4, 1, 1, file.fileno(), 0)
os.unlink(sys.argv[1])
print("ready", flush=True)
signal.pause()
"""
    path = tmp_path / "a page"
    with started(sys.executable, "-c", script, str(path)) as pid:
        deleted, _ = descriptors.read_descriptors(Path(f"/proc/{pid}"))
    (told,) = (one for one in deleted if one["path"] == f"{path} (deleted)")
    assert (told["device"], told["bytes"]) == (tmp_path.stat().st_dev, mmap.PAGESIZE)


# A thread has a table of its own, and there a file that no folder lists any more.
UNSHARED = """
import ctypes, os, sys, threading
def hold():
    assert ctypes.CDLL(None).syscall(436, 1000, 1000, 2) == 0, "close_range, unshare"
    with open(sys.argv[1], "wb") as file:
        os.unlink(sys.argv[1])
        file.write(b"page")
        file.flush()
        print("ready", flush=True)
        threading.Event().wait()
threading.Thread(target=hold).start()
"""


def test_a_deleted_file_of_one_threads_own_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a page"
    with started(sys.executable, "-c", UNSHARED, str(path)) as pid:
        deleted, _ = descriptors.read_descriptors(Path(f"/proc/{pid}"))
    (told,) = (one for one in deleted if one["path"] == f"{path} (deleted)")
    assert (told["device"], told["bytes"]) == (tmp_path.stat().st_dev, 4)


# The first thread ends alone, and the process is a zombie that runs on.
LEADERLESS = """
import ctypes, mmap, os, sys, threading
def hold():
    with open(f"/proc/{os.getpid()}/stat") as stat:
        while ") Z " not in stat.read():
            stat.seek(0)
    with open(sys.argv[1], "w+b") as file:
        os.unlink(sys.argv[1])
        file.write(b"page")
        file.flush()
        memory = mmap.mmap(file.fileno(), 4)
        print("ready", flush=True)
        threading.Event().wait()
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(93 if os.uname().machine == "aarch64" else 60, 0)
"""


def test_a_process_whose_first_thread_has_ended_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_NAMESPACES", ("net",))
    path = tmp_path / "a page"
    script = (sys.executable, "-c", LEADERLESS, str(path))
    with held(*NEW_SPACE) as space, started(*space.enter, *script) as pid:
        facts = probe.attempt({"kind": "facts", "containers": {"a": space.pid}, "others": {}})
    first, last = facts["processes"]
    assert (first["pid"], last["pid"]) == (space.pid, pid)
    assert last["namespaces"] == first["namespaces"]
    assert last["root"] == first["root"]
    told = [one for one in last["deleted"] if one["path"] == f"{path} (deleted)"]
    assert sorted(one["bytes"] for one in told) == [4, mmap.PAGESIZE]


def test_too_many_processes_are_told_with_the_container_that_has_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_PATIENCE_S", -1.0)
    result = probe.attempt({"kind": "facts", "containers": {"a": os.getpid()}, "others": {}})
    assert not result["reached"]
    assert re.fullmatch(r"not within -1 s: \w+ has \d+ processes", result["detail"])
    error = process.TooManyError(["a" * 64, "b" * 64, "b" * 64])
    assert str(error).endswith(f": {'b' * 12} has 2 processes")


def test_facts_have_more_time_than_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LIMIT_S", 0.0)
    ask = {"kind": "facts", "containers": {"a": os.getpid()}, "others": {}}
    assert probe.attempt(ask)["reached"]


def test_devices_are_told_with_their_numbers_and_mounts_apart() -> None:
    nodes = list(process._find_nodes(Path("/dev"), "/dev"))
    assert ["/dev/null", "c", 1, 3] in nodes
    assert not any(str(path).startswith("/dev/pts/") for path, *_ in nodes)


def test_the_network_of_a_container_is_told() -> None:
    with held(*NEW_SPACE) as space:
        space.run("""
            ip link set lo up
            ip link add d0 type veth peer name d1
            ip link set d1 up
            ip addr add 192.0.2.9/24 dev d0
            ip link set d0 up
            ip route add 198.51.100.0/24 via 192.0.2.1
            ip addr add 2001:db8:1::9/64 dev d0 nodad
            ip route add 2001:db8:2::/48 via 2001:db8:1::1
            ip route add unreachable 2001:db8:3::/48
            ip route add 2001:db8:4::/48 via 2001:db8:1::1 table 7
        """)
        links = (*space.enter, "unshare", "--mount", "sh", "-ec")
        shown = "mount -t sysfs none /sys; echo ready; exec sleep infinity"
        with started(*links, shown) as pid:
            told = process._read_network(Path(f"/proc/{pid}"))
    assert told is not None
    assert told["interfaces"] == ["d0", "d1", "lo"]
    assert {"127.0.0.1", "192.0.2.9"} <= set(cast("list[str]", told["addresses"]))
    routes = cast("list[list[str]]", told["routes"])
    kernels = [["lo", "::1/128", "::"]]
    kernels += [
        [name, network, "::"] for name in ("d0", "d1") for network in ("fe80::/64", "ff00::/8")
    ]
    assert sorted(route for route in routes if route not in kernels) == [
        ["d0", "192.0.2.0/255.255.255.0", "0.0.0.0"],  # noqa: S104  # no gateway
        ["d0", "198.51.100.0/255.255.255.0", "192.0.2.1"],
        ["d0", "2001:db8:1::/64", "::"],
        ["d0", "2001:db8:2::/48", "2001:db8:1::1"],
        ["d0", "2001:db8:4::/48", "2001:db8:1::1"],
    ]


def test_settings_are_those_of_the_network_of_whoever_asks() -> None:
    name = "net.ipv4.conf.all.route_localnet"
    with held(*NEW_SPACE) as space:
        space.run("echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
        found, none = space.probe(
            {"kind": "settings", "names": [name]}, {"kind": "settings", "names": ["net.none"]}
        )
    assert found["settings"] == {name: "1"}
    assert (none["reached"], none["detail"]) == (False, "No such file or directory (ENOENT)")


def test_a_process_with_another_root_is_told_apart() -> None:
    entering = ("unshare", "--user", "--map-root-user", sys.executable, "-c")
    script = "import os, signal; os.chroot('/proc'); print('ready', flush=True); signal.pause()"
    with started(*entering, script) as pid:
        facts = probe.attempt({"kind": "facts", "containers": {"a": pid}, "others": {}})
    (told,) = (one for one in facts["processes"] if one["pid"] == pid)
    assert told["root"] == [Path("/proc").stat().st_dev, Path("/proc").stat().st_ino]
    assert told["folder"] == [Path.cwd().stat().st_dev, Path.cwd().stat().st_ino]
    assert int(told["Seccomp_filters"]) >= 0


def test_a_name_that_a_process_gives_itself_is_shown_harmlessly() -> None:
    script = """
import ctypes, signal
ctypes.CDLL(None).prctl(15, b"[/x]\\x1b[2J\\nUid:", 0, 0, 0)
print("ready", flush=True)
signal.pause()
"""
    with started(sys.executable, "-c", script) as pid:
        facts = probe.attempt({"kind": "facts", "containers": {"a": pid}, "others": {}})
    (told,) = (one for one in facts["processes"] if one["pid"] == pid)
    assert told["comm"] == "?/x???2J?nUid:"
    assert told["Uid"].split()[0] == str(os.getuid())


def test_a_thread_that_has_other_rights_than_its_process_is_told() -> None:
    """Capabilities, filters and namespaces are those of a thread."""
    script = """
import ctypes, threading
def leave():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    print("ready", flush=True)
    threading.Event().wait()
threading.Thread(target=leave).start()
"""
    with started(sys.executable, "-c", script) as pid:
        facts = probe.attempt({"kind": "facts", "containers": {"a": pid}, "others": {}})
    told = [one["NoNewPrivs"] for one in facts["processes"] if one["pid"] == pid]
    assert sorted(told) == ["0", "1"]


def test_what_may_not_be_read_is_none_and_a_missing_process_an_error() -> None:
    ask = {"kind": "facts", "others": {"b": 4194305}}
    facts, missing = run_probe(
        [*NEW_SPACE, *UNPRIVILEGED],
        {**ask, "containers": {"a": 1}},
        {**ask, "containers": {"a": 4194305}},
    )
    assert facts["reached"]
    assert facts["containers"]["a"]["environment"] is None
    assert facts["others"] == {"b": {"mounts": None, "links": None}}
    first = next(one for one in facts["processes"] if one["pid"] == 1)
    # Which network a process is in can be told of any.
    assert set(first["namespaces"]) == {"network"}
    assert missing == {"reached": False, "detail": "No such file or directory (ENOENT)"}


def test_the_ports_of_a_bridge_are_told_with_their_other_ends() -> None:
    with held(*NEW_SPACE, "--mount") as space:
        space.run("""
            ip link add b0 type bridge
            ip link add v0 type veth peer name v1
            ip link set v0 master b0
        """)
        mounted = (*space.enter, "unshare", "--mount", "sh", "-ec")
        script = 'mount -t sysfs none /sys; exec "$0" "$@"'
        told, none = run_probe(
            [*mounted, script], *({"kind": "ports", "bridge": b} for b in ("b0", "b1"))
        )
    (ends,) = told["ports"].values()
    assert (set(told["ports"]), len(set(ends))) == ({"v0"}, 2)
    assert not none["reached"]


def test_a_mount_is_parsed_whatever_its_names() -> None:
    line = (
        r"36 35 98:0 /a\040b /mnt\011\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    )
    assert mounts.parse_mount(line) == {
        "device": "98:0",
        "root": "/a b",
        "point": "/mnt\t\\",
        "type": "ext3",
        "source": "/dev/root",
        "options": "rw,noatime",
        "super": "rw,errors=continue",
    }
    assert mounts.parse_mount("1 0 0:1 / / rw - tmpfs  rw")["source"] == ""


# As processes of nginx name themselves, below one that starts them.
WORKING = """
import subprocess, sys
waiting = ("-c", "import sys; sys.stdin.read()")
options = {"executable": sys.executable, "stdin": subprocess.PIPE}
running = [
    subprocess.Popen([f"nginx: {title}", *waiting], **options)
    for title in ("master process", "worker process", "worker process is shutting down")
]
print("ready", flush=True)
running[0].wait()
"""


def test_only_workers_that_take_connections_are_told_with_their_beginning() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME) - 0.1  # the kernel counts in such pieces
    with started(sys.executable, "-c", WORKING) as pid:
        told = probe.attempt({"kind": "workers", "pid": pid})
        other = probe.attempt({"kind": "workers", "pid": os.getpid()})
    (began,) = told["workers"]
    assert before <= told["first"] <= began <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert began in other["workers"], "a child's child"
    gone = probe.attempt({"kind": "workers", "pid": 4194305})
    assert not gone["reached"]
    assert "workers" not in gone


# Has a root of its own, and a folder of the machine's in it.
ROOTED = """
import os, signal, subprocess, sys
new, folder = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", new], check=True)
for name, what in (("state", folder), ("proc", "/proc")):
    os.mkdir(f"{new}/{name}")
    subprocess.run(["mount", "--rbind", what, f"{new}/{name}"], check=True)
os.chroot(new)
print("ready", flush=True)
signal.pause()
"""


def test_a_container_of_another_engine_is_known_by_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, folder = tmp_path / "new", tmp_path / "folder"
    new.mkdir()
    folder.mkdir()
    ask = {"kind": "facts", "containers": {"a": os.getpid()}, "others": {}}
    rooted = ("unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ROOTED)
    inherited = ("unshare", "--user", "--map-root-user", "--mount")

    def see(*known: int) -> list[dict[str, Any]]:
        facts = probe.attempt({**ask, "others": {str(one): one for one in known}})
        assert facts["reached"], facts["detail"]
        views: list[dict[str, Any]] = facts["views"]
        return [one for one in views if one["pid"] in pids]

    with started(*rooted, str(new), str(folder)) as pid, held(*inherited) as service:
        pids = {pid, service.pid}
        assert see() == [], "in a user namespace, and of no container: a user's sandbox"
        monkeypatch.setattr(mounts, "_CONTAINERS", re.compile(""))
        (view,) = see()
        assert see(pid) == []
    assert view["pid"] == pid
    (mounted,) = (one for one in view["mounts"] if one["point"] == "/state")
    own = folder.stat().st_dev
    assert mounted["device"] == f"{os.major(own)}:{os.minor(own)}"
    assert str(folder).endswith(mounted["root"]) or mounted["root"].endswith(str(folder))


# The same, but that it has locked itself in, and a child sees what it saw before.
JAILED = f"""{ROOTED.partition("print(")[0]}
os.mkdir("/jail")
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(writing)
    os.read(reading, 1)  # until the parent ends
    os._exit(0)
os.chroot("/jail")
print("ready", flush=True)
signal.pause()
"""


def test_the_mounts_of_a_container_are_not_only_those_that_its_first_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, folder = tmp_path / "new", tmp_path / "folder"
    new.mkdir()
    folder.mkdir()
    rooted = ("unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", JAILED)
    monkeypatch.setattr(mounts, "_CONTAINERS", re.compile(""))
    with started(*rooted, str(new), str(folder)) as pid:
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8"))
        ask = {"kind": "facts", "containers": {"a": os.getpid()}, "others": {"b": pid}}
        facts = probe.attempt(ask)
    assert facts["reached"], facts["detail"]
    assert facts["others"]["b"]["mounts"] == []
    (view,) = (one for one in facts["views"] if one["pid"] in {pid, child})
    assert view["pid"] == child
    assert "/state" in [one["point"] for one in view["mounts"]]


def test_only_names_of_variables_are_read(tmp_path: Path) -> None:
    environ = tmp_path / "environ"
    environ.write_bytes(b"HOME=/root\0A.b-c=x=y\0a secret without a name\0nginx: worker=1\0\0=z\0")
    assert process._read_names(environ) == ["HOME", "A.b-c"]


# --- The attempts themselves.


def wait_forever() -> probe.Result:
    while True:
        time.sleep(LONG_S)


def end_by_signal() -> probe.Result:
    os.kill(os.getpid(), signal.SIGSYS)
    return wait_forever()


def change_itself(*, folder: str) -> probe.Result:
    os.chdir(folder)
    return {"reached": True, "detail": str(Path.cwd())}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have kinds that misbehave; a forked process has them too."""
    others = {
        "hangs": wait_forever,
        "crashes": end_by_signal,
        "changes": change_itself,
        "large": lambda: {"reached": True, "detail": "x" * 1_000_000},
        "numbered": lambda *, number: {"reached": True, "detail": number},
        "exits": lambda: os._exit(0),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "strange": lambda: {"reached": object()},
    }
    monkeypatch.setattr(probe, "_KINDS", {**probe._KINDS, **others})


@pytest.mark.usefixtures("kinds")
def test_an_attempt_that_hangs_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LIMIT_S", 0.5)
    begun = time.monotonic()
    result = probe.attempt({"kind": "hangs"})
    assert 0.5 <= time.monotonic() - begun < LONG_S
    assert result == {"reached": False, "detail": "nothing within 0.5 s", "late": True}


@pytest.mark.usefixtures("kinds")
def test_what_was_written_in_time_counts_however_late_it_is_read() -> None:
    running = probe._start(0, {"kind": "numbered", "number": 7})
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    running.limit_s = 0.0
    assert running.finish()["detail"] == 7


@pytest.mark.usefixtures("kinds")
def test_one_attempt_does_no_harm_to_another(tmp_path: Path) -> None:
    numbered = [{"kind": "numbered", "number": number} for number in range(50)]
    odd = [{"kind": "crashes"}, {"kind": "changes", "folder": str(tmp_path)}, {"kind": "large"}]
    before = Path.cwd()
    results = probe.attempt_all([*odd, *numbered])
    assert results[0] == {"reached": False, "detail": "killed by SIGSYS"}
    assert results[1]["detail"] == str(tmp_path)
    assert len(results[2]["detail"]) == 1_000_000
    assert [result["detail"] for result in results[3:]] == list(range(50))
    assert Path.cwd() == before


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("kind", ["exits", "killed", "strange"])
def test_an_attempt_without_a_result_is_no_proof(kind: str) -> None:
    result = probe.attempt({"kind": kind})
    assert not result["reached"]
    assert result["broken"]


def test_an_attempt_for_which_there_is_no_process_is_no_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    result = probe.attempt({"kind": "interfaces"})
    assert not result["reached"]
    assert result["broken"]
    assert "EAGAIN" in result["detail"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kind": "tpc", "host": OUTSIDE}, f"no kind `tpc`; there are {', '.join(probe._KINDS)}"),
        ({}, "no kind ``; there are "),
        ({"kind": "tcp", "port": 1}, "'host'"),
        ({"kind": "udp", "port": 1, "nonce": "n"}, "`host` is missing"),
        ({"kind": "udp", "port": 1, "nonce": "n", "host": "x", "dontrout": True}, "'dontrout'"),
        ({"kind": "syscall", "name": "fork"}, "no system call `fork`; there are add_key, "),
        ({"kind": "socket", "family": 2, "connect": [[2, 1]]}, "`connect` is for family 40"),
    ],
)
def test_a_wrong_attempt_says_what_is_wrong_and_proves_nothing(wrong: Attempt, reason: str) -> None:
    result = probe.attempt(wrong)
    assert not result["reached"]
    assert result["broken"]
    assert reason in result["detail"]


def test_a_wrong_attempt_ends_the_program_with_a_reason() -> None:
    attempts = json.dumps([{"kind": "interfaces"}, {"kind": "tpc"}])
    command = [sys.executable, "-m", "cloister.inside.probe", attempts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=LONG_S)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("no kind `tpc`; there are tcp, ")
    assert len(json.loads(done.stdout)) == 2
