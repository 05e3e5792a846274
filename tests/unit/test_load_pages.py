"""The pages of a load test: which ones, that all copies differ, and what is asked of them."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from pages import encoded, page
from PIL import Image, ImageChops

from cloister import corpus
from cloister.errors import LoadTestError
from cloister.loadtest import documents, unique, workload
from cloister.loadtest.documents import Letter, Question
from cloister.loadtest.unique import Copies
from cloister.loadtest.workload import OutputLengths

QUESTION = Question("m", "Read it.", 100, 0, None)


@pytest.mark.parametrize("path", sorted(workload.folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_workload_is_valid_and_a_mix(path: Path) -> None:
    mix = workload.load(path.stem)
    made = workload.pages(mix, 7)
    assert made == workload.pages(mix, 7)
    assert made != workload.pages(mix, 8)
    assert {spec.kind for spec in made} == set(mix.kinds)
    assert len({spec.seed for spec in made}) == mix.documents


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("about: x\ndocumnets: 3\n", "`documents`: Field required"),
        ("documents: {a: 1}\nabout: [\n", "cannot be read"),
        ("- a\n", "valid dictionary"),
    ],
)
def test_a_wrong_workload_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(LoadTestError, match=said):
        workload.load(str(path))


def test_an_unknown_workload_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LoadTestError, match="mixed") as caught:
        workload.load("nope")
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("make", [unique.png, unique.jpeg])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("width", [301, 640, 1240])
def test_copies_differ_in_bytes_and_pixels_and_show_the_same(
    make: Callable[[Image.Image], Copies], mode: str, width: int
) -> None:
    drawn = page("Page 2345", (width, 160)).convert(mode)
    copies = make(drawn)
    texts = [copies.copy(number) for number in range(200)]
    images = [_opened(text) for text in texts]
    assert len(set(texts)) == 200
    assert len({image.tobytes() for image in images}) == 200
    for image in (images[0], images[199]):
        assert (image.size, image.mode) == (drawn.size, drawn.mode)
        apart = ImageChops.difference(image.convert("L"), drawn.convert("L"))
        below = apart.crop((0, 20, *apart.size)).tobytes()
        assert max(below) <= 40, "only JPEG's own losses"


def test_a_png_loses_nothing_but_its_first_row() -> None:
    drawn = corpus.render(corpus.generate("form", 1).pdf, 0, 100)
    apart = ImageChops.difference(_opened(unique.png(drawn).copy(2**48 - 1)), drawn)
    assert not apart.crop((0, 1, *apart.size)).getbbox()


def test_a_letter_asks_as_invoke_ocr_does_and_streams(tmp_path: Path) -> None:
    documents.draw(workload.load("quick"), 1, tmp_path)
    letters = documents.letters(tmp_path, QUESTION)
    assert len(letters) == 14
    asked = json.loads(letters[0].body(5, Random(1)))
    assert asked["model"] == "m"
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}
    image, prompt = asked["messages"][0]["content"]
    assert prompt == {"type": "text", "text": "Read it."}
    head, _, content = image["image_url"]["url"].partition(",")
    assert head in {"data:image/png;base64", "data:image/jpeg;base64"}
    assert _opened(content.encode()).size[0] > 100
    assert sum(letter.blank for letter in letters) == 1


def test_lengths_are_drawn_for_noise(tmp_path: Path) -> None:
    documents.draw(workload.load("quick"), 1, tmp_path)
    lengths = OutputLengths(median=50, sigma=1, least=40, most=60)
    letter = documents.letters(tmp_path, Question("m", "p", 100, 0, lengths))[0]
    random = Random(1)
    drawn = [json.loads(letter.body(number, random)) for number in range(30)]
    assert all(body["ignore_eos"] for body in drawn)
    assert all(body["max_tokens"] == body["min_tokens"] for body in drawn)
    seen = {body["max_tokens"] for body in drawn}
    assert min(seen) == 40
    assert max(seen) == 60


def test_own_documents_with_and_without_truth(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    (source / "a.png").write_bytes(encoded(page("One")))
    (source / "a.txt").write_text("One")
    (source / "b.pdf").write_bytes(corpus.generate("letter", 1).pdf)
    (source / "c.jpg").write_bytes(encoded(page("Three").convert("CMYK"), "JPEG"))
    count: list[None] = []
    documents.copy([str(source)], "png", 100, tmp_path / "out", lambda: count.append(None))
    sheets = list(documents.sheets(tmp_path / "out"))
    assert [sheet.truth for sheet in sheets] == ["One", None, None]
    assert [sheet.kind for sheet in sheets] == ["png", "pdf", "jpg"]
    assert len(count) == 3
    assert all(Letter(tmp_path / "out", sheet, QUESTION).body(1, Random()) for sheet in sheets)


def test_an_unreadable_document_is_refused_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(LoadTestError, match="damaged PDF"):
        documents.copy([str(tmp_path)], "png", 100, tmp_path / "out", lambda: None)


def _opened(text: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    image.load()
    return image
