"""Input files are regular, of a bounded size, and opened by processes that can be ended."""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import hung_opener
import pytest
from deployments import eventually

from cloister.ocr import opener as opener_program
from cloister.ocr import openers
from cloister.ocr.documents import Document, Entry, walk
from cloister.ocr.openers import FileLimits, Openers, RefusedError

TIMEOUT_S = 60  # a machine that is busy starts a process late
MIB = 1 << 20


def entry(document: Document, *, signature: str | None = None, sha256: str | None = None) -> Entry:
    return Entry(1, document, Path("out"), signature, sha256, 1 if signature else None, None)


@pytest.fixture
def opener() -> Iterator[Openers]:
    found = Openers(FileLimits(most_mib=1))
    yield found
    found.stop()


def refusal(opener: Openers, document: Document) -> str:
    with pytest.raises(RefusedError) as refused:
        opener.inspect(entry(document)).result(TIMEOUT_S)
    return str(refused.value)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(15 << 40)


def linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "15 TB that are not there": (sparse, "larger than 1 MiB"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a folder": (Path.mkdir, "not a regular file"),
    "a link to a device that never ends": (linked("/dev/zero"), "not a regular file"),
    "a link to a terminal": (linked("/dev/tty"), "not a regular file|No such device"),
    "a link to all memory": (linked("/proc/self/pagemap"), "more bytes than its size says"),
    "a link to a file of no size": (linked("/proc/version"), "more bytes than its size says"),
    "a link to nothing": (linked("nowhere"), "No such file"),
    "a link to itself": (linked("it.pdf"), "Too many levels"),
    "nothing": (lambda _: None, "No such file"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_ordinary_file_is_refused(opener: Openers, tmp_path: Path, kind: str) -> None:
    make, reason = HOSTILE[kind]
    path = tmp_path / "it.pdf"
    make(path)
    found = refusal(opener, Document(path, Path("it.pdf"), named=True))
    assert re.search(reason, found), found


def test_a_file_is_hashed_and_its_open_file_given(opener: Openers, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"it \xff\xfe.pdf")
    path.write_bytes(b"x" * MIB)
    document = Document(path, Path(path.name))
    found = opener.inspect(entry(document)).result(TIMEOUT_S)
    path.unlink()
    path.write_bytes(b"y")  # another file takes the name
    with os.fdopen(found.file, "rb") as file:
        assert found.sha256 == hashlib.sha256(file.read()).hexdigest()
        known = entry(document, signature=found.signature, sha256=found.sha256)
        assert not opener.is_same(known, file.fileno()).result(TIMEOUT_S)
        path.unlink()
        assert opener.is_same(known, file.fileno()).result(TIMEOUT_S)  # gone is not another one


def test_a_file_that_did_not_change_is_not_hashed_again(opener: Openers, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"x")
    first = opener.inspect(entry(Document(path, Path("a.pdf")))).result(TIMEOUT_S)
    known = entry(Document(path, Path("a.pdf")), signature=first.signature, sha256=first.sha256)
    again = opener.inspect(known).result(TIMEOUT_S)
    assert again.sha256 is None
    assert opener.is_same(known, again.file).result(TIMEOUT_S)
    path.write_bytes(b"another size")
    assert not opener.is_same(known, again.file).result(TIMEOUT_S)
    changed = opener.inspect(known).result(TIMEOUT_S)
    assert changed.sha256 not in {None, first.sha256}
    for found in (first, again, changed):
        os.close(found.file)


@pytest.mark.parametrize(
    ("link", "target", "followed"),
    [
        ("in/a.pdf", "in/b/c.pdf", True),
        ("in/b/a.pdf", "in/d.pdf", True),
        ("in/a.pdf", "outside.pdf", False),
        ("in/b/a.pdf", "outside.pdf", False),
        ("in/a.pdf", "in-too/a.pdf", False),  # a name that begins alike is another folder
    ],
)
@pytest.mark.parametrize("pattern", ["in", "in/**/*.pdf", "other/in"])
def test_a_link_is_followed_where_it_stays_in_the_folder(
    opener: Openers, tmp_path: Path, link: str, target: str, pattern: str, *, followed: bool
) -> None:
    for place in (tmp_path / target, tmp_path / "in/b/there"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    (tmp_path / "other").symlink_to(tmp_path)
    (tmp_path / link).symlink_to(tmp_path / target)
    found = {one.path.name: one for one in walk([str(tmp_path / pattern)])}
    document = found["a.pdf"]
    if followed:
        os.close(opener.inspect(entry(document)).result(TIMEOUT_S).file)
    else:
        assert "leads out of the folder" in refusal(opener, document)


def test_a_link_that_the_user_named_is_followed(opener: Openers, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "in/a.pdf").symlink_to(tmp_path / "a.pdf")
    (document,) = walk([str(tmp_path / "in/a.pdf")])
    os.close(opener.inspect(entry(document)).result(TIMEOUT_S).file)


def test_a_folder_that_became_a_link_is_not_followed(opener: Openers, tmp_path: Path) -> None:
    for name in ("in/b", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.pdf").write_bytes(b"x")
    (document,) = walk([str(tmp_path / "in")])
    (tmp_path / "in/b").rename(tmp_path / "in/c")
    (tmp_path / "in/b").symlink_to(tmp_path / "outside")
    assert "leads out of the folder" in refusal(opener, document)


@pytest.mark.parametrize(
    ("name", "stalled_s", "timeout_s", "reason"),
    [
        ("hung.pdf", 0.2, 60.0, "it hangs: nothing came of it for 0.2 s"),
        ("hung.pdf", 60.0, 0.2, "it hangs: nothing came of it for 0.2 s"),
        ("drip.pdf", 60.0, 0.5, "it is slow|it hangs"),  # on a busy machine it starts later
    ],
)
def test_a_file_that_hangs_is_given_up_and_its_process_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stalled_s: float,
    timeout_s: float,
    reason: str,
) -> None:
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    monkeypatch.setattr(openers, "_STALLED_S", stalled_s)
    opener = Openers(FileLimits(timeout_s=timeout_s))
    assert re.search(reason, refusal(opener, Document(tmp_path / name, Path(name))))
    assert [one for one in opener._openers if one._process is not None] == []
    opener.stop()


@pytest.mark.parametrize(
    ("stalled_s", "timeout_s", "dots", "reason"),
    [
        (60.0, 0.2, b"..", "it is slow: not read within 0.2 s, which `ocr.file_timeout_s` allows"),
        (60.0, 0.2, b"", "it hangs: nothing came of it for 0.2 s"),
        (0.2, 60.0, b"..", "it hangs: nothing came of it for 0.2 s"),
    ],
)
def test_what_is_slow_and_what_hangs_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, stalled_s: float, timeout_s: float, dots: bytes, reason: str
) -> None:
    monkeypatch.setattr(openers, "_STALLED_S", stalled_s)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(dots)
        with pytest.raises(TimeoutError, match=re.escape(reason)):
            openers._received(ours, timeout_s)


class Client:
    """The other end of an opener's socket, which counts its signs of life."""

    def __init__(self) -> None:
        self.dots = 0

    def send(self, told: bytes) -> None:
        assert told == b"."
        self.dots += 1


def test_each_second_in_which_bytes_come_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a share that gives 64 KiB a second."""
    path, client, seconds = tmp_path / "slow.pdf", Client(), 0
    path.write_bytes(b"x" * (2 * MIB))
    read = os.read

    def slow_read(file: int, size: int) -> bytes:
        nonlocal seconds
        chunk = read(file, min(size, 1 << 16))
        seconds += 1
        return chunk

    monkeypatch.setattr(os, "read", slow_read)
    monkeypatch.setattr(opener_program, "time", SimpleNamespace(monotonic=lambda: seconds))
    with path.open("rb") as file:
        found = opener_program._hashed(cast("socket.socket", client), file.fileno(), 2 * MIB)
    assert found == hashlib.sha256(b"x" * (2 * MIB)).hexdigest()
    assert client.dots == seconds - 1 == 32  # the last read finds the end


def test_stopping_ends_what_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    opener = Openers(FileLimits())
    hung = Document(tmp_path / "hung.pdf", Path("hung.pdf"))
    futures = [opener.inspect(entry(hung)) for _ in range(3)]

    def started() -> None:
        assert sum(one._process is not None for one in opener._openers) == len(futures)

    eventually(started)
    opener.stop()
    for future in futures:
        assert "ended" in str(future.exception(TIMEOUT_S))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("longer", "more bytes than its size says"),
        ("shorter", "fewer bytes than its size says"),
        ("other", "it changed while it was read"),
    ],
)
def test_a_file_that_is_written_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opener: Openers, name: str, reason: str
) -> None:
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    path = tmp_path / f"{name}.pdf"
    path.write_bytes(b"abcde")
    assert reason in refusal(opener, Document(path, Path(path.name)))
