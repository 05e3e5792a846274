"""Where servers listen, as each of their clients names it."""

from pathlib import Path

import pytest

from cloister.endpoint import Listener, Route, TcpAddress, UnixSocket, describe, parse


def test_a_socket_is_named_as_each_program_reads_it() -> None:
    endpoint = UnixSocket(Path("/run/http/engine-1/sock"))
    assert str(endpoint) == "unix:/run/http/engine-1/sock"
    assert endpoint.url == "http+unix://%2Frun%2Fhttp%2Fengine-1%2Fsock"
    assert endpoint.proxied == "http://unix:/run/http/engine-1/sock:"
    assert parse(str(endpoint)) == endpoint


def test_an_address_is_named_as_each_program_reads_it() -> None:
    endpoint = TcpAddress("172.30.40.10", 8000)
    assert str(endpoint) == "172.30.40.10:8000"
    assert endpoint.url == endpoint.proxied == "http://172.30.40.10:8000"
    assert parse(str(endpoint)) == endpoint


def test_a_route_is_below_a_path_of_another_server() -> None:
    route = Route(UnixSocket(Path("/s")), "/-/replicas/vllm-nanonets-ocr-1")
    assert route.url == "http+unix://%2Fs/-/replicas/vllm-nanonets-ocr-1"
    assert str(route) == "unix:/s:/-/replicas/vllm-nanonets-ocr-1"


@pytest.mark.parametrize(
    "named",
    [
        UnixSocket(Path("/a folder/sock")),
        Route(UnixSocket(Path("/a:b")), "/-/replicas/vllm-nanonets-ocr-1"),
    ],
)
def test_the_url_of_a_socket_is_shown_as_its_path(named: UnixSocket | Route) -> None:
    assert describe(named.url) == str(named)


def test_any_other_url_is_shown_as_it_is() -> None:
    assert describe("https://ocr.example/a%20b") == "https://ocr.example/a%20b"


def test_only_a_server_on_a_socket_binds_one() -> None:
    assert Listener.at(UnixSocket(Path("/s"))).socket == Path("/s")
    assert Listener.at(TcpAddress("127.0.0.1", 80)).socket is None


@pytest.mark.parametrize("text", ["", "unix:", "unix:run/sock", "host", "host:", ":80", "host:x"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`"):
        parse(text)
