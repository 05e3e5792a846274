"""What an answer of the gateway may look like, whatever was asked."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import api_document
import wire
from anything import Sent
from siege import Siege
from wire import Answer

from cloister.gateway.refusals import refusals

HEALTHY = b'{"status":"ok"}'
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_COMMON = frozenset(
    (
        *("server", "date", "content-type", "content-length", "connection", "x-request-id"),
        *("x-content-type-options", "cache-control", "content-security-policy", "referrer-policy"),
    )
)
_RETRIED = (429, 500, 502, 503)
_BY_STATUS = {401: {"www-authenticate"}} | {status: {"retry-after"} for status in _RETRIED}


@dataclass
class Judge:
    """Looks at every answer and counts; raises AssertionError for one that must not be."""

    siege: Siege
    statuses: Counter[str] = field(default_factory=Counter)
    pages: int = 0

    def __post_init__(self) -> None:
        door = self.siege.door
        self.refusals: dict[int, set[bytes]] = {}
        for refusal in refusals(door.door.settings, door.door.answer):
            bodies = {(refusal.status, refusal.body)}
            bodies |= {(variant.status, variant.body) for variant in refusal.variants}
            for status, body in bodies:
                self.refusals.setdefault(status, set()).add(body.encode())
        ports = (
            str(door.door.status),
            *(one.address for one in (*self.siege.engines, self.siege.exporter)),
        )
        texts = (*ports, *(port.rpartition(":")[1] + port.rpartition(":")[2] for port in ports))
        inside = ("nginx/", str(door.folder), "Traceback", "/etc/", "replica-health", *texts)
        self.inside = re.compile("|".join(map(re.escape, inside)).encode())

    def look(self, sent: Sent, received: bytes) -> Answer | None:
        """Require that what came back may come back."""
        try:
            return self._look(sent, received)
        except AssertionError as error:
            error.add_note(str(received[:2000]))
            raise

    def _look(self, sent: Sent, received: bytes) -> Answer | None:
        self.require_silence(received)
        answer = wire.read(received, head=wire.asks_head(sent.wire))
        if answer is None:
            self.statuses["none"] += 1
            assert sent.leaves, "no answer"
            return None
        self.statuses[str(answer.status or "0.9")] += 1
        if answer.status == 0:
            assert answer.body == HEALTHY or answer.body in set().union(*self.refusals.values())
            return answer
        assert answer["Server"] == "nginx"
        assert _REQUEST_ID.fullmatch(answer["X-Request-ID"] or "")
        if answer.status == 200:
            self._granted(sent, answer)
        else:
            self._refused(sent, answer)
        if sent.operation:
            self._documented(sent.operation, answer)
        return answer

    def require_silence(self, received: bytes) -> None:
        """Require that nothing is told about what is behind the gateway."""
        leak = self.inside.search(received)
        assert leak is None, f"tells {leak and leak[0]!r}"

    def _granted(self, sent: Sent, answer: Answer) -> None:
        by = answer["X-Cloister-Replica"]
        if (answer["Content-Type"] or "").startswith("text/plain"):
            by = self.siege.exporter.name
        if by is None:
            assert answer.body == (b"" if wire.asks_head(sent.wire) else HEALTHY)
            assert answer.names == _COMMON
            return
        assert sent.has_a_good_key, f"{by} was reached"
        if b"chatcmpl-" in answer.body:
            assert f"chatcmpl-{answer['X-Request-ID']}".encode() in answer.body
        if by != self.siege.exporter.name and (
            answer["Content-Type"] == "text/event-stream" or b'"chat.completion"' in answer.body
        ):
            self.pages += 1

    def _refused(self, sent: Sent, answer: Answer) -> None:
        bodies = {b""} if wire.asks_head(sent.wire) else self.refusals.get(answer.status, set())
        assert answer.status in self.refusals
        assert answer.body in bodies
        assert answer["Content-Type"] == "application/json"
        assert answer.names == _COMMON | _BY_STATUS.get(answer.status, set())

    def _documented(self, operation: tuple[str, str], answer: Answer) -> None:
        parsed: list[Any] = [None]  # what is not JSON is held against the document without it
        if operation[0] != "HEAD":
            if answer["Content-Type"] == "application/json":
                parsed = [json.loads(answer.body)]
            elif answer["Content-Type"] == "text/event-stream":
                events = answer.body.decode().removesuffix("\n\n").split("\n\n")
                parsed = [{"data": event.removeprefix("data: ")} for event in events]
                assert events[-1] == "data: [DONE]"
        for body in parsed:
            wrong = api_document.problem(operation, answer.status, dict(answer.headers), body)
            assert wrong is None, wrong
