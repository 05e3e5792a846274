"""Who enters: keys, their limits, certificates, host names and web origins."""

import datetime as dt
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from deployments import ROOT, Stack, eventually
from gateways import Gateway, gateway
from load import PATH
from pages import data_url, encoded, page, request
from stubs import Stub, stub

from cloister import certificates, keys
from cloister.keys import Key

SECRETS = {name: f"cloister_{name}.{name}-secret-0123456789abcdefghijklmnop" for name in "abcde"}


def key(name: str, **limits: Any) -> Key:
    digest = keys.digest(SECRETS[name])
    return Key(name=name, digest=digest, created=dt.datetime.now(dt.UTC), **limits)


@pytest.fixture(scope="module")
def replica() -> Iterator[Stub]:
    with stub("only", chunks=1) as running:
        yield running


@pytest.fixture(scope="module")
def door(replica: Stub) -> Iterator[Gateway]:
    now = dt.datetime.now(dt.UTC)
    told = (
        key("a"),
        key("b", expires=now - dt.timedelta(seconds=1)),
        key("c", rate="3/min"),
        key("d", concurrency=2),
        key("e", expires=now + dt.timedelta(days=1)),
    )
    with gateway([replica.address], keys=told, metrics_allow=()) as made:
        yield made


def ask(door: Gateway, secret: str | None, path: str = PATH, **more: Any) -> requests.Response:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    method = "POST" if path == PATH else "GET"
    body = {"model": "stub"} if method == "POST" else None
    return requests.request(
        method, f"{door.url}{path}", json=body, headers=headers, timeout=60, **more
    )


@pytest.mark.parametrize("path", [PATH, "/v1/models"])
@pytest.mark.parametrize(
    "secret",
    [
        *(None, "", "none", SECRETS["a"][:-1], SECRETS["a"] + "a", SECRETS["a"].upper()),
        *(SECRETS["b"], SECRETS["a"].replace("cloister_a", "cloister_c"), "cloister_a."),
        *(" " + SECRETS["a"], SECRETS["a"] + ".more", "cloister_zz." + "a" * 43, "a" * 4000),
    ],
)
def test_without_a_good_key_nothing_reaches_an_engine(
    door: Gateway, replica: Stub, path: str, secret: str | None
) -> None:
    before = replica.counts()
    answer = ask(door, secret, path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert replica.counts() == before


def test_other_ways_to_say_it_are_not_understood(door: Gateway) -> None:
    for value in (SECRETS["a"], f"Basic {SECRETS['a']}", f"bearer {SECRETS['a']}"):
        answer = requests.get(f"{door.url}/v1/models", headers={"Authorization": value}, timeout=5)
        assert answer.status_code == 401
    url = f"{door.url}/v1/models?api_key={SECRETS['a']}"
    assert requests.get(url, timeout=5).status_code == 401


def test_a_good_key_enters_and_only_its_name_is_logged(door: Gateway, replica: Stub) -> None:
    for name in ("a", "e"):
        answer = ask(door, SECRETS[name])
        assert answer.status_code == 200
        assert answer.json()["id"] == f"chatcmpl-{answer.headers['X-Request-ID']}"
        assert replica.counts()["keys"] == 0, "the engine has no business with it"
        assert ask(door, SECRETS[name], "/v1/models").status_code == 200

    def logged() -> None:
        names = [line["key"] for line in door.log() if line["status"] == 200]
        assert {"a", "e"} <= set(names)

    eventually(logged)
    assert "secret" not in (door.logs / "access.log").read_text()
    assert "secret" not in (door.folder / "nginx.conf").read_text().replace("no secret", "")


def test_health_is_for_all_and_metrics_for_those_with_a_key(door: Gateway) -> None:
    assert ask(door, None, "/health").status_code == 200
    assert ask(door, None, "/metrics").status_code == 401
    assert ask(door, SECRETS["a"], "/metrics").status_code == 502, "there is no exporter here"


def test_a_rate_is_kept_and_says_when_to_come_back(door: Gateway) -> None:
    statuses = [ask(door, SECRETS["c"]).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = ask(door, SECRETS["c"])
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["Retry-After"] == "21", "one every twenty seconds"
    assert ask(door, SECRETS["a"]).status_code == 200, "it is for that key alone"


# What nginx' `map` takes for more than a name, and what its quotes take for a character.
WORDS = ("default", "include", "hostnames", "volatile", "name", "tab", "return", "0")


def test_a_key_may_have_any_name(replica: Stub) -> None:
    secrets = {name: f"cloister_{name}.{name}-secret-0123456789abcdefghijklmnop" for name in WORDS}
    limits: tuple[dict[str, Any], ...] = (
        {"rate": "2/min"},
        {"rate": "1/min", "concurrency": 1},
        {"concurrency": 1},
        {},
    )
    told = tuple(
        Key(
            name=name,
            digest=keys.digest(secret),
            created=dt.datetime.now(dt.UTC),
            **limits[number % len(limits)],
        )
        for number, (name, secret) in enumerate(secrets.items())
    )
    with gateway([replica.address], keys=told, metrics_allow=()) as made:
        found = {
            name: [ask(made, secret).status_code for _ in range(4)]
            for name, secret in secrets.items()
        }
    for key, statuses in zip(told, found.values(), strict=True):
        served = min(key.burst or 4, 4)
        assert statuses == [200] * served + [429] * (4 - served), found


def test_requests_at_once_are_limited_for_each_key(door: Gateway, replica: Stub) -> None:
    replica.behave("slow", first_ms=6000)  # the last one asks while the first ones are read
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda name: ask(door, SECRETS[name]), "ddddda"))
    replica.behave("ok")
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses[:5]) == [200, 200, 429, 429, 429]
    assert statuses[5] == 200
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert refused.headers["Retry-After"] == "5"


@pytest.mark.parametrize("stream", [False, True])
def test_one_at_a_time_is_never_refused_who_asks_for_page_after_page(
    replica: Stub, *, stream: bool
) -> None:
    replica.behave("ok")
    with gateway([replica.address], keys=(key("a", concurrency=1),), metrics_allow=()) as made:
        for _ in range(200):
            answer = requests.post(
                f"{made.url}{PATH}",
                json={"model": "stub", "stream": stream},
                headers={"Authorization": f"Bearer {SECRETS['a']}"},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            assert answer.content


def test_who_leaves_before_the_answer_gives_the_room_back(replica: Stub) -> None:
    replica.behave("slow", first_ms=3000)
    with gateway([replica.address], keys=(key("a", concurrency=1),), metrics_allow=()) as made:
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{made.url}{PATH}",
                json={"model": "stub"},
                headers={"Authorization": f"Bearer {SECRETS['a']}"},
                timeout=0.5,
            )
        replica.behave("ok")

        def served() -> None:
            assert ask(made, SECRETS["a"]).status_code == 200

        eventually(served)


def test_a_worker_that_is_killed_keeps_no_room(replica: Stub) -> None:
    replica.behave("slow", first_ms=60_000)
    with (
        gateway([replica.address], keys=(key("a", concurrency=1),), metrics_allow=()) as made,
        ThreadPoolExecutor(1) as threads,
    ):
        cut = threads.submit(ask, made, SECRETS["a"])

        def begun() -> None:
            assert replica.counts()["in_flight"] == 1

        eventually(begun)
        assert ask(made, SECRETS["a"]).status_code == 429
        for worker in made.processes()[1:]:
            worker.kill()
        assert isinstance(cut.exception(60), requests.ConnectionError)
        replica.behave("ok")

        def served() -> None:
            try:
                status = ask(made, SECRETS["a"]).status_code
            except requests.ConnectionError:  # no worker is there yet
                status = None
            assert status == 200

        eventually(served)


def test_a_stream_counts_until_its_last_event(replica: Stub) -> None:
    """Clients close at `[DONE]`, and the end of the stream may come later."""
    replica.behave("ok")
    body, headers = {"model": "stub", "stream": True}, {"Authorization": f"Bearer {SECRETS['a']}"}
    with gateway([replica.address], keys=(key("a", concurrency=1),), metrics_allow=()) as made:
        for _ in range(200):
            with requests.post(
                f"{made.url}{PATH}", json=body, headers=headers, timeout=60, stream=True
            ) as answer:
                assert answer.status_code == 200, answer.text
                assert any(line == b"data: [DONE]" for line in answer.iter_lines(chunk_size=1))


def test_a_large_body_without_a_key_is_refused_before_it_is_read(door: Gateway) -> None:
    started = time.monotonic()
    body = b"a" * (45 << 20)
    sent = requests.post(f"{door.url}{PATH}", data=iter([body]), timeout=20)
    assert sent.status_code == 401
    assert time.monotonic() - started < 15
    assert door.log()[-1]["request_bytes"] < 10 << 20


def test_keys_come_and_go_while_it_runs(fresh: Stack) -> None:
    body = request(data_url(encoded(page("Keyed 2345"))))

    def read(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"{fresh.url}/v1/chat/completions"
        return requests.post(url, json=body, headers=headers, timeout=30).status_code

    fresh.invoke("up")
    first = fresh.json("keys.create", "first")
    assert "digest" not in first
    assert read("anything") == 200, "a gateway that is up asks for none before the next `up`"
    assert "keys: true" in (fresh.state / "cloister.yaml").read_text()
    fresh.invoke("up")
    assert (read("anything"), read(first["key"])) == (401, 200)
    pids = fresh.pids()
    made = fresh.invoke("keys.create", "second", "--rate", "600/min", "--expires", "2099-12-31")
    second = made.stdout.strip()
    assert "in force" in made.stderr
    assert read(second) == 200
    fresh.invoke("keys.revoke", "first")
    assert (read(first["key"]), read(second)) == (401, 200)
    assert fresh.pids() == pids
    table = fresh.invoke("keys.list").stdout
    assert "2099-12-31" in table
    assert second not in table
    assert "Markdown" not in fresh.invoke("ocr", str(ROOT / "samples" / "letter.png")).stderr
    kept = "".join(
        path.read_text(errors="replace")
        for path in fresh.state.rglob("*")
        if path.is_file() and path.name != "operator.key"
    )
    for secret in (first["key"], second, (fresh.state / "operator.key").read_text().strip()):
        assert secret not in kept


def test_what_cannot_be_done_with_keys_is_said(fresh: Stack) -> None:
    assert "own commands" in fresh.invoke("keys.create", "operator", code=13).stderr
    assert "is no name" in fresh.invoke("keys.create", "Bob", code=13).stderr
    assert "no rate" in fresh.invoke("keys.create", "bob", "--rate", "often", code=13).stderr
    assert "no date" in fresh.invoke("keys.create", "bob", "--expires", "soon", code=13).stderr
    assert "no key `bob`" in fresh.invoke("keys.revoke", "bob", code=13).stderr
    for flags, code, words in (
        (("keys.create", "bob", "--concurrency", "two"), 1, "takes a whole number, not `two`"),
        (("tls.create", "--days", "0"), 13, "--days must be from 1 to 3650"),
        (("tls.create", "--name", "a b"), 13, "neither a host name nor an address"),
        (("tls.create", "--client", "../../evil"), 13, "is no name"),
    ):
        assert words in fresh.invoke(*flags, code=code).stderr
    wide = ("up", "--set", "gateway.address=0.0.0.0")
    assert "without API keys and a certificate" in fresh.invoke(*wide, code=2).stderr
    assert (fresh.state / "cloister.yaml").read_text() == ""


def test_a_key_that_nobody_was_shown_is_not_kept(fresh: Stack) -> None:
    fresh.settings["CLOISTER_CONFIG"] = "/dev/null"
    assert "no file that can be changed" in fresh.invoke("keys.create", "alice", code=2).stderr
    del fresh.settings["CLOISTER_CONFIG"]
    assert fresh.json("keys.list") == []
    path = fresh.state / "cloister.yaml"
    path.write_text("gateway: {timeout_s: 60}\n")
    fresh.invoke("keys.create", "alice")
    assert path.read_text() == "gateway: {keys: true, timeout_s: 60}\n"


def test_a_wide_address_with_keys_and_a_certificate_is_served(fresh: Stack) -> None:
    fresh.settings["CLOISTER_GATEWAY_ADDRESS"] = "0.0.0.0"  # noqa: S104  # what is tested
    fresh.invoke("up", code=2)
    made = fresh.json("keys.create", "alice")
    authority = fresh.invoke("tls.create", "--name", "ocr.example.org").stdout.strip()
    fresh.invoke("up")
    url = f"https://localhost:{fresh.port}/v1/models"
    headers = {"Authorization": f"Bearer {made['key']}"}
    answer = requests.get(url, headers=headers, verify=authority, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    fresh.invoke("health")
    fresh.invoke("status")
    plain = requests.get(f"http://127.0.0.1:{fresh.port}/health", timeout=5)
    assert (plain.status_code, plain.json()["error"]["code"]) == (400, "https_required")
    read = fresh.invoke("ocr", str(ROOT / "samples" / "letter.png"), "--json")
    assert json.loads(read.stdout)["documents"]
    refused = ("ocr", "samples/letter.png", "--url", f"https://localhost:{fresh.port}")
    assert "not trusted" in fresh.invoke(*refused, code=8).stderr
    fresh.settings |= {"SSL_CERT_FILE": authority, "CLOISTER_API_KEY": made["key"]}
    fresh.invoke(*refused)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificates.authority(folder)
    return folder


@pytest.fixture(scope="module")
def secure(replica: Stub, tls: Path) -> Iterator[Gateway]:
    pem = certificates.load(*certificates.server(tls, ["ocr.example.org"], 10)).text
    with gateway([replica.address], pem=pem, server_names=("ocr.example.org", "localhost")) as made:
        yield made


def s_client(port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *flags],
        input="",
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # it prints session tickets as they are
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        (("-tls1_3",), True),
        (("-tls1_2",), True),
        (("-tls1_1", "-cipher", "ALL@SECLEVEL=0"), False),
        (("-tls1", "-cipher", "ALL@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), True),
    ],
)
def test_only_modern_protocols_and_ciphers_are_spoken(
    secure: Gateway,
    flags: tuple[str, ...],
    accepted: bool,  # noqa: FBT001
) -> None:
    done = s_client(secure.port, *flags)
    assert ("Cipher is (NONE)" not in done.stdout) == accepted, done.stdout + done.stderr


def test_the_chain_is_sent_and_http_2_is_offered(secure: Gateway, tls: Path) -> None:
    trust = ("-CAfile", str(tls / "ca.crt"), "-verify_return_error", "-servername", "localhost")
    done = s_client(secure.port, *trust, "-alpn", "h2,http/1.1", "-verify_hostname", "localhost")
    assert "Verify return code: 0 (ok)" in done.stdout
    assert "ALPN protocol: h2" in done.stdout
    assert "new session ticket" not in s_client(secure.port, "-tls1_2").stdout.lower()


def test_other_host_names_are_refused(secure: Gateway, tls: Path) -> None:
    url = f"https://localhost:{secure.port}/v1/models"
    for host, status in {
        "localhost": 200,
        "OCR.example.org": 200,
        "127.0.0.1": 421,
        "evil.example": 421,
    }.items():
        headers = {"Host": host}
        answer = requests.get(url, headers=headers, verify=str(tls / "ca.crt"), timeout=5)
        assert answer.status_code == status, host
        if status == 421:
            assert answer.json()["error"]["code"] == "unknown_host"


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(fresh: Stack) -> None:
    fresh.invoke("tls.create", "--client", "scanner")
    fresh.invoke("up")
    trust = str(fresh.state / "tls" / "ca.crt")
    url = f"https://localhost:{fresh.port}/health"
    refused = requests.get(url, verify=trust, timeout=5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "client_certificate")
    own = str(fresh.state / "tls" / "client-scanner.pem")
    assert requests.get(url, verify=trust, cert=own, timeout=5).status_code == 200
    # The server's own certificate is of the same authority, and is none of a client.
    server = (str(fresh.state / "tls" / "server.crt"), str(fresh.state / "tls" / "server.key"))
    assert requests.get(url, verify=trust, cert=server, timeout=5).status_code == 400
    fresh.invoke("health")


def test_a_browser_may_call_from_the_configured_origins_only(replica: Stub) -> None:
    good, bad = "https://app.example.org", "https://evil.example"
    with gateway([replica.address], keys=(key("a"),), cors_origins=(good,)) as made:
        for origin, allowed in ((good, good), (bad, None)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            asked = requests.options(f"{made.url}{PATH}", headers=headers, timeout=5)
            assert asked.status_code == (204 if allowed else 401)
            assert asked.headers.get("Access-Control-Allow-Origin") == allowed
            real = requests.post(f"{made.url}{PATH}", headers={"Origin": origin}, timeout=5)
            assert real.status_code == 401
            assert real.headers.get("Access-Control-Allow-Origin") == allowed, "errors too"
        asked = requests.options(f"{made.url}{PATH}", headers={"Origin": good}, timeout=5)
        assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    with gateway([replica.address]) as made:
        asked = requests.options(f"{made.url}{PATH}", headers={"Origin": good}, timeout=5)
        assert asked.status_code == 405
        assert "Access-Control-Allow-Origin" not in asked.headers


def test_every_answer_has_the_headers_that_keep_it_where_it_belongs(door: Gateway) -> None:
    for answer in (ask(door, None), ask(door, SECRETS["a"]), ask(door, None, "/nowhere")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] in {"no-store", "no-cache, no-store"}
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Server"] == "nginx"


def test_curl_speaks_http_2_with_a_key_and_the_authority(fresh: Stack) -> None:
    assert shutil.which("curl"), "the tests need curl"
    fresh.settings["CLOISTER_GATEWAY_KEYS"] = "true"
    fresh.invoke("tls.create")
    made = fresh.json("keys.create", "curl")
    fresh.invoke("up")
    config = f'header = "Authorization: Bearer {made["key"]}"\n'
    command = ["curl", "--silent", "--show-error", "--fail", "--http2", "--config", "-"]
    command += ["--cacert", str(fresh.state / "tls" / "ca.crt"), "--write-out", "%{http_version}"]
    url = f"https://localhost:{fresh.port}/v1/models"
    done = subprocess.run(
        [*command, url], input=config, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.endswith("}2")
