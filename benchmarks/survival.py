"""`invoke ocr` killed by signal 9 again and again: what is lost, and what is asked for twice.

Against a stub model that counts, or against two replicas of Tesseract behind the gateway, one of
which is killed every 20 seconds.
"""

import argparse
import random
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from deployments import Stack, deployed
from killed_runs import (
    KilledRuns,
    check_every_page_once,
    finished,
    repeated,
    summary,
    write_documents,
)
from page_stubs import page_stub

from cloister import console

_REPLICA_DIES_S = 20.0
_MOST = 60  # pages that a run asks for before it is killed
_Runs = Callable[[Stack, str, Callable[[], int]], KilledRuns]


def against_stub(runs: _Runs, kills: int, folder: Path) -> None:
    """Count the requests of every page."""
    (folder / "cloister.yaml").touch()
    with page_stub(delay_ms=150) as stub:
        run = runs(Stack(folder, 9), stub.url, stub.requests)
        for _ in range(kills):
            run.kill_once(run.rng.randrange(_MOST))
            run.check_requests(stub.counts()["asked"])
            console.say(f"kill {run.kills}: {len(run.asked)} pages are read")
        run.finish()
        asked = stub.counts()["asked"]
    run.check_requests(asked)
    hashes = finished(run.ledger)

    def is_text(said: str, name: str, number: int) -> bool:
        return said == f"page {hashes[name, number]}"

    check_every_page_once(run.out, run.source, is_text, len(hashes))
    console.show(f"pages asked for again, in flight at a kill: {repeated(asked)}")
    console.show("pages asked for again that were finished: 0")
    _tell(run)


def against_replicas(runs: _Runs, kills: int, _folder: Path) -> None:
    """Kill replicas too."""
    with deployed(replicas=2, tesseract_workers=1) as stack:
        stack.invoke("up")
        run = runs(stack, stack.url, lambda: stack.log("access").count("chat/completions"))
        with _dying(stack) as deaths:
            for _ in range(kills):
                run.kill_once(run.rng.randrange(_MOST))
                console.say(f"kill {run.kills}: {len(finished(run.ledger))} pages are read")
            run.finish()
    hashes = finished(run.ledger)

    def is_text(said: str, name: str, number: int) -> bool:
        return re.findall(r"\d+", said) == [*re.findall(r"\d+", name), str(number)]

    check_every_page_once(run.out, run.source, is_text, len(hashes))
    console.show(f"replicas killed: {len(deaths)}")
    _tell(run)


def _tell(run: KilledRuns) -> None:
    told = summary(run)
    console.show(f"kills: {run.kills}; pages read: {told['read']}, failed: {told['failed']}")
    console.show(f"requests answered, all runs: {told['requests']}; every page once: yes")


@contextmanager
def _dying(stack: Stack) -> Iterator[list[int]]:
    """Kill one replica after the other, and say which processes."""
    over, deaths = threading.Event(), list[int]()

    def run() -> None:
        while not over.wait(_REPLICA_DIES_S):
            pid = stack.pids()[f"tesseract-{1 + len(deaths) % 2}"]
            if pid:
                psutil.Process(pid).kill()
                deaths.append(pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield deaths
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Say what came of it; a page that is lost or asked for in vain is an AssertionError."""
    parser = argparse.ArgumentParser(prog="nox -s bench-survival --", description=__doc__)
    parser.add_argument("--engine", choices=("stub", "embedded"), default="stub")
    parser.add_argument("--pages", type=int, default=2_000)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_documents(folder / "in", chosen.files, chosen.pages, chosen.seed)
        rng = random.Random(chosen.seed)  # noqa: S311

        def runs(user: Stack, url: str, requests: Callable[[], int]) -> KilledRuns:
            flags = ("--url", url, "--concurrency", "8")
            return KilledRuns(user, folder / "in", folder / "out", flags, rng, requests)

        play = against_stub if chosen.engine == "stub" else against_replicas
        play(runs, chosen.kills, folder)


if __name__ == "__main__":
    main()
