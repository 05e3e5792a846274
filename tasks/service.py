"""The service: set up, run, look at, read with."""

import signal
import time
from collections.abc import Sequence

from invoke.context import Context

from tasks.command import JSON, SET, command, settings, shortened


@command(set_=SET)
def setup(_: Context, set_: list[str] | None = None) -> None:
    """Check this machine, and write a commented cloister.yaml if there is none."""
    from cloister import console, machine

    for line in machine.prepare(settings(set_ or [])):
        console.say(line)


@command(
    replicas="number of engine processes",
    port="TCP port of the gateway",
    json_=JSON,
    set_=SET,
)
def up(
    _: Context,
    replicas: str | None = None,
    port: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Start the service, or bring a running one to the configuration; wait for a page."""
    from cloister import console, deployment

    chosen = settings(set_ or [], **{"replicas": replicas, "gateway.port": port})
    with console.steps() as report:
        result = deployment.up(chosen, report)
    if json_:
        console.dump(
            {"url": result.plan.url, "engine": result.reading.engine, "started": result.started}
        )
        return
    if not result.plan.proves_reading:
        console.say("`model.synthetic`: the weights are noise, so no page had to be read rightly")
    running = result.plan.settings
    if running.runtime == "docker" and running.docker.engine_network == "internal":
        console.say(
            "engines are on an internal network, from which text can leave: see `invoke verify`; "
            "`docker.engine_network: none` has no way out"
        )
    console.show(f"reads documents at {result.plan.url}/v1 ({result.reading.engine})")
    console.say("next: invoke ocr samples/invoice.png | invoke status | invoke down")


@command(set_=SET)
def down(_: Context, set_: list[str] | None = None) -> None:
    """Stop the service; pages in flight are finished first."""
    from cloister import console, deployment

    with console.waiting("the programs, which finish the pages in flight first,"):
        stopped = deployment.down(settings(set_ or []))
    console.say("stopped" if stopped else "nothing was up")


@command(name="one program, such as tesseract-1 or vllm-nginx-gateway (default: all)", set_=SET)
def restart(_: Context, name: str | None = None, set_: list[str] | None = None) -> None:
    """Restart programs one after the other, each proven by a page."""
    from cloister import console, deployment

    with console.steps() as report:
        names = deployment.restart(settings(set_ or []), (name,) if name else (), report)
    console.say(f"restarted {', '.join(names)}")


@command(json_=JSON, set_=SET)
def health(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """Let the service read a fresh page, and say how long it took."""
    from cloister import console, deployment

    chosen = settings(set_ or [])
    with console.waiting("a fresh page from the service", chosen.gateway.timeout_s):
        reading = deployment.health(chosen)
    if json_:
        console.dump(reading)
    else:
        console.show(f"read a fresh page in {reading.seconds:.2f} s ({reading.engine})")


@command(
    name="one program, `access` for the gateway's access log (default: all)",
    follow="go on as new lines come, until Ctrl-C",
    lines="lines from the end of each log",
    set_=SET,
)
def logs(
    _: Context,
    name: str | None = None,
    follow: bool = False,
    lines: int = 20,
    set_: list[str] | None = None,
) -> None:
    """Print the last lines of the logs."""
    from cloister import deployment

    deployment.show_logs(settings(set_ or []), name, lines=lines, follow=follow)


@command(
    paths="images, PDFs, folders or quoted patterns",
    out="run folder: one file a document, the ledger of all pages, and those that were not read; "
    "the same command goes on where it stopped (default: standard output)",
    format_="of the files in --out: markdown, jsonl, html or txt",
    only="of all documents those whose name fits a pattern, such as '2026/*.pdf'",
    retry_failed="read those pages again that were not read",
    status="tell what is in --out, and read nothing",
    watch="a folder whose documents are read as they arrive, into --out, until Ctrl-C",
    url="another service, such as http://localhost:8001 (default: the one that is up)",
    dpi="dots per inch at which PDF pages are rendered",
    concurrency="pages at once (default: as many as the service takes)",
    text_layer="a PDF page's own text, where it is good: fallback for pages that were not read, "
    "auto in place of reading (default: never)",
    json_=JSON,
    set_=SET,
)
def ocr(
    _: Context,
    paths: Sequence[str] = (),
    out: str | None = None,
    format_: str = "markdown",
    only: str | None = None,
    retry_failed: bool = False,
    status: bool = False,
    watch: str | None = None,
    url: str | None = None,
    dpi: str | None = None,
    concurrency: str | None = None,
    text_layer: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Read documents: Markdown to standard output or a folder; fails unless every page was read."""
    from cloister import sandbox
    from cloister.ocr import command as reading

    sandbox.hide_memory()  # keys are in it, and it starts processes that parse documents
    flags = {"ocr.dpi": dpi, "ocr.concurrency": concurrency, "ocr.text_layer": text_layer}
    wish = reading.wish(
        paths, url, out, format_, only, watch, retry_failed=retry_failed, as_json=json_
    )
    if status:
        reading.status(wish)
    else:
        reading.read(settings(set_ or [], **flags), wish)


@command(json_=JSON, set_=SET)
def config(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """Show every setting in force and where it came from."""
    from cloister import config as configuration
    from cloister import console, hardware

    origins = configuration.load(flags=set_ or [], hardware=hardware.of).origins
    if json_:
        console.dump({item.key: {"value": item.value, "origin": item.origin} for item in origins})
    else:
        rows = [(item.key, shortened(item.value), item.origin) for item in origins]
        console.table(("setting", "value", "from"), rows)


@command(out="folder to write to")
def samples(_: Context, out: str = "samples") -> None:
    """Generate the sample documents again, with their exact truth."""
    from pathlib import Path

    from cloister import console
    from cloister.corpus.samples import write_samples

    write_samples(Path(out))
    console.say(f"written to `{out}`")


@command(
    outside="one more place that must not be reached, as HOST or HOST:PORT (default port: 443)",
    watch="repeat the proof every so many seconds, until it fails (default: once)",
    json_=JSON,
    set_=SET,
)
def verify(
    _: Context,
    outside: str | None = None,
    watch: int = 0,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Prove that the containers are sealed, by trying to get out of them; code 7 if not."""
    from cloister import console, deployment, isolation
    from cloister.files import BusyError
    from cloister.isolation import present

    # As Ctrl-C does, it ends the containers of the proof.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = isolation.place(outside)
    pause_s = isolation.pause(watch)
    while True:
        configured = settings(set_ or [])
        # As configured now: to list a difference needs no other `up`.
        allowed = frozenset(configured.docker.allowed_differences)
        chosen = deployment.required(configured)
        try:
            with console.steps() as report:
                found = isolation.verify(chosen, allowed, place, report)
        except BusyError as error:
            if not pause_s:
                raise
            console.say(f"{error.message}; the proof is repeated in {pause_s} s")
        else:
            present.show(found, as_json=json_)
            if not pause_s:
                return
        time.sleep(pause_s)
