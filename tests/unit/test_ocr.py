"""The client, with a service that answers from a table."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from fpdf import FPDF
from PIL import Image
from requests.adapters import BaseAdapter

from cloister import canary, chat, corpus
from cloister.config import OcrSettings
from cloister.engines.tesseract import bundled_tessdata, reader
from cloister.errors import OcrError
from cloister.ocr import Client, Document, Page, PageResult, Unreadable, by_document, find, pages
from cloister.ocr.output import targets

GOOD = {
    "model": "tesseract-5.5.4",
    "choices": [{"message": {"content": "Text"}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 1},
}


def png(size: tuple[int, int] = (20, 10)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, "white").save(file, "PNG")
    return file.getvalue()


class Answers(BaseAdapter):
    """Gives prepared answers in turn: a status, a body and headers each, or an exception."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[Any] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append(json.loads(request.body or "null"))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body, *headers = answer
        response = requests.Response()
        response.status_code = status
        response.raw = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        response.headers.update(headers[0] if headers else {})
        return response

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Client, Answers]]:
    def make(*answers: Any) -> tuple[Client, Answers]:
        adapter = Answers(*answers)
        session = requests.Session()
        session.mount("http://", adapter)
        monkeypatch.setattr(Client, "_session", lambda _: session)
        return Client(chat.Pass("http://service"), OcrSettings(), model="m", timeout_s=5), adapter

    return make


def test_no_page_goes_to_a_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    with chat.session() as session:
        found = session.merge_environment_settings("http://127.0.0.1:8001", {}, None, None, None)
    assert not found["proxies"]


def page(tmp_path: Path) -> Page:
    return Page(Document(tmp_path / "a.png", Path("a.png")), 1, 1, png(), "image/png")


def test_a_page_is_sent_as_the_models_card_has_it(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path
) -> None:
    reader_, adapter = client((200, GOOD, {"X-Cloister-Engine": "tesseract/5.5.4"}))
    result = reader_.read(page(tmp_path))
    assert (result.text, result.error, result.engine) == ("Text", None, "tesseract/5.5.4")
    (sent,) = adapter.sent
    image, prompt = sent["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert prompt["text"] == OcrSettings().prompt
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0, 15000, "m")


def test_a_full_queue_and_a_lost_connection_are_tried_again(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path
) -> None:
    full = (503, {"error": {"message": "full"}}, {"Retry-After": "0"})
    reader_, adapter = client(full, requests.ConnectionError("lost"), full, (200, GOOD))
    result = reader_.read(page(tmp_path))
    assert (result.text, result.attempts) == ("Text", 4)
    assert adapter.answers == []


@pytest.mark.parametrize("status", [400, 404, 413, 500, 504])
def test_a_refusal_is_the_pages_error_and_is_not_tried_again(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path, status: int
) -> None:
    reader_, _ = client((status, {"error": {"message": "the reason"}}))
    result = reader_.read(page(tmp_path))
    assert result.text is None
    assert result.error == f"HTTP {status}: the reason"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[]", b"null"])
def test_an_answer_of_another_shape_is_an_error_not_an_empty_page(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path, body: bytes
) -> None:
    reader_, _ = client((200, body))
    result = reader_.read(page(tmp_path))
    assert "does not answer like the OpenAI API" in (result.error or "")


def test_a_cut_text_is_kept_and_is_an_error(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path
) -> None:
    cut = {**GOOD, "choices": [{"message": {"content": "Te"}, "finish_reason": "length"}]}
    reader_, _ = client((200, cut))
    result = reader_.read(page(tmp_path))
    assert result.text == "Te"
    assert "`length`" in (result.error or "")


def test_many_pages_come_back_in_order_and_few_are_held(
    client: Callable[..., tuple[Client, Answers]], tmp_path: Path
) -> None:
    reader_, _ = client(*[(200, GOOD)] * 20)
    taken = 0

    def source() -> Any:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield Page(Document(tmp_path, Path("a")), number, 20, png(), "image/png")

    results = reader_.read_all(source(), concurrency=2)
    assert next(results).page == 0
    assert taken <= 4
    assert [result.page for result in results] == list(range(1, 20))


def test_an_unhealthy_service_is_said_before_anything_is_sent(
    client: Callable[..., tuple[Client, Answers]],
) -> None:
    with pytest.raises(OcrError, match="no engine that answers"):
        client((503, {}))[0].require_healthy()
    with pytest.raises(OcrError, match="no service answers"):
        client(requests.ConnectionError())[0].require_healthy()


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


def test_documents_of_one_name_keep_their_suffixes() -> None:
    inputs = [Document(Path("/x") / name, Path(name)) for name in ("a.pdf", "a.png", "b.png")]
    found = targets(inputs, Path("out"))
    assert [str(path) for path in found.values()] == ["out/a.pdf.md", "out/a.png.md", "out/b.md"]


def only(path: Path) -> Any:
    return list(pages([Document(path, Path(path.name))], dpi=100))


def test_a_pdf_is_rendered_page_by_page_at_the_resolution_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(corpus.generate("letter", 0, pages=2).pdf)
    first, second = only(tmp_path / "a.pdf")
    assert (first.number, second.number, first.count) == (1, 2, 2)
    image = Image.open(io.BytesIO(first.image))
    assert round(image.info["dpi"][0]) == 100
    assert image.width in {827, 850}  # A4 or letter


def test_an_image_is_sent_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (result,) = only(tmp_path / "a.png")
    assert (result.image, result.mime) == (png(), "image/png")


def test_a_tiff_of_several_pages_becomes_several_pages(tmp_path: Path) -> None:
    frames = [Image.new("1", (20, 10 + number)) for number in range(3)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    found = only(tmp_path / "a.tiff")
    assert [(item.number, item.count) for item in found] == [(1, 3), (2, 3), (3, 3)]
    assert Image.open(io.BytesIO(found[2].image)).size == (20, 12)


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
    results = [
        PageResult("a.pdf", 1, "One", None),
        PageResult("a.pdf", 2, None, "the reason"),
        PageResult("a.pdf", 3, "", None),
        PageResult("b.pdf", 0, None, "locked"),
    ]
    first, second = by_document(iter(results))
    assert first.markdown == (
        "One\n\n> **Page 2 was not read:** the reason\n\n<!-- page 3: no text on it -->\n"
    )
    assert second.markdown == "> **This document was not read:** locked\n"
    assert [result.page for result in first.failed] == [2]


def test_the_canary_is_a_page_that_tesseract_reads_and_a_wrong_answer_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = chat.body(
        canary.page("Canary 234567"), "image/png", model="", prompt="", max_tokens=1
    )
    url = request["messages"][0]["content"][0]["image_url"]["url"]
    assert reader.read(url, "eng", str(bundled_tessdata()), 100) == ("Canary 234567",)
    monkeypatch.setattr(
        chat, "complete", lambda *_, **__: chat.Reading("Canary 000000", "stop", "e", 1, 0.1)
    )
    with pytest.raises(OcrError, match="on a page that says"):
        canary.check(chat.session(), "http://service", model="m", prompt="p", timeout_s=1)
