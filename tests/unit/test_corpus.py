import re
from collections import Counter
from io import BytesIO
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloister.corpus import KINDS, SPANNING, Document, encode, generate, render, scan
from cloister.corpus.lines import break_lines
from cloister.corpus.samples import sample_files, write_samples
from cloister.errors import ConfigError
from cloister.scoring import normalise

COMMITTED = Path(__file__).parents[2] / "samples"
KIND_AND_PAGES = [*((kind, 1) for kind in KINDS), *((kind, 2) for kind in sorted(SPANNING))]


def text_layer(document: Document) -> list[str]:
    """What PDFium reads on each page; it marks the hyphen at a line's end with U+FFFE or U+0002."""
    with pypdfium2.PdfDocument(document.pdf) as pdf:
        layers = [page.get_textpage().get_text_range() for page in pdf]
    return [re.sub(r"\ufffe|\x02|-\r?\n", "", layer) for layer in layers]


@pytest.mark.parametrize(("kind", "pages"), KIND_AND_PAGES)
def test_the_same_seed_gives_the_same_bytes(kind: str, pages: int) -> None:
    assert generate(kind, 7, pages) == generate(kind, 7, pages)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "blank"])
def test_another_seed_gives_another_document(kind: str) -> None:
    seeds = range(5)
    assert len({generate(kind, seed).pdf for seed in seeds}) == len(seeds)
    assert len({generate(kind, seed).markdown for seed in seeds}) == len(seeds)


@settings(max_examples=60)
@given(st.sampled_from(KIND_AND_PAGES), st.integers(min_value=0))
def test_the_truth_is_what_the_page_shows(wanted: tuple[str, int], seed: int) -> None:
    kind, pages = wanted
    document = generate(kind, seed, pages)
    assert len(document.pages) == pages
    for truth, layer in zip(document.pages, text_layer(document), strict=True):
        words = re.sub("[\u2610\u2611]", " ", normalise(truth)).split()
        assert Counter(words) == Counter(layer.split())
    assert document.markdown == "\n\n".join(document.pages)
    assert all(value in document.markdown for value in document.fields.values())


def test_every_kind_but_the_blank_one_has_fields_and_text() -> None:
    for kind in KINDS:
        document = generate(kind, 0)
        assert bool(document.fields) == bool(document.markdown) == (kind != "blank")


def test_nothing_is_drawn_outside_the_page() -> None:
    for kind, pages in KIND_AND_PAGES:
        for seed in range(3):
            for page in range(pages):
                image = render(generate(kind, seed, pages).pdf, page, 40)
                frame = Image.new("L", image.size, 0)
                frame.paste(255, (6, 6, image.width - 6, image.height - 6))
                assert (
                    Image.composite(Image.new("L", image.size, 255), image, frame).getextrema()[0]
                    == 255
                )


def test_articles_are_hyphenated() -> None:
    with pypdfium2.PdfDocument(generate("article", 2).pdf) as pdf:
        layer = pdf[0].get_textpage().get_text_range()
    assert re.search("[a-z][\ufffe\x02]|[a-z]-\r?\n", layer)


def test_forms_show_both_kinds_of_check_box() -> None:
    text = "".join(generate("form", seed).markdown for seed in range(5))
    assert "\u2611" in text
    assert "\u2610" in text


def test_markup_in_tables_is_limited() -> None:
    for kind in ("invoice", "table"):
        tags = set(re.findall(r"</?(\w+)", generate(kind, 3).markdown))
        assert tags == {"table", "tr", "th", "td"}


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="`poem`") as caught:
        generate("poem", 0)
    assert "invoice" in (caught.value.hint or "")


@pytest.mark.parametrize(("kind", "pages"), [("form", 2), ("letter", 0)])
def test_impossible_page_counts_are_refused(kind: str, pages: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot have {pages} pages"):
        generate(kind, 0, pages)


@pytest.mark.parametrize(("grayscale", "mode"), [(True, "L"), (False, "RGB")])
def test_rendered_and_scanned_pages_keep_mode_size_and_dpi(*, grayscale: bool, mode: str) -> None:
    page = render(generate("receipt", 0).pdf, 0, 100, grayscale=grayscale)
    worn = scan(page, 1)
    assert page.mode == worn.mode == mode
    assert page.size == worn.size
    assert round(80 / 25.4 * 100) == pytest.approx(page.width, abs=1)
    assert Image.open(BytesIO(encode(worn, "jpeg"))).info["dpi"] == (100, 100)


def test_a_scan_depends_on_its_seed_alone() -> None:
    page = render(generate("receipt", 0).pdf, 0, 60)
    assert scan(page, 1) == scan(page, 1)
    assert scan(page, 1) != scan(page, 2)
    assert scan(page, 1) != page


def test_encoding() -> None:
    page = render(generate("receipt", 0).pdf, 0, 60)
    assert Image.open(BytesIO(encode(page))).tobytes() == page.tobytes()
    assert len(encode(page, "jpeg", 30)) < len(encode(page, "jpeg", 90))


@given(st.text(alphabet="abcdeint -", max_size=200), st.integers(min_value=1, max_value=30))
def test_broken_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = break_lines(text, width, len, hyphenate=True)
    assert sum(line.words for line in lines) == len(text.split())
    joined = "".join(line.text[:-1] if line.broken else f"{line.text} " for line in lines)
    assert joined.split() == text.split()
    assert all(len(line.text) <= width or " " not in line.text for line in lines)


def test_the_committed_samples_are_what_the_generator_makes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == dict(sample_files())
    assert made.keys() == {path.name for path in COMMITTED.iterdir()} - {"README.md"}
    for name, content in made.items():
        assert content == (COMMITTED / name).read_bytes(), f"`invoke samples` changes {name}"


def test_sample_pages_are_small_and_grey() -> None:
    for path in COMMITTED.glob("*.png"):
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert image.mode == "L"
            assert [round(dpi) for dpi in image.info["dpi"]] == [200, 200]
