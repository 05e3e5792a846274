"""`invoke ocr` where pages, files and services fail: tried again, set apart, never lost."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from deployments import Stack
from fpdf import FPDF
from hostile_documents import hostile
from ocr_runs import ocr, pages, write
from page_stub import MARKS
from page_stubs import PageStub

from cloister.rendering import SUFFIXES


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


def test_a_file_whose_end_is_lost_is_read_as_far_as_it_goes_and_says_so(
    user: Stack, stub: PageStub, tmp_path: Path
) -> None:
    source = write(tmp_path, "a.pdf", None, None, None)
    whole = source.read_bytes()
    source.write_bytes(whole[: whole.rindex(b"xref", 0, whole.rindex(b"startxref"))])
    said = ocr(user, stub, source).stderr
    assert said.count("parts of it may be missing") == 1
    assert "\ndamaged: the file was rebuilt" in (user.state / "out" / "a.md").read_text()
    assert all(page["rebuilt"] for page in pages(user))
    place = whole.rindex(b"endobj", 0, whole.rindex(b"/Type /Page\n"))
    source.write_bytes(whole[:place])
    ocr(user, stub, source, code=8)
    assert [page["state"] for page in pages(user)] == ["read", "read", "failed"]
