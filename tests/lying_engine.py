"""An OCR service that looks well and is not: each mode is a lie that a load test has to see.

Run as `python tests/lying_engine.py --port P --mode M [--page-s S]`. Modes: honest; cut (one stream
in twenty ends early), empty, loop, slow (each tenth page holds up those behind it), cache (half
of the pages is told to come from a cache), error (HTTP 200 with an error inside), plain (HTTP 200
with JSON that is no stream), late (the first text after a second), redirect (to where pages are
read). `/seen` has how many pages were under way as each of them came, itself among them, and how
long each of them took here.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

MODES = ("honest", "cut", "empty", "loop", "slow", "cache", "error", "plain", "late", "redirect")
_ELSEWHERE = "/elsewhere"
_WORDS = [f"word{number} " for number in range(20)]


class Engine:
    """One service and its lie."""

    def __init__(self, mode: str, page_s: float) -> None:
        self.mode, self.page_s = mode, page_s
        self.numbers = itertools.count()
        self.turn = asyncio.Lock()
        self.asked = self.hits = 0
        self.in_flight = 0
        self.under_way: list[int] = []
        self.took_s: list[float] = []

    async def page(self, request: Request) -> Response:
        await request.body()
        if self.mode == "redirect" and request.url.path != _ELSEWHERE:
            return RedirectResponse(_ELSEWHERE)
        number = next(self.numbers)
        self.asked += 1000
        if self.mode == "cache" and number % 2:
            self.hits += 900
        if self.mode == "plain":
            return JSONResponse({"error": {"message": "no", "code": 500}})
        return StreamingResponse(self.seen(number), media_type="text/event-stream")

    async def seen(self, number: int) -> AsyncIterator[str]:
        begun, took_s = time.monotonic(), 0.0
        self.in_flight += 1
        self.under_way.append(self.in_flight)
        try:
            async for event in self.events(number):
                took_s = time.monotonic() - begun  # before the client can have it
                yield event
        finally:
            self.in_flight -= 1
            self.took_s.append(took_s)

    async def told(self, _: Request) -> Response:
        return JSONResponse({"under_way": self.under_way, "took_s": self.took_s})

    async def events(self, number: int) -> AsyncIterator[str]:
        if self.mode == "error" and number % 2:
            yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"
            return
        if self.mode == "slow":
            async with self.turn:  # one engine: who comes later waits
                await asyncio.sleep(2.0 if number % 10 == 9 else 0)
        words = [] if self.mode == "empty" else _WORDS
        words = ["Total due 12.00. " * 10] * 40 if self.mode == "loop" else words
        cut = self.mode == "cut" and number % 20 == 19
        if self.mode == "late":
            await asyncio.sleep(1.0)
        for word in words[: 5 if cut else None]:
            await asyncio.sleep(self.page_s / len(words))
            yield self.event({"content": word}, None)
        if cut:
            return
        yield self.event({}, "stop")
        usage = {"prompt_tokens": 1000, "completion_tokens": len(words)}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    @staticmethod
    def event(delta: dict[str, str], reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({'choices': [choice]})}\n\n"

    async def metrics(self, _: Request) -> Response:
        numbers = {"prefix_cache_queries": self.asked, "prefix_cache_hits": self.hits}
        return PlainTextResponse(
            "".join(
                f"# TYPE vllm:{name} counter\nvllm:{name}_total {value}\n"
                for name, value in numbers.items()
            )
        )


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "m", "owned_by": "liar"}]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--page-s", type=float, default=0.2)
    chosen = parser.parse_args()
    engine = Engine(chosen.mode, chosen.page_s)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", engine.page, methods=["POST"]),
            Route(_ELSEWHERE, engine.page, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/health", _models),
            Route("/metrics", engine.metrics),
            Route("/seen", engine.told),
        ]
    )
    uvicorn.run(app, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
