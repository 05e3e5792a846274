"""A stand-in for `vllm serve` whose rate and whose failures follow from its flags.

A test puts it on PATH as `vllm`. Each page is prepared by one of `--api-server-count` servers and
then read as one of `--max-num-seqs`. It answers all pages with as many words as they ask for. It is
short of memory as a real one is: at its start with more than 8 GiB of KV cache, and with 8 GiB when
a large page comes. It takes no `--stream-interval` but a whole number.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

_PREPARE_S, _READ_S, _STEPS = 0.15, 0.2, 4
_PROMPT_TOKENS, _TOKENS_A_GIB = 1000, 20_000
_LARGE = 4_000_000  # pixels
_OOM_START_GIB, _OOM_LOAD_GIB = 9, 8


@dataclass
class Engine:
    """One server and its numbers."""

    servers: asyncio.Semaphore
    sequences: asyncio.Semaphore
    kv_gib: int
    running: int = 0
    waiting: int = 0
    tokens: int = field(default=0)

    async def page(self, request: Request) -> Response:
        body = await request.json()
        if self.kv_gib >= _OOM_LOAD_GIB and _pixels(body) > _LARGE:
            sys.stderr.write("RuntimeError: DefaultCPUAllocator: can't allocate memory\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if body.get("stream"):
            return StreamingResponse(self.events(body), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"}}
        usage = {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": 1, "total_tokens": 1001}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        return JSONResponse(
            {**answer, "choices": [{**choice, "finish_reason": "stop"}], "usage": usage}
        )

    async def events(self, body: dict[str, int]) -> AsyncIterator[str]:
        self.waiting += 1
        async with self.servers:
            await asyncio.sleep(_PREPARE_S)
        async with self.sequences:
            self.waiting -= 1
            self.running += 1
            try:
                for _ in range(_STEPS):
                    await asyncio.sleep(_READ_S / _STEPS)
                    yield _event({"choices": [{"index": 0, "delta": {"content": "word "}}]})
            finally:
                self.running -= 1
        tokens = body["max_tokens"]
        self.tokens += tokens
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        usage = {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": tokens}
        yield _event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    async def metrics(self, _: Request) -> Response:
        kv = f'kv_cache_size_tokens="{self.kv_gib * _TOKENS_A_GIB}"'
        return PlainTextResponse(
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {self.running}\n"
            f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting {self.waiting}\n"
            f"# TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total {self.tokens}\n"
            f"# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{{{kv}}} 1\n"
        )


def _pixels(body: dict[str, list[dict[str, list[dict[str, dict[str, str]]]]]]) -> int:
    parts = body["messages"][-1]["content"]
    url = next(part["image_url"]["url"] for part in parts if "image_url" in part)
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return image.width * image.height


def _event(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]})


async def _version(_: Request) -> Response:
    return JSONResponse({"version": "0.0.1"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="vllm serve")
    parser.add_argument("serve")
    parser.add_argument("model")
    parser.add_argument("--uds")
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--api-server-count", type=int, default=1)
    parser.add_argument("--stream-interval", type=int, default=1)
    options, _ = parser.parse_known_args()
    kv_gib = int(os.environ["VLLM_CPU_KVCACHE_SPACE"])
    if kv_gib >= _OOM_START_GIB:
        sys.exit("ValueError: No available memory for the cache blocks.")
    servers, sequences = options.api_server_count, options.max_num_seqs
    engine = Engine(asyncio.Semaphore(servers), asyncio.Semaphore(sequences), kv_gib)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", engine.page, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/health", _models),
            Route("/version", _version),
            Route("/metrics", engine.metrics),
        ]
    )
    uvicorn.run(app, uds=options.uds, log_level="warning", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
