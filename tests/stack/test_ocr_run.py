"""`invoke ocr` into a run folder, against a model that misbehaves on command."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from deployments import ROOT, Stack, eventually
from fpdf import FPDF
from hostile_documents import hostile
from page_stub import MARKS
from page_stubs import PageStub, document, page_stub

from cloister.rendering import SUFFIXES


@pytest.fixture
def stub() -> Iterator[PageStub]:
    with page_stub() as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> Stack:
    """Somebody who has no service here, and is given the address of another one."""
    (tmp_path / "cloister.yaml").touch()
    return Stack(tmp_path, 9)


def write(folder: Path, name: str, *marks: str | None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document(name, marks or [None]))
    return path


def ocr(user: Stack, stub: PageStub, source: Path, *flags: str, code: int = 0) -> Any:
    out = user.state / "out"
    words = ("ocr", str(source), "--out", str(out), "--url", stub.url, *flags)
    return user.invoke(*words, code=code)


def summary(user: Stack) -> Any:
    return user.json("ocr", "--status", "--out", str(user.state / "out"))


def pages(user: Stack) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(user.state / "out" / "ledger.sqlite")) as base:
        rows = base.execute(
            "SELECT name, number, state, text, facts FROM pages JOIN documents ON id = document "
            "ORDER BY name, number"
        ).fetchall()
    return [
        {"name": name, "number": number, "state": state, "text": text, **json.loads(facts or "{}")}
        for name, number, state, text, facts in rows
    ]


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


class Bad(NamedTuple):
    """How a page misbehaves, and what comes of it; `kept` is whether some of its text is."""

    mark: str
    attempts: int
    reason: str
    kept: bool = False


@pytest.mark.parametrize(
    "bad",
    [
        Bad("loop", 5, "repeated itself", kept=True),
        Bad("row loop", 5, "repeated itself", kept=True),
        Bad("truncated", 5, "cut off", kept=True),
        Bad("empty", 5, "not blank", kept=True),
        Bad("garbage", 5, "no text", kept=True),
        Bad("refusal", 5, "declined", kept=True),
        Bad("error", 3, "HTTP 500"),
    ],
    ids=lambda bad: bad.mark,
)
def test_a_page_that_misbehaves_is_tried_in_other_ways_and_set_apart(
    user: Stack, stub: PageStub, tmp_path: Path, bad: Bad
) -> None:
    source = write(tmp_path, "a.pdf", None, bad.mark, None)
    said = ocr(user, stub, source, code=8).stderr
    assert "1 of 3 pages were not read" in said
    assert bad.reason in said
    before, page, after = pages(user)
    assert (before["state"], after["state"]) == ("read", "read")
    # Of a page in halves the second one has no mark: it is read, and kept.
    assert page["attempts"] == bad.attempts
    text = (user.state / "out" / "a.md").read_text()
    assert ("**Page 2 is incomplete:**" in text) is bad.kept
    assert ("**Page 2 was not read:**" in text) is not bad.kept
    apart = user.state / "out" / "quarantine" / "a"
    assert (apart / "page-0002.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((apart / "page-0002.json").read_text())
    assert bad.reason in told["reason"]
    assert len(told["requests"]) == bad.attempts


def test_a_loop_is_cut_soon_and_another_temperature_reads_the_page(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    ocr(user, stub, write(tmp_path, "a.pdf", "loop once", None))
    looped, _ = pages(user)
    assert looped["state"] == "read"
    assert looped["attempts"] == 2
    first, second = (body for body in stub.counts()["bodies"] if body["sha256"] == looped["sha256"])
    assert (first["temperature"], second["temperature"]) == (0, 0.2)
    assert first["repetition_detection"]["min_count"] > 100
    assert 0 < looped["wasted_tokens"] < 1_500
    assert stub.counts()["tokens"]["loop once"] < 10_000  # of 15,000: we hung up


def test_failed_pages_are_read_again_on_request_and_leave_the_quarantine(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = write(tmp_path, "a.pdf", None, "loop once")
    ocr(user, stub, source, "--set", "ocr.attempts=1", code=8)
    assert (user.state / "out" / "quarantine" / "a" / "page-0002.json").exists()
    asked = sum(stub.counts()["asked"].values())
    ocr(user, stub, source, code=8)
    assert sum(stub.counts()["asked"].values()) == asked
    said = ocr(user, stub, source, "--retry-failed").stderr
    assert "1 pages are tried again" in said
    assert sum(stub.counts()["asked"].values()) == asked + 2
    assert not list((user.state / "out" / "quarantine").rglob("*.json"))
    assert "incomplete" not in (user.state / "out" / "a.md").read_text()


def test_a_blank_page_is_no_failure(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    (tmp_path / "blank.pdf").write_bytes(bytes(pdf.output()))
    stub.behave(empty=True)
    ocr(user, stub, tmp_path / "blank.pdf")
    assert "no text on it" in (user.state / "out" / "blank.md").read_text()


def test_a_service_that_is_full_is_given_less_and_waited_for(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    for number in range(10):
        write(source, f"{number}.pdf", None, None)
    stub.behave(refusals=6, status=429)
    ocr(user, stub, source)
    found = pages(user)
    assert all(page["state"] == "read" for page in found)
    assert sum(page["attempts"] for page in found) == 26


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
        with subprocess.Popen(
            command, cwd=ROOT, env=user.environment, stderr=subprocess.PIPE, text=True
        ) as reading:
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
        with subprocess.Popen(
            [sys.executable, "-m", "invoke", *words], cwd=ROOT, env=user.environment
        ) as reading:
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
    with subprocess.Popen(
        command, cwd=ROOT, env=user.environment, stderr=subprocess.PIPE, text=True
    ) as watching:
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


def test_what_is_healed_is_healed_in_every_format_without_naming_the_documents(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    out = user.state / "out"
    source = write(tmp_path, "a.pdf", None, "loop once")
    ocr(user, stub, source, "--set", "ocr.attempts=1", code=8)
    ocr(user, stub, source, "--set", "ocr.attempts=1", "--format", "html", code=8)
    assert "incomplete" in (out / "a.html").read_text()
    said = user.invoke("ocr", "--out", str(out), "--url", stub.url, "--retry-failed").stderr
    assert "2 read, 0 not read" in said
    assert "incomplete" not in (out / "a.html").read_text()
    assert "incomplete" not in (out / "a.md").read_text()
    assert list((out / "quarantine").iterdir()) == []


def test_a_further_attempt_is_another_picture(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    limit = ("--set", "vllm.max_pixels=200704")
    ocr(user, stub, write(tmp_path, "a.pdf", "garbage"), *limit, code=8)
    bodies = stub.counts()["bodies"]
    sizes = [width * height for width, height in (body["size"] for body in bodies)]
    assert all(size <= 200_704 for size in sizes)
    assert sizes[0] == sizes[1]
    assert 0.5 < sizes[2] / sizes[0] < 0.6  # three quarters of each side
    assert [body["temperature"] for body in bodies[:3]] == [0, 0.2, 0.2]


def test_a_pages_own_text_does_where_the_model_fails_and_says_so(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    pdf.add_page()
    pdf.set_fill_color(MARKS["refusal"])
    pdf.rect(0, 0, 30, 30, style="F")
    pdf.text(40, 80, "The committee met in May and adjourned in the evening of that day.")
    (tmp_path / "a.pdf").write_bytes(bytes(pdf.output()))
    ocr(user, stub, tmp_path / "a.pdf", "--text-layer", "fallback", "--set", "ocr.attempts=1")
    (page,) = pages(user)
    assert (page["state"], page["engine"]) == ("read", "text layer")
    text = (user.state / "out" / "a.md").read_text()
    assert "not the model's:** the model declined" in text
    assert "The committee met in May" in text


def test_a_name_cannot_write_to_the_terminal(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source, "a\x1b[31m\nerror: all is lost.pdf")
    said = ocr(user, stub, source).stderr
    assert "\x1b" not in said.replace("\\x1b", "")
    assert "\nerror: all is lost" not in said


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
        with subprocess.Popen(command, cwd=ROOT, env=user.environment) as reading:
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
    (inbox / "a.pdf").write_bytes(whole[: len(whole) // 3])
    words = ("ocr", "--watch", str(inbox), "--out", str(out), "--url", stub.url)
    command = [sys.executable, "-m", "invoke", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=user.environment, stderr=subprocess.DEVNULL
    ) as watching:
        eventually(lambda: _assert_says(out / "a.md", "was not read"))
        (inbox / "a.pdf").write_bytes(whole)
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
    assert "cannot be written" in said
    assert precious.read_text() == "mine"


def test_a_night_over_hostile_files_ends_with_a_result_or_a_reason_for_each(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    found = list(hostile().values())
    assert len(found) >= 60
    for one in found:
        (source / one.name).write_bytes(one.content)
    write(source, "zz good.pdf", None, None)
    flags = ("--set", "ocr.page_timeout_s=5", "--set", "ocr.memory_mib=512", "--json")
    told = json.loads(ocr(user, stub, source, *flags, code=8).stdout)
    # Only what has a document's suffix is looked for in a folder.
    named = [one for one in found if one.name.lower().endswith(SUFFIXES)]
    assert told["documents"] == len(named) + 1
    assert told["unfinished"] == 0
    reasons = {Path(page["document"]).name: page["reason"] for page in told["not_read"]}
    for one in named:
        if one.readable is False:
            assert re.search(one.reason, reasons[one.name]), (one.name, reasons[one.name])
    assert all(page["state"] == "read" for page in pages(user) if page["name"] == "zz good.pdf")
    outputs = {path.name for path in (user.state / "out").rglob("*.md")}
    assert len(outputs) == len(named) + 1  # a document that could not be opened says so in its own
