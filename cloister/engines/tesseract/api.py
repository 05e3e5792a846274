"""The part of OpenAI's chat completions schema that a page reader answers."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse

_TOKEN = re.compile(r"\w+|[^\w\s]")


class ApiError(Exception):
    """An answer in OpenAI's error shape, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, code)
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def response(self) -> JSONResponse:
        """Return the error as an HTTP answer."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def error_body(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """Return `{"error": {...}}`; `type` follows from the status as OpenAI has it."""
    kind = "invalid_request_error" if status < 500 else "server_error"  # noqa: PLR2004
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class ImageUrl(BaseModel):
    """Where an image is; only `data:` URLs are read."""

    url: str


class TextPart(BaseModel):
    """A piece of the prompt."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """A page image."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    """One message; Tesseract has no use for the roles."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(fail_fast=True)] | None = None


class StreamOptions(BaseModel):
    """What a stream carries beside the text."""

    include_usage: bool = False


class ResponseFormat(BaseModel):
    """Only text is written here."""

    type: Literal["text"]


class ChatRequest(BaseModel):
    """A chat completion request; sampling fields are accepted and have nothing to act on."""

    # The first wrong one is enough: thousands of errors take the event loop's time.
    messages: list[Message] = Field(min_length=1, fail_fast=True)
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: Literal[1] | None = 1
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)

    @classmethod
    def parse(cls, body: bytes | bytearray) -> "ChatRequest":
        """Read a body; raises ApiError 400 that names the first thing wrong with it."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise ApiError(400, _first_problem(error)) from error

    @property
    def images(self) -> list[str]:
        """The URLs of all images, in order."""
        return [part.image_url.url for part in self._parts() if isinstance(part, ImagePart)]

    @property
    def token_limit(self) -> int | None:
        """The most tokens that the answer may have, or None."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt's text; an image has none, Tesseract turns it into none."""
        texts = [part.text for part in self._parts() if isinstance(part, TextPart)]
        return sum(count_tokens(text) for text in texts)

    def _parts(self) -> list[TextPart | ImagePart]:
        parts: list[TextPart | ImagePart] = []
        for message in self.messages:
            if isinstance(message.content, str):
                parts.append(TextPart(type="text", text=message.content))
            else:
                parts += message.content or []
        return parts


def count_tokens(text: str) -> int:
    """Count words and punctuation marks, this engine's tokens; it has no model's tokenizer."""
    return sum(1 for _ in _TOKEN.finditer(text))


def truncate(text: str, tokens: int) -> str:
    """Return the longest prefix of at most `tokens` tokens."""
    for number, match in enumerate(_TOKEN.finditer(text), start=1):
        if number > tokens:
            return text[: match.start()].rstrip()
    return text


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _first_problem(error: ValidationError) -> str:
    # Of a value that may have several types, the deepest problem is that of the type meant.
    problems = error.errors(include_url=False, include_context=False)
    problem = max(problems, key=lambda found: len(found["loc"]))
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['msg'].removeprefix('Invalid JSON: ')}"
    # pydantic adds the type it tried, such as `list[...]`, to the path.
    steps = [str(step) for step in problem["loc"] if "[" not in str(step) and step != "str"]
    return f"`{'.'.join(steps)}` is not accepted: {problem['msg'][0].lower()}{problem['msg'][1:]}"
