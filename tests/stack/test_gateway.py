"""The gateway's contract, over real sockets."""

import datetime as dt
import ipaddress
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection

import openai
import psutil
import pytest
import requests
from deployments import Stack, command_line, eventually
from pages import MODEL, data_url, encoded, page, request
from PIL import Image, ImageOps

from cloister import certificates, nginx
from cloister.config import GatewaySettings
from cloister.endpoint import Listener, TcpAddress
from cloister.engines import AnswerLimits, Replica
from cloister.errors import GatewayError
from cloister.gateway import Door, Tls, Upstream, render
from cloister.keys import Key

REPLICAS = tuple(
    Replica(f"tesseract-{number}", Listener.at(TcpAddress("127.0.0.1", 8100 + number)))
    for number in (1, 2, 3)
)
EXPORTER, STATUS = TcpAddress("127.0.0.1", 8100), TcpAddress("127.0.0.1", 8099)
ANSWER = AnswerLimits(64, 3600)
KEY = Key(name="a", digest="a" * 22, created=dt.datetime.now(dt.UTC), rate="1/s", concurrency=1)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    authority = certificates.authority(folder).read_text()
    return {
        "tls-1.pem": certificates.load(*certificates.server(folder, [], 10)).text,
        "clients-1.pem": authority,
    }


@pytest.mark.parametrize(
    "settings",
    [
        GatewaySettings(),
        GatewaySettings(address=ipaddress.ip_address("::1"), port=18001, timeout_s=3600),
        GatewaySettings(metrics_allow=(), max_body_mib=1024),
        GatewaySettings(server_names=("a.example",), cors_origins=("https://b.example",)),
    ],
)
@pytest.mark.parametrize("tls", [None, Tls("tls-1.pem"), Tls("tls-1.pem", "clients-1.pem")])
@pytest.mark.parametrize("keys", [None, (), (KEY,)])
@pytest.mark.parametrize("replicas", [REPLICAS[:1], REPLICAS])
def test_nginx_accepts_what_is_rendered(
    settings: GatewaySettings,
    tls: Tls | None,
    keys: tuple[Key, ...] | None,
    replicas: tuple[Replica, ...],
    pem: dict[str, str],
) -> None:
    upstreams = tuple(Upstream(replica, 3, 34) for replica in replicas)
    door = Door(settings, upstreams, ANSWER, 310, EXPORTER, STATUS, keys=keys, tls=tls)
    nginx.check(nginx.find(None), lambda place: {**pem, "nginx.conf": render(door, place)})


def test_nginx_refusing_is_an_error_with_its_words() -> None:
    with pytest.raises(GatewayError, match=r"unknown directive \"nonsense\""):
        nginx.check(nginx.find(None), lambda _: {"nginx.conf": "nonsense;\n"})


def test_a_worker_user_is_accepted() -> None:
    door = Door(GatewaySettings(), (Upstream(REPLICAS[0]),), ANSWER, 310, EXPORTER, STATUS)
    user = nginx.worker_user()
    nginx.check(
        nginx.find(None),
        lambda place: {"nginx.conf": render(door, replace(place, worker_user=user))},
    )


def test_a_page_is_read_and_its_id_is_in_every_log(stack: Stack) -> None:
    answer = requests.post(
        f"{stack.url}/v1/chat/completions",
        json=request(data_url(encoded(page("Traced 2345")))),
        headers={"X-Request-ID": "from-the-client", "Authorization": "Bearer sk-secret"},
        timeout=30,
    )
    request_id = answer.headers["X-Request-ID"]
    assert "Traced 2345" in answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["id"] == f"chatcmpl-{request_id}"
    assert answer.headers["X-Cloister-Engine"].startswith("tesseract/")
    assert answer.headers["X-Cloister-Replica"] == "tesseract-1"
    assert answer.json()["model"].startswith("tesseract-")
    assert request_id != "from-the-client"

    def logged() -> None:
        lines = [json.loads(line) for line in stack.log("access").splitlines()]
        found = [line for line in lines if line["request_id"] == request_id]
        assert len(found) == 1
        line = found[0]
        assert (line["status"], line["path"]) == (200, "/v1/chat/completions")
        assert request_id in stack.log("tesseract-1")

    eventually(logged)
    for log in (stack.state / "logs").iterdir():
        content = log.read_text()
        assert "sk-secret" not in content, log
        assert "Traced" not in content, log


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/v1/nope", 404, "unknown_url"),
        ("POST", "/invocations", 404, "unknown_url"),
        ("POST", "/v1/completions", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("POST", "/metrics", 405, "method_not_allowed"),
    ],
)
def test_everything_off_the_list_is_refused_in_the_documented_shape(
    stack: Stack, method: str, path: str, status: int, code: str
) -> None:
    answer = requests.request(method, f"{stack.url}{path}", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]


def test_health_and_metrics_speak_for_all_replicas(stack: Stack) -> None:
    health = requests.get(f"{stack.url}/health", timeout=10)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    metrics = requests.get(f"{stack.url}/metrics", timeout=10).text
    assert 'cloister_replica_up{replica="tesseract-1"} 1.0' in metrics
    assert "vllm:num_requests_running{" in metrics
    assert all('replica="' in line for line in metrics.splitlines() if line.startswith("vllm"))
    assert "cloister_gateway_up 1.0" in metrics


def test_metrics_are_for_the_allowed_networks_only(fresh: Stack) -> None:
    fresh.invoke("up", "--set", 'gateway.metrics_allow=["192.0.2.0/24"]')
    answer = requests.get(f"{fresh.url}/metrics", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_without_an_engine_health_is_503_and_pages_are_502(fresh: Stack) -> None:
    fresh.invoke("up")
    (supervisor,) = [p for p in fresh.processes() if "supervisord" in command_line(p)]
    engine = psutil.Process(fresh.pids()["tesseract-1"])
    supervisor.suspend()  # or it would start a new one
    try:
        engine.kill()
        health = eventually(lambda: _assert_status(fresh, "/health", 503))
        assert health.json()["error"]["code"] == "no_replica"
        body = request(data_url(encoded(page("nobody"))))
        answer = requests.post(f"{fresh.url}/v1/chat/completions", json=body, timeout=10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_down")
        assert answer.headers["Retry-After"]
    finally:
        supervisor.resume()


def _assert_status(stack: Stack, path: str, status: int) -> requests.Response:
    answer = requests.get(f"{stack.url}{path}", timeout=10)
    assert answer.status_code == status
    return answer


def test_a_full_engine_refuses_at_once_and_says_when_to_come_back(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1", "--set", "tesseract.queue_depth=1")
    (worker,) = psutil.Process(fresh.pids()["tesseract-1"]).children()
    body = request(data_url(encoded(page("queued"))))

    def send(_: int) -> requests.Response:
        return requests.post(f"{fresh.url}/v1/chat/completions", json=body, timeout=60)

    with ThreadPoolExecutor(6) as pool:
        worker.suspend()
        answers = [pool.submit(send, number) for number in range(6)]
        eventually(lambda: _assert_done(answers, 4))
        worker.resume()
        statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [200, 200, 503, 503, 503, 503]
    refused = next(a.result() for a in answers if a.result().status_code == 503)
    assert refused.json()["error"]["code"] == "no_replica"
    assert refused.headers["Retry-After"] == "1"


def _assert_done(answers: list, count: int) -> None:  # type: ignore[type-arg]
    assert sum(answer.done() for answer in answers) == count


def test_too_many_requests_from_one_address_are_429(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "gateway.max_connections_per_address=2")
    (worker, *_) = workers = psutil.Process(fresh.pids()["tesseract-1"]).children()
    body = request(data_url(encoded(page("limited"))))

    def send(_: int) -> requests.Response:
        return requests.post(f"{fresh.url}/v1/chat/completions", json=body, timeout=60)

    with ThreadPoolExecutor(5) as pool:
        for worker in workers:
            worker.suspend()
        answers = [pool.submit(send, number) for number in range(5)]
        eventually(lambda: _assert_done(answers, 3))
        for worker in workers:
            worker.resume()
        refused = [a.result() for a in answers if a.result().status_code == 429]
    assert len(refused) == 3
    assert refused[0].json()["error"]["type"] == "rate_limit_error"


def test_a_client_that_leaves_frees_its_worker(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    (worker,) = psutil.Process(fresh.pids()["tesseract-1"]).children()
    worker.suspend()
    body = request(data_url(encoded(page("left"))))
    with closing(HTTPConnection("127.0.0.1", fresh.port)) as client:
        client.request("POST", "/v1/chat/completions", json.dumps(body))
        eventually(lambda: fresh.assert_reading(1))
    body = request(data_url(encoded(page("Next 2345"))))
    answer = requests.post(f"{fresh.url}/v1/chat/completions", json=body, timeout=60)
    assert "Next 2345" in answer.text
    assert not worker.is_running()


def test_the_engine_answers_health_while_a_large_body_comes(stack: Stack) -> None:
    noise = Image.effect_noise((3600, 3600), 100)  # about 13 MB of PNG, 17 MB of base64
    body = json.dumps(request(*[data_url(encoded(noise))] * 2)).encode()
    assert len(body) > 30 << 20
    slowest_s, begun_s = 0.0, time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(
            requests.post, f"{stack.url}/v1/chat/completions", data=body, timeout=120
        )
        while not sent.done():
            started_s = time.monotonic()
            assert requests.get(f"{stack.url}/health", timeout=10).ok
            slowest_s = max(slowest_s, time.monotonic() - started_s)
    assert sent.result().status_code == 200
    # Far above what it takes; a blocked loop would not answer for as long as the pages take.
    assert slowest_s < max(2, (time.monotonic() - begun_s) / 3)


def test_the_openai_client_reads_streams_and_lists(stack: Stack) -> None:
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="not needed", max_retries=0)
    messages = request(data_url(encoded(page("Client 2345"))))["messages"]
    whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    text = whole.choices[0].message.content
    assert text is not None
    assert "Client 2345" in text
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    stream = client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage

    names = [model.id for model in client.models.list()]
    assert MODEL in names
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-4", messages=messages)
    with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
        client.chat.completions.create(
            model=MODEL, messages=request("http://127.0.0.1/a.png")["messages"]
        )


def test_a_stream_arrives_block_by_block(fresh: Stack) -> None:
    """The second page is held back; the first must be at the client before it is read."""
    fresh.invoke("up", "--set", "tesseract.workers=2")
    workers = psutil.Process(fresh.pids()["tesseract-1"]).children()
    big = data_url(encoded(page("Second 2345", size=(4000, 4000))))
    body = request(data_url(encoded(page("First 2345"))), big, stream=True)
    seen = threading.Event()
    lines: list[bytes] = []
    with requests.post(
        f"{fresh.url}/v1/chat/completions", json=body, stream=True, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if b"First 2345" in line:
                for worker in workers:
                    worker.suspend()
                seen.set()
                assert b"Second" not in b"".join(lines)
                for worker in workers:
                    worker.resume()
    assert seen.is_set()
    assert b"Second 2345" in b"".join(lines)
    assert lines[-2:] == [b"data: [DONE]", b""]


@pytest.mark.parametrize(
    ("kind", "mime", "mode"),
    [
        ("PNG", "image/png", "RGB"),
        ("PNG", "image/png", "1"),
        ("PNG", "image/png", "P"),
        ("PNG", "image/png", "I;16"),
        ("PNG", "image/png", "RGBA"),
        ("JPEG", "image/jpeg", "L"),
        ("JPEG", "image/jpeg", "CMYK"),
        ("TIFF", "image/tiff", "1"),
        ("TIFF", "image/tiff", "CMYK"),
        ("WEBP", "image/webp", "RGB"),
        ("BMP", "image/bmp", "RGB"),
        ("GIF", "image/gif", "P"),
    ],
)
def test_every_image_type_is_read(stack: Stack, kind: str, mime: str, mode: str) -> None:
    image = page("Format 2345")
    if mode == "I;16":
        image = image.convert("I").point(lambda value: value * 257).convert("I;16")
    elif mode == "RGBA":
        image = Image.merge("RGBA", [Image.new("L", image.size)] * 3 + [ImageOps.invert(image)])
    else:
        image = image.convert("RGB").convert(mode)
    body = request(data_url(encoded(image, kind), mime))
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=30)
    assert "Format 2345" in answer.text, answer.text


def test_a_photo_turned_by_exif_is_read_upright(stack: Stack) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = page("Upright 2345").transpose(Image.Transpose.ROTATE_90)
    body = request(data_url(encoded(turned, "JPEG", exif=exif), "image/jpeg"))
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=30)
    assert "Upright 2345" in answer.text


def test_max_tokens_cuts_the_text_and_says_so(stack: Stack) -> None:
    body = request(data_url(encoded(page("one two three four"))), max_tokens=2)
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=30).json()
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")
    assert answer["usage"]["completion_tokens"] == 2
