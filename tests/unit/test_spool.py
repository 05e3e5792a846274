"""Lines between two programs: each is taken once, whoever reads on, and takes no room then."""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.spool import UNKNOWN_LINES, Spool, try_folder

_MOST = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def writer(path: Path) -> Iterator[int]:
    """The other program's file, opened once and appended to."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    yield file
    os.close(file)


def taken(spool: Spool) -> list[bytes]:
    """Return the next lines, as one that counts them takes them."""
    lines = spool.take(_MOST)
    spool.free()
    return lines


def long(word: bytes) -> bytes:
    """Return a line as long as those of an access log."""
    return word.ljust(300, b".")


def test_a_writer_that_has_not_begun_is_waited_for(path: Path) -> None:
    spool = Spool(path)
    assert spool.take(_MOST) == []
    path.write_bytes(b"one\n")
    assert spool.take(_MOST) == [b"one"]


def test_each_line_is_taken_once_and_whole(path: Path, writer: int) -> None:
    spool = Spool(path)
    os.write(writer, b"one\ntwo\nthr")
    assert spool.take(_MOST) == [b"one", b"two"]
    assert spool.take(_MOST) == []
    os.write(writer, b"ee\n")
    assert spool.take(_MOST) == [b"three"]


def test_the_next_reader_goes_on_where_the_last_one_stopped(path: Path, writer: int) -> None:
    os.write(writer, long(b"one") + b"\n" + long(b"two") + b"\n")
    assert taken(Spool(path)) == [long(b"one"), long(b"two")]
    assert taken(Spool(path)) == []
    os.write(writer, b"three\n")
    assert taken(Spool(path)) == [b"three"]


def test_what_was_taken_and_not_freed_is_for_the_next_reader_too(path: Path, writer: int) -> None:
    os.write(writer, long(b"one") + b"\n")
    assert Spool(path).take(_MOST) == [long(b"one")]
    assert taken(Spool(path)) == [long(b"one")]
    os.write(writer, b"two\n")
    assert Spool(path).take(_MOST) == [b"two"]
    assert taken(Spool(path)) == [b"two"]


def test_lines_are_counted_over_all_readers(path: Path, writer: int) -> None:
    first = Spool(path)
    assert first.lines == UNKNOWN_LINES
    first.lines = 0
    os.write(writer, long(b"one") + b"\n" + long(b"two") + b"\n")
    taken(first)
    os.write(writer, b"three\n")
    second = Spool(path)
    assert second.take(_MOST) == [b"three"]
    assert second.lines == 3


def test_holes_that_read_as_zeros_are_passed_over(
    path: Path, writer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may tell of no hole, or of a smaller one than was made."""
    monkeypatch.setattr(os, "lseek", lambda *_: 0)
    os.write(writer, (long(b"one") + b"\n") * 1000)
    spool = Spool(path)
    while spool.take(10_000):
        spool.free()
    os.write(writer, b"two\n")
    assert Spool(path).take(10_000) == [b"two"]
    path.write_bytes(b"\0" * 100_000 + b"three\n")  # as if the note had been lost
    assert Spool(path).take(10_000) == [b"three"]


def test_a_file_system_that_frees_no_part_of_a_file_is_told_each_time(
    path: Path, writer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Libc:
        @staticmethod
        def fallocate(*_: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr("cloister.spool._LIBC", Libc)
    spool = Spool(path)
    for word in (b"one", b"two"):
        os.write(writer, long(word) + b"\n")
        assert spool.take(_MOST) == [long(word)]
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            spool.free()
    assert Spool(path).take(_MOST) == [], "both were noted"
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        try_folder(path.parent)


def test_a_folder_is_tried_without_a_trace(tmp_path: Path) -> None:
    try_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_taken_takes_no_room(path: Path, writer: int) -> None:
    spool = Spool(path)
    for _ in range(64):
        os.write(writer, (b"x" * 1023 + b"\n") * 64)
        while taken(spool):
            pass
    found = path.stat()
    assert found.st_size == 64 * 64 * 1024
    assert found.st_blocks * 512 <= 2 * found.st_blksize


def test_lines_that_come_one_by_one_take_no_room_either(path: Path, writer: int) -> None:
    """A block is freed by a call that covers all of it, and by no number of smaller ones."""
    spool = Spool(path)
    for _ in range(1000):
        os.write(writer, long(b"one") + b"\n")
        assert taken(spool) == [long(b"one")]
    found = path.stat()
    assert found.st_size == 301_000
    assert found.st_blocks * 512 <= 2 * found.st_blksize


def test_another_file_in_its_place_is_read_from_its_beginning(path: Path, writer: int) -> None:
    spool = Spool(path)
    os.write(writer, b"one\n")
    assert spool.take(_MOST) == [b"one"]
    path.unlink()
    assert spool.take(_MOST) == []
    path.write_bytes(b"two\n")
    assert spool.take(_MOST) == [b"two"]


def test_what_the_old_file_still_got_is_taken_before_the_new_one(path: Path, writer: int) -> None:
    spool = Spool(path)
    os.write(writer, b"one\n")
    assert spool.take(_MOST) == [b"one"]
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"three\n")
    os.write(writer, b"two\n")
    assert [spool.take(_MOST), spool.take(_MOST)] == [[b"two"], [b"three"]]


def test_a_file_that_was_emptied_is_read_from_its_beginning(path: Path, writer: int) -> None:
    spool = Spool(path)
    os.write(writer, long(b"one") + b"\n")
    assert taken(spool) == [long(b"one")]
    os.truncate(path, 0)
    os.write(writer, b"two\n")
    assert spool.take(_MOST) == [b"two"]


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"somebody's\n")
    path.symlink_to(other)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        Spool(path).take(_MOST)
    assert other.read_bytes() == b"somebody's\n"


@given(
    lines=st.lists(
        st.binary(max_size=9000).map(lambda b: b.translate(None, b"\0\n\r")), max_size=9
    ),
    most=st.integers(9301, 40_000),
    readers=st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_no_line_is_lost_or_taken_twice(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], most: int, readers: list[bool]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "log"
    written = [long(b"line ") + line for line in lines]
    spool, got = Spool(path), list[bytes]()
    for line, fresh in zip(written, readers, strict=False):
        with path.open("ab") as file:
            file.write(line + b"\n")
        spool = Spool(path) if fresh else spool
        got += spool.take(most)
        spool.free()
    while more := spool.take(most):
        got += more
    assert got == written
