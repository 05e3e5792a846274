"""Runs suites in lanes side by side, prints what they do as they do it, and sums up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cloister.files import NewLines
from suites.catalogue import ROOT, Suite
from suites.events import EVENTS
from suites.summary import Machine, SuiteResult, minutes

_CHILD = (sys.executable, "-m", "suites.child")
_LOOK_EVERY_S = 0.5
_END_S = 60.0  # from Ctrl-C to SIGKILL: tests take their stacks down
_LAST_TEARDOWN_S = 600.0


@dataclass
class _Lane:
    """Suites that run one after the other."""

    waiting: list[Suite]
    running: "_Running | None" = None


@dataclass
class _Running:
    """One suite's process, and the events that were read so far."""

    process: "subprocess.Popen[bytes]"
    result: SuiteResult
    events: NewLines
    outcome: Path
    silence_s: float
    engine: "EngineEvents | None" = None
    last_outcome: float = field(default_factory=time.monotonic)

    def is_hung(self) -> bool:
        """Return whether no test has ended for too long, or the suite where it has no tests."""
        # When all are over, fixtures of the session are left, and the end of the interpreter.
        is_over = 0 < self.result.collected <= self.result.done
        most_s = _LAST_TEARDOWN_S if is_over else self.silence_s
        return time.monotonic() - self.last_outcome > most_s

    def read_events(self) -> list[tuple[str, str]]:
        """Take what came since; return what failed meanwhile."""
        result = self.result
        before = {*result.failed, *result.errors}
        for line in self.events.read():
            try:
                event = json.loads(line)
                result.take(event)
            except ValueError as error:
                result.errors.append(("events", f"{line[:200]!r}: {error}"))
                continue
            # A test that hangs may start programs without end.
            if event["event"] == "test":
                self.last_outcome = time.monotonic()
        return [each for each in (*result.failed, *result.errors) if each not in before]


@dataclass
class Run:
    """All suites of one call; `folder` gets a log, the events and the cost of each."""

    suites: Sequence[Suite]
    folder: Path
    say: Callable[[str], None]
    nox: Sequence[str] = (sys.executable, "-m", "nox")
    print_every_s: float = 20.0
    started: float = field(default_factory=time.monotonic)
    # Set by a signal handler. An Event is no choice: its lock may be held by the interrupted code.
    is_interrupted: bool = False

    def run(self) -> list[SuiteResult]:
        """Run every suite to its end, in the order of the lanes; return their results."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lanes: dict[str, _Lane] = {}
        for suite in self.suites:
            lanes.setdefault(suite.lane, _Lane([])).waiting.append(suite)
        results: list[SuiteResult] = []
        printed = time.monotonic()
        try:
            while any(lane.waiting or lane.running for lane in lanes.values()):
                for lane in lanes.values():
                    self._advance(lane, results)
                if time.monotonic() - printed >= self.print_every_s:
                    printed = time.monotonic()
                    self._print_progress([lane.running for lane in lanes.values() if lane.running])
                time.sleep(_LOOK_EVERY_S)
                if self.is_interrupted:
                    break
        finally:
            self._end([lane.running for lane in lanes.values() if lane.running])
        order = [suite.name for suite in self.suites]
        return sorted(results, key=lambda result: order.index(result.name))

    def _advance(self, lane: _Lane, results: list[SuiteResult]) -> None:
        if lane.running:
            ended = lane.running.process.poll() is not None
            for test, message in lane.running.read_events():
                self._print(f"{lane.running.result.name}: FAILED {test}: {message[:300]}")
            if not ended:
                if lane.running.is_hung():
                    self._abort(lane.running)
                return
            self._finish(lane.running)
            lane.running = None
        if lane.waiting:
            lane.running = self._start(lane.waiting.pop(0))
            results.append(lane.running.result)

    def _start(self, suite: Suite) -> _Running:
        log, events, outcome = (
            self.folder / f"{suite.name}.{kind}" for kind in ("log", "events", "json")
        )
        events.write_bytes(b"")
        outcome.unlink(missing_ok=True)
        command = (*self.nox, *suite.command)
        self._print(f"{suite.name}: started: {suite.shown}")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*_CHILD, str(os.getpid()), str(outcome), str(suite.nice), *command],
                cwd=ROOT,
                env={**os.environ, EVENTS: str(events)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        budget_s = suite.budget_min * 60
        result = SuiteResult(suite.name, suite.shown, str(log), budget_s, suite.has_tests)
        running = _Running(process, result, NewLines(events), outcome, suite.silence_min * 60)
        if "docker" in suite.needs and shutil.which("docker"):
            running.engine = EngineEvents(self.folder / f"{suite.name}.engine")
        return running

    def _finish(self, running: _Running) -> None:
        result = running.result
        result.code = running.process.returncode
        try:
            cost = json.loads(running.outcome.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # it was killed, or the disk is full
            result.errors.append((result.name, f"its outcome cannot be read: {error}"))
        else:
            result.code, result.left = cost["code"], cost["left"]
            result.wall_s, result.processor_s = cost["wall_s"], cost["processor_s"]
        if running.engine:
            for what, count in running.engine.close().items():
                result.starts[what] = result.starts.get(what, 0) + count
        tests = f"{result.passed} of {result.collected} tests, " if result.collected else ""
        self._print(f"{result.name}: {result.verdict}: {tests}{minutes(result.wall_s)} min")

    def _abort(self, running: _Running) -> None:
        """End a suite that hangs; Python's fault handler writes where it was into the log."""
        quiet = minutes(time.monotonic() - running.last_outcome)
        why = f"it did not end in {quiet} min"
        if running.result.has_tests:
            why = f"no test ended for {quiet} min; the log shows where each process was"
        running.result.errors.append((running.result.name, why))
        self._print(f"{running.result.name}: FAILED {why}")
        _signal_group(running.process.pid, signal.SIGABRT)
        running.last_outcome = time.monotonic()

    def _print_progress(self, running: Sequence[_Running]) -> None:
        for each in running:
            result = each.result
            if result.collected:
                left = result.collected - result.done
                self._print(
                    f"{result.name}: {result.passed} passed, {len(result.failed)} failed, "
                    f"{left} left"
                )
            else:
                self._print(f"{result.name}: running")

    def _print(self, text: str) -> None:
        self.say(f"[{minutes(time.monotonic() - self.started)}] {text}")

    def _end(self, running: Sequence[_Running]) -> None:
        """Interrupt what still runs, as Ctrl-C would, and wait for it."""
        for each in running:
            _signal_group(each.process.pid, signal.SIGINT)
        for each in running:
            try:
                each.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                # Not the process itself at first: it ends what has left its group.
                for process in psutil.Process(each.process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                with suppress(subprocess.TimeoutExpired):
                    each.process.wait(_END_S)
                _signal_group(each.process.pid, signal.SIGKILL)
                each.process.wait()
        for each in running:
            each.read_events()
            each.result.is_interrupted = self.is_interrupted
            self._finish(each)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile
        os.killpg(pid, number)


class EngineEvents:
    """Counts what a Docker engine starts and tags, from its event stream, while a run goes on."""

    _FORMAT = "{{.Type}} {{.Action}} {{.From}} {{.Actor.Attributes.name}}"
    _FILTERS = ("type=container", "event=start", "type=image", "event=tag")

    def __init__(self, file: Path) -> None:
        filters = [f"--filter={name}" for name in self._FILTERS]
        self._file = file
        with file.open("wb") as output:
            self._process = subprocess.Popen(
                ["docker", "events", f"--format={self._FORMAT}", *filters],
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> dict[str, int]:
        """Return the counts; containers of images that have no name here are counted as `other`."""
        self._process.terminate()
        self._process.wait()
        counts: Counter[str] = Counter()
        for line in self._file.read_text(encoding="utf-8").splitlines():
            match line.split():
                case ["container", "start", image, _]:
                    kind = image.rpartition("/")[2].partition(":")[0]
                    is_named = "/" in image or (":" in image and not image.startswith("sha256:"))
                    counts[f"container {kind}" if is_named else "container other"] += 1
                case ["image", "tag", *_]:
                    counts["image tagged"] += 1
        return dict(counts)


class ProcessorClock:
    """The machine's processor time since this was made; None where there is no /proc/stat."""

    def __init__(self) -> None:
        self._begin = self._read()

    @staticmethod
    def _read() -> tuple[float, float] | None:
        try:
            first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        except OSError:
            return None
        user, nice, system, idle, iowait, irq, softirq = (int(word) for word in first[:7])
        hertz = os.sysconf("SC_CLK_TCK")
        return (user + nice + system + irq + softirq) / hertz, (idle + iowait) / hertz

    def read(self) -> Machine | None:
        """Return what was spent since."""
        now = self._read()
        if now is None or self._begin is None:
            return None
        busy, idle = (after - before for before, after in zip(self._begin, now, strict=True))
        return Machine(os.cpu_count() or 1, busy, idle)
