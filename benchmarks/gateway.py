"""The gateway against none, its sockets against TCP, and HAProxy for the same job, in one run.

A stub stands in for the engine. Paced, it takes a known time for a page, as an engine would, and
the machine has room left: this shows what the gateway adds. Unpaced, all go as fast as they can:
this shows what a page costs. Then 256 uploads of 50 MB at once, for the memory.
"""

import argparse
import dataclasses
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
from stubs import Stub, stub

from benchmarks.gateway_report import Held, Row, Summaries, Turn, summarise, tables, verdicts
from benchmarks.load import BODY_BYTES, EVENTS, page
from benchmarks.proxies import Proxies, Side, watched

# Chosen so that a page takes 50 ms for one client, and 128 pages a second are asked for by many.
# The largest comes last: a proxy keeps memory that it once had.
ROWS = (Row("paced", 1, 1), Row("paced", 32, 5), Row("unpaced", 32, 0), Row("paced", 256, 40))
_UPLOADS = Row("uploads", 256, 0)


def _run(module: str, *flags: str) -> Any:
    """Run a client in a process of its own; return what it prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


@contextmanager
def ways(engine: Stub) -> Iterator[list[Side]]:
    """Start all sides before one engine; what they send the exporter is not read."""
    with ExitStack() as running:
        sink = running.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        sink.bind(("127.0.0.1", 0))
        proxies = Proxies(engine, exporter=f"127.0.0.1:{sink.getsockname()[1]}")
        all_ways = (
            *(proxies.direct(), proxies.nginx(), proxies.nginx(tcp=True)),
            *(proxies.haproxy(retries=True), proxies.haproxy(retries=False)),
        )
        yield [running.enter_context(way) for way in all_ways]


def turn(row: Row, side: Side, engine: Stub, seconds: float) -> Turn:
    """Load one side for one window."""
    engine.behave("ok", chunk_ms=row.event_ms)
    watch = {"stub": [engine.pid], "proxy": [process.pid for process in side.processes()]}
    groups = [f"{name}={','.join(map(str, pids))}" for name, pids in watch.items() if pids]
    flags = [f"--port={side.port}", f"--concurrency={row.concurrency}", f"--seconds={seconds}"]
    flags += [f"--spread-s={EVENTS * row.event_ms / 1000}", "--watch", *groups]
    before = engine.counts()
    with ExitStack() as looking:
        # Reading the memory of a process stops it for a moment, which a paced row would show.
        memory = None if row.event_ms else looking.enter_context(watched(side))
        done = _run("load", *flags)
    after = engine.counts()
    read, answered = (after[name] - before[name] for name in ("bytes", "completed"))
    if read != answered * BODY_BYTES:
        raise SystemExit(f"{side.name}: the stub read {read} bytes in {answered} pages")
    used = done["used_s"]
    own_s = sum(used.get(name, 0) for name in ("client", "stub", "proxy"))
    first = sorted(done["first_ms"]) or [float("inf")]
    return Turn(
        rate=done["rate"],
        first_p50_ms=statistics.median(first),
        first_ms=first,
        faults=sum(done["faults"].values()),
        client_share=used["client"] / used["wall"],
        stub_share=used["stub"] / used["wall"],
        others_share=(used["machine"] - own_s) / used["wall"],
        proxy_ms=1000 * used.get("proxy", 0) / max(done["pages"], 1),
        pss_mib=memory.pss_mib if memory else 0,
        rss_mib=memory.rss_mib if memory else 0,
    )


def hold(side: Side, engine: Stub) -> Held:
    """Send the large uploads to one side, all at once."""
    engine.behave("ok")
    with watched(side) as memory:
        done = _run("uploads", f"--port={side.port}", f"--count={_UPLOADS.concurrency}")
    faults = sum(done["faults"].values())
    return Held(
        memory.pss_mib, memory.rss_mib, memory.spilled_mib, done["held_s"], done["took_s"], faults
    )


def sends_again(side: Side, engine: Stub) -> bool:
    """Tell whether a page survives that the engine dies before the first byte of its answer."""
    engine.behave("reset-early", times=1)
    try:
        answer = requests.post(
            f"http://127.0.0.1:{side.port}/v1/chat/completions",
            data=page(BODY_BYTES, stream=False),
            timeout=30,
        )
    except requests.ConnectionError:
        return False
    finally:
        engine.behave("ok")
    return bool(answer.ok)


def run(sides: Sequence[Side], engine: Stub, rounds: int, seconds: float) -> dict[Row, Any]:
    """Run every row; its sides take turns, and another one begins each round."""
    results: dict[Row, dict[str, list[Turn]]] = {}
    for row in ROWS:
        turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
        for number in range(rounds):
            first = number % len(sides)
            for side in (*sides[first:], *sides[:first]):
                turns[side.name].append(turn(row, side, engine, seconds))
        results[row] = turns
        print(f"{row} is done", file=sys.stderr, flush=True)  # noqa: T201
    return results


def figures(summary: Summaries, again: Mapping[str, bool], held: Mapping[str, list[Held]]) -> str:
    """Return all figures as JSON."""
    rows = [
        {"row": str(row), "side": name, **dataclasses.asdict(value)}
        for row, values in summary.items()
        for name, value in values.items()
    ]
    uploads = {name: list(map(dataclasses.asdict, rounds)) for name, rounds in held.items()}
    machine = {"cores": os.cpu_count(), "kernel": platform.release()}
    found = {"machine": machine, "rows": rows, "uploads": uploads, "sends_again": again}
    return json.dumps(found, indent=1) + "\n"


def main() -> None:
    """Print both tables and the verdicts; with a fault anywhere, end with 1."""
    parser = argparse.ArgumentParser(prog="nox -s bench-gateway --", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns a side and load (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn (%(default)s)")
    parser.add_argument("--uploads", type=int, default=3, help="rounds of uploads (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    held: dict[str, list[Held]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        stub("engine", uds=Path(folder, "sock"), chunks=EVENTS) as engine,
    ):
        Path(folder).chmod(0o755)
        Path(folder, "sock").chmod(0o666)  # nginx' workers are another user
        with ways(engine) as sides:
            again = {side.name: sends_again(side, engine) for side in sides}
            results = run(sides, engine, arguments.rounds, arguments.seconds)
        for _ in range(arguments.uploads):
            with ways(engine) as sides:
                for side in filter(Side.processes, sides):
                    held.setdefault(side.name, []).append(hold(side, engine))
    summary = summarise(results)
    tables(summary, again, held)
    faults = verdicts(summary, held)
    if arguments.json:
        arguments.json.write_text(figures(summary, again, held), encoding="utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
