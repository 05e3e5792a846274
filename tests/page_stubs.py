"""Stub models under test, and documents whose pages say how they are to be answered."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments import eventually, free_ports
from fpdf import FPDF
from page_stub import MARKS
from stubs import session

_PROGRAM = Path(__file__).with_name("page_stub.py")


@dataclass
class PageStub:
    """One running stub model."""

    url: str

    def counts(self) -> Any:
        """Return `asked`, requests by image, `tokens` by mark, `bodies` and who is in flight."""
        with session() as client:
            return client.get(f"{self.url}/counts", timeout=10).json()

    def requests(self) -> int:
        """Return how many pages it was asked for, each as often as it was."""
        return sum(int(count) for count in self.counts()["asked"].values())

    def behave(self, **orders: object) -> None:
        """Set `refusals` to come with `status`, `reason` and `retry_after`, `delay_s`, `empty`.

        Pages beyond number `hold`, counted over all requests, are not answered until it is None.
        `says` are the pieces in which every page is answered, by an engine that is called `model`.
        """
        with session() as client:
            client.post(f"{self.url}/behave", json=orders, timeout=10).raise_for_status()


@contextmanager
def page_stub(*, delay_ms: float = 20, owner: str = "vllm") -> Iterator[PageStub]:
    """Run one on a free port."""
    port = free_ports(1)
    flags = [f"--port={port}", f"--delay-ms={delay_ms}", f"--owner={owner}"]
    with subprocess.Popen([sys.executable, str(_PROGRAM), *flags]) as process:
        stub = PageStub(f"http://127.0.0.1:{port}")
        try:
            eventually(stub.counts)
            yield stub
        finally:
            process.kill()


def document(name: str, marks: Sequence[str | None]) -> bytes:
    """Return a PDF of small pages, each its own, marked as a stub model understands."""
    pdf = FPDF(unit="pt", format=(300, 400))
    pdf.set_font("Helvetica", size=12)
    for number, mark in enumerate(marks, start=1):
        pdf.add_page()
        if mark is not None:
            pdf.set_fill_color(MARKS[mark])
            pdf.rect(0, 0, 30, 30, style="F")
        pdf.text(40, 80, f"{name}, page {number}")
    return bytes(pdf.output())
