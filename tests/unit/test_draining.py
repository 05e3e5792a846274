"""How long a command waits for the pages of a replica that is to go."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from cloister import config, sockets
from cloister.deployment import gauges, reading
from cloister.deployment.plan import plan
from cloister.endpoint import Listener, Route, TcpAddress, UnixSocket
from cloister.engines import Replica
from cloister.runtimes import ProgramState

BUSY = f"# TYPE {gauges.RUNNING} gauge\n{gauges.RUNNING} 1\n"
IDLE = BUSY.replace(" 1\n", " 0\n")
Answer = Callable[[str], Any]


def answer(code: int, text: str) -> Answer:
    found = SimpleNamespace(ok=code < 400, status_code=code, text=text, content=text.encode())
    return lambda _: found


def silence(_: str) -> Any:
    raise requests.ReadTimeout


def is_drained(
    monkeypatch: pytest.MonkeyPatch,
    replica: Replica,
    answer: Answer,
    *,
    alive: bool = True,
    is_gateway_new: bool = True,
) -> bool:
    """Return what `drained` does within a second."""
    monkeypatch.setattr(reading, "_POLL_S", 0.01)
    settings = config.load(
        flags=("engine=tesseract", "gateway.timeout_s=1"), environ={"CLOISTER_CONFIG": "/dev/null"}
    ).settings
    session = SimpleNamespace(get=lambda url, **_: answer(url))
    state = ProgramState(replica.name, "running", 1 if alive else None, 1, "")
    running: Any = SimpleNamespace(
        session=lambda: contextlib.nullcontext(session), states=lambda: (state,)
    )
    planned = plan(settings, 2)
    return reading.drained(planned, running, [replica], is_gateway_new=is_gateway_new)


def through_gateway(path: Path) -> Replica:
    address = TcpAddress("172.30.40.10", 8000)
    route = Route(UnixSocket(path), "/-/replicas/tesseract-1")
    return Replica("tesseract-1", Listener(address, address, route))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (answer(200, BUSY), False),
        (answer(200, IDLE), True),
        (answer(502, ""), False),
        (silence, False),
        # As a gateway says whose engines are on no network any more.
        (answer(404, ""), True),
    ],
)
def test_a_replica_behind_the_gateway_has_pages_while_the_gateway_reaches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: Answer, *, expected: bool
) -> None:
    with contextlib.closing(sockets.listen(tmp_path / "sock")):
        replica = through_gateway(tmp_path / "sock")
        assert is_drained(monkeypatch, replica, told) is expected


def test_workers_of_a_gateway_that_was_reloaded_may_have_pages_of_a_replica_it_forgot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with contextlib.closing(sockets.listen(tmp_path / "sock")):
        replica = through_gateway(tmp_path / "sock")
        assert not is_drained(monkeypatch, replica, answer(404, ""), is_gateway_new=False)


@pytest.mark.parametrize("is_behind_gateway", [True, False])
def test_nobody_waits_for_pages_that_come_over_a_socket_that_is_not_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_behind_gateway: bool
) -> None:
    path = tmp_path / "sock"
    direct = Replica("tesseract-1", Listener.at(UnixSocket(path)))
    replica = through_gateway(path) if is_behind_gateway else direct
    assert is_drained(monkeypatch, replica, silence)
    with contextlib.closing(sockets.listen(path)):
        assert not is_drained(monkeypatch, replica, silence)
        assert is_drained(monkeypatch, replica, silence, alive=False)
