"""A worker of the embedded engine that an image has taken over: what it can still do."""

import asyncio
import base64
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image, ImageDraw
from test_rendering_sandbox import (
    FILES_AND_PROCESSES,
    PROBE,
    contents,
    documented,
    fixture_home,  # noqa: F401  # pytest finds it by its name
)
from test_rendering_workers import is_gone, until

from cloister.engines.tesseract import bundled_tessdata
from cloister.engines.tesseract import process as worker_process
from cloister.engines.tesseract.api import ApiError
from cloister.engines.tesseract.options import Options
from cloister.engines.tesseract.pool import Pool
from cloister.engines.tesseract.process import Start, WorkerError, WorkerProcess
from cloister.engines.tesseract.reader import Refusal

START = Start("eng", str(bundled_tessdata()), 100)
# Each decoder that Pillow has for what a client may send, and each way to one colour.
IMAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    *(("JPEG", "L", {"progressive": True}), ("GIF", "P", {}), ("BMP", "RGB", {})),
    *(("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (0, 1)),
    *(
        ("TIFF", "RGB", {"compression": name})
        for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits", "zstd", "lzma")
    ),
    *(("TIFF", "1", {"compression": name}) for name in ("group3", "group4")),
    *(("TIFF", mode, {}) for mode in ("I;16", "F", "CMYK")),
)


def url(
    kind: str = "PNG",
    mode: str = "L",
    *,
    text: str = "Page 2345",
    size: tuple[int, int] = (400, 90),
    **options: Any,
) -> str:
    page = Image.new("L", size, "white")
    ImageDraw.Draw(page).text((20, 20), text, fill="black", font_size=50)
    wide = page.convert("I;16").point(lambda level: level * 257) if mode == "I;16" else None
    file = io.BytesIO()
    (wide or page.convert(mode)).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.fixture(name="take_over")
def fixture_take_over(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> Iterator[Callable[[str], None]]:
    """Return what has the probe take over the workers that start from then on."""
    start, started = subprocess.Popen, []

    def begin(left_out: str) -> None:
        own = ["tesseract", str(home), str(os.getpid()), left_out]

        def probe(command: list[str], **options: Any) -> Any:
            process = start([command[0], str(PROBE), *own, *command[-4:]], **options)
            started.append(process)
            return process

        monkeypatch.setattr(subprocess, "Popen", probe)

    yield begin
    assert all(process.poll() is not None for process in started)


def with_worker(ask: Callable[[WorkerProcess], Awaitable[Any]]) -> Any:
    """Return what comes of a new worker."""

    async def run() -> Any:
        worker = WorkerProcess(START)
        try:
            await worker.wait_ready()
            return await ask(worker)
        finally:
            worker.end()

    return asyncio.run(run())


@pytest.mark.parametrize("left_out", ["", "namespaces", "landlock", "namespaces,landlock"])
def test_what_a_worker_can_still_do_is_what_the_documentation_lists(
    take_over: Callable[[str], None], home: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    before = contents(home)
    take_over(left_out)
    monkeypatch.setattr(worker_process, "_parsed", json.loads)

    async def ask(worker: WorkerProcess) -> Any:
        return worker.missing, await worker.read("x" * 100)

    missing, found = with_worker(ask)
    expected = documented("A worker of the embedded engine can:")
    if "mnt" in missing:
        expected |= documented("Without a mount namespace also:")
    assert set(found["could"]) == expected
    assert len(found["could not"]) >= 120
    assert contents(home) == before
    assert found["facts"]["environment"] == {}
    # The image, a socket for the answer, and /dev/null, the last one for Tesseract's own messages.
    kinds = sorted(one.partition(":")[2] for one in found["facts"]["descriptors"])
    assert kinds == ["10", "14", "2", "2", "2", "2"]


def test_namespaces_and_landlock_hold_without_filters(
    take_over: Callable[[str], None], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(home)
    take_over("seccomp")
    monkeypatch.setattr(worker_process, "_parsed", json.loads)

    async def ask(worker: WorkerProcess) -> Any:
        assert worker.missing["seccomp"] == "left out by the test"
        return await worker.read(json.dumps(FILES_AND_PROCESSES))

    found = with_worker(ask)
    assert found["could"] == {}
    assert len(found["could not"]) == len(FILES_AND_PROCESSES)
    assert contents(home) == before


def test_every_kind_of_image_is_read_in_the_sandbox() -> None:
    async def ask(worker: WorkerProcess) -> list[Any]:
        return [await worker.read(url(kind, mode, **options)) for kind, mode, options in IMAGES]

    for one, read in zip(IMAGES, with_worker(ask), strict=True):
        assert not isinstance(read, Refusal), (one, read)
        assert "2345" in "".join(read), one


def test_a_refusal_has_its_reason() -> None:
    sent = ("data:image/png;base64,AAAA", "\udc80", "data:image/png;base64,iVBORw0KGgo=")

    async def ask(worker: WorkerProcess) -> list[Any]:
        return [await worker.read(one) for one in sent]

    for read in with_worker(ask):
        assert isinstance(read, Refusal)
        assert read.reason


def test_each_page_has_a_process_of_its_own_and_all_end_with_the_worker() -> None:
    async def ask(worker: WorkerProcess) -> list[psutil.Process]:
        first = psutil.Process(worker._process.pid)
        # It takes much longer to read than to look for its process.
        lines = "\n".join(["Many words of a page 2345"] * 40)
        long_page = url(text=lines, size=(1200, 2400))
        seen: dict[int, psutil.Process] = {}
        for _ in range(2):
            reading = asyncio.create_task(worker.read(long_page))
            while not reading.done():
                seen |= {one.pid: one for one in first.children(recursive=True)}
                await asyncio.sleep(0)
            assert not isinstance(reading.result(), Refusal)
        assert len(seen) == 2 + ("pid" not in worker.missing)
        return [first, *seen.values()]

    family = with_worker(ask)
    until(lambda: all(is_gone(one) for one in family))


def test_an_image_that_ends_its_process_costs_its_page_only(
    take_over: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    async def run() -> tuple[str, ...]:
        pool = Pool(Options(workers=1))
        take_over("")
        try:
            await pool.warm()
            monkeypatch.setattr(subprocess, "Popen", start)
            with pytest.raises(ApiError) as raised:
                await pool.read("crash", "image 1")
            assert raised.value.status == 500
            assert raised.value.body["error"]["code"] == "worker_crashed"
            return await pool.read(url(), "image 1")
        finally:
            pool.close()

    assert asyncio.run(run()) == ("Page 2345",)


def test_what_the_sandbox_lacks_is_logged(
    take_over: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def warm() -> None:
        pool = Pool(Options(workers=2))
        try:
            await pool.warm()
        finally:
            pool.close()

    take_over("landlock,namespaces")
    with caplog.at_level(logging.WARNING):
        asyncio.run(warm())
    (record,) = caplog.records
    assert re.match(r"the workers' sandbox is not complete \(no .*Landlock", record.getMessage())
    assert record.name == "cloister.engines.tesseract.pool"


def test_a_worker_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError, match="does not start"):
        with_worker(lambda worker: worker.read(url()))


def test_an_engine_whose_data_are_broken_says_so(tmp_path: Path) -> None:
    (tmp_path / "eng.traineddata").write_bytes(b"no data")

    async def warm() -> None:
        pool = Pool(Options(workers=2, tessdata_dir=str(tmp_path)))
        try:
            await pool.warm()
        finally:
            pool.close()

    with pytest.raises(WorkerError, match=r"does not start \(RuntimeError: Failed to init API"):
        asyncio.run(warm())


@pytest.mark.parametrize(
    "told",
    [
        *(b"", b"nonsense", b"[]", b"{}", b"5", b"null", b'{"blocks": "x"}', b'{"blocks": [1]}'),
        *(b'{"blocks": [], "refused": "x", "failed"', b'{"refused": 1}', b"[" * 100_000),
    ],
    ids=lambda told: ascii(told[:20]),
)
def test_what_a_page_s_process_says_is_checked(told: bytes) -> None:
    with pytest.raises(WorkerError):
        worker_process._parsed(told)


def test_what_it_says_is_bounded_and_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.dumps({"refused": "\x1b[2J" + "x" * 10_000}).encode()
    read = worker_process._parsed(told)
    assert isinstance(read, Refusal)
    assert read.reason == "\ufffd[2J" + "x" * 495 + "…"
    with pytest.raises(WorkerError, match=r"^TypeError: \ufffd\[31m$"):
        worker_process._parsed(b'{"failed": "TypeError: \\u001b[31m"}')
    monkeypatch.setattr(worker_process, "_ANSWER_BYTES", 10)
    with pytest.raises(WorkerError, match="more than"):
        with_worker(lambda worker: worker.read(url()))
