"""`invoke ocr` on one very long PDF, or on very many files: memory over time, and the first page.

Against a stub that answers at once, so that all the work is the client's. Memory is the
proportional set size (PSS) of the command and its renderers together.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
from fpdf import FPDF
from page_stubs import document, page_stub

from cloister import console
from cloister.config import project_root

_LOOK_S = 0.5
_LINES = 50


def long_pdf(pages: int) -> bytes:
    """Return A4 pages full of text, no two alike."""
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for page in range(pages):
        pdf.add_page()
        for line in range(_LINES):
            pdf.text(20, 20 + line * 5, f"Page {page + 1}, line {line + 1}: some words of a text")
    return bytes(pdf.output())


def write_files(folder: Path, count: int) -> None:
    """Write documents of one page in folders of a thousand."""
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document(f"{number}", [None]))


def watched(command: list[str], ledger: Path) -> Iterator[tuple[float, float, int]]:
    """Run a command; yield seconds, MiB and the pages that are finished, twice a second."""
    begun_s = time.monotonic()
    environment = {**os.environ, "CLOISTER_CONFIG": os.devnull}
    with subprocess.Popen(
        command, cwd=project_root(), env=environment, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            time.sleep(_LOOK_S)
            try:
                main = psutil.Process(run.pid)
                family = [main, *main.children(recursive=True)]
                mib = sum(one.memory_full_info().pss for one in family) / 2**20
            except psutil.Error:
                continue  # one of them has just ended
            yield time.monotonic() - begun_s, mib, _finished(ledger)
    if run.returncode:
        raise SystemExit(f"{command} ended with {run.returncode}")


def _finished(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(ledger)) as base:
        try:
            found = base.execute("SELECT count(*) FROM pages WHERE state = 'read'").fetchone()
        except sqlite3.OperationalError:
            return 0  # it is being made
    return int(found[0])


def main() -> None:
    """Print a table of the run's tenths."""
    parser = argparse.ArgumentParser(prog="nox -s bench-long --", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--pages", type=int, default=3_000, help="of one PDF")
    what.add_argument("--files", type=int, help="of one page each, in place of one PDF")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, page_stub(delay_ms=0) as stub:
        folder, count = Path(name) / "in", chosen.files or chosen.pages
        folder.mkdir()
        if chosen.files:
            write_files(folder, chosen.files)
        else:
            (folder / "long.pdf").write_bytes(long_pdf(chosen.pages))
        out = Path(name) / "out"
        words = ("invoke", "ocr", str(folder), "--out", str(out), "--url", stub.url)
        notes = list(watched([sys.executable, "-m", *words], out / "ledger.sqlite"))
    first_s = next(seconds for seconds, _, pages in notes if pages)
    tenths = [
        next(note for note in notes if note[2] >= count * part // 10) for part in range(1, 10)
    ]
    rows = [(f"{pages:,}", f"{seconds:.0f}", f"{mib:.0f}") for seconds, mib, pages in tenths]
    console.table(("pages read", "seconds", "memory, MiB"), rows)
    last_s, peak = notes[-1][0], max(mib for _, mib, _ in notes)
    console.show(f"first page after {first_s:.1f} s; {count / last_s:.1f} pages/s")
    console.show(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
