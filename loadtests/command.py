"""From flags to a test, and from a test to its report."""

import argparse
import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cloister import config, console, hardware, ocr, report
from cloister.config import API_KEY_VARIABLE, Settings
from cloister.errors import LoadTestError
from cloister.files import write_atomically
from cloister.loadtest import documents, record, running, shapes, target, workload
from cloister.loadtest.client import Crew
from cloister.loadtest.documents import Question
from cloister.loadtest.ladder import Ladder
from cloister.loadtest.result import Report, Slo
from cloister.loadtest.running import Test
from cloister.loadtest.shapes import Load
from cloister.loadtest.target import Target
from cloister.loadtest.workload import Workload

Loads = tuple[tuple[Load, ...], Ladder | None]
_WEB_S = 86_400.0  # a person ends it
_USUAL = {"workload": "mixed", "seconds": 30.0, "last": 64}


def run(flags: argparse.Namespace) -> bool:
    """Do what the flags say, and write the report; return False when Ctrl-C ended it.

    Raises LoadTestError, and what `up` raises.
    """
    settings = config.load(flags=flags.set, hardware=hardware.of).settings
    found = _there(flags, settings)
    _complete(flags, brief=found is None)
    mix = workload.load(flags.workload)
    loads = _loads(flags)  # refused before anything is drawn
    folder = _folder(flags.out)
    try:
        count = _draw(flags, mix, folder / "pages")
        with console.steps() as progress, _target(found, settings, progress) as service:
            test = _test(flags, mix, service, folder, count, loads)
            if flags.web:
                progress(f"http://127.0.0.1:{flags.web} is open; Ctrl-C here makes the report")
            made, records = running.run(test, progress)
    finally:
        shutil.rmtree(folder / "pages", ignore_errors=True)  # they may be the user's own
        with contextlib.suppress(OSError):  # what was measured, or Locust's words, stay
            folder.rmdir()
    write_atomically(folder / "records.jsonl", record.lines(records))
    report.write(folder, made, records)
    _show(made, folder, as_json=flags.json)
    return made.complete


def _test(
    flags: argparse.Namespace,
    mix: Workload,
    service: Target,
    folder: Path,
    count: int,
    loads: Loads,
) -> Test:
    if flags.direct and not service.direct:
        raise LoadTestError(
            "--direct needs the replicas themselves, which this machine reaches neither at a --url "
            "nor with `docker.engine_network: internal`"
        )
    return Test(
        target=service,
        workload=", ".join(flags.documents) if flags.documents else flags.workload,
        seed=flags.seed,
        documents=count,
        pages=folder / "pages",
        question=_question(flags, service.settings, mix),
        slo=_slo(flags, mix),
        shape=flags.shape,
        loads=loads[0],
        ladder=loads[1],
        direct=flags.direct,
        crew=Crew(flags.processes, flags.workers, flags.web),
        checked=not flags.no_self_check and flags.web is None,
        folder=folder,
        command=typed("loadtest"),
    )


def typed(session: str) -> str:
    """Return the command line as a user of nox types it."""
    arguments = shlex.join(sys.argv[1:])
    return f"nox -s {session} -- {arguments}" if arguments else f"nox -s {session}"


def _show(made: Report, folder: Path, *, as_json: bool) -> None:
    if as_json:
        console.show(made.model_dump_json(indent=2))
    else:
        console.show(report.markdown(made))
    console.say(f"report: {folder / 'report.html'}")


def _complete(flags: argparse.Namespace, *, brief: bool) -> None:
    """Fill in what was not said: a service for the occasion is tried for about two minutes."""
    usual = {"workload": "quick", "seconds": 10.0, "last": 8} if brief else _USUAL
    for name, value in usual.items():
        if getattr(flags, name) is None:
            setattr(flags, name, value)


def _loads(flags: argparse.Namespace) -> Loads:
    """Return the loads of a shape; raises LoadTestError for what it lacks."""
    if flags.web:
        return (Load("Locust's page", _WEB_S, users=0),), None
    if flags.shape == "ladder":
        return (), Ladder(flags.first, flags.last, flags.seconds)
    if flags.shape == "replay":
        if flags.log is None:
            raise LoadTestError("replay needs --log", hint="the gateway's access log")
        return (shapes.replay(flags.log),), None
    if flags.shape == "soak" and flags.users:
        return (shapes.closed(flags.users, flags.seconds),), None
    if not flags.rate or flags.rate <= 0:
        raise LoadTestError(f"{flags.shape} needs --rate, in pages a second", hint="--rate 1.5")
    makers: dict[str, Callable[[], tuple[Load, ...]]] = {
        "poisson": lambda: (shapes.poisson(flags.rate, flags.seconds, flags.seed),),
        "soak": lambda: (shapes.poisson(flags.rate, flags.seconds, flags.seed),),
        "constant": lambda: (shapes.constant(flags.rate, flags.seconds),),
        "ramp": lambda: (shapes.ramp(flags.rate, flags.seconds, flags.seed),),
        "spike": lambda: shapes.spike(flags.rate, flags.seconds, flags.seed),
    }
    return makers[flags.shape](), None


def _folder(out: Path | None) -> Path:
    folder = out or Path("reports") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    if folder.exists() and any(folder.iterdir()):
        raise LoadTestError(f"`{folder}` is not empty", hint="another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _draw(flags: argparse.Namespace, mix: Workload, folder: Path) -> int:
    """Make the pages, with a bar; return how many."""
    if not flags.documents:
        with console.bar(mix.documents, "pages drawn") as advance:
            documents.draw(mix, flags.seed, folder, advance)
        return mix.documents
    codec, dpi = next(iter(mix.codecs)), next(iter(mix.dpi))
    count = ocr.count(ocr.find(flags.documents))
    with console.bar(count, "pages copied") as advance:
        documents.copy(flags.documents, codec, dpi, folder, advance)
    return count


def _there(flags: argparse.Namespace, settings: Settings) -> Target | None:
    """Return the service at --url or the one that is up here, None for neither."""
    if flags.url:
        return target.at(flags.url, _key(flags.key_file), settings)
    return target.up_here(settings)


@contextmanager
def _target(
    found: Target | None, settings: Settings, progress: Callable[[str], None]
) -> Iterator[Target]:
    if found is not None:
        yield found
        return
    progress("nothing is up here: starting an embedded service for the occasion")
    with target.for_the_occasion(settings, progress) as made:
        yield made


def _key(path: Path | None) -> str | None:
    """Return the API key, which no command line has to show."""
    if path is None:
        return os.environ.get(API_KEY_VARIABLE)
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LoadTestError(f"`{path}` cannot be read: {error.strerror}") from error


def _question(flags: argparse.Namespace, settings: Settings, mix: Workload) -> Question:
    synthetic = flags.synthetic or (settings.model.synthetic and not flags.url)
    return documents.question(settings, mix.output_tokens, synthetic=synthetic, model=flags.model)


def _slo(flags: argparse.Namespace, mix: Workload) -> Slo:
    wanted = {"ttft_p95_s": flags.ttft_p95_s, "e2e_p95_s": flags.e2e_p95_s}
    wanted["fault_share"] = flags.fault_share
    return mix.slo.model_copy(
        update={key: value for key, value in wanted.items() if value is not None}
    )
