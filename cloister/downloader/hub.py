"""What the hub says of a model: a commit, its files, their hashes; and why it says no."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, ModelCardData, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
)

from cloister.errors import ModelStoreError
from cloister.modelstore.contents import SUFFIXES
from cloister.modelstore.pins import NAME

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_Answer = TypeVar("_Answer")
_TOKEN = "set HF_TOKEN, or HF_TOKEN_PATH to a file with it"  # noqa: S105  # a hint
_STATUSES = {
    401: f"the token is wrong or missing: {_TOKEN}",
    403: "the token lacks the right to read this model",
    429: "too many requests; a token raises the limit",
}
# A gated repository is also one that was not found, so it comes first.
_REASONS: dict[type[Exception], tuple[str, str]] = {
    OfflineModeIsEnabled: ("HF_HUB_OFFLINE forbids to ask the hub", "unset it"),
    GatedRepoError: (
        "the model is gated: its owner has to let your account in",
        f"accept its terms on its page at the hub, then {_TOKEN}",
    ),
    RevisionNotFoundError: ("the hub has no such revision", "a branch, a tag or a commit"),
    EntryNotFoundError: ("the hub lists a file that it does not have", "try again later"),
    RepositoryNotFoundError: (
        "`{}` has no such model, or hides it from whoever has no right to it",
        f"check the name; for a private or gated model {_TOKEN}",
    ),
}


@dataclass(frozen=True)
class Remote:
    """One file at the hub: `sha256` where it is kept apart from git, else git's own `blob`."""

    name: str
    size: int
    sha256: str | None
    blob: str


@dataclass(frozen=True)
class Card:
    """A commit of a model, and the licence and the base that its card declares."""

    model: str
    commit: str
    licence: str | None
    base_model: str | None


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


class Hub:
    """One hub, such as a mirror; the token is for it alone and is never shown."""

    def __init__(self, endpoint: str | None, patience: Patience) -> None:
        self._api = HfApi(endpoint=endpoint)
        self._patience = patience

    @property
    def endpoint(self) -> str:
        """Its address."""
        return str(self._api.endpoint)

    def card(self, model: str, revision: str) -> Card:
        """Return what a branch, tag or commit stands for."""
        info = self._asked(
            lambda: self._api.model_info(model, revision=revision, timeout=self._patience.stall_s)
        )
        declared = info.card_data or ModelCardData()
        base = declared.get("base_model")
        return Card(
            model=model,
            commit=str(info.sha),
            licence=declared.get("license_name") or declared.get("license"),
            base_model=", ".join(base) if isinstance(base, list) else base,
        )

    def files(self, model: str, commit: str) -> tuple[Remote, ...]:
        """Return the files of a commit that may be served: never code, never a pickle.

        Raises ModelStoreError for a name that leads out of the folder.
        """
        tree = self._asked(
            lambda: list(self._api.list_repo_tree(model, revision=commit, recursive=True))
        )
        found = []
        for entry in tree:
            if not isinstance(entry, RepoFile) or not entry.path.endswith(SUFFIXES):
                continue
            if not NAME.fullmatch(entry.path):
                raise ModelStoreError(f"`{entry.path!r}` is no name for a model's file; refused")
            sha256 = entry.lfs.sha256 if entry.lfs else None
            found.append(Remote(entry.path, entry.size, sha256, entry.blob_id))
        if not any(file.name.endswith(".safetensors") for file in found):
            raise ModelStoreError(
                f"`{model}` has no safetensors at {commit}: other weights are never taken"
            )
        return tuple(sorted(found, key=lambda file: (file.size, file.name)))

    def url(self, model: str, commit: str, name: str) -> str:
        """Return where a file's bytes are."""
        return hf_hub_url(model, name, revision=commit, endpoint=self._api.endpoint)

    def headers(self) -> dict[str, str]:
        """Return what every request carries, the token among it."""
        made: dict[str, str] = self._api._build_hf_headers()  # noqa: SLF001  # HfApi's own way
        return made

    def _asked(self, question: Callable[[], _Answer]) -> _Answer:
        try:
            for attempt in _retrying(self._patience):
                with attempt:
                    return question()
        except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
            raise explained(error, self.endpoint) from error
        except (ValueError, LookupError, TypeError) as error:
            raise ModelStoreError(
                f"`{self.endpoint}` does not answer like a model hub", hint="check HF_ENDPOINT"
            ) from error
        raise AssertionError  # Retrying returns or raises


def _retrying(patience: Patience) -> Retrying:
    """Return attempts with a wait between them, as long as the hub asks for or ever longer."""

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        growing = patience.first_wait_s * 2.0 ** (state.attempt_number - 1)
        return asked_s(error) or min(patience.longest_wait_s, growing)

    return Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_attempt(patience.tries) | stop_before_delay(patience.deadline_s),
        wait=wait_s,
        reraise=True,
    )


def passes(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol
    )


def asked_s(error: BaseException | None) -> float:
    """Return the seconds that the hub asks to wait, 0 where it does not."""
    response = error.response if isinstance(error, HfHubHTTPError) else None
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isdigit() else 0.0


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
    proxies = [name for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") if os.environ.get(name)]
    through = f" through {', '.join(proxies)}" if proxies else ""
    return ModelStoreError(
        f"`{endpoint}` cannot be reached{through}: {str(error) or type(error).__name__}",
        hint="a mirror is named by HF_ENDPOINT, a proxy by HTTPS_PROXY",
    )
