"""`invoke ocr` into a run folder, against a model that misbehaves on command."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from deployments import Stack, eventually, program
from ocr_runs import ocr, pages, summary, write
from page_stubs import PageStub, document, page_stub


def test_a_folder_is_read_once_and_again_costs_no_request(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    write(source, "a.pdf", None, None, None)
    write(source, "below/b.pdf", None)
    said = ocr(user, stub, source).stderr
    assert "4 read, 0 not read" in said
    before = {path: path.stat() for path in (user.state / "out").rglob("*.md")}
    assert {path.name for path in before} == {"a.md", "b.md"}
    asked = stub.counts()["asked"]
    assert sorted(asked.values()) == [1, 1, 1, 1]
    ocr(user, stub, source)
    assert stub.counts()["asked"] == asked
    assert {path: path.stat() for path in before} == before
    text = (user.state / "out" / "a.md").read_text()
    assert [text.count(f'<a id="page-{number}"></a>') for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert "source: a.pdf" in text
    found = pages(user)
    assert all(page["text"] == f"page {page['sha256']}" for page in found)
    assert {page["finish_reason"] for page in found} == {"stop"}


def test_what_is_missing_is_written_again_without_a_request(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = write(tmp_path, "a.pdf")
    ocr(user, stub, source)
    written = user.state / "out" / "a.md"
    content = written.read_bytes()
    written.unlink()
    ocr(user, stub, source)
    assert written.read_bytes() == content
    for kind in ("html", "txt", "jsonl"):
        ocr(user, stub, source, "--format", kind)
        assert (user.state / "out" / f"a.{kind}").exists()
    assert list(stub.counts()["asked"].values()) == [1]


def test_a_changed_document_is_read_anew_and_no_other_one(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    write(source, "a.pdf", None, None)
    other = write(source, "b.pdf")
    ocr(user, stub, source)
    other.write_bytes(document("another b", [None, None]))
    said = ocr(user, stub, source).stderr
    assert "b.pdf has changed" in said
    assert [(page["name"], page["number"]) for page in pages(user)] == [
        *(("a.pdf", 1), ("a.pdf", 2)),
        *(("b.pdf", 1), ("b.pdf", 2)),
    ]
    assert sorted(stub.counts()["asked"].values()) == [1] * 5
    touched = source / "a.pdf"
    touched.write_bytes(touched.read_bytes())  # other times, the same content
    assert "has changed" not in ocr(user, stub, source).stderr
    assert sorted(stub.counts()["asked"].values()) == [1] * 5


def test_the_same_page_is_asked_for_once(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    source = tmp_path / "in"
    first = write(source, "a.pdf", None, None)
    for number in range(5):
        (source / f"copy-{number}.pdf").write_bytes(first.read_bytes())
    ocr(user, stub, source)
    assert sorted(stub.counts()["asked"].values()) == [1, 1]
    assert summary(user)["reused"] == 10
    bodies = {path.read_text().partition("\n\n")[2] for path in (user.state / "out").glob("*.md")}
    assert len(bodies) == 1


def test_documents_of_one_name_get_files_of_their_own(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    for folder in ("x", "y", "z"):
        write(tmp_path / folder, "a.pdf", None)
        (tmp_path / folder / "a.pdf").write_bytes(document(folder, [None]))
    paths = [str(tmp_path / folder / "a.pdf") for folder in ("x", "y", "z")]
    out = str(user.state / "out")
    user.invoke("ocr", *paths, "--out", out, "--url", stub.url)
    written = sorted(path.name for path in Path(out).glob("*.md"))
    assert written == ["a.md", "a.pdf.2.md", "a.pdf.md"]


def test_a_key_that_is_refused_ends_the_run_and_loses_nothing(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = write(tmp_path, "a.pdf", *[None] * 8)
    stub.behave(refusals=1_000, status=401)
    said = ocr(user, stub, source, code=8).stderr
    assert "refuses every page: HTTP 401" in said
    assert "the same command goes on" in said
    assert sum(stub.counts()["asked"].values()) == 0
    stub.behave(refusals=0)
    ocr(user, stub, source)
    assert summary(user)["read"] == 8


def test_ctrl_c_says_how_to_go_on_and_the_rest_is_read_then(user: Stack, tmp_path: Path) -> None:
    source = write(tmp_path, "a.pdf", *[None] * 40)
    with page_stub(delay_ms=2_000) as slow:
        words = ("ocr", str(source), "--out", str(user.state / "out"), "--url", slow.url)
        command = [sys.executable, "-m", "invoke", *words]
        with program(command, env=user.environment, stderr=subprocess.PIPE, text=True) as reading:
            eventually(lambda: _assert_some(user))
            reading.send_signal(signal.SIGINT)
            assert reading.stderr is not None
            said = reading.stderr.read()
        assert reading.returncode == 130
        assert "the same command goes on" in said
        assert "Traceback" not in said
        assert not (user.state / "out" / "a.md").exists()
        read = summary(user)["read"]
        assert 0 < read < 40
        slow.behave(delay_s=0.01)
        ocr(user, slow, source)
        assert sum(slow.counts()["asked"].values()) <= 40 + 8  # those that were in flight
    assert summary(user)["read"] == 40


def _assert_some(user: Stack) -> None:
    assert (user.state / "out" / "ledger.sqlite").exists()
    try:
        found = pages(user)
    except sqlite3.OperationalError as error:
        raise AssertionError("there are no tables yet") from error
    assert any(page["state"] == "read" for page in found)


def test_two_runs_cannot_share_a_folder(user: Stack, tmp_path: Path) -> None:
    source = write(tmp_path, "a.pdf", *[None] * 80)
    with page_stub(delay_ms=5_000) as slow:
        words = ("ocr", str(source), "--out", str(user.state / "out"), "--url", slow.url)
        with program([sys.executable, "-m", "invoke", *words], env=user.environment) as reading:
            eventually(lambda: _assert_some(user))
            said = user.invoke(*words, code=8).stderr
            assert "another `invoke ocr` writes into" in said
            assert summary(user)["documents"] == 1  # but to look is allowed
            reading.kill()


def test_a_folder_is_watched(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", user.state / "out"
    inbox.mkdir()
    words = ("ocr", "--watch", str(inbox), "--out", str(out), "--url", stub.url)
    command = [sys.executable, "-m", "invoke", *words]
    with program(command, env=user.environment, stderr=subprocess.PIPE, text=True) as watching:
        for name in ("a.pdf", "below/b.pdf"):
            write(inbox, name)
            written = (out / name).with_suffix(".md")
            eventually(lambda written=written: _assert_there(written))  # type: ignore[misc]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


def _assert_there(path: Path) -> None:
    assert path.exists()


def test_only_some_documents_are_read(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    for name in ("2025/a.pdf", "2026/b.pdf", "2026/c.pdf"):
        write(tmp_path / "in", name)
    ocr(user, stub, tmp_path / "in", "--only", "2026/*", code=0)
    assert {path.name for path in (user.state / "out").rglob("*.md")} == {"b.md", "c.md"}
    assert sum(stub.counts()["asked"].values()) == 2


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--format", "docx", "--out", "o"), 2, "expected one of markdown, jsonl, html, txt"),
        (("--format", "html"), 2, "--out FOLDER"),
        (("--retry-failed",), 2, "--out FOLDER"),
        (("--status",), 2, "--out FOLDER"),
        (("--status", "--out", "/nonexistent"), 8, "has no ledger.sqlite"),
        (("--watch", "/nonexistent", "--out", "o"), 8, "no folder to watch"),
        (("a.pdf", "--url", "127.0.0.1:9"), 2, "begins with http:// or https://"),
        ((), 2, "there is nothing to read"),
    ],
)
def test_flags_that_make_no_sense_are_refused_in_two_lines(
    user: Stack, tmp_path: Path, flags: tuple[str, ...], code: int, words: str
) -> None:
    placed = [str(tmp_path / flag) if flag == "o" else flag for flag in flags]
    said = user.invoke("ocr", *placed, code=code).stderr
    assert words in said
    assert len(said.strip().splitlines()) <= 3


def test_a_style_that_was_changed_can_be_changed_back(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source, written = write(tmp_path, "a.pdf", None), user.state / "out" / "a.md"
    texts = []
    for style in ("keep", "map", "keep"):
        ocr(user, stub, source, "--set", f"ocr.tags={style}")
        texts.append((written.read_text(), written.stat().st_mtime_ns))
    (first, first_ns), _, (last, last_ns) = texts
    assert last == first
    assert last_ns > first_ns
    assert sum(stub.counts()["asked"].values()) == 1


def test_files_of_others_in_the_folder_are_left_alone(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    source = write(folder, "letter.pdf", None)
    for name in ("letter.txt", "letter.md"):
        (folder / name).write_text("mine")
    words = ("ocr", str(source), "--out", str(folder), "--url", stub.url)
    user.invoke(*words)
    user.invoke(*words, "--format", "html")
    assert (folder / "letter.txt").read_text() == (folder / "letter.md").read_text() == "mine"
    assert {path.name for path in folder.glob("letter.pdf*")} == {
        *("letter.pdf", "letter.pdf.md", "letter.pdf.html"),
    }


def test_a_document_that_changes_while_it_is_read_is_read_anew(user: Stack, tmp_path: Path) -> None:
    source = write(tmp_path, "a.pdf", *[None] * 30)
    with page_stub(delay_ms=1_200) as slow:
        words = ("ocr", str(source), "--out", str(user.state / "out"), "--url", slow.url)
        command = [sys.executable, "-m", "invoke", *words, "--concurrency", "4"]
        with program(command, env=user.environment) as reading:
            eventually(lambda: _assert_some(user))
            other = tmp_path / "other.pdf"
            other.write_bytes(document("other", [None] * 30))
            other.rename(source)
            assert reading.wait(180) == 0
        asked = slow.counts()["asked"]
    found = pages(user)
    assert len(found) == 30
    assert all(page["text"] == f"page {page['sha256']}" for page in found)
    assert len(asked) >= 30
    before = {page["sha256"] for page in found}
    with page_stub() as stub:  # what is there is the new one's: nothing is left to be asked for
        said = ocr(user, stub, source).stderr
        assert stub.counts()["asked"] == {}
    assert "has changed" not in said
    assert {page["sha256"] for page in pages(user)} == before


def test_a_copy_that_paused_is_read_again_by_who_watches(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", user.state / "out"
    inbox.mkdir()
    whole = document("whole", [None, None])
    (inbox / "a.pdf").write_bytes(whole[:20])
    words = ("ocr", "--watch", str(inbox), "--out", str(out), "--url", stub.url)
    command = [sys.executable, "-m", "invoke", *words]
    with program(command, env=user.environment, stderr=subprocess.DEVNULL) as watching:
        eventually(lambda: _assert_says(out / "a.md", "was not read"))
        (inbox / "a.pdf").write_bytes(whole[: len(whole) // 3])
        eventually(lambda: _assert_says(out / "a.md", "\ndamaged: "))
        (inbox / "a.pdf").write_bytes(whole)
        eventually(lambda: _assert_says(out / "a.md", "\npages: 2\nmodel: "))
        eventually(lambda: _assert_says(out / "a.md", 'id="page-2"'))
        eventually(lambda: _assert_gone(out / "quarantine" / "a"))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


def _assert_gone(path: Path) -> None:
    assert not path.exists()


def _assert_says(path: Path, text: str) -> None:
    assert path.exists()
    assert text in path.read_text()


def test_a_source_that_is_gone_is_still_written_in_another_format(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source, out = write(tmp_path, "a.pdf", None), user.state / "out"
    ocr(user, stub, source)
    source.unlink()
    user.invoke("ocr", "--out", str(out), "--url", stub.url, "--format", "html")
    assert (out / "a.html").exists()


def test_one_document_that_cannot_be_written_does_not_stop_the_others(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", user.state / "out"
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        write(source, name, None)
    (out / "b.md").mkdir(parents=True)
    (out / "b.pdf.md").mkdir()
    ocr(user, stub, source)
    assert {path.name for path in out.glob("*.md") if path.is_file()} == {
        *("a.md", "c.md", "b.pdf.2.md"),
    }


def test_the_lock_is_no_way_to_another_file(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    out, precious = user.state / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("mine")
    (out / ".lock").symlink_to(precious)
    said = ocr(user, stub, write(tmp_path, "a.pdf"), code=8).stderr
    assert "out/.lock` is a link, expected a file" in said
    assert precious.read_text() == "mine"
