"""Files from others: none of them delays the others, and Ctrl-C ends whatever waits for one."""

import os
import signal
import threading
from pathlib import Path

import hung_opener
import psutil
import pytest
from deployments import Stack, command_line, eventually
from ocr_runs import pages, write
from page_stubs import PageStub

from cloister.ocr import Client, documents, openers, patterns


def fill(inbox: Path) -> None:
    """Make what is no document to be read, of which no name comes after that of a good one."""
    inbox.mkdir()
    for name in ("a.png", "b.pdf"):
        with (inbox / name).open("wb") as file:
            file.truncate(15 << 40)
    os.mkfifo(inbox / "c.pdf")
    (inbox / "d.pdf").symlink_to("/dev/zero")
    (inbox / "e.pdf").symlink_to("/etc/passwd")
    (inbox / "f.pdf").touch()
    write(inbox, "z.pdf", None)


def test_what_is_no_ordinary_file_delays_no_other_one(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    fill(tmp_path / "in")
    words = ("ocr", str(tmp_path / "in"), "--out", str(user.state / "out"), "--url", stub.url)
    said = user.invoke(*words, code=8).stderr
    assert "Traceback" not in said
    found = {page["name"]: page for page in pages(user)}
    assert found.pop("z.pdf")["state"] == "read"
    assert {page["state"] for page in found.values()} == {"failed"}
    assert {name: page["error"] for name, page in found.items()} == {
        "a.png": "larger than 2048 MiB, which `ocr.max_file_mib` allows",
        "b.pdf": "larger than 2048 MiB, which `ocr.max_file_mib` allows",
        "c.pdf": "not a regular file",
        "d.pdf": "not a regular file",
        "e.pdf": "a link that leads out of the folder, which is not followed",
        "f.pdf": found["f.pdf"]["error"],
    }


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty files that hang, as on a mount without a server, before those that do not."""
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    folder = tmp_path / "in"
    for number in range(20):
        write(folder, f"a-hung-{number}.pdf", None)
    for name in ("b.pdf", "c.pdf"):
        write(folder, name, None, None)
    return folder


def test_files_that_hang_delay_no_other_one(
    inbox: Path, stub: PageStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openers, "_STALLED_S", 10.0)
    found = Client(stub.url).convert(inbox, out=tmp_path / "out")
    assert (found.read, found.failed) == (4, 20)


def test_ctrl_c_ends_what_waits_for_files_that_hang(
    inbox: Path, stub: PageStub, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def interrupt() -> None:
        eventually(lambda: _require((out / "c.md").exists()))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        Client(stub.url).convert(inbox, out=out)
    mine = psutil.Process().children()
    assert [one for one in mine if hung_opener.__file__ in command_line(one)] == []


def test_ctrl_c_ends_what_waits_for_a_folder_that_hangs(
    stub: PageStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, never = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        begun.set()
        never.wait()

    monkeypatch.setattr(patterns, "listed", hang)

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        Client(stub.url).convert(tmp_path, out=tmp_path / "out")
    never.set()


def test_a_folder_that_hangs_is_not_missed_in_silence(
    stub: PageStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never, listed = threading.Event(), patterns.listed

    def hang(place: Path) -> dict[str, patterns.Kind]:
        if place.name == "hung":
            never.wait()
        return listed(place)

    monkeypatch.setattr(patterns, "listed", hang)
    monkeypatch.setattr(documents, "_FOLDER_S", 1.0)
    for name in ("hung/a.pdf", "later/b.pdf"):
        write(tmp_path / "in", name, None)
    found = Client(stub.url).convert(tmp_path / "in", out=tmp_path / "out")
    never.set()
    assert (found.read, found.failed) == (1, 1)


def _require(condition: object) -> None:
    assert condition
