"""Faults under load: how soon they are found, how soon all is well again, what became of the pages.

Run as `nox -s bench-faults [-- --times 20 --tag TAG]`; prints a Markdown table. Detection is from
the fault to the moment at which the gateway gives the replica no more pages, recovery from the
fault to the moment at which it does again (for a program that is no replica: until it runs again).
"""

import argparse
import functools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
from deployments import Stack, eventually, free_ports
from fleets import Faulty, events, happened, until
from load import Outcome, load
from pages import data_url, encoded, page, request

from benchmarks import synthetic_model
from cloister import console
from cloister.runtimes import EXPORTER, GATEWAY, WATCHDOG

INTERVAL_S, SILENCE_S, STALL_S, CANARY_S = 2, 5, 5, 5
_CLIENTS = 6
_PATIENCE_S = 30.0
_START_S = 900.0
_TIMES = {
    "healing_interval_s": INTERVAL_S,
    "healing_silence_s": SILENCE_S,
    "healing_stall_s": STALL_S,
    "healing_canary_s": CANARY_S,
}


@dataclass
class Row:
    """One fault, repeated; times in seconds. `lost` are pages whose client gave up."""

    name: str
    explained: str
    found_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    again: int = 0
    slowest_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Add what became of the pages of one repetition."""
        self.sent += outcome.sent
        self.lost += outcome.lost
        self.again += outcome.again
        self.slowest_s = max(self.slowest_s, outcome.slowest_s)

    def __str__(self) -> str:
        return (
            f"| {self.name} | {len(self.back_s)} | {_times(self.found_s)} | {_times(self.back_s)} "
            f"| {self.sent} | {self.lost} | {self.again} | {self.slowest_s:.1f} "
            f"| {self.explained} |"
        )


@dataclass(frozen=True)
class Fleet:
    """A deployment under load, and the page that the load sends."""

    stack: Stack
    family: str
    page: dict[str, object] | None
    clients: int = _CLIENTS
    pause_s: float = 0.0
    start_s: float = 60.0

    def hurt(self, row: Row, fault: Callable[[str], Callable[[], None]], times: int) -> None:
        """Do something to the replicas in turn, undo it once they are out, and wait for them."""
        for number in range(times):
            replica = f"{self.family}-{number % 2 + 1}"
            before = len(events(self.stack, replica))
            with self.load() as outcome:
                begun = time.time()
                undo = fault(replica)
                found = happened(self.stack, "sick", replica, before, self.start_s)
                undo()
                back = happened(self.stack, "recovered", replica, before, self.start_s)
                row.found_s.append(_at(found) - begun)
                row.back_s.append(_at(back) - begun)
            row.add(outcome)
            self.forget()
        _say(row)

    def kill(self, row: Row, program: str, times: int) -> None:
        """Kill a program that is no replica, and wait until another runs."""
        for _ in range(times):
            pid = self.stack.pids()[program]
            with self.load() as outcome:
                begun = time.time()
                os.kill(pid, signal.SIGKILL)
                eventually(functools.partial(self._other, program, pid))
                row.back_s.append(time.time() - begun)
            row.add(outcome)
        _say(row)

    def command(self, row: Row, commands: list[list[str]], times: int) -> None:
        """Run commands one after the other under load; their time counts as recovery."""
        for _ in range(times):
            with self.load() as outcome:
                begun = time.time()
                for arguments in commands:
                    self.stack.invoke(*arguments, timeout_s=10 * self.start_s)
                row.back_s.append(time.time() - begun)
            row.add(outcome)
        _say(row)

    def reboot(self, row: Row, times: int) -> None:
        """Kill everything, then `up`; clients go on trying meanwhile."""
        for _ in range(times):
            with self.load() as outcome:
                begun = time.time()
                for process in self.stack.processes():
                    process.kill()
                self.stack.invoke("up")
                row.back_s.append(time.time() - begun)
            row.add(outcome)
        _say(row)

    @contextmanager
    def load(self) -> Iterator[Outcome]:
        """Send pages, and go on until some came after the block as well."""
        with load(
            self.stack.url,
            at_once=self.clients,
            page=self.page,
            patience_s=_PATIENCE_S,
            pause_s=self.pause_s,
        ) as outcome:
            eventually(lambda: _require(outcome.answered >= self.clients), within_s=self.start_s)
            yield outcome
            wanted = outcome.answered + self.clients
            eventually(lambda: _require(outcome.answered >= wanted), within_s=self.start_s)

    def forget(self) -> None:
        """Let the watchdog begin anew, so that its back-off is not what the next one measures."""
        pid = self.stack.pids()["watchdog"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self._other("watchdog", pid))
        until(self.stack, lambda now: set(now.values()) == {"serving"})

    def _other(self, program: str, pid: int) -> None:
        _require(self.stack.pids()[program] not in {None, pid})


@contextmanager
def fleet(family: str, **settings: object) -> Iterator[tuple[Fleet, Faulty]]:
    """Bring a fleet of two replicas up, and down at the end; only vLLM's can be made faulty."""
    state, folder = (Path(tempfile.mkdtemp(prefix="cloister-")) for _ in range(2))
    for path in (state, folder):
        path.chmod(0o755)
    (state / "cloister.yaml").touch()
    faulty, real = Faulty(folder), family == "tesseract"
    chosen = {**({} if real else faulty.settings), **_TIMES, **settings}
    text = {f"CLOISTER_{key.upper()}": str(value) for key, value in chosen.items()}
    stack = Stack(state, free_ports(20), text)
    stack.settings |= {} if real else faulty.environment
    sent = request(data_url(encoded(page("Page 2345")))) if real else None
    try:
        stack.invoke("up", timeout_s=_START_S)
        stack.invoke("scale", "2", timeout_s=_START_S)
        yield Fleet(stack, family, sent), faulty
    finally:
        stack.invoke("down")
        shutil.rmtree(state)
        shutil.rmtree(folder)


def real_engine(times: int) -> None:
    """Measure the embedded engine, with pages that it reads."""
    with fleet("tesseract", tesseract_workers=1, tesseract_page_timeout_s=600) as (one, _):
        one.hurt(Row("kill -9 of an engine", f"interval {INTERVAL_S}"), _signal(one, "KILL"), times)
        frozen = Row("SIGSTOP of an engine", f"silence {SILENCE_S} + interval {INTERVAL_S}")
        one.hurt(frozen, _signal(one, "STOP"), times)
        hung = Row(
            "its worker frozen: /health answers, pages do not",
            f"stall {STALL_S} + 2 x interval {INTERVAL_S}",
        )
        one.hurt(hung, _freeze_workers(one), times)
        fewer = max(1, times // 4)
        for program in (GATEWAY, EXPORTER, WATCHDOG):
            one.kill(Row(f"kill -9 of the {program}", "the supervisor, at once"), program, times)
        one.command(Row("scale 1 -> 4 -> 2", "drain, start, page"), _SCALE, fewer)
        rolls = [["rollout", "--set", f"tesseract.queue_depth={depth}"] for depth in (33, 34)]
        one.command(Row("two rollouts of 2", "drain, start, page"), rolls, fewer)
        one.reboot(Row("everything killed, then up", "start, page"), fewer)


def stand_in(times: int) -> None:
    """Measure a vLLM that fails on command."""
    with fleet("vllm-nanonets-ocr", healing_memory_mib=400) as (one, faulty):
        canary = f"canary {CANARY_S} + interval {INTERVAL_S}"
        for fault, explained in (
            ("stall", f"stall {STALL_S} + 2 x interval {INTERVAL_S}"),
            ("mute", f"canary {CANARY_S} + stall {STALL_S} + 2 x interval {INTERVAL_S}"),
            ("garbage", canary),
        ):
            one.hurt(Row(_NAMES[fault], explained), _fault(faulty, fault), times)
        _leaks(one, faulty, times)


def real_vllm(tag: str) -> None:
    """Measure vLLM's CPU build in containers, with a tiny model: a page now and then."""
    folder = Path(tempfile.mkdtemp(prefix="cloister-model-"))
    folder.chmod(0o755)
    synthetic_model.write(folder / "tiny", "tiny")
    chosen = {
        "runtime": "docker",
        "docker_tag": tag,
        "docker_project": "cloister-faults",
        "docker_subnet": "172.30.99.0/24",
        "engine": "vllm-cpu",
        "vllm_eager": "true",
        "model_folder": folder / "tiny",
        "model_synthetic": "true",
        "ocr_max_tokens": 1024,
        "vllm_load_format": "dummy",
        "vllm_kv_cache_gib": 1,
        "vllm_max_model_len": 4096,
        "vllm_max_pixels": 401_408,
        "healing_silence_s": 40,
        "healing_stall_s": 40,
    }
    body = request(data_url(encoded(page("Page 2345"))), max_tokens=8, ignore_eos=True)
    with fleet("tesseract", **chosen) as (made, _):
        one = Fleet(made.stack, "vllm-nanonets-ocr", body, clients=1, pause_s=2.0, start_s=600.0)
        one.command(Row("scale 1 -> 4 -> 2", "drain, start, page"), _SCALE, 1)
        rolled = [["rollout", "--set", "vllm.max_num_seqs=6"]]
        one.command(Row("a rollout of 2", "drain, start, page"), rolled, 1)
        one.hurt(Row("kill -9 of an engine", f"interval {INTERVAL_S}"), _signal(one, "KILL"), 2)
        frozen = Row("its core frozen: /health answers", "stall 40, or canary 5 + stall 40")
        one.hurt(frozen, _freeze_core(one), 2)
    shutil.rmtree(folder)


def _leaks(one: Fleet, faulty: Faulty, times: int) -> None:
    row = Row("leaks memory past its limit", f"interval {INTERVAL_S}, drain, start, page")
    for number in range(times):
        replica = f"{one.family}-{number % 2 + 1}"
        before = len(events(one.stack, replica))
        with one.load() as outcome, faulty.fault(replica, "leak"):
            found = happened(one.stack, "recycling", replica, before)
            faulty.cure(replica)
            after = len([e for e in events(one.stack, replica) if e["at"] <= found["at"]])
            back = happened(one.stack, "serving", replica, after)
            row.back_s.append(_at(back) - _at(found))
        row.add(outcome)
    _say(row)


_SCALE = [["scale", "1"], ["scale", "4"], ["scale", "2"]]
_NAMES = {
    "stall": "answers all but pages, which never end",
    "mute": "the same, and its numbers know of no page",
    "garbage": "answers with garbage",
}


def _signal(one: Fleet, name: str) -> Callable[[str], Callable[[], None]]:
    def fault(replica: str) -> Callable[[], None]:
        os.kill(one.stack.pids()[replica], getattr(signal, f"SIG{name}"))
        return lambda: None

    return fault


def _freeze_workers(one: Fleet) -> Callable[[str], Callable[[], None]]:
    def fault(replica: str) -> Callable[[], None]:
        for worker in psutil.Process(one.stack.pids()[replica]).children():
            worker.suspend()
        return lambda: None

    return fault


def _freeze_core(one: Fleet) -> Callable[[str], Callable[[], None]]:
    def fault(replica: str) -> Callable[[], None]:
        for process in psutil.Process(one.stack.pids()[replica]).children(recursive=True):
            if process.name().startswith("VLLM::"):
                process.suspend()
        return lambda: None

    return fault


def _fault(faulty: Faulty, kind: str) -> Callable[[str], Callable[[], None]]:
    def fault(replica: str) -> Callable[[], None]:
        until_undone = ExitStack()
        until_undone.enter_context(faulty.fault(replica, kind))
        return until_undone.close

    return fault


def _at(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _require(reached: bool) -> None:  # noqa: FBT001
    if not reached:
        raise AssertionError


def _times(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f}" if seconds else "-"


def _say(row: Row) -> None:
    console.show(str(row))
    sys.stdout.flush()


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", choices=["tesseract", "vllm", "containers"])
    parser.add_argument("--tag", help="also vLLM in containers, by images of this tag")
    options = parser.parse_args()
    console.show(f"time-outs, in seconds: {json.dumps(_TIMES)}; {_CLIENTS} clients\n")
    console.show(
        "| fault | times | found s, median / worst | well again s, median / worst "
        "| pages | lost | sent again | slowest s | bounded by |"
    )
    console.show("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    if options.only in {None, "tesseract"}:
        real_engine(options.times)
    if options.only in {None, "vllm"}:
        stand_in(options.times)
    if options.tag:
        real_vllm(options.tag)


if __name__ == "__main__":
    main()
