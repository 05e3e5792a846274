"""The service that is asked: how to enter it, and what is known of it."""

import os
from dataclasses import dataclass, replace

import requests

from cloister import chat, deployment
from cloister.chat import Pass
from cloister.cleaning import on_one_line
from cloister.config import API_KEY_VARIABLE, Settings
from cloister.engines import ENGINES
from cloister.errors import OcrError

# A service of which nothing is known is tried with few pages, and with more while it takes them.
_UNKNOWN, _MOST = 4, 64
_ASK_S = 5.0
LONGEST_S = 2 * _ASK_S  # until it has said what it is


@dataclass(frozen=True)
class Service:
    """An OpenAI API that reads pages.

    `is_vllm` tells that it samples, detects loops, and shrinks images beyond `max_pixels`;
    `serves_model` is False for Tesseract, whatever model is asked for. Begin with `concurrency`
    pages at once, `most` is the limit.
    """

    enter: Pass
    model: str
    is_vllm: bool
    serves_model: bool
    concurrency: int
    most: int
    timeout_s: float
    max_pixels: int | None = None


def reach(settings: Settings, url: str | None, key: str | None = None) -> Service:
    """Return the service at a URL, or the one that is up here; the key may be the environment's."""
    key = key or os.environ.get(API_KEY_VARIABLE)
    return at(settings, url, key) if url else here(settings, key)


def here(settings: Settings, key: str | None) -> Service:
    """Return the service that is up on this machine.

    Raises DeploymentError when none is, OcrError when it has no engine that answers.
    """
    up = deployment.required(settings)
    enter = deployment.of_this_machine(up.settings)
    enter = replace(enter, key=key or enter.key)
    planned = deployment.of(up)
    require_healthy(enter)
    is_vllm = ENGINES[planned.engine].serves_model
    # One more than the engines read at once, so that the next page is there when one is done.
    begin = settings.ocr.concurrency or planned.slots + 1
    return Service(
        enter,
        model=settings.model.name,
        is_vllm=is_vllm,
        serves_model=is_vllm,
        concurrency=begin,
        most=settings.ocr.concurrency or 2 * begin,
        timeout_s=up.settings.gateway.timeout_s,
        max_pixels=up.settings.vllm.max_pixels if is_vllm else None,
    )


def at(settings: Settings, url: str, key: str | None) -> Service:
    """Return the service at a URL; raises OcrError when none answers there."""
    enter = chat.by_url(url, key)
    require_healthy(enter)
    owner = _owner(enter)
    is_vllm = owner == "vllm"
    return Service(
        enter,
        model=settings.model.name,
        is_vllm=is_vllm,
        serves_model=owner != "cloister",
        concurrency=settings.ocr.concurrency or _UNKNOWN,
        most=settings.ocr.concurrency or _MOST,
        timeout_s=settings.gateway.timeout_s,
        max_pixels=settings.vllm.max_pixels if is_vllm else None,
    )


def require_healthy(enter: Pass) -> None:
    """Raise OcrError when no service answers at the address."""
    answer = _get(enter, "/health")
    if not answer.ok:
        raise OcrError(
            f"the service at `{enter.url}` has no engine that answers "
            f"(HTTP {answer.status_code} on /health)",
            hint="invoke status",
        )


def _owner(enter: Pass) -> str | None:
    """Return who owns the first model, None where that is not told."""
    answer = _get(enter, "/v1/models")
    try:
        return on_one_line(str(chat.values(answer)["data"][0]["owned_by"]))
    except (ValueError, LookupError, TypeError):
        return None


def _get(enter: Pass, route: str) -> requests.Response:
    try:
        with chat.session(enter) as session:
            return session.get(f"{enter.url}{route}", timeout=_ASK_S)
    except requests.exceptions.SSLError as error:
        raise OcrError(
            f"the certificate of `{enter.url}` is not trusted",
            hint="name its authority by SSL_CERT_FILE",
        ) from error
    except requests.RequestException as error:
        raise OcrError(
            f"no service answers at `{enter.url}`: {chat.reason(error)}", hint="invoke up"
        ) from error
