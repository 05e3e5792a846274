import json
import re
import time
from collections.abc import Callable
from html import unescape

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cloister import corpus
from cloister.cleaning import clean, printable
from cloister.output import SUFFIX, Format, PageText, Source, Style, body, compose

SOURCE = Source(
    "reports/annual report.pdf",
    "ab" * 32,
    6,
    "nanonets/Nanonets-OCR2-3B",
    "nanonets-ocr2-3b",
    ("vllm", "tesseract"),
    "2026-11-27T15:46:50Z",
)
HEAD = "<thead><tr><th>Item</th><th>Sum</th></tr></thead>"
PAGES = [
    PageText(
        1,
        "ACME annual report\n\n# A *year* of growth\n\nWe grew by $x_1 > 7$ % &amp; more.\n\n"
        "- one\n  - two\n\n3. three\n\n<img>A bridge in fog</img>\n\n"
        f"<table>{HEAD}<tr><td>Nuts &amp; bolts</td><td>7</td></tr></table>\n\n"
        "<page_number>1</page_number>",
        facts={"engine": "vllm", "tokens": 120, "page": 99},
    ),
    PageText(
        2,
        f"ACME annual report\n\n<table>{HEAD}<tr><td>Pins</td><td>8</td></tr></table>\n\n"
        "\u2611 audited \u2610 open <watermark>DRAFT</watermark>\n\n"
        "<page_number>2</page_number>",
    ),
    PageText(
        3, "ACME annual rep0rt\n\n```\n<img>code</img>\n```\n\nSigned <signature>J. Doe</signature>"
    ),
    PageText(4, None, "HTTP 503: `busy`\n# <b>[now](x)</b>"),
    PageText(5, "ACME annual report\n\nIt ends in the mid", "the answer was cut off"),
    PageText(6, ""),
]
FORMATS: list[Format] = ["markdown", "jsonl", "html", "txt"]


@pytest.mark.parametrize("name", FORMATS)
def test_golden(name: Format, golden: Callable[[str, str], None]) -> None:
    golden(f"output-keep{SUFFIX[name]}", compose(SOURCE, PAGES, Style(name)))


@pytest.mark.parametrize("name", FORMATS)
def test_golden_with_everything_on(name: Format, golden: Callable[[str, str], None]) -> None:
    style = Style(name, tags="map", headers="remove", tables="join")
    golden(f"output-changed{SUFFIX[name]}", compose(SOURCE, PAGES, style))


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (PageText(2, None, "no answer"), "> **Page 2 was not read:** no answer"),
        (PageText(2, "text", "cut"), "text\n\n> **Page 2 is incomplete:** cut"),
        (PageText(2, "", "cut"), "> **Page 2 is incomplete:** cut"),
        (PageText(0, None, "no PDF"), "> **This document was not read:** no PDF"),
        (PageText(2, None), "> **Page 2 was not read:** no reason was given"),
        (PageText(3, " \n"), "<!-- page 3: no text on it -->"),
        (PageText(3, "text"), "text"),
        (PageText(2, None, "a\n\n# b\u2028c"), "> **Page 2 was not read:** a # b c"),
        (
            PageText(2, None, "`a` <b> \\[c](d)"),
            "> **Page 2 was not read:** 'a' &lt;b> \\\\\\[c](d)",
        ),
    ],
)
def test_body_has_no_silent_gap(page: PageText, text: str) -> None:
    assert body([page], Style()) == text + "\n"


def test_strip_leaves_a_page_that_was_only_numbered_empty() -> None:
    page = PageText(3, "<page_number>3</page_number>")
    assert body([page], Style(tags="strip")) == "<!-- page 3: no text on it -->\n"


def front(text: str) -> dict[str, object]:
    found = yaml.safe_load(text.partition("\n---\n")[0])
    assert isinstance(found, dict)
    return found


def test_front_matter() -> None:
    assert front(compose(SOURCE, PAGES, Style())) == {
        "source": "reports/annual report.pdf",
        "sha256": "ab" * 32,
        "pages": 6,
        "failed_pages": [4, 5],
        "model": "nanonets/Nanonets-OCR2-3B",
        "profile": "nanonets-ocr2-3b",
        "engine": ["vllm", "tesseract"],
        "date": "2026-11-27T15:46:50Z",
    }


def test_front_matter_of_a_damaged_file_says_so() -> None:
    pages = [PageText(1, "x", facts={"rebuilt": True}), PageText(2, None, "cannot be rendered")]
    assert "rebuilt" in str(front(compose(SOURCE, pages, Style()))["damaged"])
    assert "<th>damaged</th>" in compose(SOURCE, pages, Style(format="html"))
    assert '"rebuilt": true' in compose(SOURCE, pages, Style(format="jsonl"))


def test_front_matter_leaves_out_what_is_not_known() -> None:
    text = compose(
        Source("a.pdf", None, 1, "m", None, (), "2026-11-27"), [PageText(1, "x")], Style()
    )
    assert set(front(text)) == {"source", "pages", "model", "engine", "date"}
    assert text.endswith('---\n\n<a id="page-1"></a>\n\nx\n')


@given(
    st.text() | st.sampled_from(["a\n---\n# b", "'", '"', "x: y", "- a", "---", "\x85", "&a *b"])
)
def test_a_hostile_name_or_reason_stays_on_its_line(text: str) -> None:
    source = Source(text, None, 1, text, text, (text,), text)
    lines = compose(source, [PageText(1, None, text)], Style()).split("\n")
    folded = " ".join(printable(text).split())
    assert front("\n".join(lines))["source"] == folded
    assert [len(lines), lines[8], lines[9], lines[10]] == [14, "---", "", '<a id="page-1"></a>']
    assert lines[12].startswith("> **Page 1 was not read:** ")


ANCHORS = st.sampled_from(
    ['<a id="page-1"></a>', "<A  ID=page-2>", "<a href=x id='page-1'>", '<section id="page-1">']
)


@given(st.lists(st.text() | ANCHORS | st.none(), min_size=1, max_size=4))
def test_each_page_has_one_anchor(texts: list[str | None]) -> None:
    pages = [PageText(number, text) for number, text in enumerate(texts, 1)]
    for style in (Style(), Style("markdown", "map", "remove", "join")):
        found = compose(SOURCE, pages, style)
        for page in pages:
            assert found.count(f'<a id="page-{page.number}"></a>') == 1
    for page in pages:
        assert (
            compose(SOURCE, pages, Style("html")).count(f'<section id="page-{page.number}">') == 1
        )


def test_a_document_that_was_not_opened_has_no_page() -> None:
    page = PageText(0, None, "not a PDF")
    for name in FORMATS:
        text = compose(SOURCE, [page], Style(name))
        assert "not a PDF" in text
        assert "page-0" not in text


@given(st.lists(st.none() | st.text(), max_size=4))
def test_json_lines_say_all_of_a_page(texts: list[str | None]) -> None:
    pages = [PageText(n, text, facts={"n": n, "text": 0}) for n, text in enumerate(texts, 1)]
    lines = compose(SOURCE, pages, Style("jsonl")).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [
        {
            "document": SOURCE.name,
            "page": page.number,
            "text": None if page.text is None else clean(page.text).text,
            "error": None,
            "n": page.number,
            **({"removed_characters": count} if (count := clean(page.text or "").removed) else {}),
        }
        for page in pages
    ]


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        ("# A *b* **c** `d`", "A b c d"),
        ("a\nb\n\nc", "a\nb\n\nc"),
        ("5 &lt; 6 &amp; 7", "5 < 6 & 7"),
        ("- a\n- b\n  1. c\n  2. d\n- e", "- a\n- b\n  1. c\n  2. d\n- e"),
        ("3. a\n\n4. b", "3. a\n4. b"),
        ("> said", "said"),
        ("a\n\n---\n\nb", "a\n\nb"),
        ("```\na  b\n\n\n  c\n```", "a  b\n\n\n  c"),
        ("|a|b|\n|---|---|\n|1|2|", "a\tb\n1\t2"),
        ("<table>\n<tr>\n<td> a\nb </td>\n<td></td>\n<td>c</td></tr></table>\nd", "a b\t\tc\n\nd"),
        (
            "<table><tr><td>a<br>b</td><td><table><tr><td>c</td></tr></table></td></tr></table>",
            "a b\tc",
        ),
        ("<watermark>*A*</watermark> \u2611", "<watermark>A</watermark> \u2611"),
        ("![a bridge](x.png)", "[image: a bridge]"),
        ("$a_1*b*c$ \\(d\\)", "$a_1*b*c$ \\(d\\)"),
        ("a\fb", "a\nb"),
        ("<ol start=99999999999999999999><li>a</li></ol>", "- a"),
        ("<!-- note -->", ""),
        ("Dear <Name>", "Dear <Name>"),
    ],
)
def test_plain_text(markdown: str, plain: str) -> None:
    assert compose(SOURCE, [PageText(1, markdown)], Style("txt")) == plain + "\n"


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_plain_text_has_one_form_feed_between_pages(texts: list[str]) -> None:
    pages = [PageText(number, text) for number, text in enumerate(texts, 1)]
    assert compose(SOURCE, pages, Style("txt")).count("\f") == len(texts) - 1


def test_a_generated_article_is_the_same_in_all_formats() -> None:
    texts = corpus.generate("article", 3, pages=3).pages
    pages = [PageText(number, text) for number, text in enumerate(texts, 1)]
    everything = Style("markdown", "map", "remove", "join")
    assert body(pages, Style()) == "\n\n".join(texts) + "\n"
    assert "Page 2" not in body(pages, everything)
    for name in FORMATS:
        found = compose(SOURCE, pages, Style(name))
        assert all(text.rsplit("\n\n", 2)[1][:80] in found for text in texts)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_unicode_can_still_be_written(name: Format) -> None:
    source = Source("caf\udce9.pdf", None, 1, "m", None, (), "2026-11-27")
    pages = [PageText(1, "lone \ud83d"), PageText(2, None, "caf\udce9.pdf is broken")]
    assert compose(source, pages, Style(name)).encode()


@pytest.mark.parametrize("name", FORMATS)
def test_pages_of_a_model_that_ran_away_take_seconds(name: Format) -> None:
    for piece in ("<a ", "\\(", "$$", "`", "<tr>", "<table>", "<!--", "[", "<img>", "|", "\n- a"):
        pages = [PageText(number, piece * (10_000 // len(piece))) for number in (1, 2, 3)]
        started = time.process_time()
        compose(SOURCE, pages, Style(name, "map", "remove", "join"))
        assert time.process_time() - started < 5, piece


# Controls but for tabs and line feeds, overrides and isolates of a direction, line separators.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\U000e0001-\U000e007f]"
)
CODES = (
    0,
    7,
    8,
    9,
    0xB,
    0xD,
    0x1B,
    0x7F,
    0x80,
    0x85,
    0x90,
    0x9B,
    0x9C,
    0x9D,
    0x2028,
    0x202E,
    0xE0041,
)
REFERENCES = st.builds(
    str.format,
    st.sampled_from(("&#{0}", "&#{0};", "&#x{0:x}", "&#X{0:X};", "&#000{0};", "{0:c}")),
    st.sampled_from(CODES),
)
PIECES = (
    *("<p>", "</p>", "<div>", "</div>", "<ul><li>", "</li></ul>", "<b>", "</b>", "\n", "\n\n", "`"),
    *(
        "<table><tr><td>",
        "</td></tr></table>",
        '<a href="http://a.example/',
        '">',
        "- a",
        "    ",
        "```",
    ),
    *(
        "[x](http://a.example/",
        ")",
        '<span class="img',
        "]0;",
        "[31m",
        "P",
        "\\",
        "&amp;",
        "$",
        "<img>",
    ),
)
HOSTILE = st.lists(REFERENCES | st.sampled_from(PIECES) | st.text(max_size=3), max_size=20).map(
    "".join
)


@given(HOSTILE)
@example("<p>&#27;]one</p>\n\n<p>two &#7;</p>")
@example("<ul><li>a &#x1b;P b</li></ul><ol><li>c&#x9c;</li></ol>")
@example('<a href="http://a.example/&#x202e;gpj&#27 x">&#0;&#x80;&#x1b</a>')
def test_no_format_ever_holds_what_is_obeyed(text: str) -> None:
    source = Source(text, None, 1, text, text, (text,), text)
    pages = [
        PageText(1, text, facts={"engine": text}),
        PageText(2, None, text),
        PageText(3, text, text),
    ]
    for name in FORMATS:
        for style in (Style(name), Style(name, "map", "remove", "join"), Style(name, "strip")):
            made = compose(source, pages, style)
            assert not OBEYED.search(made.replace("\f", "")), name
            assert made.count("\f") == 2 * (name == "txt")
            if name == "html":
                assert not OBEYED.search(unescape(made))
            if name == "jsonl":
                values = [json.loads(line) for line in made.splitlines()]
                assert not [v for line in values for v in line.values() if OBEYED.search(str(v))]
    assert not OBEYED.search(body(pages, Style()))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<p>&#27;]one</p>\n\n<p>two &#7;end</p>", "]one\n\ntwo end"),
        ("<ul><li>a &#x9d;b</li></ul>\n\n<p>c&#x1b;\\d</p>", "- a b\n\nc\\d"),
        ("<table><tr><td>a&#x1b;[</td><td>b</td></tr></table>", "a[\tb"),
        ("<p>invoice &#x202e;gpj.exe&#27</p>", "invoice gpj.exe"),
    ],
)
def test_a_reference_to_a_control_character_takes_no_element_along(text: str, plain: str) -> None:
    assert compose(SOURCE, [PageText(1, text)], Style("txt")) == plain + "\n"


def test_what_was_removed_from_a_page_is_told() -> None:
    pages = [PageText(1, "<p>a&#27;b&#x202e;c</p>", facts={"removed_characters": 3})]
    assert "<tr><th>removed_characters</th><td>5</td></tr>" in compose(SOURCE, pages, Style("html"))
    assert "removed_characters" not in compose(SOURCE, PAGES, Style("html"))
    line = compose(SOURCE, [PageText(1, "a\x1b[1mb")], Style("jsonl"))
    assert json.loads(line)["removed_characters"] == 4
