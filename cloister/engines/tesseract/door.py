"""The outermost layer of the engine: admits requests, signs answers, logs both."""

import logging
import time

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister.engines.tesseract.api import ApiError

_log = logging.getLogger("cloister.engine")
_RETRY_AFTER_S = 1  # about one page; every worker's queue has moved on by then
_BOUNDED_PATH = "/v1/chat/completions"


class Door:
    """ASGI middleware: at most `limit` completions inside, the next one is a 503 at once."""

    def __init__(self, app: ASGIApp, *, engine: str, limit: int) -> None:
        self._app = app
        self._engine = engine
        self._limit = limit
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        status = 0

        async def signed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Cloister-Engine"] = self._engine
            await send(message)

        try:
            if scope["path"] == _BOUNDED_PATH:
                await self._bounded(scope, receive, signed)
            else:
                await self._app(scope, receive, signed)
        finally:
            _log.info(
                orjson.dumps(
                    {
                        "request_id": Headers(scope=scope).get("x-request-id", ""),
                        "path": scope["path"][:200],
                        "status": status,
                        "seconds": round(time.monotonic() - started_s, 3),
                    }
                ).decode()
            )

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._inside >= self._limit:
            message = f"{self._limit} requests are being read or wait; try again in a moment"
            refusal = ApiError(503, message, code="queue_full", retry_after_s=_RETRY_AFTER_S)
            await refusal.response()(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
