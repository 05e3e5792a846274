"""A folder that somebody else made: nothing in it leads out of it."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.errors import BundleError
from cloister.folders import PRIVATE, Folder

MOST = 1_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("content")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    return made


@pytest.fixture
def folder(place: Path) -> Iterator[Folder]:
    with Folder.open(place, BundleError) as held:
        yield held


ACTIONS: dict[str, Callable[[Folder, str], object]] = {
    "sub": lambda folder, path: folder.sub(path),
    "read": lambda folder, path: folder.read(path, MOST),
    "write": lambda folder, path: folder.write(path, "theirs"),
    "names": lambda folder, path: folder.sub(path).names(),
    "tree": lambda folder, path: folder.remove_tree(path),
    "own": lambda folder, path: folder.has_own_file(path),
}
BELOW: dict[str, Callable[[Folder, str], object]] = {
    **ACTIONS,
    "find": lambda folder, path: folder.find(path),
    "remove": lambda folder, path: folder.remove(path),
    "empty": lambda folder, path: folder.remove_empty(path),
}


def content(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("action", BELOW)
@pytest.mark.parametrize(
    "path",
    ["../outside/precious", "sub/../../outside/precious", "/etc/passwd", "sub/a\0b", "", "."],
)
def test_no_path_leads_out(folder: Folder, place: Path, action: str, path: str) -> None:
    before = content(place.parent)
    with pytest.raises(BundleError, match="is no path below"):
        BELOW[action](folder, path)
    assert content(place.parent) == before


@pytest.mark.parametrize("action", BELOW)
def test_no_link_is_a_way(folder: Folder, place: Path, action: str) -> None:
    (place / "link").symlink_to("../outside")
    before = content(place.parent)
    with pytest.raises(BundleError, match="folder/link` is a link, expected a folder"):
        BELOW[action](folder, "link/precious")
    assert content(place.parent) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_no_link_is_followed(folder: Folder, place: Path, action: str) -> None:
    target = "../outside/precious" if action in {"read", "write", "own"} else "../outside"
    (place / "link").symlink_to(target)
    before = content(place.parent)
    with pytest.raises(BundleError):
        ACTIONS[action](folder, "link")
    assert content(place.parent) == before


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which has no end


@pytest.mark.parametrize("make", [_pipe, _socket, _device, Path.mkdir])
@pytest.mark.parametrize("action", ["read", "write", "own"])
def test_only_a_regular_file_is_opened(
    folder: Folder, place: Path, make: Callable[[Path], None], action: str
) -> None:
    if make is _device and os.geteuid():
        _pipe(place / "odd")
    else:
        make(place / "odd")
    with pytest.raises(BundleError):
        ACTIONS[action](folder, "odd")


def test_what_is_swapped_between_two_steps_is_not_followed(
    folder: Folder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder above, and the file, become links as soon as the folder is open."""
    rename = os.rename

    def swapped(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(os, "rename", rename)
        (place / "sub").rename(place / "away")
        (place / "sub").symlink_to("../outside")
        rename(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", swapped)
    folder.write("sub/precious", "new")
    assert (place.parent / "outside" / "precious").read_text() == "mine"
    assert (place / "away" / "precious").read_text() == "new"


def test_a_folder_is_still_itself_where_it_was_moved(folder: Folder, place: Path) -> None:
    moved = place.rename(place.parent / "moved")
    place.symlink_to("outside")
    folder.write("a/b", "new")
    assert (moved / "a" / "b").read_text() == "new"
    assert folder.address("sub").is_dir()
    assert {path.name for path in (place.parent / "outside").iterdir()} == {"precious"}


def test_another_users_are_refused(
    folder: Folder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_294_967_000)
    if not os.getuid():
        os.chown(place / "sub", 4_294_967_001, -1)
    with pytest.raises(BundleError, match=r"belongs to .*, expected user 4294967000 or root"):
        folder.read("sub/file", MOST)


def test_a_file_of_two_names_is_not_opened_in_place(folder: Folder, place: Path) -> None:
    assert folder.has_own_file("sub/file")
    assert not folder.has_own_file("sub/none")
    (place / "second").hardlink_to(place / "sub" / "file")
    with pytest.raises(BundleError, match="2 names"):
        folder.has_own_file("second")


def test_a_file_is_read_up_to_its_largest_size(folder: Folder, place: Path) -> None:
    assert folder.read("sub/file", 7) == b"content"
    with pytest.raises(BundleError, match="is larger, expected 6 bytes at most"):
        folder.read("sub/file", 6)
    os.truncate(place / "sub" / "file", 15 << 40)
    with pytest.raises(BundleError, match="is larger"):
        folder.read("sub/file", MOST)


def test_modes_follow_the_umask(folder: Folder, place: Path) -> None:
    before = os.umask(0o027)
    try:
        folder.write("a/text", "text")
        folder.write("a/secret", "secret", mode=PRIVATE)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((place / "a" / name).stat().st_mode) for name in ("text", "secret", "")]
    assert modes == [0o640, 0o600, 0o750]


def test_a_file_that_cannot_be_written_leaves_nothing(folder: Folder, place: Path) -> None:
    (place / "sub" / "taken").mkdir()
    for path in ("sub/taken", "sub/file/below"):
        with pytest.raises(BundleError):
            folder.write(path, "new")
    assert folder.sub("sub").names() == ["file", "taken"]


def test_what_is_not_there_is_none_of_it(folder: Folder) -> None:
    assert folder.find("none/below") is None
    assert folder.find("sub/file") is not None
    assert not folder.remove("none/below")
    folder.remove_tree("none/below")
    folder.remove_empty("none")
    folder.remove_empty("sub")
    assert folder.names() == ["sub"]
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        folder.read("none", MOST)


def test_a_tree_is_removed_and_nothing_that_it_links_to(folder: Folder, place: Path) -> None:
    (place / "sub" / "link").symlink_to("../../outside")
    (place / "sub" / "below").mkdir()
    (place / "sub" / "below" / "link").symlink_to("../../../outside/precious")
    folder.remove_tree("sub")
    assert folder.names() == []
    assert (place.parent / "outside" / "precious").read_text() == "mine"
