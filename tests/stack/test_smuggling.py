"""Hidden second requests: each is refused or never looked at, and no engine sees one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import wire
from key_guessing import GOOD
from siege import EXPIRED, Siege, siege
from smuggling import MARKER, PAGE, Smuggle, all_of_them, hidden

OUTER = ((b"POST", PAGE), (b"GET", b"/v1/models"))
SEEN = {b"POST": "POST /v1/chat/completions", b"GET": "GET /v1/models"}
CASES = [
    pytest.param(one, id=f"{one.name}, {what}")
    for what, inner in hidden().items()
    for one in all_of_them(inner)
]


@pytest.fixture(scope="module")
def besieged() -> Iterator[Siege]:
    with siege() as made:
        yield made


def test_the_named_kinds_are_among_them() -> None:
    names = [str(case.id) for case in CASES]
    assert len(set(names)) == len(names) >= 150
    for kind in ("CL.CL", "CL.TE", "TE.CL", "TE.TE", "head with a long", "head with two"):
        assert any(name.startswith(kind) for name in names), kind


@dataclass(frozen=True)
class _Met:
    """What became of one request."""

    status: int
    seen: dict[str, int]


def _send(besieged: Siege, sent: bytes) -> _Met:
    before = besieged.seen()
    answer = wire.read(wire.exchange(besieged.door.port, sent))
    assert answer is not None
    return _Met(answer.status, dict(besieged.seen() - before))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("method", "target"), OUTER)
def test_no_engine_sees_what_is_hidden(
    besieged: Siege, case: Smuggle, method: bytes, target: bytes
) -> None:
    met = _send(besieged, case.wire(method=method, target=target, key=GOOD))
    if case.harmless and met.status == 200:
        assert met.seen == {SEEN[method]: 1}, "the first request, once"
    else:
        assert met.status in {400, 501}
        assert met.seen == {}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", [None, EXPIRED])
def test_without_a_good_key_no_engine_sees_anything(
    besieged: Siege, case: Smuggle, key: str | None
) -> None:
    met = _send(besieged, case.wire(key=key))
    assert met.status in ({401, 400} if case.harmless else {400, 501})
    assert met.seen == {}


def test_the_gateway_never_took_one_for_a_request(besieged: Siege) -> None:
    for case in CASES:
        (smuggle,) = case.values
        assert isinstance(smuggle, Smuggle)
        wire.exchange(besieged.door.port, smuggle.wire(key=GOOD))
    lines = besieged.door.log()
    assert len(lines) >= len(CASES)
    assert not any(MARKER.decode() in line["path"] for line in lines)
    assert besieged.read_a_page().status_code == 200
