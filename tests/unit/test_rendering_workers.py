"""Worker processes that draw pages: what a document can do to them, and what it cannot."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
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
    return [psutil.Process(one._process.pid) for one in renderers._processes]


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
        assert time.monotonic() - begun < 5
        assert str(error) == "rendering took longer than 1 s"
        assert not first.is_running()
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
        worker = until(lambda: workers(renderers))[0]
        until(lambda: worker.cpu_times().user > 0.8)
        worker.send_signal(signal.SIGSEGV)
        assert str(job.exception()) == "rendering crashed (signal SEGV)"
        assert renderers.count(good).result() == 1
        (idle,) = workers(renderers)
        idle.kill()
        idle.wait()
        assert renderers.count(good).result() == 1


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
    (tmp_path / "answer").write_bytes(b"\n" + answer)
    start = subprocess.Popen

    def liar(_command: list[str], **options: Any) -> Any:
        return start(["/bin/sh", "-c", f"cat '{tmp_path}/answer'; exec sleep 60"], **options)

    monkeypatch.setattr(subprocess, "Popen", liar)
    monkeypatch.setattr("cloister.rendering.process._LAST_BREATH_S", 0.1)
    process = Process(LIMITS)
    process.wait_ready()
    with pytest.raises(UnreadableError, match="nonsense from the worker"):
        process.count("a.pdf")
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
    assert time.monotonic() - begun < 5
    assert not any(worker.is_running() for worker in found)
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
    assert [worker.is_running() for worker in found] == [False]


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


def test_a_killed_parent_leaves_no_worker(tmp_path: Path) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    # A script without `if __name__ == "__main__"`: nothing is imported twice.
    (tmp_path / "script.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "slow.pdf")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        (worker,) = until(lambda: psutil.Process(parent.pid).children())
        until(lambda: worker.cpu_times().user > 0.8)
        parent.kill()
        until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_workers_are_confined(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    monkeypatch.setenv("CLOISTER_API_KEY", "secret")
    with Renderers(1, LIMITS) as renderers:
        renderers.count(good).result()
        (worker,) = workers(renderers)
        assert "secret" not in str(worker.environ())
        limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NOFILE": 32,
        }
        for name, most in limits.items():
            assert worker.rlimit(getattr(psutil, name)) == (most, most)
        space, _ = worker.rlimit(psutil.RLIMIT_AS)
        assert 512 << 20 < space < 1024 << 20
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
    assert all(name.startswith(("cloister.rendering", "cloister.errors")) for name in own)
    assert not {"pydantic", "requests", "yaml", "numpy", "multiprocessing"} & set(found)
