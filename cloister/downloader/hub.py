"""What the hub says of a model: a commit, its files, their hashes."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, ModelCardData, get_token, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.hf_api import ModelInfo, RepoFile
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

from cloister.cleaning import on_one_line
from cloister.downloader import session
from cloister.downloader.asking import (
    TOKEN_HINT,
    Patience,
    answered,
    explained,
    proxies,
    retrying,
)
from cloister.errors import ModelStoreError
from cloister.modelstore.contents import SUFFIXES
from cloister.modelstore.pins import NAME, REVISION, SHA256

_LONGEST = 200  # characters of what a card declares, and of a name that is shown
# The largest models have some 200 files, of 1.5 TB together.
_MOST_ENTRIES, _MOST_FILES, _LONGEST_NAME = 20_000, 2_000, 500
_MOST_BYTES = 4 << 40  # of a file
_Answer = TypeVar("_Answer")


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


class Hub:
    """One hub, such as a mirror, asked for `deadline_s` at most.

    The token is for it alone and is never shown. Raises ModelStoreError for a token, a proxy or
    certificates that cannot be used.
    """

    def __init__(self, endpoint: str | None, patience: Patience) -> None:
        self._api = HfApi(endpoint=endpoint, token=_token() or False)
        self._patience = patience
        self.ends = time.monotonic() + patience.deadline_s
        _require_session()

    @property
    def endpoint(self) -> str:
        """Its address, without the name and the password that may be in it."""
        address = urlsplit(str(self._api.endpoint))
        return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()

    def left_s(self) -> float:
        """Return the seconds left; raises ModelStoreError when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise ModelStoreError(
                f"the model did not come within {self._patience.deadline_s:g} s",
                hint="run it again: it goes on where it stopped; --deadline-s gives it longer",
            )
        return left

    def card(self, model: str, revision: str) -> Card:
        """Return what a branch, tag or commit stands for.

        Raises ModelStoreError when the answer is no commit: it names a folder of the store.
        """

        def ask() -> Card:
            wait_s = self._patience.stall_s
            return _card(model, self._api.model_info(model, revision=revision, timeout=wait_s))

        card = self._asked(ask)
        if not REVISION.fullmatch(card.commit):
            raise ModelStoreError(f"the hub answers {card.commit[:60]!r} for {revision}, no commit")
        return card

    def files(self, model: str, commit: str) -> tuple[Remote, ...]:
        """Return the files of a commit that may be served: never code, never a pickle.

        Raises ModelStoreError for a name that leads out of the folder.
        """
        found = self._asked(
            lambda: _listed(self._api.list_repo_tree(model, revision=commit, recursive=True))
        )
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
            for attempt in retrying(self._patience, self.left_s()):
                with attempt:
                    return answered(question, min(self._patience.stall_s, self.left_s()))
        except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
            raise explained(error, self.endpoint) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelStoreError(
                f"`{self.endpoint}` does not answer like a model hub", hint="check HF_ENDPOINT"
            ) from error
        raise AssertionError  # Retrying returns or raises


def _card(model: str, info: ModelInfo) -> Card:
    declared = info.card_data or ModelCardData()
    return Card(
        model=model,
        commit=str(info.sha),
        licence=_declared(declared.get("license_name") or declared.get("license")),
        base_model=_declared(declared.get("base_model")),
    )


def _declared(value: object) -> str | None:
    """Return what a stranger wrote on a card as one short line that is safe to show."""
    values = value if isinstance(value, list) else [value]
    text = ", ".join(str(one) for one in values if one is not None)
    return on_one_line(text, _LONGEST) or None


def _listed(tree: Iterable[object]) -> list[Remote]:
    """Return the files of a tree that may be taken; raises ModelStoreError for a strange one."""
    found: dict[str, Remote] = {}
    for number, entry in enumerate(tree, 1):
        if number > _MOST_ENTRIES:
            raise ModelStoreError(f"the hub lists more than {_MOST_ENTRIES:,} entries; refused")
        if not isinstance(entry, RepoFile) or not entry.path.endswith(SUFFIXES):
            continue
        if len(entry.path) > _LONGEST_NAME or not NAME.fullmatch(entry.path):
            shown = f"{entry.path[:_LONGEST]!r}"
            raise ModelStoreError(f"`{shown}` is no name for a model's file; refused")
        sha256 = entry.lfs.sha256 if entry.lfs else None
        sized = type(entry.size) is int and 0 <= entry.size <= _MOST_BYTES
        if not sized or not (sha256 is None or SHA256.fullmatch(sha256)):
            raise ModelStoreError(f"the hub gives `{entry.path}` no size or hash that can be one")
        # Two entries would be written to one file, and on some disks names have no case.
        if entry.path.casefold() in found:
            raise ModelStoreError(f"the hub lists `{entry.path}` twice; refused")
        found[entry.path.casefold()] = Remote(entry.path, entry.size, sha256, entry.blob_id)
        if len(found) > _MOST_FILES:
            raise ModelStoreError(f"the hub lists more than {_MOST_FILES:,} files; refused")
    return list(found.values())


def _token() -> str | None:
    """Return the hub's token; raises ModelStoreError, without showing it, when it is none."""
    path = os.environ.get("HF_TOKEN_PATH")
    try:
        if path and not os.environ.get("HF_TOKEN"):
            Path(path).open("rb").close()  # a missing one would be passed over in silence
        token = get_token()
    except (OSError, UnicodeDecodeError):
        raise ModelStoreError(
            f"the token in `{path or 'HF_HOME'}` cannot be read", hint=TOKEN_HINT
        ) from None
    # httpx2 would show the whole of it in its error.
    if token and not (token.isascii() and token.isprintable()):
        raise ModelStoreError("the hub's token has characters that no token has", hint=TOKEN_HINT)
    return token


def _require_session() -> None:
    """Require proxies and certificates that connections can be made with."""
    session.begin()
    try:
        get_session()
    except (ImportError, ValueError) as error:
        raise ModelStoreError(
            f"{proxies() or 'a proxy'} names no HTTP proxy; SOCKS is not supported",
            hint="a proxy is named like http://proxy:3128",
        ) from error
    except OSError as error:
        raise ModelStoreError(
            f"the certificates cannot be read: {error.strerror}", hint="check SSL_CERT_FILE"
        ) from error
