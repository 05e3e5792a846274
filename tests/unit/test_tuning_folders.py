"""A tuning is resumed in a folder that nobody else can change."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.errors import TuningError
from cloister.folders import Folder
from cloister.tuning.ledger import require_plain


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("content")
    return made


@pytest.fixture
def folder(place: Path) -> Iterator[Folder]:
    with Folder.open(place, TuningError) as held:
        yield held


def others(path: Path) -> None:
    """Give a file or folder to another user."""
    os.chown(path, 12345, 12345)


def deep(place: Path) -> None:
    (place / "sub" / Path(*["d"] * 20)).mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "sub" / "l").symlink_to("file"), "sub/l` is a link"),
        (lambda place: (place / "l").symlink_to("../outside"), "folder/l` is a link"),
        (lambda place: os.mkfifo(place / "sub" / "p"), "sub/p` is a pipe"),
        (lambda place: others(place / "sub"), "sub` belongs to user 12345"),
        (lambda place: others(place / "sub" / "file"), "sub/file` belongs to user 12345"),
        (lambda place: (place / "sub").chmod(0o777), "sub` is everybody's to write into"),
        (lambda place: place.chmod(0o1777), "folder` is everybody's to write into"),
        (deep, "is deeper than 16 levels of folders"),
    ],
)
def test_a_plain_folder_has_only_files_and_folders_of_its_user(
    folder: Folder, place: Path, change: Callable[[Path], None], said: str
) -> None:
    require_plain(folder)
    change(place)
    with pytest.raises(TuningError, match=said):
        require_plain(folder)
