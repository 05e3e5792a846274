"""What the client makes of paths, pages and answers, without a service."""

import io
from pathlib import Path
from typing import Any

import pytest
import requests
from fpdf import FPDF
from PIL import Image

from cloister import canary, chat, corpus
from cloister.engines.tesseract import bundled_tessdata, reader
from cloister.errors import OcrError
from cloister.ocr import Document, DocumentResult, PageResult, Unreadable, find, pages
from cloister.ocr.documents import walk
from cloister.rendering import Drawing


def png(size: tuple[int, int] = (20, 10)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, "white").save(file, "PNG")
    return file.getvalue()


def test_no_page_goes_to_a_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    with chat.session(chat.Pass("http://127.0.0.1:8001")) as session:
        found = session.merge_environment_settings("http://127.0.0.1:8001", {}, None, None, None)
    assert not found["proxies"]


def test_paths_become_documents_once_each_and_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.PDF", "deep/c.tiff", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find([str(tmp_path / "b.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [str(document.name) for document in found] == ["b.png", "a.PDF", "deep/c.tiff"]
    assert str(find([str(tmp_path / "notes.txt")])[0].name) == "notes.txt"
    for nothing in ("nope.png", str(tmp_path / "x*.png")):
        with pytest.raises(OcrError):
            find([nothing])
    (tmp_path / "empty").mkdir()
    with pytest.raises(OcrError, match="no document in"):
        find([str(tmp_path / "empty")])


def test_the_output_is_no_input(tmp_path: Path) -> None:
    for name in ("a.png", "out/quarantine/a/page-0001.png", "below/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = walk([str(tmp_path)], beside=tmp_path / "out")
    assert [str(document.name) for document in found] == ["a.png", "below/b.png"]


def only(path: Path) -> Any:
    return list(pages([Document(path, Path(path.name))], Drawing(dpi=100)))


def test_a_pdf_is_rendered_page_by_page_at_the_resolution_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(corpus.generate("letter", 0, pages=2).pdf)
    first, second = only(tmp_path / "a.pdf")
    assert (first.number, second.number, first.count) == (1, 2, 2)
    image = Image.open(io.BytesIO(first.drawn.image))
    assert round(image.info["dpi"][0]) == 100
    assert image.width in {827, 850}  # A4 or letter


def test_an_image_is_sent_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (result,) = only(tmp_path / "a.png")
    assert (result.drawn.image, result.drawn.mime) == (png(), "image/png")


def test_a_tiff_of_several_pages_becomes_several_pages(tmp_path: Path) -> None:
    frames = [Image.new("1", (20, 10 + number)) for number in range(3)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    found = only(tmp_path / "a.tiff")
    assert [(item.number, item.count) for item in found] == [(1, 3), (2, 3), (3, 3)]
    assert Image.open(io.BytesIO(found[2].drawn.image)).size == (20, 12)


def locked() -> bytes:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_encryption(owner_password="owner", user_password="user")  # noqa: S106  # of a test
    return bytes(pdf.output())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a PDF or a known image"),
        (b"text", "not a PDF or a known image"),
        (b"%PDF-1.7 and nothing else", "a damaged PDF"),
        (locked(), "needs a password"),
    ],
)
def test_what_is_no_document_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    (result,) = only(tmp_path / "a.pdf")
    assert isinstance(result, Unreadable)
    assert reason in result.reason


def test_a_failed_page_leaves_a_mark_in_the_markdown() -> None:
    found = (
        PageResult("a.pdf", 1, "One"),
        PageResult("a.pdf", 2, None, "the reason"),
        PageResult("a.pdf", 3, ""),
    )
    first = DocumentResult("a.pdf", found)
    assert "One\n\n> **Page 2 was not read:** the reason\n\n<!-- page 3: no text" in first.markdown
    second = DocumentResult("b.pdf", (PageResult("b.pdf", 0, None, "locked"),))
    assert second.markdown == "> **This document was not read:** locked\n"
    assert [result.page for result in first.failed] == [2]


@pytest.mark.parametrize("padding", [0, canary.PADDING_BYTES])
def test_the_canary_is_a_page_that_tesseract_reads_and_a_wrong_answer_fails(
    monkeypatch: pytest.MonkeyPatch, padding: int
) -> None:
    request = chat.body(
        canary.page("Canary 234567", padding), "image/png", model="", prompt="", max_tokens=1
    )
    url = request["messages"][0]["content"][0]["image_url"]["url"]
    assert 512 << 10 < len(url) < 1 << 20 or not padding, "nginx' buffer; the smallest largest body"
    assert reader.read(url, "eng", str(bundled_tessdata()), 100) == ("Canary 234567",)
    monkeypatch.setattr(
        chat, "complete", lambda *_, **__: chat.Reading("Canary 000000", "stop", "e", 1, 0.1)
    )
    with pytest.raises(OcrError, match=r": 45% like 'Canary page [0-9]{6}'") as raised:
        canary.check(requests.Session(), "http://service", model="m", prompt="p", timeout_s=1)
    assert "read 13 characters on a page that has 18" in str(raised.value)


def test_what_an_engine_answers_to_a_test_page_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complaint is kept in the log of events, and the answer may be text of another page."""
    said = chat.Reading("Iban DE02 " * 10_000, "stop", "e", 1, 0.1)
    monkeypatch.setattr(chat, "complete", lambda *_, **__: said)
    with pytest.raises(OcrError) as raised:
        canary.check(requests.Session(), "http://service", model="m", prompt="p", timeout_s=1)
    assert "read 100000 characters" in str(raised.value)
    assert "DE02" not in str(raised.value)
