"""The engine's HTTP face: OpenAI's routes over a pool of Tesseract workers."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from cloister.engines.json_bounds import JsonBoundsMiddleware
from cloister.engines.tesseract import reader
from cloister.engines.tesseract.api import ApiError, ChatRequest, error_body
from cloister.engines.tesseract.completion import Completion
from cloister.engines.tesseract.door import Door
from cloister.engines.tesseract.metrics import Metrics
from cloister.engines.tesseract.options import Options
from cloister.engines.tesseract.pool import Pool

_T = TypeVar("_T")
_CLIENT_CLOSED_REQUEST = 499  # nginx's code for it; nobody is there to see it


class Server:
    """The handlers of one engine and what they share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.model = f"tesseract-{reader.version()}"
        self.pool = Pool(options)
        self.metrics = Metrics(self.model, self.pool)

    def app(self) -> ASGIApp:
        """Return the ASGI application."""
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.prometheus),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {
            ApiError: _api_error,
            HTTPException: _http_error,
            ClientDisconnect: _client_gone,
            Exception: _bug,
        }
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        limit = self.options.workers + self.options.queue_depth
        return Door(JsonBoundsMiddleware(app), engine=f"tesseract/{reader.version()}", limit=limit)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            await self.pool.warm()
            yield
        finally:
            self.pool.close()

    async def health(self, _: Request) -> Response:
        """Answer 200: the event loop turns, and the workers were ready once."""
        return JSONResponse({"status": "ok", "model": self.model})

    async def prometheus(self, _: Request) -> Response:
        """Answer with the metrics."""
        return Response(self.metrics.exposition(), media_type="text/plain; version=0.0.4")

    async def models(self, _: Request) -> Response:
        """List the true model, and the configured name as what it is: an alias of it."""
        common = {"object": "model", "created": 0, "owned_by": "cloister", "root": self.model}
        names = (self.model, self.options.served_model_name)
        return JSONResponse({"object": "list", "data": [{"id": name, **common} for name in names]})

    async def chat(self, request: Request) -> Response:
        """Read the images of one request."""
        chat = self._checked(ChatRequest.parse(await self._body(request)))
        request_id = request.headers.get("x-request-id", uuid.uuid4().hex)
        completion = Completion(
            chat, self.pool, self.metrics, model=self.model, request_id=request_id
        )
        if chat.stream:
            await _while_connected(request, completion.first_page())
            return StreamingResponse(completion.events(), media_type="text/event-stream")
        return JSONResponse(await _while_connected(request, completion.whole()))

    async def _body(self, request: Request) -> bytearray:
        limit = self.options.max_body_mib << 20
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                message = f"the body is larger than {self.options.max_body_mib} MiB"
                raise ApiError(413, message, code="request_too_large")
        return body

    def _checked(self, chat: ChatRequest) -> ChatRequest:
        if chat.model not in {None, self.model, "tesseract", self.options.served_model_name}:
            message = f"The model `{str(chat.model)[:200]}` does not exist."
            raise ApiError(404, message, code="model_not_found")
        if not chat.images:
            message = "no image in `messages`; this engine reads page images: send an `image_url`"
            raise ApiError(400, message, code="no_image")
        if len(chat.images) > self.options.max_images:
            message = f"{len(chat.images)} images; at most {self.options.max_images} are read"
            raise ApiError(400, message, code="too_many_images")
        return chat


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work`, but cancel it when the client goes: its worker is free for the next page."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _api_error(_: Request, error: ApiError) -> Response:
    return error.response()


def _http_error(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}"
    return JSONResponse(error_body(error.status_code, message), error.status_code)


def _client_gone(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _bug(_: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so that uvicorn logs the traceback.
    message = f"the engine failed ({type(error).__name__}); its log has the details"
    return JSONResponse(error_body(500, message, "internal_error"), 500)
