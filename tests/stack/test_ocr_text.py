"""`invoke ocr` against an engine whose text is not all text, and one that says nothing."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import IO, Any

import pytest
from deployments import Stack, eventually, program
from ocr_runs import ocr, pages, summary, write
from page_stubs import PageStub

ORDERS = (
    "# Invoice \x1b[31mred\x1b[0m\x1b]0;owned\x07\r\n\r\n"
    "Total\x9b1m 5\b\b \u202e007\u202c EUR\x1b]8;;http://evil.example\x1b\\.\u200b\U000e0041\ud800\n\n"
    "<table><tr><td>&#27;[2J&#x202e;&#155;x</td></tr></table>\n\n"
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
)
TEXT = (
    "# Invoice red\n\nTotal 5 007 EUR.\n\n"
    "<table><tr><td>&#27;[2J&#x202e;&#155;x</td></tr></table>\n\n"
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
)
REMOVED = len(ORDERS) - 2 - len(TEXT)  # each of two line ends was two characters
OBEYED = re.compile(
    "[\x00-\x08\x0b\x0d-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
# An escape that comes in two pieces, and one that comes in four.
PIECES = [ORDERS[:12], ORDERS[12:14], ORDERS[14:24], ORDERS[24:30], ORDERS[30:]]
NAME = "an \x1b[31m\u202efdp.exe\x9b.pdf"


def named(path: Path) -> Path:
    return path.rename(path.with_name(NAME))


@pytest.mark.parametrize("says", [[ORDERS], PIECES], ids=["whole", "pieces"])
def test_a_text_has_no_orders_wherever_it_goes(
    user: Stack, stub: PageStub, tmp_path: Path, says: list[str]
) -> None:
    stub.behave(says=says, model="stub\x1b[31m\u202e")
    source = named(write(tmp_path / "in", "a.pdf", None, None))
    out = user.state / "out"
    said = ocr(user, stub, source)
    assert not OBEYED.search(said.stdout + said.stderr)
    assert re.search(rf"removed +{2 * REMOVED} ", said.stderr)
    assert [page["text"] for page in pages(user)] == [TEXT, TEXT]
    assert [page["removed_characters"] for page in pages(user)] == [REMOVED, REMOVED]
    assert summary(user)["removed_characters"] == 2 * REMOVED
    for kind in ("html", "txt", "jsonl"):
        ocr(user, stub, source, "--format", kind)
    files = {
        path.suffix: path.read_bytes().decode()
        for path in out.iterdir()
        if path.is_file() and path.suffix in {".md", ".html", ".txt", ".jsonl"}
    }
    assert TEXT in files[".md"]
    lines = [json.loads(line) for line in files[".jsonl"].splitlines()]
    assert [line["text"] for line in lines] == [TEXT, TEXT]
    assert [line["removed_characters"] for line in lines] == [REMOVED, REMOVED]
    for kind, content in files.items():
        assert not OBEYED.search(content.replace("\n\f", "\n")), kind
        assert TEXT.rpartition("\n")[2] in content, kind
    assert "5 007 EUR." in files[".html"]


def test_standard_output_and_json_have_the_same_text(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    stub.behave(says=PIECES)
    source = named(write(tmp_path / "in", "a.pdf"))
    words = ("ocr", str(source), "--url", stub.url)
    plain = user.invoke(*words)
    assert plain.stdout == f"{TEXT}\n\n"
    assert f"removed {REMOVED} characters" in plain.stderr
    told = user.invoke(*words, "--json")
    assert not OBEYED.search(plain.stdout + plain.stderr + told.stdout + told.stderr)
    (page,) = json.loads(told.stdout)["documents"][0]["pages"]
    assert (page["text"], page["removed_characters"]) == (TEXT, REMOVED)


def test_an_answer_of_nothing_but_orders_is_no_page_that_was_read(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    stub.behave(says=["\u200b\u2060\u202e", "\ufeff"])
    ocr(user, stub, write(tmp_path / "in", "a.pdf"), code=8)
    (page,) = pages(user)
    assert (page["state"], page["text"]) == ("failed", None)
    assert "nothing was read" in page["error"]


def test_what_an_engine_says_of_an_error_is_printed_as_text(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    stub.behave(refusals=100, status=400, reason="no\x1b[31m\n\x9b2J[/bold]:bug:\u202e page")
    said = ocr(user, stub, write(tmp_path / "in", "a.pdf"), code=8)
    assert not OBEYED.search(said.stdout + said.stderr)
    assert "[/bold]:bug:" in said.stderr
    (place,) = (user.state / "out" / "quarantine" / "a").glob("*.json")
    assert not OBEYED.search(place.read_text())


def silent(user: Stack, stub: PageStub, source: Path, stderr: int) -> Any:
    out = str(user.state / "out")
    command = [sys.executable, "-m", "invoke", "ocr", str(source), "--out", out, "--url", stub.url]
    environment = {**user.environment, "TERM": "xterm", "COLUMNS": "200"}
    return program(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


def waits(output: IO[bytes], stub: PageStub, name: str) -> str:
    """Return what is printed until a wait was told with three times; then let the page come."""
    told, times = "", []
    while chunk := os.read(output.fileno(), 65536):
        told += chunk.decode(errors="replace")
        times = sorted(
            {
                int(found)
                for found in re.findall(
                    rf"waiting for page 1 of \S*{name} for (\d+) s of at most 310 s", told
                )
            }
        )
        if len(times) == 3:
            break
    assert len(times) == 3, told
    assert times[0] >= 2
    stub.behave(hold=None)
    return told


def test_a_silent_engine_is_told_in_a_pipe_with_times_that_grow(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    stub.behave(hold=0)
    source = write(tmp_path / "in", "slow.pdf")
    with silent(user, stub, source, subprocess.PIPE) as reading:
        told = waits(reading.stderr, stub, "slow.pdf")
        told += reading.stderr.read().decode()
    assert reading.returncode == 0, told
    assert "\x1b" not in told


def test_a_silent_engine_is_told_on_a_terminal(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    stub.behave(hold=0)
    source = write(tmp_path / "in", "slow.pdf")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as output:
        with silent(user, stub, source, theirs) as reading:
            os.close(theirs)
            waits(output, stub, "slow.pdf")
            eventually(lambda: drained(reading, output))
        assert reading.returncode == 0


def drained(reading: Any, output: IO[bytes]) -> None:
    """Read what a terminal is given, or its program waits, until that has ended."""
    try:
        os.read(output.fileno(), 65536)
    except OSError:  # nobody has the other end any more
        reading.wait()
    assert reading.poll() is not None


def test_a_service_that_takes_no_page_is_told(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    stub.behave(refusals=10_000, status=503, retry_after="")
    source = write(tmp_path / "in", "slow.pdf")
    with silent(user, stub, source, subprocess.PIPE) as reading:
        told = ""
        while chunk := os.read(reading.stderr.fileno(), 65536):
            told += chunk.decode()
            if (
                len(
                    re.findall(
                        r"takes no page \(HTTP 503: told to refuse\), for \d+ s of at most 120 s",
                        told,
                    )
                )
                == 2
            ):
                break
        stub.behave(refusals=0)
        told += reading.stderr.read().decode()
    assert reading.returncode == 0, told
