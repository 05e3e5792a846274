"""A run: a ledger's open pages, read at a service."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict

from cloister import console
from cloister.config import OcrSettings
from cloister.ocr.asking import Question
from cloister.ocr.events import Event
from cloister.ocr.ledger import Ledger
from cloister.ocr.openers import FileLimits, Openers
from cloister.ocr.reading import Reader
from cloister.ocr.rules import Rules
from cloister.ocr.senders import Senders
from cloister.ocr.service import Service
from cloister.ocr.window import Window
from cloister.rendering import Drawing, Limits, Renderers, protection

_MOST_RENDERERS = 4  # each draws about 15 pages a second, and a GPU reads ten
_MOST_AHEAD = 64  # pages of half a megabyte or so
_MARGIN_S = 10.0  # the gateway, which has the same time-out, is the one to say so


def drawing(settings: OcrSettings, service: Service) -> Drawing:
    """Return how pages become images for a service."""
    return Drawing(
        dpi=settings.dpi,
        max_pixels=service.max_pixels,
        text_layer=settings.text_layer == "auto",
    )


def recipe(settings: OcrSettings, service: Service) -> str:
    """Return what decides how pages are read, as text: equal for pages that are read alike."""
    parts = {
        "model": service.model,
        "is_vllm": service.is_vllm,
        "prompt": settings.prompt,
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "drawing": asdict(drawing(settings, service)),
    }
    return json.dumps(parts, sort_keys=True)


def _report_missing(missing: dict[str, str]) -> None:
    console.say(f"the renderers' sandbox is not complete ({protection.describe(missing)})")


def read(
    ledger: Ledger,
    service: Service,
    settings: OcrSettings,
    recipe_number: int,
    *,
    more: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Read the open pages of the ledger's run, and tell what happens.

    `more` is asked for further documents at the end, see `Reader`. Raises OcrError when the
    service is gone or refuses every page.
    """
    workers = settings.renderers or min(_MOST_RENDERERS, max(1, (os.cpu_count() or 1) // 2))
    rules = Rules(
        drawing=drawing(settings, service),
        question=Question(
            service.model, settings.prompt, settings.max_tokens, detects=service.is_vllm
        ),
        recipe=recipe_number,
        temperature=settings.temperature,
        attempts=settings.attempts,
        samples=service.is_vllm,
        falls_back=settings.text_layer == "fallback",
    )
    least = settings.concurrency or 1
    window = Window(service.concurrency, service.most, least)
    limits = Limits(settings.memory_mib, settings.page_timeout_s)
    senders = Senders(service.enter, service.timeout_s + _MARGIN_S)
    openers = Openers(FileLimits(settings.max_file_mib, settings.file_timeout_s))
    with Renderers(workers, limits, report=_report_missing) as renderers:
        # As many as may come back at the same moment, which pages do that were sent together.
        ahead = max(2 * workers, min(_MOST_AHEAD, service.concurrency))
        yield from Reader(
            ledger, renderers, openers, senders, window, rules, ahead=ahead, more=more
        ).events()
