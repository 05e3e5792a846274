"""What a refusal says is to be typed: that works."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.errors import OcrError
from cloister.folders import Folder
from cloister.ocr import command, documents, folder
from cloister.ocr.command import Wish
from cloister.ocr.opener import LEADS_OUT
from cloister.ocr.results import PageResult


def hint(tmp_path: Path, paths: tuple[str, ...], errors: dict[str, str]) -> str:
    """Return the hint after a run in which some documents failed."""
    out = tmp_path / "out"
    with folder.opened(out) as (_, ledger):
        ledger.begin()
        ledger.register(documents.walk(paths, beside=out))
        for entry in ledger.entries():
            error = errors.get(entry.document.path.name)
            ledger.opened(entry.id, "1:2:3:4", "f00", 0 if error else 1)
            page = PageResult("in", 0 if error else 1, "Text", error)
            ledger.finish(entry.id, page, 1)
        return command._hint(ledger, Wish(paths=paths, out=out), out)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.pdf").touch()
    (tmp_path / "in/b.pdf").touch()
    (tmp_path / "in/the link.pdf").symlink_to(tmp_path / "a.pdf")
    return tmp_path / "in"


def test_pages_are_tried_again_without_naming_them(tmp_path: Path, inbox: Path) -> None:
    found = hint(tmp_path, (str(inbox),), {"b.pdf": "no text", "the link.pdf": LEADS_OUT})
    assert found == f"invoke ocr --out {tmp_path / 'out'} --retry-failed"


def test_a_link_that_was_named_is_named_again(tmp_path: Path, inbox: Path) -> None:
    link = str(inbox / "the link.pdf")
    found = hint(tmp_path, (link,), {"the link.pdf": "no text"})
    assert found == f"invoke ocr {shlex.quote(link)} --out {tmp_path / 'out'} --retry-failed"


def test_a_link_that_was_not_named_has_to_be(tmp_path: Path, inbox: Path) -> None:
    found = hint(tmp_path, (str(inbox),), {"the link.pdf": LEADS_OUT})
    link = shlex.quote(str(inbox / "the link.pdf"))
    told = f"invoke ocr {link} --out {tmp_path / 'out'} --retry-failed, if it may be followed"
    assert found == told


def test_many_words_are_not_repeated(tmp_path: Path, inbox: Path) -> None:
    link = str(inbox / "the link.pdf")
    found = hint(tmp_path, (link,) * 50, {"the link.pdf": "no text"})
    assert found == f"invoke ocr PATH... --out {tmp_path / 'out'} --retry-failed"


REFUSED: dict[str, tuple[Callable[[Folder], object], str]] = {
    "a link": (lambda held: held.read("link", 10), "`ls -ld` shows what is there and whose"),
    "a folder": (lambda held: held.read("inner", 10), "`ls -ld` shows what is there and whose"),
    "too large": (lambda held: held.read("large", 1), "`ls -ld` shows what is there and whose"),
    "two names": (lambda held: held.has_own_file("first"), "cp -r FOLDER COPY"),
    "a path above": (lambda held: held.read("../x", 1), "`ls -ld` shows what is there and whose"),
    "nothing": (lambda held: held.read("none", 1), "`ls -ld` shows what is there and whose"),
    "a long name": (
        lambda held: held.write("x" * 300, ""),
        "`ls -ld` shows what is there and whose",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_of_a_folder_has_a_hint(tmp_path: Path, kind: str) -> None:
    action, expected = REFUSED[kind]
    (tmp_path / "link").symlink_to("large")
    (tmp_path / "inner").mkdir()
    (tmp_path / "large").write_text("large")
    (tmp_path / "first").touch()
    (tmp_path / "second").hardlink_to(tmp_path / "first")
    with Folder.open(tmp_path, OcrError) as held, pytest.raises(OcrError) as refused:
        action(held)
    assert expected in str(refused.value.hint)


def test_a_full_disk_has_a_hint_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with Folder.open(tmp_path, OcrError) as held:
        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OcrError) as refused:
            held.write("a.md", "text")
    assert refused.value.hint == "free some space"


def test_a_folder_that_is_not_there_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(OcrError) as refused, Folder.open(tmp_path / "none", OcrError):
        pass
    assert refused.value.hint
