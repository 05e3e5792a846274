"""A stand-in for a model that reads pages: it says what image it saw, and misbehaves on some.

Run as `python tests/page_stub.py --port P`. The text of a page is the hash of its image, so that a
test knows which page was answered. A grey square in the upper left corner of a page, of the levels
below, marks it; `fresh` marks misbehave at temperature 0 only. `page_stubs.py` drives it.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MARKS = {
    "loop": 20,
    "loop once": 40,
    "truncated": 60,
    "empty": 80,
    "garbage": 100,
    "refusal": 120,
    "error": 140,
    "break": 160,
    "row loop": 180,
}
LOOP = "The committee took note of the report and adjourned the meeting until the next day. "
ROW = "<tr><td></td><td></td><td></td></tr>\n"
_MOST_TOKENS = 15_000
_NEAR = 6


class Stub:
    """What is counted and ordered; `delay_s` is how long a page takes."""

    def __init__(self, delay_s: float, owner: str) -> None:
        self.delay_s, self.owner = delay_s, owner
        self.asked: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.empty = False
        self.says: list[str] | None = None
        self.model = "stub"
        self.hold: int | None = None
        self.refusals, self.status, self.retry_after = 0, 503, "1"
        self.reason = "told to refuse"

    async def page(self, request: Request) -> Response:
        if self.refusals:
            self.refusals -= 1
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            error = {"error": {"message": self.reason}}
            return JSONResponse(error, self.status, headers=headers)
        body = json.loads(await request.body())
        url = body["messages"][0]["content"][0]["image_url"]["url"]
        image = base64.b64decode(url.partition(",")[2])
        sha256 = hashlib.sha256(image).hexdigest()
        self.asked[sha256] += 1
        kept = {name: value for name, value in body.items() if name != "messages"}
        self.bodies.append({**kept, "sha256": sha256, "size": Image.open(io.BytesIO(image)).size})
        mark = "empty" if self.empty else _mark(image)
        if mark == "error":
            return JSONResponse({"error": {"message": "told to fail"}}, 500)
        stream = self.counted(sha256, mark, body, self.asked.total())
        return StreamingResponse(stream, media_type="text/event-stream")

    async def counted(
        self, sha256: str, mark: str | None, body: dict[str, Any], number: int
    ) -> AsyncIterator[bytes]:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            while self.hold is not None and number > self.hold:  # noqa: ASYNC110  # an order
                await asyncio.sleep(0.02)
            async for said, reason in self.said(sha256, mark, body):
                self.tokens[mark or "plain"] += 1
                yield self.event({"delta": {"content": said}, "finish_reason": None})
                if reason == "break":
                    raise ConnectionError
            yield self.event({"delta": {}, "finish_reason": reason})
            yield b"data: [DONE]\n\n"
        finally:
            self.in_flight -= 1

    async def said(
        self, sha256: str, mark: str | None, body: dict[str, Any]
    ) -> AsyncIterator[tuple[str, str]]:
        """Yield the pieces that were ordered, or else what the page asks for."""
        if self.says is None:
            async for answer in _said(sha256, mark, body):
                yield answer
        for piece in self.says or ():
            yield piece, "stop"

    def event(self, choice: dict[str, Any]) -> bytes:
        return f"data: {json.dumps({'model': self.model, 'choices': [choice]})}\n\n".encode()

    async def counts(self, _: Request) -> Response:
        return JSONResponse(
            {
                "asked": dict(self.asked),
                "tokens": dict(self.tokens),
                "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight,
                "bodies": self.bodies,
            }
        )

    async def behave(self, request: Request) -> Response:
        for name, value in (await request.json()).items():
            setattr(self, name, value)
        return JSONResponse({})

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": "stub", "owned_by": self.owner}]})


async def _said(
    sha256: str, mark: str | None, body: dict[str, Any]
) -> AsyncIterator[tuple[str, str]]:
    """Yield what is said, token by token, and what the answer ends with."""
    if mark == "loop once" and body["temperature"] > 0:
        mark = None
    if mark in {"loop", "loop once", "row loop"}:
        yield f"page {sha256}\n\n", "length"
        words = (ROW if mark == "row loop" else LOOP).split(" ")
        for number in range(min(body["max_tokens"], _MOST_TOKENS)):
            yield f"{words[number % len(words)]} ", "length"
            if number % 50 == 0:
                await asyncio.sleep(0.02)  # a client has the time to hang up
    elif mark == "empty":
        yield "", "stop"
    elif mark == "garbage":
        yield "!" * 400, "stop"
    elif mark == "refusal":
        yield "I'm sorry, but I can't assist with this image.", "stop"
    else:
        yield f"page {sha256}", {"truncated": "length", "break": "break"}.get(mark or "", "stop")


def _mark(content: bytes) -> str | None:
    """Return what the square in the corner says; a page without one has paper there."""
    with Image.open(io.BytesIO(content)) as image:
        x, y = max(1, image.width // 50), max(1, min(image.height, image.width) // 50)
        level = image.convert("L").getpixel((x, y))
    if not isinstance(level, int | float):
        return None
    return next((name for name, value in MARKS.items() if abs(level - value) < _NEAR), None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--owner", default="vllm")
    flags = parser.parse_args()
    stub = Stub(flags.delay_ms / 1000, flags.owner)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/v1/chat/completions", stub.page, methods=["POST"]),
        Route("/v1/models", stub.models),
        Route("/health", health),
        Route("/counts", stub.counts),
        Route("/behave", stub.behave, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), port=flags.port, log_level="critical")


if __name__ == "__main__":
    main()
