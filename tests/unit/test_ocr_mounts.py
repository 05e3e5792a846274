"""A mount whose server is gone holds whoever asks for what is on it: the other files are read."""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from cloister.errors import OcrError
from cloister.ocr import background, watching
from cloister.ocr.documents import walk
from cloister.ocr.ledger import Ledger
from cloister.ocr.watching import Watch

TIMEOUT_S = 60


class Mount:
    """A folder whose server answers once `server` is set; `calls` have asked it."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.server, self.calls = place, threading.Event(), 0
        self.waiting = 0
        self._lstat = os.lstat
        for name in ("stat", "lstat", "scandir"):
            monkeypatch.setattr(os, name, self._held(getattr(os, name), follows=name != "lstat"))

    def _held(self, call: Callable[..., Any], *, follows: bool) -> Callable[..., Any]:
        def held(path: Any = ".", *words: Any, **named: Any) -> Any:
            if self._leads_here(path, named.get("follow_symlinks", follows)):
                self.calls += 1
                self.waiting += 1
                self.server.wait()
                self.waiting -= 1
            return call(path, *words, **named)

        return held

    def _leads_here(self, path: Any, follows: bool) -> bool:  # noqa: FBT001
        if isinstance(path, int):
            return False
        place = Path(path).absolute()
        if place == self.place or self.place in place.parents:
            return True
        try:
            is_link = stat.S_ISLNK(self._lstat(place).st_mode)
        except OSError:
            return False
        return is_link and follows and self._leads_here(place.readlink(), follows)


def patience(mount: Mount) -> type[SimpleQueue[Any]]:
    """Return queues whose time is over once one call more waits for the mount, and no sooner."""

    class Answers(SimpleQueue[Any]):
        def __init__(self) -> None:
            super().__init__()
            self._before = mount.waiting

        def get(self, *_: object, **__: object) -> Any:
            while mount.waiting <= self._before:
                with suppress(Empty):
                    return super().get(timeout=0.01)
            return super().get(block=False)

    return Answers


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """A folder of documents, one of whose folders is a mount without a server."""
    for name in ("in/a.pdf", "in/dead/b.pdf", "in/z/b.pdf", "out/c.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "link.pdf").symlink_to(tmp_path / "in" / "dead" / "b.pdf")
    made = Mount(tmp_path / "in" / "dead", monkeypatch)
    monkeypatch.setattr(background, "SimpleQueue", patience(made))
    yield made
    made.server.set()


def found(tmp_path: Path, arguments: Sequence[str], *, beside: Path | None = None) -> list[str]:
    words = [str(tmp_path / argument) for argument in arguments]
    looking = background.begin(lambda: list(walk(words, beside=beside)))
    return [str(one.path.relative_to(tmp_path)) for one in looking.result(TIMEOUT_S)]


@pytest.mark.usefixtures("mount")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["in"], ["in/a.pdf", "in/link.pdf", "in/z/b.pdf", "in/dead"]),
        (["in/dead", "in/a.pdf"], ["in/dead", "in/a.pdf"]),
        (["in/dead/b.pdf", "in/a.pdf"], ["in/dead/b.pdf", "in/a.pdf"]),
        (["in/link.pdf", "in/a.pdf"], ["in/link.pdf", "in/a.pdf"]),
        (["in/dead/*.pdf", "in/a.pdf"], ["in/dead/*.pdf", "in/a.pdf"]),
        (["in/*/b.pdf"], ["in/dead/b.pdf", "in/z/b.pdf"]),
        (["in/*.pdf"], ["in/a.pdf", "in/link.pdf"]),
        (["in/*/*.pdf"], ["in/z/b.pdf", "in/dead", "in/link.pdf"]),
        (["in/**/*.pdf"], ["in/a.pdf", "in/link.pdf", "in/z/b.pdf", "in/dead"]),
    ],
)
def test_what_lies_by_a_dead_mount_is_found(
    tmp_path: Path, arguments: Sequence[str], names: list[str]
) -> None:
    assert found(tmp_path, arguments, beside=tmp_path / "in" / "out") == names


def test_the_output_is_no_input_by_whatever_path(tmp_path: Path) -> None:
    for name in ("in/a.pdf", "in/out/c.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "there").symlink_to(tmp_path / "in")
    out = (tmp_path / "in" / "out").resolve()
    for name in ("in", "there", "in/../there"):
        (one,) = walk([str(tmp_path / name)], beside=out)
        assert one.path.name == "a.pdf"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/*", ["in/a.pdf", "in/b/c.pdf", "in/b/d/e.PDF"]),
        ("in/**/*.pdf", ["in/a.pdf", "in/b/c.pdf"]),
        ("in/**", ["in/a.pdf", "in/b/c.pdf", "in/b/d/e.PDF"]),
        ("in/[ab]*", ["in/a.pdf", "in/b/c.pdf", "in/b/d/e.PDF"]),
        ("in/?/c.pdf", ["in/b/c.pdf"]),
        ("i*/b/../a.pdf", ["in/b/../a.pdf"]),
        ("in/link/*.pdf", ["in/link/c.pdf"]),
        ("in/l*/*.pdf", ["in/link/c.pdf"]),
        ("in/*/none.pdf", []),
        ("in/a.pdf/*", []),
        ("none/*", []),
    ],
)
def test_patterns_match_as_those_of_pathlib(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("in/a.pdf", "in/b/c.pdf", "in/b/d/e.PDF"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "link").symlink_to("b")
    if not names:
        with pytest.raises(OcrError, match="nothing matches"):
            found(tmp_path, [pattern])
        return
    expected = {str(one.relative_to(tmp_path)) for one in tmp_path.glob(pattern) if one.is_file()}
    assert expected <= set(names)
    once = list(dict.fromkeys(found(tmp_path, [pattern])))
    assert [name for name in once if not name.startswith("in/link")] == [
        name for name in names if not name.startswith("in/link")
    ]


def test_a_watch_goes_past_what_hangs_and_asks_it_once(
    mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LOOK_S", "_SETTLED_S"):
        monkeypatch.setattr(watching, name, 0.0)
    with closing(Ledger(None)) as ledger:
        ledger.begin()
        watch = Watch(tmp_path / "in", tmp_path / "out", ledger, None)

        def look() -> set[str]:
            """Look once, to the end of what is looked at meanwhile."""
            watch.look()
            if watch._looking is not None:
                watch._looking.exception(TIMEOUT_S)
            watch.look()
            return {entry.document.path.name for entry in ledger.entries()}

        assert look() | look() | look() == {"a.pdf", "b.pdf"}
        calls, threads = mount.calls, threading.active_count()
        (tmp_path / "in" / "late.pdf").touch()
        for _ in range(20):
            names = look()
        assert names == {"a.pdf", "b.pdf", "late.pdf"}
        assert (mount.calls, threading.active_count()) == (calls, threads)
        mount.server.set()
        while look() != {"a.pdf", "b.pdf", "late.pdf", "link.pdf"}:
            pass
        assert len(ledger.entries()) == 5  # of which one lies in the folder that was dead


def test_a_folder_to_watch_that_hangs_is_told(mount: Mount, tmp_path: Path) -> None:
    with closing(Ledger(None)) as ledger, pytest.raises(OcrError, match="does not answer"):
        Watch(mount.place, tmp_path / "out", ledger, None)
