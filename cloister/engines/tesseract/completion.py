"""One chat completion: the images of a request to an answer, whole or as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import orjson

from cloister.engines.tesseract import api
from cloister.engines.tesseract.api import ApiError, ChatRequest
from cloister.engines.tesseract.metrics import Metrics
from cloister.engines.tesseract.pool import Pool


class Completion:
    """Starts to read all images at once; gives their text in order, as far as it is allowed."""

    def __init__(
        self, chat: ChatRequest, pool: Pool, metrics: Metrics, *, model: str, request_id: str
    ) -> None:
        self._chat = chat
        self._metrics = metrics
        self._started_s = time.monotonic()
        self._head = {
            "id": f"chatcmpl-{request_id}",
            "created": int(time.time()),
            "model": model,
        }
        self._text = ""
        self._reason: Literal["stop", "length"] = "stop"
        self._pages = [
            asyncio.create_task(pool.read(url, f"image {number}"))
            for number, url in enumerate(chat.images, start=1)
        ]

    async def whole(self) -> dict[str, Any]:
        """Return the answer as one object; raises ApiError for the first page not read."""
        async for _ in self._deltas():
            pass
        message = {"role": "assistant", "content": self._text}
        choice = {"index": 0, "message": message, "finish_reason": self._reason}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._finish(),
        }

    async def first_page(self) -> None:
        """Wait until a status can be sent: an unreadable first page is a 400, not a stream."""
        try:
            await self._pages[0]
        except BaseException:
            await self._cancel()
            raise

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the stream; Tesseract gives a page's blocks together, so pages pace it."""
        try:
            yield self._event({"role": "assistant", "content": ""})
            async for delta in self._deltas():
                yield self._event({"content": delta})
        except ApiError as error:  # the status is sent already, so the error goes into the stream
            yield _sse(error.body)
        else:
            usage = self._finish()
            # A chunk without choices surprises clients that did not ask for it, so they get the
            # usage on the last chunk that has one.
            asked = bool(self._chat.stream_options and self._chat.stream_options.include_usage)
            yield self._event({}, finish_reason=self._reason, usage=None if asked else usage)
            if asked:
                yield self._event(None, usage=usage)
        yield b"data: [DONE]\n\n"

    async def _deltas(self) -> AsyncIterator[str]:
        """Yield the text block by block, and stop at the token limit."""
        limit = self._chat.token_limit
        try:
            for page in self._pages:
                for block in await page:
                    text = f"{self._text}\n\n{block}" if self._text else block
                    kept = text if limit is None else api.truncate(text, limit)
                    if not self._text:
                        self._metrics.first_block(self._elapsed_s())
                    delta = kept[len(self._text) :]
                    self._text = kept
                    if delta:
                        yield delta
                    if len(kept) < len(text):
                        self._reason = "length"
                        return
        finally:
            await self._cancel()

    async def _cancel(self) -> None:
        for page in self._pages:
            page.cancel()
        await asyncio.gather(*self._pages, return_exceptions=True)

    def _finish(self) -> dict[str, int]:
        usage = api.usage(self._chat.prompt_tokens, api.count_tokens(self._text))
        self._metrics.finished(self._reason, usage, self._elapsed_s())
        return usage

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _event(
        self,
        delta: dict[str, str] | None,
        *,
        finish_reason: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> bytes:
        choices = [] if delta is None else [_choice(delta, finish_reason)]
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return _sse(chunk if usage is None else {**chunk, "usage": usage})


def _choice(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
