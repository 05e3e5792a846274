"""A stand-in for an engine's replica, with known timing and faults on command.

Run as `python tests/stub.py --port P [--uds PATH] --control Q`. Bodies are counted and dropped.
Every route answers, so that one which leaks through a gateway is seen. `stubs.py` drives it from
tests.
"""

import argparse
import asyncio
import json
import signal
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

from stub_http import Http, Request

PAGES = "/v1/chat/completions"
_HARM = (
    *("503", "500", "307", "accel", "refuse"),
    *("half-open", "reset-early", "reset-mid", "close-mid"),
)
_METRICS = b"".join(
    b'# TYPE vllm:%s gauge\nvllm:%s{model_name="stub"} 0.0\n' % (name, name)
    for name in (b"num_requests_running", b"num_requests_waiting", b"kv_cache_usage_perc")
)


# Replaced by the request's own, as vLLM does it.
_NO_ID = "0" * 32
_ID = f"chatcmpl-{_NO_ID}"


def _error(code: int) -> bytes:
    error = {"message": "told to fail", "type": "server_error", "param": None, "code": code}
    return json.dumps({"error": error}).encode()


@dataclass
class Behaviour:
    """What to do to requests for `path` (None: for any), the next `times` of them (None: all)."""

    mode: str = "ok"
    times: int | None = None
    path: str | None = PAGES
    first_ms: float | None = None
    chunk_ms: float | None = None


@dataclass
class Replica:
    """What all connections share: options, behaviour, counts and the listening socket."""

    name: str
    port: int
    chunks: int
    chunk_ms: float
    first_ms: float
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    connections: "set[Engine]" = field(default_factory=set)
    servers: list[asyncio.Server] = field(default_factory=list)
    uds: str | None = None

    def event(self, n: int) -> bytes:
        """Return the `n`th of a stream's events as one HTTP chunk."""
        if n == self.chunks:
            event = b"data: [DONE]\n\n"
        else:
            last = n == self.chunks - 1
            reason = "stop" if last else None
            choice = {"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": reason}
            chunk = {
                "id": _ID,
                "system_fingerprint": self.name,
                "object": "chat.completion.chunk",
                "created": 0,
                "model": "stub",
            }
            if last:
                chunk["usage"] = {"prompt_tokens": 1000, "completion_tokens": self.chunks}
            event = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(event), event)

    def __post_init__(self) -> None:
        self.stream = [self.event(n) for n in range(self.chunks + 1)]
        self.stream[-1] += b"0\r\n\r\n"
        text = "".join(f"word{n} " for n in range(self.chunks))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = "stop"
        own = {"id": _ID, "system_fingerprint": self.name}
        answer = {"object": "chat.completion", "created": 0, "model": "stub"}
        # Half of it has words of the page.
        self.page = json.dumps({"choices": [choice], **answer, **own}).encode()

    def choose(self, request: Request) -> Behaviour:
        """Return what this request meets, and count it off."""
        chosen = self.behaviour
        if chosen.path not in {None, request.path}:
            return Behaviour()
        if chosen.times is not None:
            chosen.times -= 1
            if chosen.times <= 0:
                self.behaviour = Behaviour()
        return chosen

    async def behave(self, wanted: Behaviour) -> None:
        if wanted.mode not in {"ok", "slow", *_HARM} or (
            wanted.mode == "refuse" and wanted.times is not None
        ):
            raise ValueError(wanted)
        self.behaviour = wanted
        if wanted.mode == "refuse":
            for server in self.servers:
                server.close()
            self.servers.clear()
            for connection in self.connections:  # a process that is gone keeps none of them
                connection.leave()
        else:
            await self.listen()

    async def listen(self) -> None:
        if self.servers:
            return
        loop = asyncio.get_running_loop()
        self.servers.append(
            await loop.create_server(lambda: Engine(self), "127.0.0.1", self.port, backlog=4096)
        )
        if self.uds:
            self.servers.append(
                await loop.create_unix_server(lambda: Engine(self), self.uds, backlog=4096)
            )

    def counts(self) -> dict[str, int]:
        names = (
            "keys",
            "bytes",
            "in_flight",
            "max_in_flight",
            "completed",
            "aborted",
            "connections",
        )
        return {**self.requests, **{name: self.totals[name] for name in names}}


class Engine(Http):
    """One connection to the replica."""

    def __init__(self, replica: Replica) -> None:
        super().__init__()
        self.replica = replica
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.replica.connections.add(self)
        self.replica.totals["connections"] += 1

    def connection_lost(self, _error: Exception | None) -> None:
        self.replica.connections.discard(self)
        if self.timer:
            self.timer.cancel()
        if self.request:
            self.replica.totals["aborted"] += 1
            self.replica.totals["in_flight"] -= 1

    def leave(self) -> None:
        """Close unless a request is being answered."""
        if self.request is None:
            self.transport.close()

    def begun(self, request: Request) -> None:
        totals = self.replica.totals
        self.replica.requests[f"{request.method} {request.path}"] += 1
        totals["in_flight"] += 1
        totals["max_in_flight"] = max(totals["max_in_flight"], totals["in_flight"])

    def finish(self) -> None:
        self.replica.totals["in_flight"] -= 1
        self.replica.totals["completed"] += 1
        super().finish()
        if not self.replica.servers:
            self.leave()

    def signed(self, body: bytes, request: Request) -> bytes:
        """Return a body, or a chunk of one, with the request's id in it."""
        own = request.headers.get("x-request-id", "").rjust(len(_NO_ID), "0")[: len(_NO_ID)]
        return body.replace(_NO_ID.encode(), own.encode())

    def received(self, request: Request) -> None:
        kind, body = "json", b'{"status": "ok"}'
        if request.path == "/metrics":
            kind, body = "text", _METRICS
        elif request.path == "/v1/models":
            body = b'{"object": "list", "data": [{"id": "stub", "object": "model"}]}'
        self.replica.totals["bytes"] += request.bytes
        self.replica.totals["keys"] += "authorization" in request.headers
        behaviour = self.replica.choose(request)
        if behaviour.mode in {"503", "500"}:
            code = int(behaviour.mode)
            self.answer(code, _error(code))
        elif behaviour.mode == "307":
            self.answer(307, b"", "Location: /elsewhere\r\n")
        elif behaviour.mode == "accel":
            orders = "X-Accel-Redirect: /v1/models\r\nX-Accel-Limit-Rate: 1\r\n"
            self.answer(200, self.replica.page, orders)
        elif behaviour.mode == "reset-early":
            self.reset()
        elif behaviour.mode == "half-open":
            pass
        elif request.path == PAGES and request.method == "POST":
            self.page(request, behaviour)
        else:
            pieces = halves(self.whole(200, body, kind=kind))
            self.send(pieces, behaviour, behaviour.first_ms or 0, 0)

    def page(self, request: Request, behaviour: Behaviour) -> None:
        """Answer as an engine does: event by event, or the whole page when all would be done."""
        replica = self.replica
        chunk_ms = replica.chunk_ms if behaviour.chunk_ms is None else behaviour.chunk_ms
        first_ms = replica.first_ms if behaviour.first_ms is None else behaviour.first_ms
        if not request.stream:
            pieces = halves(self.whole(200, self.signed(replica.page, request)))
            self.send(pieces, behaviour, first_ms + chunk_ms * replica.chunks, 0)
            return
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        head += "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        first, *others = replica.stream
        first = head.encode() + self.signed(first, request)
        self.send([first, *others], behaviour, first_ms, chunk_ms)

    def send(
        self, pieces: list[bytes], behaviour: Behaviour, first_ms: float, gap_ms: float
    ) -> None:
        """Send the pieces at their times, or half of them and then the end that was ordered."""
        broken = behaviour.mode in {"reset-mid", "close-mid"}
        if broken:
            pieces = pieces[: len(pieces) // 2]
        if not gap_ms:
            pieces = [b"".join(pieces)]
        loop = asyncio.get_running_loop()
        start = loop.time() + first_ms / 1000

        def send(n: int) -> None:
            self.transport.write(pieces[n])
            if n + 1 < len(pieces):
                # From the start, so that a late piece does not make all others late.
                self.timer = loop.call_at(start + (n + 1) * gap_ms / 1000, send, n + 1)
            elif broken:
                self.break_off(behaviour.mode)
            else:
                self.finish()

        if first_ms:
            self.timer = loop.call_at(start, send, 0)
        else:
            send(0)

    def break_off(self, mode: str) -> None:
        if mode == "close-mid":
            self.transport.close()
        else:
            # A reset throws away what the peer has not received yet; half must arrive.
            self.timer = asyncio.get_running_loop().call_later(0.05, self.reset)

    def reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Control(Http):
    """One connection of whoever gives the orders."""

    def __init__(self, replica: Replica) -> None:
        super().__init__()
        self.replica = replica
        self.task: asyncio.Task[None] | None = None

    def received(self, request: Request) -> None:
        if (request.method, request.path) == ("GET", "/counts"):
            self.answer(200, json.dumps(self.replica.counts()).encode())
        elif (request.method, request.path) == ("POST", "/behave"):
            self.task = asyncio.ensure_future(self.obey(request.start))
        else:
            self.answer(404, _error(404))

    async def obey(self, body: bytes) -> None:
        try:
            await self.replica.behave(Behaviour(**json.loads(body)))
        except (TypeError, ValueError) as error:
            self.answer(400, json.dumps({"error": repr(error)}).encode())
        else:
            self.answer(200, b"{}")


def halves(content: bytes) -> list[bytes]:
    """Return two pieces, for the modes that send half."""
    middle = len(content) // 2
    return [content[:middle], content[middle:]]


async def serve(replica: Replica, control: int | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await replica.listen()
    if control is not None:
        await loop.create_server(lambda: Control(replica), "127.0.0.1", control)
    await ended.wait()


def _quickest_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415  # not everywhere
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--uds", metavar="PATH", help="a Unix socket to listen on, too")
    parser.add_argument("--control", type=int, help="port that counts and orders are at")
    parser.add_argument("--name", default="stub")
    parser.add_argument("--chunks", type=int, default=50, help="events of a stream before [DONE]")
    parser.add_argument("--chunk-ms", type=float, default=0, help="from one event to the next")
    parser.add_argument("--first-ms", type=float, default=0, help="before an answer's first byte")
    chosen = vars(parser.parse_args())
    control = chosen.pop("control")
    with asyncio.Runner(loop_factory=_quickest_loop) as runner:
        runner.run(serve(Replica(**chosen), control))


if __name__ == "__main__":
    main()
