"""Keys and certificates where the gateway is a container that others may reach."""

import json
from collections.abc import Callable

import docker
import pytest
import requests
from conftest import Containers
from deployments import SAMPLES, eventually
from pages import data_url, encoded, page, request


@pytest.fixture(scope="module")
def made(make_containers: Callable[..., Containers]) -> Containers:
    made = make_containers(gateway_keys="true", replicas=2, gateway_slow_start_s=0)
    made.invoke("tls.create", "--name", "ocr.example.org")
    made.invoke("up")
    return made


def read(made: Containers, secret: str) -> requests.Response:
    return requests.post(
        f"https://localhost:{made.port}/v1/chat/completions",
        json=request(data_url(encoded(page("Page 4567")))),
        headers={"Authorization": f"Bearer {secret}"},
        verify=str(made.state / "tls" / "ca.crt"),
        timeout=60,
    )


def test_keys_come_and_go_without_a_container_being_replaced(made: Containers) -> None:
    before = made.container("vllm-nginx-gateway").attrs["State"]["StartedAt"]
    alice = made.json("keys.create", "alice")["key"]
    answer = read(made, alice)
    assert answer.status_code == 200
    assert "4567" in answer.text
    made.invoke("keys.revoke", "alice")
    assert read(made, alice).status_code == 401
    assert made.container("vllm-nginx-gateway").attrs["State"]["StartedAt"] == before


def test_a_certificate_is_renewed_in_place(made: Containers) -> None:
    files = {path.name for path in (made.state / "gateway").glob("*.pem")}
    made.invoke("tls.create", "--name", "ocr.example.org")
    after = {path.name for path in (made.state / "gateway").glob("*.pem")}
    assert len(after) == 1
    assert files.isdisjoint(after)
    (path,) = (made.state / "gateway").glob("*.pem")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (10001, 0o600)
    secret = made.json("keys.create", "bob")["key"]
    assert read(made, secret).status_code == 200
    running = docker.from_env().containers.list(ignore_removed=True)
    shown = json.dumps([c.attrs for c in running])
    assert "PRIVATE KEY" not in shown
    assert secret not in shown


def test_this_machines_commands_enter(made: Containers) -> None:
    assert made.json("health")["engine"].startswith("tesseract/")
    eventually(lambda: made.invoke("status"), within_s=400)
    assert "Conway" in made.invoke("ocr", str(SAMPLES / "letter.png")).stdout


def test_the_gateways_numbers_tell_keys_and_replicas_apart(made: Containers) -> None:
    secret = made.json("keys.create", "carol")["key"]
    assert read(made, secret).status_code == 200

    def told() -> None:
        page = requests.get(
            f"https://localhost:{made.port}/metrics",
            verify=str(made.state / "tls" / "ca.crt"),
            timeout=20,
        ).text
        route = 'key="carol",route="/v1/chat/completions",status="200"'
        assert f"cloister_gateway_requests_total{{{route}}} 1.0" in page
        assert 'cloister_gateway_attempts_total{replica="tesseract-1",status="200"}' in page
        assert "cloister_gateway_up 1.0" in page
        assert "cloister_gateway_log_errors_total 0.0" in page

    eventually(told)


def test_it_is_sealed_all_the_same(made: Containers) -> None:
    findings = made.verify()
    assert findings["vllm-nginx-gateway", "allow-list"]["verdict"] == "sealed"
    assert findings["vllm-nginx-gateway", "other addresses"]["verdict"] == "sealed"
