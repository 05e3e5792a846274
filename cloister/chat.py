"""One page over the OpenAI chat API: the request's body, and what the answer says."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from cloister import bounded, unixhttp
from cloister.cleaning import clean, on_one_line
from cloister.endpoint import describe
from cloister.errors import OcrError
from cloister.sessions import Session, TcpAdapter
from cloister.sockdiag import Guard

# What makes a request's text come as it is written, with the count of tokens at its end.
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
_ODD = (ValueError, LookupError, TypeError, AttributeError)  # by what has another form
_SHOWN_BYTES = 800


@dataclass(frozen=True)
class Reading:
    """A page as an engine read it; `seconds` is from the first byte sent to the last received.

    `completion_tokens` is None where the engine does not tell them.
    """

    text: str
    finish_reason: str
    engine: str
    completion_tokens: int | None
    seconds: float


class RefusedError(OcrError):
    """The service answered with an error; `status` is its HTTP status, 0 when it was not reached.

    `retry_after_s` is what the service asked for, None when it did not.
    """

    def __init__(self, message: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Pass:
    """How a client enters a gateway: its address, and an API key where one is needed.

    `host` is the name to ask for where the address is another one. `fingerprint` is the SHA-256 of
    the one certificate that is taken; without it, certificates are checked against `authorities`,
    a PEM file, or else against the well-known ones. `guard` tells whose program has to be at the
    other end, None where that is another machine's.
    """

    url: str
    key: str | None = None
    host: str | None = None
    fingerprint: str | None = None
    authorities: Path | None = None
    client_certificate: Path | None = None
    guard: Guard | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What every request has to say."""
        said = {"Authorization": f"Bearer {self.key}" if self.key else None, "Host": self.host}
        return {name: value for name, value in said.items() if value is not None}


def by_url(url: str, key: str | None) -> Pass:
    """Return how to enter a service elsewhere; SSL_CERT_FILE names an authority of its own."""
    authorities = os.environ.get("SSL_CERT_FILE")
    return Pass(
        url.rstrip("/").removesuffix("/v1"),
        key=key,
        authorities=Path(authorities) if authorities else None,
    )


def session(enter: Pass | str) -> Session:
    """Return a session for a service, every request of which shows its key.

    Instead of a service it may be what the URLs of engines begin with, such as `unixhttp.below`:
    nothing else is reached then.
    """
    made = Session()
    if isinstance(enter, str):
        local = enter.startswith(unixhttp.PREFIX)
        made.mount(enter, unixhttp.UnixAdapter() if local else TcpAdapter())
        return made
    made.mount("http://", TcpAdapter(guard=enter.guard))
    made.mount("https://", TcpAdapter(enter.fingerprint, enter.guard))
    made.headers.update(enter.headers)
    if enter.fingerprint is not None:
        made.verify = False
    elif enter.authorities is not None:
        made.verify = str(enter.authorities)
    if enter.client_certificate is not None:
        made.cert = str(enter.client_certificate)
    return made


def body(
    image: bytes,
    mime: str,
    *,
    model: str,
    prompt: str,
    max_tokens: int,
    temperature: float = 0,
) -> dict[str, Any]:
    """Return the request of one page: the image, then the prompt, as the model's card has it."""
    url = f"data:{mime};base64,{base64.b64encode(image).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": prompt},
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": temperature,
        "max_tokens": max_tokens,
    }


def complete(
    session: requests.Session, url: str, request: dict[str, Any], *, timeout_s: float
) -> Reading:
    """Send one page to the service at `url`; raises RefusedError unless it answered with text."""
    try:
        answer = session.post(f"{url}/v1/chat/completions", json=request, timeout=(5, timeout_s))
    except requests.RequestException as error:
        raise RefusedError(f"`{describe(url)}` cannot be reached: {reason(error)}", 0) from error
    if not answer.ok:
        raise RefusedError(
            on_one_line(f"HTTP {answer.status_code}: {message(answer)}"),
            answer.status_code,
            retry_after_s(answer),
        )
    try:
        parsed = values(answer)
        choice, usage = parsed["choices"][0], parsed.get("usage")
        return Reading(
            text=clean(str(choice["message"]["content"] or "")).text,
            finish_reason=on_one_line(str(choice["finish_reason"])),
            engine=on_one_line(answer.headers.get("X-Cloister-Engine") or str(parsed["model"])),
            completion_tokens=bounded.tokens(
                usage.get("completion_tokens") if isinstance(usage, dict) else None
            ),
            seconds=answer.elapsed.total_seconds(),
        )
    except _ODD as error:
        raise RefusedError(
            on_one_line(f"`{describe(url)}` does not answer like the OpenAI API: {_text(answer)}"),
            answer.status_code,
        ) from error


def retry_after_s(answer: requests.Response) -> float | None:
    """Return how long a service asked to be left alone, None when it did not."""
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else None


def message(answer: requests.Response) -> str:
    """Return what an error of the API says, on one line."""
    try:
        return on_one_line(str(values(answer)["error"]["message"]))
    except _ODD:
        return on_one_line(_text(answer) or str(answer.reason))


def values(answer: requests.Response) -> Any:
    """Return the JSON of an answer, in the encoding that JSON has, whatever charset it names.

    Raises ValueError for what is none, or is nested more deeply than Python's parser can follow.
    """
    try:
        return json.loads(answer.content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _text(answer: requests.Response) -> str:
    return answer.content[:_SHOWN_BYTES].decode(errors="replace")


def reason(error: requests.RequestException) -> str:
    """Return why a service was not reached, in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause = error.args[0] if error.args else error
    said = str(getattr(cause, "reason", cause)).rpartition(": ")[2]
    return on_one_line(said) or type(error).__name__
