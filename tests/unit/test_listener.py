"""Bodies heard in the event loop: whole, in pieces, cut, silent, and over TLS."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import gevent.socket
import gevent.ssl
import pytest
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from cloister import certificates
from loadtests.listener import Listener

START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
PATIENCE_S = 5.0


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


@pytest.fixture
def pair() -> Iterator[tuple[gevent.socket.socket, gevent.socket.socket]]:
    ours, theirs = gevent.socket.socketpair()
    ours.settimeout(PATIENCE_S)
    with ours, theirs:
        yield ours, theirs


def listened(
    sock: gevent.socket.socket, patience_s: float = PATIENCE_S
) -> tuple[HTTPSocketResponse, list[bytes], Callable[[], None]]:
    response, pieces = HTTPSocketResponse(sock), list[bytes]()
    return response, pieces, lambda: Listener(response, patience_s)(pieces.append)


def test_all_of_it_with_the_headers(pair: tuple[gevent.socket.socket, ...]) -> None:
    pair[1].sendall(START + chunk(b"one") + END)
    _, pieces, listen = listened(pair[0])
    listen()
    assert pieces == [b"one"]


def test_a_piece_is_told_when_it_is_there(pair: tuple[gevent.socket.socket, ...]) -> None:
    pair[1].sendall(START)
    response, pieces, listen = listened(pair[0])
    listening = gevent.spawn(listen)
    for count in range(1, 4):
        pair[1].sendall(chunk(b"x"))
        with gevent.Timeout(PATIENCE_S):
            while len(pieces) < count:
                gevent.sleep(0.001)
    assert not listening.ready()
    pair[1].sendall(END)
    listening.get(timeout=PATIENCE_S)
    assert pieces == [b"x"] * 3
    assert response.message_complete


def test_more_than_one_read_takes(pair: tuple[gevent.socket.socket, ...]) -> None:
    pair[1].sendall(START)
    _, pieces, listen = listened(pair[0])
    sending = gevent.spawn(pair[1].sendall, chunk(b"x" * 1_000_000) + END)
    listen()
    sending.get(timeout=PATIENCE_S)
    assert b"".join(pieces) == b"x" * 1_000_000


def test_a_connection_kept_for_the_next_page_has_its_time_out_again(
    pair: tuple[gevent.socket.socket, ...],
) -> None:
    pair[1].sendall(START)
    _, _, listen = listened(pair[0])
    gevent.spawn_later(0.01, pair[1].sendall, END)
    listen()
    assert pair[0].gettimeout() == PATIENCE_S


@pytest.mark.parametrize(
    "start", [START, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"], ids=["chunked", "length"]
)
def test_cut_midway(pair: tuple[gevent.socket.socket, ...], start: bytes) -> None:
    pair[1].sendall(start)
    _, pieces, listen = listened(pair[0])
    pair[1].sendall(chunk(b"one"))
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(HTTPParseError):
        listen()
    assert b"one" in b"".join(pieces)


def test_a_body_that_ends_with_its_connection(pair: tuple[gevent.socket.socket, ...]) -> None:
    pair[1].sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    _, pieces, listen = listened(pair[0])
    pair[1].sendall(b"one")
    pair[1].shutdown(socket.SHUT_WR)
    listen()
    assert b"".join(pieces) == b"one"


def test_a_silence_that_is_too_long_counts_from_the_last_piece(
    pair: tuple[gevent.socket.socket, ...],
) -> None:
    pair[1].sendall(START)
    _, pieces, listen = listened(pair[0], patience_s=1)
    for at_s in (0.4, 0.8, 1.2):
        gevent.spawn_later(at_s, pair[1].sendall, chunk(b"x"))
    with pytest.raises(TimeoutError, match="nothing came for 1 s"):
        listen()
    assert len(pieces) == 3


def test_what_the_hearer_raises_comes_back(pair: tuple[gevent.socket.socket, ...]) -> None:
    pair[1].sendall(START)
    response = HTTPSocketResponse(pair[0])
    pair[1].sendall(chunk(b"one"))

    def heard(_piece: bytes) -> None:
        raise ValueError("not JSON")

    with pytest.raises(ValueError, match="not JSON"):
        Listener(response, PATIENCE_S)(heard)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    root = certificates.authority(tmp_path)
    certificate, key = certificates.server(tmp_path, [], 1)
    served = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    served.maximum_version = version
    trusting = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(root)
    bodies = [b"x" * size for size in (1, 4_000, 4_096, 5_000, 100_000)]

    def serve(sock: gevent.socket.socket) -> None:
        with served.wrap_socket(sock, server_side=True) as theirs:
            for begun in (START, *(chunk(body) for body in bodies), END):
                theirs.sendall(begun)
                gevent.sleep(0.01)

    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        serving = gevent.spawn(serve, theirs)
        with trusting.wrap_socket(ours, server_hostname="localhost") as wrapped:
            wrapped.settimeout(PATIENCE_S)
            _, pieces, listen = listened(wrapped)
            listen()
        serving.get(timeout=PATIENCE_S)
    assert b"".join(pieces) == b"".join(bodies)
