"""How a hub is asked: how long, how often, and what is said when it does not answer."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
)

from cloister.errors import ModelStoreError

TOKEN_HINT = "set HF_TOKEN, or HF_TOKEN_PATH to a file with it"  # noqa: S105  # a hint
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_Answer = TypeVar("_Answer")
_STATUSES = {
    401: f"the token is wrong or missing: {TOKEN_HINT}",
    403: "the token lacks the right to read this model",
    429: "too many requests; a token raises the limit",
}
# A gated repository is also one that was not found, so it comes first.
_REASONS: dict[type[Exception], tuple[str, str]] = {
    OfflineModeIsEnabled: ("HF_HUB_OFFLINE forbids to ask the hub", "unset it"),
    GatedRepoError: (
        "the model is gated: its owner has to let your account in",
        f"accept its terms on its page at the hub, then {TOKEN_HINT}",
    ),
    RevisionNotFoundError: ("the hub has no such revision", "a branch, a tag or a commit"),
    EntryNotFoundError: ("the hub lists a file that it does not have", "try again later"),
    RepositoryNotFoundError: (
        "`{}` has no such model, or hides it from whoever has no right to it",
        f"check the name; for a private or gated model {TOKEN_HINT}",
    ),
}


@dataclass(frozen=True)
class Patience:
    """How long to go on: attempts without progress, and seconds.

    A connection that brings less than 1 KiB/s for `stall_s` is given up and made anew.
    """

    tries: int = 6
    stall_s: float = 30.0
    deadline_s: float = 86400.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0


def answered(question: Callable[[], _Answer], wait_s: float) -> _Answer:
    """Return an answer that comes within `wait_s`; raises httpx2.ReadTimeout when none does.

    huggingface_hub asks without a limit of its own, and a hub may hold a connection for ever.
    """
    answer: Future[_Answer] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True, name="ask").start()
    try:
        return answer.result(wait_s)
    except TimeoutError:
        raise httpx2.ReadTimeout(f"no answer within {wait_s:.0f} s") from None


def retrying(patience: Patience, left_s: float) -> Retrying:
    """Return attempts with a wait between them, as long as the hub asks for or ever longer."""

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        growing = patience.first_wait_s * 2.0 ** (state.attempt_number - 1)
        return asked_s(error) or min(patience.longest_wait_s, growing)

    return Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_attempt(patience.tries) | stop_before_delay(left_s),
        wait=wait_s,
        reraise=True,
    )


def passes(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
    )


def asked_s(error: BaseException | None) -> float:
    """Return the seconds that the hub asks to wait, 0 where it does not."""
    response = error.response if isinstance(error, HfHubHTTPError) else None
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isdecimal() else 0.0


def explained(error: Exception, endpoint: str) -> ModelStoreError:
    """Return an error of two lines for what the hub or the way to it said."""
    for kind, (message, hint) in _REASONS.items():
        if isinstance(error, kind):
            return ModelStoreError(message.format(endpoint), hint=hint)
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        return ModelStoreError(
            f"`{endpoint}` answers HTTP {status}", hint=_STATUSES.get(status, "try again later")
        )
    through = f" through {proxies()}" if proxies() else ""
    return ModelStoreError(
        f"`{endpoint}` cannot be reached{through}: {str(error) or type(error).__name__}",
        hint="a mirror is named by HF_ENDPOINT, a proxy by HTTPS_PROXY",
    )


def proxies() -> str:
    """Return the names of the proxies that are set; a password may be in their addresses."""
    names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
    both = [found for name in names for found in (name, name.lower())]
    return ", ".join(name for name in both if os.environ.get(name))
