"""A stand-in for `vllm serve` with known timing, and with faults that a file switches on.

A test puts it on PATH as `vllm`. It reads only the small test pages, which it gives to Tesseract;
any other page takes what the file `page_s` in the model's folder says and has a known answer. The
file `NAME.fault` there, NAME being that of the socket's folder, names a fault: stall (pages never
end, though all else answers), mute (the same, and the numbers know nothing of any page), garbage
(whatever the page says), leak (a page costs memory), or crash (it does not start). A stand-in
that has the fault makes the file `NAME.FAULT.taken`.
"""

import argparse
import asyncio
import base64
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tesserocr
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cloister.engines.tesseract import bundled_tessdata

_CANARY_TOKENS = 256
_STEPS = 10
_LEAK_BYTES = 4 << 20
_OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"


@dataclass
class Engine:
    """One server: its numbers, and what is wrong with it."""

    folder: Path
    name: str
    sequences: asyncio.Semaphore
    room: int
    running: int = 0
    waiting: int = 0
    tokens: int = 0
    read: int = 0
    leaked: list[bytearray] = field(default_factory=list)

    @property
    def fault(self) -> str:
        try:
            found = (self.folder / f"{self.name}.fault").read_text().strip()
        except FileNotFoundError:
            return ""
        (self.folder / f"{self.name}.{found}.taken").touch()
        return found

    @property
    def page_s(self) -> float:
        path = self.folder / "page_s"
        return float(path.read_text()) if path.exists() else 0.05

    async def page(self, request: Request) -> Response:
        body = await request.json()
        if self.running + self.waiting >= self.room:
            return JSONResponse({"error": {"message": "full"}}, 503)
        self.waiting += 1
        try:
            await self.sequences.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            text = await self.read_page(body)
        finally:
            self.running -= 1
            self.sequences.release()
        self.read += 1
        message = {"role": "assistant", "content": text}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        usage = {"completion_tokens": 10, "prompt_tokens": 5, "total_tokens": 15}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer["system_fingerprint"] = self.name
        return JSONResponse({**answer, "choices": choices, "usage": usage})

    async def read_page(self, body: dict[str, Any]) -> str:
        fault = self.fault
        while fault in {"stall", "mute"}:
            await asyncio.sleep(0.1)
            fault = self.fault
        if fault == "leak":
            self.leaked.append(bytearray(b"x" * _LEAK_BYTES))
        canary = body["max_tokens"] == _CANARY_TOKENS
        step_s = 0 if canary else self.page_s / _STEPS
        for _ in range(1 if canary else _STEPS):
            await asyncio.sleep(step_s)
            self.tokens += 1
        if fault == "garbage":
            return "!" * 40
        return _text(body) if canary else "a page"

    async def metrics(self, _: Request) -> Response:
        silent = self.fault == "mute"
        numbers = {
            "num_requests_running": ("gauge", 0 if silent else self.running),
            "num_requests_waiting": ("gauge", 0 if silent else self.waiting),
            "kv_cache_usage_perc": ("gauge", min(1.0, self.running / 10)),
            "generation_tokens_total": ("counter", self.tokens),
            "prompt_tokens_total": ("counter", self.read),
            "request_success_total": ("counter", self.read),
        }
        return PlainTextResponse(
            "".join(
                f"# TYPE vllm:{name} {kind}\nvllm:{name} {value}\n"
                for name, (kind, value) in numbers.items()
            )
        )


def _text(body: dict[str, Any]) -> str:
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return tesserocr.image_to_text(image, path=str(bundled_tessdata()))


async def _ok(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": []})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("model", type=Path)
    parser.add_argument("--uds", type=Path)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--max-num-queued-reqs", type=int)
    options, _ = parser.parse_known_args()
    engine = Engine(
        options.model,
        options.uds.parent.name,
        asyncio.Semaphore(options.max_num_seqs),
        options.max_num_seqs + options.max_num_queued_reqs,
    )
    if engine.fault == "crash":
        sys.exit(_OUT_OF_MEMORY)

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", engine.page, methods=["POST"]),
            Route("/v1/models", _ok),
            Route("/health", _ok),
            Route("/metrics", engine.metrics),
        ],
    )
    uvicorn.run(app, uds=str(options.uds), log_level="warning", timeout_graceful_shutdown=20)


if __name__ == "__main__":
    main()
