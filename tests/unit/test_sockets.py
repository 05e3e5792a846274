"""Unix sockets: whom they let in, what is followed, and what is removed."""

import contextlib
import errno
import os
import re
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloister import sockets

# Only root may give a file to a group that it is not in.
_ANOTHER = 65534 if os.geteuid() == 0 else os.getgroups()[-1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sockets-") as name:
        yield Path(name)


def answering(path: Path) -> contextlib.closing[socket.socket]:
    return contextlib.closing(sockets.listen(path))


def test_a_client_reaches_the_server(folder: Path) -> None:
    with answering(folder / "sock") as server:
        client = sockets.connect(folder / "sock", 5)
        taken, _ = server.accept()
        with client, taken:
            client.sendall(b"page")
            assert taken.recv(16) == b"page"


def test_owner_and_group_of_the_folder_may_connect_and_nobody_else(folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    os.chown(own, -1, _ANOTHER)
    own.chmod(0o2770)
    with answering(own / "sock"):
        found = (own / "sock").stat()
    assert stat.S_IMODE(found.st_mode) == 0o770
    assert found.st_gid == own.stat().st_gid


def test_the_umask_of_the_program_is_as_it_was(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        with answering(folder / "sock"):
            (folder / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o640


def test_a_link_in_the_sockets_place_is_not_followed(folder: Path) -> None:
    with answering(folder / "another"):
        (folder / "sock").symlink_to(folder / "another")
        with pytest.raises(OSError, match="non-socket") as refused:
            sockets.connect(folder / "sock", 5)
        assert refused.value.errno == errno.ENOTSOCK
        assert not sockets.is_served(folder / "sock")
        sockets.make_way(folder / "sock")
        assert sockets.is_served(folder / "another"), "only the link is gone"
    assert not (folder / "sock").is_symlink()


def test_what_a_killed_server_left_makes_way(folder: Path) -> None:
    with answering(folder / "sock"):
        pass
    assert (folder / "sock").is_socket()
    assert not sockets.is_served(folder / "sock")
    with answering(folder / "sock"):
        assert sockets.is_served(folder / "sock")


def test_a_socket_that_is_served_stays(folder: Path) -> None:
    with answering(folder / "sock") as server:
        with pytest.raises(OSError, match="in use") as refused:
            sockets.listen(folder / "sock")
        assert refused.value.errno == errno.EADDRINUSE
        sockets.connect(folder / "sock", 5).close()
        server.accept()[0].close()


def test_a_server_with_a_full_backlog_is_one(folder: Path) -> None:
    with contextlib.ExitStack() as held:
        server = held.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
        server.bind(str(folder / "sock"))
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                held.enter_context(sockets.connect(folder / "sock", 0))
        assert sockets.is_served(folder / "sock")


def test_nobody_is_at_a_place_that_is_empty(folder: Path) -> None:
    assert not sockets.is_served(folder / "none")
    sockets.make_way(folder / "none")
    with pytest.raises(FileNotFoundError):
        sockets.connect(folder / "none", 5)


def test_a_client_needs_no_short_path(folder: Path) -> None:
    deep = folder / ("d" * 120)
    deep.mkdir()
    with answering(folder / "sock"):
        (folder / "sock").rename(deep / "sock")
        sockets.connect(deep / "sock", 5).close()
        with pytest.raises(OSError, match="too long") as refused:
            sockets.listen(deep / "other")
        assert refused.value.errno == errno.ENAMETOOLONG


def test_what_lies_beside_a_socket_is_listed_and_removed(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    own = folder / "own"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    own.mkdir()
    with answering(own / "sock"):
        assert sockets.find_strays(own, name="sock", is_kind=stat.S_ISSOCK) == ""
        (own / "page.md").write_text("text")
        (own / "text of a page").touch()
        (own / "link").symlink_to(elsewhere)
        (own / "more").mkdir()
        found = sockets.find_strays(own, name="sock", is_kind=stat.S_ISSOCK)
        assert re.fullmatch(r"files: 2, folders: 1, links: 1 \(\d+ KiB\)", found)
    sockets.remove_all(own)
    assert list(own.iterdir()) == []
    assert (elsewhere / "kept").exists()


def test_another_kind_of_file_in_a_sockets_place_is_a_stray(folder: Path) -> None:
    (folder / "sock").touch()
    found = sockets.find_strays(folder, name="sock", is_kind=stat.S_ISSOCK)
    assert found == "files: 1 (0 KiB)"


def test_files_that_come_and_go_meanwhile_are_strays(folder: Path) -> None:
    """An engine that made and removed files in a loop ended the watchdog."""
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            for number in range(20):
                (folder / str(number)).touch()
            for number in range(20):
                (folder / str(number)).unlink()

    found, wanted = set[str](), {"files", "deleted entries"}
    with ThreadPoolExecutor(1) as threads:
        threads.submit(come_and_go)
        try:
            for _ in range(100_000):
                strays = sockets.find_strays(folder, name="sock", is_kind=stat.S_ISSOCK)
                found |= set(re.findall(r"(\w[\w ]*):", strays))
                if found == wanted:
                    break
        finally:
            over.set()
    assert found == wanted


def test_of_a_million_files_some_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MOST_ENTRIES", 10)
    for number in range(20):
        (folder / str(number)).touch()
    found = sockets.find_strays(folder, name="sock", is_kind=stat.S_ISSOCK)
    assert found == "files: 10 or more (0 KiB)"


def test_folders_in_folders_are_removed_however_deep(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("inner", dir_fd=place)
        os.close(os.open("page", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        inner = os.open("inner", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    sockets.remove_all(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_takes_sockets_is_as_it_was(folder: Path) -> None:
    deep = folder / ("x" * 120)
    deep.mkdir()
    sockets.try_folder(deep)
    assert list(deep.iterdir()) == []


def test_a_file_system_without_sockets_is_told() -> None:
    with pytest.raises(OSError, match=r"Permission denied|No such file|not permitted"):
        sockets.try_folder(Path("/proc/self"))
