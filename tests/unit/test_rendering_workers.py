"""Worker processes that draw pages: what a document can do to them, and what it cannot."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile_documents import Hostile, file, hostile, page, pdf, png, slow, stream, words

from cloister import rendering
from cloister.errors import OcrError
from cloister.rendering import Drawing, Limits, Renderers, UnreadableError
from cloister.rendering.process import Process

ROOT = Path(__file__).parents[2]
SMALL = Drawing(dpi=72, max_pixels=1_000_000)
HOSTILE = hostile()
LIMITS = Limits(memory_mib=512, page_timeout_s=3)


@pytest.fixture(name="renderers", scope="module")
def fixture_renderers() -> Iterator[Renderers]:
    with Renderers(1, LIMITS) as renderers:
        yield renderers


@pytest.fixture(name="good")
def fixture_good(tmp_path: Path) -> Path:
    (tmp_path / "good.pdf").write_bytes(page())
    return tmp_path / "good.pdf"


def workers(renderers: Renderers) -> list[psutil.Process]:
    """Return the processes that parse documents: the last one of each renderer's."""
    found = (psutil.Process(one._process.pid) for one in renderers._processes)
    return [family[-1] for one in found if (family := one.children(recursive=True))]


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process ended; whoever is its parent by then may not have taken note yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def until(condition: Any, timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("one", HOSTILE.values(), ids=[ascii(name) for name in HOSTILE])
def test_a_hostile_document_is_drawn_or_refused_and_the_next_one_read(
    renderers: Renderers, good: Path, tmp_path: Path, one: Hostile
) -> None:
    path = tmp_path / one.name
    path.write_bytes(one.content)
    begun = time.monotonic()
    found = renderers.draw(path, 1, Drawing(max_pixels=2_000_000, text_layer=True)).exception()
    assert time.monotonic() - begun < LIMITS.page_timeout_s + 10
    assert found is None or isinstance(found, UnreadableError)
    if found is None:
        assert one.readable is not False
    else:
        assert not one.readable
        assert re.search(one.reason, found.message)
    for job in (renderers.count(path), renderers.blank(path, 1)):
        assert isinstance(job.exception(), UnreadableError | None)
    assert renderers.draw(good, 1, SMALL).result().width == 300


def busy(renderers: Renderers) -> psutil.Process | None:
    found = [one for one in workers(renderers) if one.cpu_times().user > 0.8]
    return found[0] if found else None


def test_there_are_enough_of_them() -> None:
    assert len({one.content for one in HOSTILE.values()}) > 100


def test_a_worker_draws_what_this_process_would(renderers: Renderers, good: Path) -> None:
    for drawing in (SMALL, Drawing(part=(1, 2), scale=1.5, text_layer=True)):
        assert renderers.draw(good, 1, drawing).result() == rendering.draw(good, 1, drawing)
    assert renderers.count(good).result() == 1
    assert renderers.blank(good, 1).result() is False


def test_no_pipe_is_waited_for(renderers: Renderers, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pdf")
    error = renderers.draw(tmp_path / "a.pdf", 1, SMALL).exception(timeout=10)
    assert str(error) == "not a regular file"


@pytest.fixture(name="hung")
def fixture_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a file that is not opened before the test ends, as on a mount without its server."""
    path, is_over = tmp_path / "hung.pdf", threading.Event()
    path.write_bytes(page())
    real = os.open

    def hanging(name: Any, flags: int, *rest: Any, **options: Any) -> int:
        if name == path:
            is_over.wait()
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", hanging)
    yield path
    is_over.set()


def test_documents_that_hang_hold_no_other_one(good: Path, hung: Path) -> None:
    with Renderers(1, Limits(page_timeout_s=3)) as renderers:
        hanging = [renderers.draw(hung, number, SMALL) for number in range(1, 9)]
        assert renderers.draw(good, 1, SMALL).result(60).width == 300
        for job in hanging:
            assert str(job.exception(60)) == "it could not be opened within 3 s"
        assert renderers.count(good).result(60) == 1


def test_a_document_that_opens_late_is_drawn(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, is_back, real = tmp_path / "late.pdf", threading.Event(), os.open
    late.write_bytes(page())

    def slow_open(name: Any, flags: int, *rest: Any, **options: Any) -> int:
        if name == late:
            is_back.wait()
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", slow_open)
    with Renderers(1, Limits(page_timeout_s=120)) as renderers:
        job = renderers.draw(late, 1, SMALL)
        assert renderers.count(good).result(60) == 1
        is_back.set()
        assert job.result(60).width == 300


def test_a_document_that_hangs_when_it_is_closed_holds_no_other_one(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, real, hung = threading.Event(), os.close, threading.Event()
    waiting = ["the first document"]

    def hanging(file: int) -> None:
        if threading.current_thread().name == "documents" and waiting:
            waiting.clear()
            hung.set()
            is_over.wait()
        real(file)

    monkeypatch.setattr(os, "close", hanging)
    with Renderers(1) as renderers:
        assert renderers.count(good).result(60) == 1
        assert hung.wait(60)
        assert renderers.count(good).result(60) == 1
        assert renderers.draw(good, 1, SMALL).result(60).width == 300
    is_over.set()


def test_nobody_waits_at_the_end_for_what_hangs(good: Path, hung: Path) -> None:
    with Renderers(1, Limits(page_timeout_s=3600)) as renderers:
        hanging: list[Future[Any]] = [renderers.count(hung), renderers.draw(hung, 1, SMALL)]
        assert renderers.count(good).result(60) == 1
    for job in hanging:
        assert job.cancelled() or isinstance(job.exception(0), CancelledError)


def test_a_worker_that_the_kernel_holds_is_left_behind(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Renderers(1) as renderers:
        renderers.count(good).result(60)
        (process,) = renderers._processes
        waits: list[float | None] = []

        def wait(timeout: float | None = None) -> int:
            waits.append(timeout)
            if timeout is None:
                raise AssertionError("nothing bounds this")
            raise subprocess.TimeoutExpired("renderer", timeout)

        with monkeypatch.context() as patch:
            patch.setattr(process._process, "wait", wait)
            process.end()
        assert waits == [5]
        process._process.wait(60)


def test_a_document_that_changed_is_read_anew(renderers: Renderers, good: Path) -> None:
    assert renderers.draw(good, 1, SMALL).result().width == 300
    good.write_bytes(page(b"/MediaBox[0 0 200 400]"))
    assert renderers.draw(good, 1, SMALL).result().width == 200


def test_a_page_that_takes_too_long_is_given_up(good: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    with Renderers(1, Limits(page_timeout_s=1)) as renderers:
        renderers.count(good).result()
        (first,) = workers(renderers)
        begun = time.monotonic()
        error = renderers.draw(tmp_path / "slow.pdf", 1, Drawing()).exception()
        assert time.monotonic() - begun < 60
        assert str(error) == "rendering took longer than 1 s"
        until(lambda: is_gone(first))
        assert renderers.count(good).result() == 1


def test_too_much_memory_is_said(good: Path, tmp_path: Path) -> None:
    # pdfium ends its process, Pillow raises MemoryError: both are told alike.
    cases = {"a.pdf": HOSTILE["flate-bomb.pdf"].content, "a.png": png(17_000, 17_000, 10, colour=2)}
    with Renderers(1, Limits(memory_mib=300, page_timeout_s=20)) as renderers:
        for name, content in cases.items():
            (tmp_path / name).write_bytes(content)
            error = renderers.draw(tmp_path / name, 1, SMALL).exception()
            assert str(error) == "rendering needed more than 300 MiB of memory"
            assert renderers.count(good).result() == 1


def test_a_worker_that_dies_costs_its_page_only(good: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    with Renderers(1) as renderers:
        job = renderers.draw(tmp_path / "slow.pdf", 1, Drawing())
        worker = until(lambda: busy(renderers))
        worker.send_signal(signal.SIGSEGV)
        assert str(job.exception()) == "rendering crashed (signal SEGV)"
        assert renderers.count(good).result() == 1
        (idle,) = workers(renderers)
        idle.kill()
        until(lambda: is_gone(idle))
        assert renderers.count(good).result() == 1


LIAR = """
import os, signal, socket, sys
from pathlib import Path
control = socket.socket(fileno=int(sys.argv[1]))
control.sendall(b'{"missing": {}}\\n')
_, (document, answers), *_ = socket.recv_fds(control, 4096, 2)
os.write(answers, Path(__file__).with_name("answer").read_bytes())
signal.pause()
"""


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"count": true}\n',
        b'{"count": -1}\n',
        b'{"count": 1e9}\n',
        b'{"count": 1, "more": 2}\n',
        b'{"blank": true}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (5 << 20),
        b'{"count": 1}\n{"count": 2}\n',
    ],
    ids=lambda answer: ascii(answer[:20]),
)
def test_what_a_worker_says_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: bytes
) -> None:
    (tmp_path / "answer").write_bytes(answer)
    (tmp_path / "liar.py").write_text(LIAR)
    (tmp_path / "a.pdf").write_bytes(page())
    start = subprocess.Popen

    def liar(command: list[str], **options: Any) -> Any:
        return start([sys.executable, str(tmp_path / "liar.py"), command[-3]], **options)

    monkeypatch.setattr(subprocess, "Popen", liar)
    process = Process(LIMITS)
    process.wait_ready()
    with (
        (tmp_path / "a.pdf").open("rb") as document,
        pytest.raises(UnreadableError, match="nonsense from the worker"),
    ):
        process.count(document.fileno())
    assert not process.alive


@pytest.mark.parametrize(
    "wrong",
    [
        {"mime": "text/html"},
        {"text": 5},
        {"rebuilt": 0},
        {"bytes": 99_999_999_999},
        {"bytes": -1},
        {"bytes": 2},
    ],
)
def test_what_a_worker_says_of_an_image_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: dict[str, object]
) -> None:
    right = {"mime": "image/png", "width": 1, "height": 1, "text": None, "rebuilt": False}
    header = json.dumps({**right, "bytes": 3, **wrong})
    test_what_a_worker_says_is_checked(monkeypatch, tmp_path, f"{header}\nabc".encode())


def test_a_worker_that_does_not_start_is_no_documents_fault(
    monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Renderers(1) as renderers:
        error = renderers.count(good).exception()
    assert type(error) is OcrError


def test_leaving_the_block_ends_workers_at_once(good: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    with Renderers(2) as renderers:
        renderers.count(good).result()
        running = [renderers.draw(tmp_path / "slow.pdf", 1, Drawing()) for _ in range(2)]
        waiting = renderers.draw(good, 1, SMALL)
        found = until(lambda: len(renderers._processes) == 2 and workers(renderers))
        until(lambda: all(job.running() for job in running))
        begun = time.monotonic()
    assert time.monotonic() - begun < 60
    until(lambda: all(is_gone(worker) for worker in found))
    assert waiting.cancelled()
    for job in running:
        assert isinstance(job.exception(), CancelledError)
    with pytest.raises(RuntimeError, match="closed"):
        renderers.count(good)
    assert not any(thread.is_alive() for thread in renderers._threads)


def test_an_error_in_the_block_ends_it_too(good: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Renderers(1) as renderers:  # noqa: PT012
        renderers.count(good).result()
        found = workers(renderers)
        raise KeyboardInterrupt
    assert len(found) == 1
    until(lambda: is_gone(found[0]))


def test_a_cancelled_job_is_not_done(good: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    with Renderers(1, Limits(page_timeout_s=1)) as renderers:
        renderers.draw(tmp_path / "slow.pdf", 1, Drawing())
        waiting, last = renderers.count(tmp_path / "none.pdf"), renderers.count(good)
        assert waiting.cancel()
        assert last.result() == 1


PARENT = """
import sys, time
from pathlib import Path
from cloister.rendering import Drawing, Renderers
with Renderers(1) as renderers:
    renderers.draw(Path(sys.argv[1]), 1, Drawing())
    time.sleep(60)
"""


def drawing_family(pid: int) -> list[psutil.Process]:
    """Return all processes below one, once the last of them draws."""
    found = psutil.Process(pid).children(recursive=True)
    return found if found and found[-1].cpu_times().user > 0.8 else []


def test_a_killed_parent_leaves_no_worker(tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    # A script without `if __name__ == "__main__"`: nothing is imported twice.
    (tmp_path / "script.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "slow.pdf")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        found = until(lambda: drawing_family(parent.pid))
        parent.kill()
        until(lambda: all(is_gone(one) for one in found))


def test_workers_are_confined(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    monkeypatch.setenv("CLOISTER_API_KEY", "secret")
    with Renderers(1, LIMITS) as renderers:
        renderers.count(good).result()
        (worker,) = workers(renderers)
        assert "secret" not in str(worker.environ())
        # psutil's `rlimit` needs a capability that root may lack.
        text = Path(f"/proc/{worker.pid}/limits").read_text()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
        for name in ("core file size", "file size", "processes", "locked memory"):
            assert limits[f"Max {name}"] == ["0", "0"]
        assert limits["Max open files"] == ["32", "32"]
        assert 512 << 20 < int(limits["Max address space"][1]) < 1024 << 20
        worker.send_signal(signal.SIGINT)
        assert renderers.count(good).result() == 1
        assert workers(renderers) == [worker]


def test_a_long_document_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    pages = 600
    kids = b" ".join(b"%d 0 R" % (4 + 3 * number) for number in range(pages))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    picture = b"/Subtype/Image/Width 400/Height 300/BitsPerComponent 8/ColorSpace/DeviceGray"
    for number in range(pages):
        first = 4 + 3 * number
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 400]/Contents %d 0 R/Resources"
            b"<</Font<</F 3 0 R>>/XObject<</X %d 0 R>>>>>>" % (first + 1, first + 2),
            stream(b"BT /F 9 Tf 9 9 Td (Page %d) Tj ET 99 0 0 99 9 99 cm /X Do" % number),
            stream(file(words(), "JPEG", comment=b"%d" % number), picture + b"/Filter/DCTDecode"),
        ]
    (tmp_path / "long.pdf").write_bytes(pdf(*objects))
    with Renderers(1, LIMITS) as renderers:
        used = []
        for number in range(1, pages + 1):
            renderers.draw(tmp_path / "long.pdf", number, SMALL).result()
            used.append(workers(renderers)[0].memory_info().rss if number % 100 == 0 else 0)
    settled = [rss for rss in used if rss]
    assert max(settled) - settled[0] < 8 << 20


def test_a_worker_imports_little() -> None:
    code = "import sys, cloister.rendering.worker; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    own = {name for name in found if name.startswith("cloister.")}
    assert all(
        name.startswith(
            ("cloister.rendering", "cloister.errors", "cloister.sandbox", "cloister.cleaning")
        )
        for name in own
    )
    assert not {"pydantic", "requests", "yaml", "numpy", "multiprocessing"} & set(found)
