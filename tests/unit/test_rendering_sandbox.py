"""A renderer that a document has taken over: what it can still do, and how it ends."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile_documents import page
from test_rendering_workers import is_gone, until

from cloister import deployment, machine, sandbox
from cloister.errors import OcrError
from cloister.rendering import Drawing, Limits, Renderers, UnreadableError, protection
from cloister.rendering import process as rendering_process
from cloister.rendering.process import CrashedError, Process
from cloister.sandbox import report

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "tests" / "unit" / "renderer_probe.py"
# Without system call filters a program can stop itself, or its test: these are tried one by one.
FILES_AND_PROCESSES = (
    *("read the client's environment", "read the client's memory", "list the client's descriptors"),
    *("read ~/.ssh/id", "list the home", "read /etc/passwd", "read /etc/shadow", "list /tmp"),
    *("write a user's file", "append to a user's file", "delete a user's file", "make a file"),
    *("rename a user's file", "make a file in /tmp", "make a file in /dev/shm", "make a folder"),
    *("open /dev/tty", "open /dev/null", "exec /bin/sh", "connect by TCP", "send by UDP", "fork"),
    *("signal the client", "read the client's memory (process_vm_readv)", "list processes"),
    *("attach to the client (ptrace)", "connect to an abstract socket", "mount", "another user"),
)


@pytest.fixture(name="home")
def fixture_home() -> Iterator[Path]:
    """Make a home that every user of the machine may read and write: only a sandbox helps."""
    home = Path(tempfile.mkdtemp(prefix="cloister-home-", dir="/tmp"))
    (home / ".ssh").mkdir()
    for name in (".ssh/id", "notes.txt", ".bashrc", "document.pdf"):
        (home / name).write_bytes(page() if name == "document.pdf" else name.encode())
    for path in (home, *home.rglob("*")):
        path.chmod(0o777)
    yield home
    shutil.rmtree(home)


def contents(home: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(home.rglob("*"))
    }


@pytest.fixture(name="take_over")
def fixture_take_over(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> Iterator[Callable[[str], Process]]:
    """Return what starts a renderer that the probe has taken over."""
    start, started = subprocess.Popen, []

    def begin(left_out: str) -> Process:
        own = ["renderer", str(home), str(os.getpid()), left_out]

        def probe(command: list[str], **options: Any) -> Any:
            return start([command[0], str(PROBE), *own, *command[-3:]], **options)

        monkeypatch.setattr(subprocess, "Popen", probe)
        process = Process(Limits(memory_mib=512))
        monkeypatch.setattr(subprocess, "Popen", start)
        started.append(process)
        process.wait_ready()
        return process

    yield begin
    for process in started:
        process.end()


def ask(process: Process, home: Path, **job: Any) -> dict[str, Any]:
    answers, inner = os.pipe()
    document = os.open(home / "document.pdf", os.O_RDONLY)
    try:
        process._send(job, [document, inner])
        os.close(inner)
        line, _ = rendering_process._line(answers, time.monotonic() + 120)
    finally:
        os.close(document)
        os.close(answers)
    found: dict[str, Any] = json.loads(line)
    return found


def documented(heading: str) -> set[str]:
    """Return a list of docs/ocr.md."""
    text = (ROOT / "docs" / "ocr.md").read_text()
    section = text.partition(f"\n{heading}\n\n")[2].partition("\n\n")[0]
    return {line.removeprefix("- ") for line in section.splitlines()}


@pytest.mark.parametrize("left_out", ["", "namespaces", "landlock", "namespaces,landlock"])
def test_what_a_renderer_can_still_do_is_what_the_documentation_lists(
    take_over: Callable[[str], Process], home: Path, left_out: str
) -> None:
    before = contents(home)
    process = take_over(left_out)
    found = ask(process, home, do="probe")
    expected = documented("It can:")
    if "mnt" in process.missing:
        expected |= documented("Without a mount namespace also:")
        if "landlock" in process.missing:
            expected -= {"read fonts of the system"}
    assert set(found["could"]) == expected
    assert len(found["could not"]) >= 120
    assert contents(home) == before
    assert found["facts"]["environment"] == {}
    # /dev/null twice, the document, and its supervisor's socket and pipe, pipes to the client.
    kinds = sorted(one.partition(":")[2] for one in found["facts"]["descriptors"])
    assert kinds == ["1", "1", "1", "10", "14", "2", "2"]
    assert process.alive


def test_namespaces_and_landlock_hold_without_filters(
    take_over: Callable[[str], Process], home: Path
) -> None:
    before = contents(home)
    process = take_over("seccomp")
    assert process.missing["seccomp"] == "left out by the test"
    found = ask(process, home, do="probe", only=FILES_AND_PROCESSES)
    assert found["could"] == {}
    assert len(found["could not"]) == len(FILES_AND_PROCESSES)
    assert contents(home) == before


def test_without_any_layer_nothing_is_drawn(
    take_over: Callable[[str], Process], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = take_over("namespaces,landlock,seccomp").missing
    said = "documents are not drawn without a sandbox, and there is none (no user namespace, "
    for layer in ("mnt", "landlock", "seccomp"):  # one of them is enough
        protection.require({part: why for part, why in bare.items() if part != layer})

    class Bare(Process):
        def wait_ready(self) -> None:
            super().wait_ready()
            self.missing = bare

    monkeypatch.setattr("cloister.rendering.pool.Process", Bare)
    reports: list[dict[str, str]] = []
    with Renderers(1, report=reports.append) as renderers:
        error = renderers.count(home / "document.pdf").exception(60)
        assert not renderers._processes
    assert isinstance(error, OcrError)
    assert not isinstance(error, UnreadableError)
    assert error.message.startswith(said)
    assert "no Landlock: the kernel has no Landlock" in error.message
    assert "no system call filter: left out by the test" in error.message
    assert error.hint is not None
    assert error.hint.startswith("apt-get install libseccomp2")
    assert reports == []
    assert protection.summarize(bare).startswith("none, so that `invoke ocr` draws nothing (no ")
    assert protection.summarize({}) == "complete"


def test_what_a_document_has_printed_is_bounded_and_printable(
    take_over: Callable[[str], Process], home: Path
) -> None:
    process = take_over("")
    answers, inner = os.pipe()
    with (home / "document.pdf").open("rb") as document:
        process._send({"do": "print"}, [document.fileno(), inner])
        os.close(inner)
        with pytest.raises(rendering_process._EndedError):
            rendering_process._line(answers, time.monotonic() + 120)
    os.close(answers)
    said = process._epitaph().message
    assert said.startswith(
        "rendering crashed (exit code 1; it printed: \ufffd]0;taken over\ufffd \ufffd"
    )
    assert len(said) < 600
    assert said.isprintable()


def test_a_mistake_in_a_worker_is_told_with_its_crash(
    take_over: Callable[[str], Process], home: Path
) -> None:
    process = take_over("")
    with (home / "document.pdf").open("rb") as document, pytest.raises(UnreadableError) as raised:
        process._ask(document.fileno(), {"do": "fail"}, {"count": int})
    assert str(raised.value) == (
        "rendering crashed (exit code 1; it printed: ValueError: \ufffd[31ma document's words)"
    )


def test_lower_hard_limits_of_the_machine_are_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def limited(command: list[str], **options: Any) -> Any:
        limits = "ulimit -n 24 && ulimit -v 4000000"
        return start(["/bin/sh", "-c", f'{limits} && exec "$@"', "sh", *command], **options)

    monkeypatch.setattr(subprocess, "Popen", limited)
    with Renderers(1, Limits(memory_mib=8192)) as renderers:
        assert renderers.draw(home / "document.pdf", 1, Drawing()).result(60).width > 0
        (process,) = renderers._processes
        drawing = psutil.Process(process._process.pid).children(recursive=True)[-1]
        limits = Path(f"/proc/{drawing.pid}/limits").read_text()
    for name, most in (("open files", 24), ("address space", 4_000_000 << 10), ("file size", 0)):
        assert re.search(rf"Max {name} +{most} +{most} ", limits)


def test_a_grandchild_ends_with_its_renderer(
    take_over: Callable[[str], Process], home: Path
) -> None:
    # Without filters and without limits it can start one, in a session of its own.
    process = take_over("seccomp,limits")
    if "pid" in process.missing:  # then the filters alone keep it from starting one
        assert "fork" in ask(take_over(""), home, do="probe")["could not"]
        return
    assert "fork" in ask(process, home, do="probe", only=["fork"])["could"]
    family = psutil.Process(process._process.pid).children(recursive=True)
    assert len(family) == 3
    process.end()
    until(lambda: all(is_gone(one) for one in family))


CLIENT = """
import os, subprocess, sys
from cloister.rendering import Limits, process
start = subprocess.Popen
def probe(command, **options):
    own = ["renderer", sys.argv[2], "0", ""]
    return start([command[0], sys.argv[1], *own, *command[-3:]], **options)
subprocess.Popen = probe
renderer = process.Process(Limits(page_timeout_s=0.1))
renderer.wait_ready()
answers, inner = os.pipe()
renderer._send({"do": "hang"}, [os.open(sys.argv[3], os.O_RDONLY), inner])
os.close(inner)
print(renderer._process.pid, flush=True)
os.read(answers, 1)
print(renderer._epitaph(), flush=True)
"""


def test_a_page_ends_in_time_though_the_client_is_stopped(home: Path) -> None:
    command = [sys.executable, "-c", CLIENT, str(PROBE), str(home), str(home / "document.pdf")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            renderer = int(client.stdout.readline())
            drawing = psutil.Process(renderer).children(recursive=True)[-1]
            client.send_signal(signal.SIGSTOP)
            until(lambda: is_gone(drawing), 60)
            assert psutil.Process(client.pid).status() == psutil.STATUS_STOPPED
            client.send_signal(signal.SIGCONT)
            output, _ = client.communicate(timeout=60)
        finally:
            client.kill()
    assert output == "rendering took longer than 0.1 s\n"


def test_a_document_gets_another_process_than_those_before(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.pdf", "b.pdf")]
    for path in paths:
        path.write_bytes(page())
    with Renderers(1) as renderers:

        def draw() -> set[int]:
            for path in paths:
                renderers.count(path).result()
                (process,) = renderers._processes
                seen.add(psutil.Process(process._process.pid).children(recursive=True)[-1].pid)
            return seen if len(seen) > 1 else set()

        seen: set[int] = set()
        until(draw, 60)
        assert len(renderers._processes) == 1


def test_a_document_is_not_charged_with_the_crash_of_another(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(page())
    crashes = [CrashedError("crashed", shared=True), CrashedError("again", shared=False)]

    def crash(process: Process, document: int) -> int:
        if crashes:
            raise crashes.pop(0)
        return process.count(document)

    with Renderers(1) as renderers:
        assert str(renderers._submit(tmp_path / "a.pdf", crash).exception()) == "again"
        assert renderers._submit(tmp_path / "a.pdf", crash).result() == 1


def test_what_a_renderer_that_does_not_start_prints_is_cleaned(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = subprocess.Popen

    def broken(_command: list[str], **options: Any) -> Any:
        return start(["/bin/sh", "-c", "printf 'one\\n\\033]0;two\\007' >&2"], **options)

    monkeypatch.setattr(subprocess, "Popen", broken)
    with pytest.raises(
        OcrError, match=r"^a rendering process does not start \(\ufffd\]0;two\ufffd\)$"
    ):
        protection.find_missing()
    assert capfd.readouterr() == ("", "")


def test_the_command_hides_its_memory() -> None:
    code = """
import ctypes
from invoke.context import Context
from cloister.ocr import command
import tasks
command.read = lambda *_: print(ctypes.CDLL(None).prctl(3))
tasks.service.ocr(Context(), paths=["x"])
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert output == "0\n"


def test_what_is_missing_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = {"user": "not allowed here", "pid": "not allowed here", "seccomp": "not installed"}
    expected = (
        "no user namespace, no process namespace: not allowed here; "
        "no system call filter: not installed"
    )
    assert protection.describe(missing) == expected
    assert set(report._NAMES) == set(sandbox.PARTS)

    class Lacking(Process):
        def wait_ready(self) -> None:
            super().wait_ready()
            self.missing = missing

    monkeypatch.setattr("cloister.rendering.pool.Process", Lacking)
    (tmp_path / "a.pdf").write_bytes(page())
    reports: list[dict[str, str]] = []
    with Renderers(1, report=reports.append) as renderers:
        renderers.count(tmp_path / "a.pdf").result()
        (process,) = renderers._processes
        process.kill()
        until(lambda: not process.alive)
        renderers.count(tmp_path / "a.pdf").result()
    assert reports == [missing]
    monkeypatch.setattr("cloister.rendering.protection.Process", Lacking)
    monkeypatch.setattr(deployment, "resolve", lambda settings: settings)
    monkeypatch.setattr(deployment, "runtime", lambda _: Anything())
    monkeypatch.setattr(machine, "project_root", lambda: tmp_path)
    assert f"renderer sandbox: {expected}" in machine.prepare(Anything())  # type: ignore[arg-type]


class Anything:
    engine = runtime = "any"

    def check(self) -> None:
        """Find nothing wrong."""
