"""The command surface: every task parses its flags, calls `cloister` and prints the answer.

`cloister` is imported inside the tasks, so that `invoke --list` stays quick.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from task_command import command

if TYPE_CHECKING:
    from cloister.config import Settings

_SET = "override a setting, such as gateway.port=9001 (repeatable; see `invoke config`)"
_JSON = "print JSON for scripts"


def _shortened(value: object, width: int = 60) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= width else f"{text[: width - 1]}…"


def _settings(overrides: Sequence[str], **flags: object) -> "Settings":
    from cloister import config

    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    return config.load(flags=[*given, *overrides]).settings


@command(set_=_SET)
def setup(_: Context, set_: list[str] | None = None) -> None:
    """Check this machine, and write a commented cloister.yaml if there is none."""
    from cloister import console, machine

    for line in machine.prepare(_settings(set_ or [])):
        console.say(line)


@command(
    replicas="number of engine processes",
    port="TCP port of the gateway",
    json_=_JSON,
    set_=_SET,
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

    settings = _settings(set_ or [], **{"replicas": replicas, "gateway.port": port})
    with console.steps() as report:
        result = deployment.up(settings, report)
    if json_:
        console.dump(
            {"url": result.plan.url, "engine": result.reading.engine, "started": result.started}
        )
        return
    console.show(f"reads documents at {result.plan.url}/v1 ({result.reading.engine})")
    console.say("next: invoke ocr samples/invoice.png | invoke status | invoke down")


@command(set_=_SET)
def down(_: Context, set_: list[str] | None = None) -> None:
    """Stop the service; pages in flight are finished first."""
    from cloister import console, deployment

    console.say("stopped" if deployment.down(_settings(set_ or [])) else "nothing was up")


@command(name="one program, such as tesseract-1 or gateway (default: all)", set_=_SET)
def restart(_: Context, name: str | None = None, set_: list[str] | None = None) -> None:
    """Restart programs one after the other, each proven by a page."""
    from cloister import console, deployment

    with console.steps() as report:
        names = deployment.restart(_settings(set_ or []), (name,) if name else (), report)
    console.say(f"restarted {', '.join(names)}")


@command(json_=_JSON, set_=_SET)
def status(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """Show what runs: state, memory and pages of every program."""
    from cloister import console, deployment

    found = deployment.status(_settings(set_ or []))
    if json_:
        console.dump(found)
    elif not found.programs:
        console.say(f"nothing is up in `{_settings(set_ or []).state_dir}`; next: invoke up")
    else:
        columns = ("program", "state", "pid", "for s", "MiB", "reading", "waiting")
        rows = [
            (p.name, p.state, p.pid, p.since_s, p.memory_mib, p.running, p.waiting)
            for p in found.programs
        ]
        console.table(columns, rows)
        console.show(f"{'healthy' if found.healthy else 'NOT healthy'}: {found.url}")
    if not found.up or not found.healthy:
        raise Exit(code=1)


@command(json_=_JSON, set_=_SET)
def health(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """Let the service read a fresh page, and say how long it took."""
    from cloister import console, deployment

    reading = deployment.health(_settings(set_ or []))
    if json_:
        console.dump(reading)
    else:
        console.show(f"read a fresh page in {reading.seconds:.2f} s ({reading.engine})")


@command(
    name="one program, `access` for the gateway's access log (default: all)",
    follow="go on as new lines come, until Ctrl-C",
    lines="lines from the end of each log",
    set_=_SET,
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

    deployment.show_logs(_settings(set_ or []), name, lines=lines, follow=follow)


@command(
    paths="images, PDFs, folders or quoted patterns",
    out="folder for one Markdown file a document (default: standard output)",
    url="another service, such as http://localhost:8001 (default: the one that is up)",
    dpi="dots per inch at which PDF pages are rendered",
    concurrency="pages at once (default: as many as the engines read at once)",
    json_=_JSON,
    set_=_SET,
)
def ocr(
    _: Context,
    paths: list[str],
    out: str | None = None,
    url: str | None = None,
    dpi: str | None = None,
    concurrency: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Read documents: Markdown to standard output or a folder; fails unless every page was read."""
    from cloister.ocr import command as read

    flags = {"ocr.dpi": dpi, "ocr.concurrency": concurrency}
    read.run(_settings(set_ or [], **flags), paths, url=url, out=out, as_json=json_)


@command(json_=_JSON, set_=_SET)
def config(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """Show every setting in force and where it came from."""
    from cloister import config as configuration
    from cloister import console

    settings = configuration.load(flags=set_ or []).origins
    if json_:
        console.dump({item.key: {"value": item.value, "origin": item.origin} for item in settings})
    else:
        rows = [(item.key, _shortened(item.value), item.origin) for item in settings]
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
    json_=_JSON,
    set_=_SET,
)
def verify(
    _: Context,
    outside: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Prove that the containers are sealed, by trying to get out of them; code 7 if not."""
    from cloister import console, deployment, isolation
    from cloister.isolation import present

    place = isolation.place(outside)
    settings = deployment.required(_settings(set_ or []))
    with console.steps() as report:
        found = isolation.verify(settings, place, report)
    present.show(found, as_json=json_)


@command(
    image="one image of images/images.yaml (default: all but vLLM's)",
    engine="build vLLM's image too: cuda or cpu",
    base="start from this image instead of the one in images.yaml; needs --image",
    local="start from the stand-ins that scripts/local-bases.sh makes",
    bake="put the model of the model store into vLLM's image, a layer a shard",
    set_=_SET,
)
def build_images(
    _: Context,
    image: str | None = None,
    engine: str | None = None,
    base: str | None = None,
    local: bool = False,
    bake: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Build the images, by BuildKit."""
    from cloister import images
    from cloister.images import command

    options = images.Options(image=image, engine=engine, base=base, local=local, bake=bake)
    command.build(_settings(set_ or []), options)


@command(image="one image (default: all that were built)", json_=_JSON, set_=_SET)
def inspect_images(
    _: Context, image: str | None = None, json_: bool = False, set_: list[str] | None = None
) -> None:
    """Look into built images: user, setuid files, health check, labels, size; code 5 if wrong."""
    from cloister.images import command

    command.test(_settings(set_ or []), image, as_json=json_)


@command(json_=_JSON, set_=_SET)
def list_images(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """List the images, their bases, and what of them was built."""
    from cloister.images import command

    command.show(_settings(set_ or []), as_json=json_)


@command(name="a Docker network, as `docker network ls` names it", set_=_SET)
def attach(_: Context, name: str, set_: list[str] | None = None) -> None:
    """Join the gateway to another project's network, which then finds it as `cloister`."""
    from cloister import console, deployment
    from cloister.runtimes import docker

    docker.attach(deployment.required(_settings(set_ or [])), name)
    console.say(f"containers on `{name}` find the service at http://cloister:8001/v1")


@command(name="a Docker network that was attached", set_=_SET)
def detach(_: Context, name: str, set_: list[str] | None = None) -> None:
    """Take the gateway off another project's network again."""
    from cloister import console, deployment
    from cloister.runtimes import docker

    docker.detach(deployment.required(_settings(set_ or [])), name)
    console.say(f"the gateway left `{name}`")


namespace = Collection(
    *(config, down, health, logs, ocr, restart, samples, setup, status, up, verify),
    images=Collection(build=build_images, list=list_images, test=inspect_images),
    network=Collection(attach=attach, detach=detach),
)
