"""`invoke ocr`: finds the service, reads the documents, writes what came back."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from cloister import chat, console, deployment
from cloister.chat import Pass
from cloister.config import API_KEY_VARIABLE, Settings
from cloister.errors import OcrError
from cloister.files import write_atomically
from cloister.ocr import client, documents, output


def run(
    settings: Settings, paths: Sequence[str], *, url: str | None, out: str | None, as_json: bool
) -> None:
    """Read the documents that `paths` name and print or write them.

    Raises OcrError when the service is not there, and at the end when a page was not read.
    """
    found = documents.find(paths)
    enter, concurrency = _service(settings, url)
    reader = client.Client(
        enter, settings.ocr, model=settings.model.name, timeout_s=settings.gateway.timeout_s
    )
    reader.require_healthy()
    targets = output.targets(found, Path(out)) if out else {}
    results = []
    for result in _read(settings, reader, found, concurrency):
        results.append(result)
        if out:
            write_atomically(targets[result.document], result.markdown)
            console.say(f"{result.document} -> {targets[result.document]}")
        elif not as_json:
            heading = f"<!-- {result.document} -->\n\n" if len(found) > 1 else ""
            console.show(heading + result.markdown)
    if as_json:
        console.dump({"documents": [asdict(result) for result in results]})
    _require_all(results)


def _service(settings: Settings, url: str | None) -> tuple[Pass, int]:
    """Return how to enter the service and how many pages to send at once."""
    given = os.environ.get(API_KEY_VARIABLE)
    if url is not None:
        return chat.by_url(url, given), settings.ocr.concurrency or 4
    up = deployment.required(settings)
    enter = deployment.of_this_machine(up.settings)
    planned = deployment.of(up)
    # One more than the engines read at once, so that the next page is there when one is done.
    return replace(enter, key=given or enter.key), settings.ocr.concurrency or planned.slots + 1


def _read(
    settings: Settings,
    reader: client.Client,
    found: Sequence[documents.Document],
    concurrency: int,
) -> Iterator[output.DocumentResult]:
    with console.bar(documents.count(found), "pages") as advance:

        def counted() -> Iterator[client.PageResult]:
            for result in reader.read_all(documents.pages(found, settings.ocr.dpi), concurrency):
                advance()
                yield result

        yield from output.by_document(counted())


def _require_all(results: Sequence[output.DocumentResult]) -> None:
    failed = [page for result in results for page in result.failed]
    for page in failed:
        console.say(f"{page.document} page {page.page or '-'}: {page.error}")
    for result in results:
        for page in result.pages:
            if page.text == "":
                console.say(f"{result.document} page {page.page}: no text was found on it")
    if failed:
        total = sum(len(result.pages) for result in results)
        raise OcrError(f"{len(failed)} of {total} pages were not read")
