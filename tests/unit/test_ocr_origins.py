"""A ledger names files: without a PATH, those are read that this user gave for its folder."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from cloister.errors import OcrError
from cloister.folders import Folder
from cloister.ocr import command, folder, origins
from cloister.ocr.command import Wish
from cloister.ocr.documents import Document
from cloister.ocr.ledger import Ledger


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/a.pdf", "in/b/c.pdf", "private/tax.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def gathered(state: Path, out: Path, paths: Sequence[str] = ()) -> list[Document]:
    """Return what a command would read."""
    with folder.opened(out) as (place, ledger):
        ledger.begin()
        command._gathered(state, place, ledger, Wish(paths=paths, out=out))
        return [entry.document for entry in ledger.entries()]


def change(out: Path, *statements: str) -> None:
    with closing(sqlite3.connect(out / "ledger.sqlite", isolation_level=None)) as base:
        for statement in statements:
            base.execute(statement)


@pytest.mark.parametrize(
    "paths",
    [["in"], ["in/a.pdf"], ["in/**/*.pdf"], ["*/*.pdf"], ["in/b/../a.pdf", "in/b"], ["./in"]],
)
def test_a_run_of_ones_own_goes_on_without_a_path(
    state: Path, inbox: Path, tmp_path: Path, paths: list[str]
) -> None:
    first = gathered(state, tmp_path / "out", paths)
    assert inbox in first[0].path.resolve().parents
    again = gathered(state, tmp_path / "out")
    assert [one.path for one in again] == [one.path.absolute() for one in first]
    assert [one.root for one in again] == [one.root for one in first]


def forge(out: Path, home: Path, name: str, key: str) -> None:
    change(
        out,
        "INSERT OR REPLACE INTO documents (key, path, name, target, run) "  # noqa: S608  # the test's own
        f"VALUES ('{home / key}', '{home / key}', '{name}', 'x', 1)",
    )


FORGED: dict[str, Callable[[Path, Path], None]] = {
    "another file": lambda out, home: forge(out, home, "tax.pdf", "private/tax.pdf"),
    "a longer name": lambda out, home: forge(out, home, "private/tax.pdf", "private/tax.pdf"),
    "no name, for which all is beneath": lambda out, home: forge(out, home, "", "in/b/c.pdf"),
    "a name above": lambda out, home: forge(out, home, "../private/tax.pdf", "in/b/d.pdf"),
    "a path above": lambda out, home: forge(out, home, "tax.pdf", "in/../private/tax.pdf"),
    "a name of another file": lambda out, home: forge(out, home, "a.pdf", "in/b/c.pdf"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_ledger_that_names_what_nobody_gave_is_refused(
    state: Path, inbox: Path, tmp_path: Path, kind: str
) -> None:
    gathered(state, tmp_path / "out", [str(inbox)])
    FORGED[kind](tmp_path / "out", tmp_path)
    with pytest.raises(OcrError, match="was not given for it here") as refused:
        gathered(state, tmp_path / "out")
    assert refused.value.hint == f"invoke ocr PATH... --out {tmp_path / 'out'}"


def test_a_run_folder_from_somebody_else_is_refused_and_read_with_a_path(
    state: Path, inbox: Path, tmp_path: Path
) -> None:
    gathered(tmp_path / "theirs", tmp_path / "out", ["in"])
    with pytest.raises(OcrError, match="is not recorded here"):
        gathered(state, tmp_path / "out")
    assert len(gathered(state, tmp_path / "out", [str(inbox)])) == 2
    assert len(gathered(state, tmp_path / "out")) == 2


def test_another_ledger_in_the_place_of_ones_own_is_a_strangers(
    state: Path, inbox: Path, tmp_path: Path
) -> None:
    gathered(state, tmp_path / "out", [str(inbox)])
    (tmp_path / "out").rename(tmp_path / "mine")
    shutil.copytree(tmp_path / "mine", tmp_path / "out")
    with pytest.raises(OcrError, match="is not recorded here"):
        gathered(state, tmp_path / "out")


def test_what_was_given_is_not_read_by_the_name_of_a_ledger(
    state: Path, inbox: Path, tmp_path: Path
) -> None:
    """With no name, its root would be `/`, and a link in the inbox would lead anywhere."""
    gathered(state, tmp_path / "out", [str(inbox)])
    change(tmp_path / "out", "UPDATE documents SET name = ''")
    found = gathered(state, tmp_path / "out", [str(inbox)])
    assert {one.root for one in found} == {inbox}


def test_a_document_of_a_run_to_come_is_not_one_of_this_run(
    state: Path, inbox: Path, tmp_path: Path
) -> None:
    gathered(state, tmp_path / "out", [str(inbox)])
    forge(tmp_path / "out", tmp_path, "tax.pdf", "private/tax.pdf")
    for run in ("2", "3", "'x'", "3.5"):
        change(tmp_path / "out", f"UPDATE documents SET run = {run} WHERE name = 'tax.pdf'")  # noqa: S608
        found = gathered(state, tmp_path / "out", [str(inbox)])
        assert {one.path.name for one in found} == {"a.pdf", "c.pdf"}
    change(tmp_path / "out", "UPDATE documents SET run = 9223372036854775807")
    with pytest.raises(OcrError, match="no ledger of pages"):
        gathered(state, tmp_path / "out", [str(inbox)])


def test_what_is_not_there_gives_nothing_more_away(state: Path, tmp_path: Path) -> None:
    with Folder.open(tmp_path, OcrError) as place, closing(Ledger(place)):
        origins.note(state, place, ["none.pdf", "none/*.pdf"])
        (kept,) = (state / "readings").iterdir()
    assert json.loads(kept.read_text()) == {"files": [], "folders": [str(Path("none").absolute())]}


def test_a_state_folder_that_cannot_be_written_is_told(
    state: Path, inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.touch()
    gathered(state, tmp_path / "out", [str(inbox)])
    assert "needs PATH each time" in capsys.readouterr().err
