import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.output import tags

PIECES = st.sampled_from(
    [
        *("<page_number>", "</page_number>", "<watermark>", "</watermark>", "<img>", "</img>"),
        *("<signature>", "</signature>", "```\n", "`", "\n", "\n\n", " ", "<table>", "</table>"),
    ]
)
WORDS = st.from_regex(r"word[0-9]{4}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "stripped", "mapped"),
    [
        ("a\n\n<page_number>14</page_number>", "a", "a\n\n*[page 14]*"),
        ("<page_number>9/22</page_number>\n\na", "a", "*[page 9/22]*\n\na"),
        ("a\n\n<watermark>COPY</watermark>\n\nb", "a\n\nb", "a\n\n*[watermark: COPY]*\n\nb"),
        ("a\n<watermark>COPY</watermark>\nb", "a\nb", "a\n*[watermark: COPY]*\nb"),
        ("a <page_number>1</page_number> b", "a b", "a *[page 1]* b"),
        ("<page_number>3</page_number>", "", "*[page 3]*"),
        (
            "<watermark>A</watermark> <page_number>3</page_number>\n\nb",
            "b",
            "*[watermark: A]* *[page 3]*\n\nb",
        ),
        ("<img>A bridge.\n\nIn fog.</img>", "A bridge.\n\nIn fog.", "*[image: A bridge. In fog.]*"),
        ("a <img></img>", "a", "a *[image]*"),
        ("By <signature> J. Doe </signature>", "By J. Doe", "By *[signature: J. Doe]*"),
        ("By <signature></signature>\nb", "By\nb", "By *[signature]*\nb"),
        (
            "\u2610 no \u2611 yes \u2612 yes",
            "\u2610 no \u2611 yes \u2612 yes",
            "[ ] no [x] yes [x] yes",
        ),
        ("\u2611: yes, \u2611(a)", "\u2611: yes, \u2611(a)", "[x] : yes, [x] (a)"),
        ("- \u2611 a\n- \u2610 b", "- \u2611 a\n- \u2610 b", "- [x] a\n- [ ] b"),
        ("<watermark><img>logo</img></watermark>", "logo", "*[image: logo]*"),
        (
            "<table><tr><td><img>logo</img></td></tr></table> <img>b</img>",
            "<table><tr><td>logo</td></tr></table> b",
            "<table><tr><td><em>[image: logo]</em></td></tr></table> *[image: b]*",
        ),
    ],
)
def test_strip_and_map(text: str, stripped: str, mapped: str) -> None:
    assert tags.strip(text) == stripped
    assert tags.to_markdown(text) == mapped


@pytest.mark.parametrize(
    "text",
    [
        "a\n\nb",
        "```\n<img>x</img> \u2611\n```",
        "~~~html\n<page_number>1</page_number>",  # the page was cut off in its code
        "`<watermark>x</watermark>`",
        "`` ` <img>x</img> ``",
        "<page>1</page> <imgs>",
    ],
)
def test_code_and_other_tags_are_left_alone(text: str) -> None:
    assert tags.strip(text) == tags.to_markdown(text) == tags.to_spans(text) == text


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<watermark>COPY\n\nall of the page", "COPY\n\nall of the page"),
        ("all</img> of it", "all of it"),
        ("<img>a <img>b</img> c", "a b c"),
        ("<watermark>a <page_number>3</page_number> b", "a b"),
    ],
)
def test_an_unclosed_tag_swallows_nothing(text: str, rest: str) -> None:
    assert tags.strip(text) == rest


def test_spans_are_kept_on_one_line() -> None:
    text = "<img>a\n\nb</img> <page_number>3</page_number>"
    assert tags.to_spans(text) == '<span class="img">a b</span> <span class="page_number">3</span>'


@given(st.lists(WORDS | PIECES).map("".join))
def test_map_loses_no_word(text: str) -> None:
    words = [text[at : at + 8] for at in range(len(text)) if text.startswith("word", at)]
    assert all(word in tags.to_markdown(text) for word in words)


@given(st.lists(WORDS | st.sampled_from(["<img>", "</img>", "</signature>", "\n", "\n\n", " "])))
def test_strip_loses_no_word_outside_page_numbers_and_watermarks(pieces: list[str]) -> None:
    stripped = tags.strip("".join(["<watermark>gone</watermark>", *pieces]))
    assert "gone" not in stripped
    assert all(piece in stripped for piece in pieces if piece.startswith("word"))
