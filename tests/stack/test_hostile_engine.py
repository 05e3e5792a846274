"""An engine that was taken over: what of its answers gets through the gateway.

`pytest -s` prints the table of statuses and headers.
"""

import json
import re
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from typing import Any

import gateways
import httpx2
import openai
import pytest
import requests
from deployments import eventually
from gateways import Gateway, gateway
from hostile_engine import (
    EVENT,
    JSON,
    PAGE,
    STREAM,
    HostileEngine,
    chunk,
    head,
    hostile_engine,
    streamed,
    whole,
)
from http2 import SETTINGS, block, frame, start, talk
from load import PATH

from cloister import certificates, nginx
from cloister.gateway import render
from cloister.gateway.answers import STATUSES

ASK = b'{"model": "stub", "stream": true, "messages": []}'
# What the gateway itself sends, whatever an engine does.
OWN = frozenset(
    (
        *("server", "date", "content-type", "connection", "x-request-id", "x-cloister-replica"),
        *("x-content-type-options", "cache-control", "content-security-policy", "referrer-policy"),
    )
)
FRAMING = frozenset({"content-length", "transfer-encoding"})
_RETRIED = frozenset({429, 500, 502, 503})
_HEADERS = (
    *("Set-Cookie", "Refresh", "Alt-Svc", "Link", "Location", "Content-Location", "Server"),
    *("Trailer", "Retry-After", "Expires", "ETag", "Last-Modified", "Accept-Ranges", "Vary"),
    *("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Clear-Site-Data"),
    *("X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"),
    *("X-Accel-Expires", "X-Accel-Unknown", "X-Request-ID", "X-Cloister-Replica", "Cache-Control"),
    *("X-Cloister-Engine", "WWW-Authenticate", "Proxy-Authenticate", "Strict-Transport-Security"),
    *("Content-Security-Policy", "Content-Disposition", "Content-Range", "Content-Language"),
    *("Age", "Allow", "Date", "Keep-Alive", "Upgrade", "Via", "Warning", "NEL", "Report-To"),
    *("SourceMap", "X-Should-Retry", "openai-processing-ms", "x-ratelimit-reset-tokens"),
    *("__proto__", "constructor", "a_b", "A.B", "a!b", "a|b", "a~b", "a'b", "x" * 200, "1"),
    *("Status", "P3P", "DNT", "Service-Worker-Allowed", "Timing-Allow-Origin", "X-Frame-Options"),
    *("Permissions-Policy", "Cross-Origin-Opener-Policy", "Origin-Agent-Cluster", "Priority"),
    *(f"X-Unknown-{number}" for number in range(140)),
)
_CUT = {18, 92}  # curl's codes
_LOGGED = re.compile(r"\d{4}/\d\d/\d\d [\d:]{8} \[\w+\] \d+#\d+: [ -~]*")
# Heads that nginx takes for none, or that say two things.
_NOT_HTTP = (
    b"HTTP/1.1\t307 Temporary Redirect\r\nLocation: http://192.0.2.1/\r\n\r\n",
    b"HTTP/1.1 30 X\r\nLocation: http://192.0.2.1/\r\n\r\n",
    b"http/1.1 307 X\r\nLocation: http://192.0.2.1/\r\n\r\n",
    b"\r\nHTTP/1.1 307 X\r\nLocation: http://192.0.2.1/\r\n\r\n",
    b"HTTP/1.1 x\r\n\r\n",
    b"no head at all",
)


@contextmanager
def behind(**settings: object) -> Iterator[tuple[Gateway, HostileEngine]]:
    with hostile_engine() as engine, gateway([engine.address], **settings) as door:  # type: ignore[arg-type]
        yield door, engine


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Gateway, HostileEngine]]:
    with behind() as made:
        yield made


def ask(port: int) -> tuple[int, dict[str, str], bytes]:
    """Send a page; return status, headers by small name, and body."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request("POST", PATH, ASK, {"Content-Type": "application/json"})
        answer = client.getresponse()
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
        assert len(dict(headers)) == len(headers), "no header comes twice"
        return answer.status, dict(headers), answer.read()


def curl() -> str:
    found = shutil.which("curl")
    assert found, "the tests need curl"
    return found


def code(body: bytes) -> str:
    text: str = json.loads(body)["error"]["code"]
    return text


def test_every_status_and_header_of_an_engine(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    names: Counter[str] = Counter()
    statuses: dict[tuple[str, int], Counter[int]] = {}
    for form, made in (("whole", whole), ("streamed", streamed)):
        for status in range(100, 1000):
            engine.say(made(f"{status} Evil"))
            got, headers, body = ask(door.port)
            names.update(headers.keys())
            passes = status in STATUSES and (form == "whole" or status == 200)
            assert got == (status if passes else 502), (form, status)
            assert passes or code(body) == "invalid_answer"
            assert set(headers) - FRAMING == OWN | ({"retry-after"} if got in _RETRIED else set())
            hundred = statuses.setdefault((form, status // 100 * 100), Counter())
            hundred[got] += 1
        for name in _HEADERS:
            engine.say(made("200 OK", f"{name}: evil words"))
            got, headers, body = ask(door.port)
            names.update(headers.keys())
            assert got == 200, name
            assert set(headers) - FRAMING == OWN, name
            assert "evil" not in "".join(headers.values())
            assert body == (PAGE if form == "whole" else EVENT + b"data: [DONE]\n\n")
    assert len(_HEADERS) >= 200
    for (form, hundred_), counts in statuses.items():
        print(f"{form}, {hundred_} to {hundred_ + 99}: {dict(sorted(counts.items()))}")  # noqa: T201
    print("headers that came:", dict(sorted(names.items())))  # noqa: T201
    assert set(names) <= OWN | FRAMING | {"retry-after"}


@pytest.mark.parametrize(
    "answer",
    [
        whole(kind=None),
        whole(kind="text/html"),
        whole(kind="application/json-evil"),
        whole(kind="application/json; charset=evil"),
        whole(kind="application/json; evil=1"),
        whole("400 Bad Request", kind="text/plain"),
        whole("404 Not Found", kind="text/html; charset=utf-8"),
        whole("200 OK", "Content-Encoding: gzip"),
        whole("200 OK", "a b: c"),
    ],
)
def test_types_and_codings_that_the_api_does_not_have(
    pair: tuple[Gateway, HostileEngine], answer: bytes
) -> None:
    door, engine = pair
    engine.say(answer)
    status, _, body = ask(door.port)
    assert status == 502
    assert code(body) in {"invalid_answer", "engine_down"}


@pytest.mark.parametrize("more", ["", "; version=0.0.4; charset=utf-8", "; version=1.0.0"])
def test_metrics_have_a_version_that_is_not_passed_on(
    pair: tuple[Gateway, HostileEngine], more: str
) -> None:
    """Commands of this machine ask for them by the same rules, where engines are on a network."""
    door, engine = pair
    engine.say(whole(kind=f"text/plain{more}"))
    status, headers, _ = ask(door.port)
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")


def test_an_engines_own_error_reaches_the_client(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    error = b'{"error":{"message":"16385 tokens are too many","type":"BadRequestError","code":400}}'
    engine.say(whole("400 <script>", body=error, kind="application/json; charset=utf-8"))
    status, headers, body = ask(door.port)
    assert (status, body) == (400, error)
    assert headers["content-type"] == "application/json; charset=utf-8"
    engine.say(whole("503 Full", "Retry-After: -1", body=error))
    assert ask(door.port)[1]["retry-after"] == "1"
    client = openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0)
    engine.say(whole("400 Bad", body=error))
    with pytest.raises(openai.BadRequestError, match="16385 tokens"):
        client.chat.completions.create(model="stub", messages=[])


def test_no_word_after_a_status_reaches_a_client(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    for status in (200, 400, 503):
        engine.say(whole(f"{status} words-of-a-page"))
        with socket.create_connection(("127.0.0.1", door.port), 60) as client:
            length = f"Content-Length: {len(ASK)}\r\nConnection: close\r\n\r\n".encode()
            client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: a\r\n".encode() + length + ASK)
            received = b"".join(iter(lambda: client.recv(1 << 16), b""))
        assert received.startswith(b"HTTP/1.1 %d " % status)
        assert b"words-of-a-page" not in received


def test_early_answers_upgrades_and_what_is_no_http(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    for status in (100, 101, 102, 103, 199):
        early = f"HTTP/1.1 {status} Early\r\nLink: <http://192.0.2.1/>\r\n\r\n".encode()
        engine.say(early, whole())
        assert ask(door.port)[0] == 502
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        told = requests.post(f"{door.url}{PATH}", data=ASK, headers=upgrade, timeout=60)
        assert told.status_code == 502
    for answer in _NOT_HTTP:
        engine.say(answer)
        with pytest.raises((HTTPException, ConnectionError)):
            ask(door.port)
    eventually(lambda: _assert_logged(door, {"status", "head"}))
    assert all(isinstance(line["status"], int) for line in door.log())


def _assert_logged(door: Gateway, faults: set[str]) -> None:
    assert faults <= {line["answer_fault"] for line in door.log()}


def test_a_trailer_is_not_passed_on(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    body = chunk(PAGE) + b"0\r\nLocation: http://192.0.2.1/\r\nEvil: a\r\n\r\n"
    engine.say(head("200 OK", JSON, None, "Trailer: Evil") + body)
    with socket.create_connection(("127.0.0.1", door.port), 60) as client:
        lines = f"Host: a\r\nTE: trailers\r\nContent-Length: {len(ASK)}\r\n\r\n".encode()
        client.sendall(f"POST {PATH} HTTP/1.1\r\n".encode() + lines + ASK)
        received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert received.endswith(b"0\r\n\r\n")
    assert b"evil" not in received.lower()


def test_no_client_leaves_for_another_host(
    pair: tuple[Gateway, HostileEngine], tmp_path: Path
) -> None:
    door, engine = pair
    body = tmp_path / "body.json"
    body.write_bytes(ASK)
    with hostile_engine() as elsewhere:
        there = f"http://{elsewhere.address}{PATH}"
        hints = (
            *(f"Location: {there}", f"Refresh: 0; url={there}", f"Content-Location: {there}"),
            *(f'Alt-Svc: h2="{elsewhere.address}"; persist=1', f"Link: <{there}>; rel=canonical"),
        )
        client = openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0)
        for status in (101, 103, 201, 300, 301, 302, 303, 305, 307, 308, 401, 407):
            engine.say(whole(f"{status} There", *hints))
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model="stub", messages=[])
            with httpx2.Client(follow_redirects=True) as follower:
                assert follower.post(f"{door.url}{PATH}", content=ASK).status_code == 502
            command = (
                curl(),
                "--silent",
                "--location-trusted",
                "--post301",
                "--post302",
                "--post303",
            )
            url = f"{door.url}{PATH}"
            told = subprocess.run(
                [*command, "--data-binary", f"@{body}", "--write-out", "%{http_code}", url],
                capture_output=True,
                check=True,
            )
            assert told.stdout.endswith(b"502")
        assert elsewhere.requests == []


def endless(first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield piece


def dripping(ended: threading.Event, first: bytes, piece: bytes) -> Iterator[bytes]:
    yield first
    while not ended.wait(0.2):
        yield piece


def events(url: str) -> tuple[list[str], bool]:
    """Return the events of a stream, and whether its connection was cut."""
    told = b""
    try:
        with requests.post(f"{url}{PATH}", data=ASK, stream=True, timeout=60) as answer:
            assert answer.status_code == 200
            for piece in answer.iter_content(None):
                told += piece
    except requests.RequestException:
        return told.decode().split("\n\n"), True
    return told.decode().split("\n\n"), False


@pytest.mark.parametrize("drip", [False, True])
def test_a_stream_without_an_end_is_ended_with_an_error(drip: bool) -> None:  # noqa: FBT001
    name = "answer_too_long" if drip else "answer_too_large"
    with behind(**({"max_answer_s": 2} if drip else {"max_answer_mib": 1})) as (door, engine):
        first, piece = head(kind=STREAM), chunk(EVENT)
        if drip:
            engine.answer = lambda: dripping(engine.ended, first, piece)
        else:
            engine.answer = lambda: endless(first, piece * 100)
        told, cut = events(door.url)
        assert cut
        *good, error, rest = told
        assert code(error.removeprefix("data: ").encode()) == name
        assert rest == ""
        assert {one + "\n\n" for one in good} == {EVENT.decode()}
        assert sum(len(one) + 2 for one in good) <= 1 << 20
        assert engine.ended.wait(60), "the engine is not listened to any more"
        fault = "time" if drip else "size"
        eventually(lambda: _assert_logged(door, {fault}))
        assert f"an engine's answer was not passed on: {fault}" in door.errors()
        engine.ended.clear()
        client = openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match=r"gateway\.max_answer"):
            list(client.chat.completions.create(model="stub", messages=[], stream=True))


@pytest.mark.parametrize("drip", [False, True])
def test_a_whole_answer_without_an_end_is_cut(drip: bool) -> None:  # noqa: FBT001
    with behind(**({"max_answer_s": 2} if drip else {"max_answer_mib": 1})) as (door, engine):
        if drip:
            engine.answer = lambda: dripping(engine.ended, head(), chunk(b" "))
        else:
            engine.answer = lambda: endless(head(), chunk(b" " * 65536))
        with pytest.raises((HTTPException, ConnectionError)):
            ask(door.port)
        assert engine.ended.wait(60)
        eventually(lambda: _assert_logged(door, {"time" if drip else "size"}))


def test_a_length_above_the_largest_is_an_error_at_once() -> None:
    with behind(max_answer_mib=1) as (door, engine):
        engine.say(head("200 OK", JSON, (1 << 20) + 1))
        status, _, body = ask(door.port)
        assert (status, code(body)) == (502, "answer_too_large")
        page = PAGE.ljust(1 << 20)
        engine.say(whole(body=page))
        assert ask(door.port)[2] == page, "the largest"


def test_a_head_that_drips_is_given_up_after_the_timeout() -> None:
    with behind(timeout_s=2) as (door, engine):
        engine.answer = lambda: dripping(engine.ended, b"HTTP/1.1 200 OK\r\nX: ", b"a")
        status, _, body = ask(door.port)
        assert (status, code(body)) == (504, "engine_timeout")


def test_a_long_honest_stream_comes_whole(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    usage = b'data: {"choices":[],"usage":{"completion_tokens":18432}}\n\n'
    body = EVENT * 18432 + usage + b"data: [DONE]\n\n"
    pieces = b"".join(chunk(EVENT) for _ in range(18432)) + chunk(usage)
    engine.say(head(kind=STREAM) + pieces + chunk(b"data: [DONE]\n\n") + chunk(b""))
    status, headers, told = ask(door.port)
    assert (status, told) == (200, body)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"


def test_nothing_of_an_engine_but_its_status_is_in_the_answer_about_health() -> None:
    with behind() as (door, engine):
        challenge = "WWW-Authenticate: Basic realm=evil"
        for status in (100, 201, 204, 302, 401, 403, 404, 500, 999):
            engine.say(whole(f"{status} Evil", challenge))
            told = requests.get(f"{door.url}/health", timeout=60)
            assert (told.status_code, code(told.content)) == (503, "no_replica"), status
            assert "WWW-Authenticate" not in told.headers
        engine.say(whole())
        assert requests.get(f"{door.url}/health", timeout=60).json() == {"status": "ok"}


def test_a_page_that_took_long_to_fail_is_not_given_to_another() -> None:
    with hostile_engine() as first, hostile_engine() as second:

        def slow(engine: HostileEngine) -> Iterator[bytes]:
            # Longer than `moved_s`; the connection then ends without a byte.
            threading.Event().wait(1.5)
            engine.requests.append(b"died")
            yield b""

        for engine in (first, second):
            engine.answer = lambda engine=engine: slow(engine)  # type: ignore[misc]
        with gateway([first.address, second.address], moved_s=1) as door:
            status, _, body = ask(door.port)
            assert (status, code(body)) == (502, "engine_down")
            assert len(first.requests) + len(second.requests) == 2, "one page, and its end"
            for engine in (first, second):
                engine.requests.clear()
                engine.say(b"")
            assert ask(door.port)[0] == 502
            assert (len(first.requests), len(second.requests)) == (1, 1), "it failed at once"


# A mistake in each handler, by the line that it is put before.
_MISTAKES = {
    "head": "local fault = fault_of(headers)",
    "body": "state.left = state.left - #piece",
    "health": "if ngx.status ~= 200 or",
    "metrics": "for name in pairs(ngx.resp.get_headers(0, true)) do",
}


def break_handler(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the handler of that name fail, in words that a terminal would obey."""
    rendered = render

    def broken(*arguments: Any) -> str:
        text = rendered(*arguments)
        assert _MISTAKES[name] in text
        return text.replace(_MISTAKES[name], f'error("a mistake\\27[2J")\n{_MISTAKES[name]}', 1)

    monkeypatch.setattr(gateways, "render", broken)


def test_every_handler_is_guarded() -> None:
    with behind() as (door, _):
        text = (door.folder / nginx.CONFIGURATION).read_text()
    handlers = re.findall(r"(\w+)_by_lua_block \{(.*)", text)
    assert {name for name, _ in handlers} == {"init", "header_filter", "body_filter"}
    calls = [re.search(r'require\("answer"\)\.(\w+)\(', rest) for name, rest in handlers]
    names = {call[1] for call in calls if call}
    assert sum(call is None for call in calls) == 1, "init's, without which nginx does not start"
    assert names == set(_MISTAKES)
    for name in names:
        assert f"answer.{name} = guarded(" in text


def test_a_mistake_in_the_head_s_handler_refuses_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_handler(monkeypatch, "head")
    with behind() as (door, engine):
        for answer in (whole(), streamed(), whole("400 Bad")):
            engine.say(answer)
            status, _, body = ask(door.port)
            assert (status, code(body)) == (502, "gateway_error")
        eventually(lambda: _assert_failed(door, "head"))
        eventually(lambda: _assert_logged(door, {"gateway"}))


def test_a_mistake_in_the_body_s_handler_cuts_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    break_handler(monkeypatch, "body")
    with behind() as (door, engine):
        for answer in (whole(), streamed()):
            engine.say(answer)
            with pytest.raises((HTTPException, ConnectionError)):
                ask(door.port)
        eventually(lambda: _assert_failed(door, "body"))
        eventually(lambda: _assert_logged(door, {"gateway"}))


def test_a_mistake_in_the_health_s_handler_is_no_health(monkeypatch: pytest.MonkeyPatch) -> None:
    break_handler(monkeypatch, "health")
    with behind() as (door, _):
        told = requests.get(f"{door.url}/health", timeout=60)
        assert (told.status_code, code(told.content)) == (503, "no_replica")
        eventually(lambda: _assert_failed(door, "health"))


def _assert_failed(door: Gateway, name: str) -> None:
    found = re.findall(r"\[crit\] .* the gateway's own Lua failed in (\w+): (.*)", door.errors())
    assert found
    assert found[0][0] == name
    assert "a mistake?[2J" in found[0][1]


def test_a_stream_has_no_length_that_its_cut_could_reach() -> None:
    """An engine that gives one, and then waits: the error fits into what is missing."""
    with behind(max_answer_s=2) as (door, engine):
        engine.answer = lambda: dripping(
            engine.ended, head("200 OK", STREAM, len(EVENT) + 40) + EVENT, b":"
        )
        with closing(HTTPConnection("127.0.0.1", door.port, timeout=60)) as client:
            client.request("POST", PATH, ASK)
            answer = client.getresponse()
            assert answer.getheader("Content-Length") is None
            assert answer.getheader("Transfer-Encoding") == "chunked"
            with pytest.raises(IncompleteRead) as raised:
                answer.read()
        error = raised.value.partial.split(b"\n\n")[-2]
        assert code(error.removeprefix(b"data: ")) == "answer_too_long"


def test_a_whole_answer_with_a_length_is_short_when_it_is_cut(tmp_path: Path) -> None:
    with behind(max_answer_s=2) as (door, engine):
        engine.answer = lambda: dripping(engine.ended, head("200 OK", JSON, 1000), b" ")
        with pytest.raises(IncompleteRead):
            ask(door.port)
        engine.ended.clear()
        command = [curl(), "--silent", "--output", str(tmp_path / "a"), "--data", "{}"]
        ended = subprocess.run([*command, f"{door.url}{PATH}"], check=False)
        assert ended.returncode in _CUT


def test_over_http2_too(tmp_path: Path) -> None:
    certificates.authority(tmp_path)
    pem = certificates.load(*certificates.server(tmp_path, [], 10)).text
    fields = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", PATH.encode()))
    fields += ((b":authority", b"localhost"),)  # type: ignore[assignment]
    sent = start() + frame(SETTINGS, 1) + frame(1, 4, 1, block(fields)) + frame(0, 1, 1, ASK)
    with behind(pem=pem, max_answer_mib=1) as (door, engine):

        def told(*pieces: bytes) -> tuple[int | None, bytes]:
            engine.say(*pieces)
            heard = talk(door.port, sent, whole=True)
            return heard.statuses.get(1), heard.bodies.get(1, b"")

        assert told(whole()) == (200, PAGE)
        for status in (100, 101, 103, 204, 302, 307, 401, 999):
            got, body = told(whole(f"{status} Evil", "Location: http://192.0.2.1/"))
            assert (got, code(body)) == (502, "invalid_answer")
        engine.say(head(kind=STREAM) + chunk(EVENT * 20000) + chunk(b""))
        url = f"{door.url}{PATH}"
        command = [curl(), "--silent", "--http2", "--cacert", str(tmp_path / "ca.crt")]
        ended = subprocess.run([*command, "--data", "{}", url], capture_output=True, check=False)
        assert ended.returncode in _CUT
        error = ended.stdout.split(b"\n\n")[-2].removeprefix(b"data: ")
        assert code(error) == "answer_too_large"
        engine.answer = lambda: endless(head("307 There"), chunk(b"x" * 65536))
        engine.ended.clear()
        heard = talk(door.port, sent, whole=True)
        assert heard.statuses[1] == 502
        assert engine.ended.wait(60), "its endless body is not read"


def test_no_word_of_an_engine_is_in_the_error_log(pair: tuple[Gateway, HostileEngine]) -> None:
    door, engine = pair
    words = "words-of-a-page\x1b[2J"
    for line in (
        f"{words}\x01: a",
        f"{words} no colon",
        f"Content-Length: {words}",
        f"Transfer-Encoding: {words}",
        f"Content-Length: 1\r\nContent-Length: {words}",
        f"Transfer-Encoding: chunked\r\nTransfer-Encoding: {words}",
        f"X-Accel-Expires: {words}",
        f"Expires: {words}",
    ):
        engine.say(f"HTTP/1.1 200 {words}\r\n{line}\r\n\r\n".encode("latin-1"))
        with closing(HTTPConnection("127.0.0.1", door.port, timeout=60)) as client:
            client.request("POST", PATH, ASK)
            assert client.getresponse().status == 502, line
    assert "words-of-a-page" not in door.errors()
    *lines, last = door.errors().split("\n")
    assert last == ""
    assert all(_LOGGED.fullmatch(line) for line in lines)
