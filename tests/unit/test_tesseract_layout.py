"""Geometry of lines: paragraphs, headings, lists, columns and tables."""

from cloister.engines.tesseract.layout import Line, Paragraph, Table, Word, structure
from cloister.engines.tesseract.markdown import blocks, join

HEIGHT = 30
CHARACTER = 15


def line(text: str, left: int = 100, top: int = 0, *, height: int = HEIGHT, block: int = 0) -> Line:
    """Set words in a font whose characters are all of one width, half the line's height."""
    width = CHARACTER * height // HEIGHT
    words = []
    for word in text.split():
        right = left + width * len(word)
        words.append(Word(word, (left, top, right, top + height)))
        left = right + width
    return Line(tuple(words), float(height), block)


def page(*texts: str, left: int = 100, top: int = 0, height: int = HEIGHT) -> list[Line]:
    """Set lines below each other, a third of a line between."""
    step = height * 4 // 3
    return [line(text, left, top + step * n, height=height) for n, text in enumerate(texts)]


def row(*cells: tuple[int, str], top: int, block: int = 0) -> Line:
    words = tuple(word for left, text in cells for word in line(text, left, top).words)
    return Line(words, float(HEIGHT), block, in_table=True)


def test_an_empty_page_has_no_blocks() -> None:
    assert blocks(structure([])) == ()


def test_wrapped_lines_are_one_paragraph_and_a_short_line_ends_it() -> None:
    lines = page(
        "the first paragraph goes on to the right edge of its column",
        "and comes to its end here",
        "The second one also goes to the right edge of the column and",
        "ends too",
    )
    assert blocks(structure(lines)) == (
        "the first paragraph goes on to the right edge of its column and comes to its end here",
        "The second one also goes to the right edge of the column and ends too",
    )


def test_white_space_parts_paragraphs() -> None:
    first = page("a line that is as wide as any other line here")
    second = page("and one that is as wide as the one above it ..", top=100)
    assert len(blocks(structure(first + second))) == 2


def test_an_indent_begins_a_paragraph() -> None:
    lines = [
        *page("a full line of text that goes to the right edge of it"),
        line("an indented one that goes to the right edge of it", 160, 40),
    ]
    assert len(blocks(structure(lines))) == 2


def test_lines_of_an_address_stay_apart() -> None:
    lines = page("Webb and Sons", "Rickey Ford", "116 Taylor View")
    assert blocks(structure(lines)) == ("Webb and Sons", "Rickey Ford", "116 Taylor View")


def test_larger_lines_are_headings() -> None:
    body = page(*["a body line of the usual size that runs to the right edge"] * 6, top=200)
    title = page("The title", height=60)
    section = page("A section", top=150, height=36)
    first, second, third = structure([*title, *section, *body])
    assert (first.heading, second.heading, third.heading) == (1, 2, 0)  # type: ignore[union-attr]
    assert blocks([first, second])[0] == "# The title"
    assert blocks([first, second])[1] == "## A section"


def test_a_title_of_two_lines_is_one_heading() -> None:
    title = page("The title of this", "very long page", height=60)
    body = page(*["a body line of the usual size that runs to the right edge"] * 6, top=400)
    assert blocks(structure([*title, *body]))[0] == "# The title of this very long page"


def test_a_large_sentence_is_no_heading() -> None:
    large = page("This is a sentence that is set in larger type.", height=40)
    body = page(*["a body line of the usual size that runs to the right edge"] * 6, top=200)
    assert not blocks(structure([*large, *body]))[0].startswith("#")


def test_bullets_become_items_with_their_further_lines() -> None:
    lines = [
        line("• the first item goes on to the right edge of the column", 100, 0),
        line("and wraps", 130, 40),
        line("¢ Tesseract takes this bullet for a cent sign", 100, 80),
        line("e and this one for a letter", 100, 120),
    ]
    assert blocks(structure(lines)) == (
        (
            "- the first item goes on to the right edge of the column and wraps\n"
            "- Tesseract takes this bullet for a cent sign\n"
            "- and this one for a letter"
        ),
    )


def test_a_letter_is_no_bullet_without_certain_ones() -> None:
    lines = page("e un giorno, o forse due")
    assert blocks(structure(lines)) == ("e un giorno, o forse due",)


def test_a_sign_that_stands_alone_is_no_bullet() -> None:
    assert blocks(structure(page("© 2024 Acme Ltd."))) == ("© 2024 Acme Ltd.",)
    alike = page("© the first of two items", "© the second of two items")
    assert blocks(structure(alike)) == ("- the first of two items\n- the second of two items",)


def test_numbered_items_start_paragraphs() -> None:
    lines = page("1. the first point of the list", "2. the second point of the list")
    assert len(blocks(structure(lines))) == 2


def test_columns_are_kept_in_the_given_order() -> None:
    left = page(*["the left column runs to its right edge"] * 2, left=100)
    right = page(*["The right column runs to its right edge"] * 2, left=900)
    first, second = blocks(structure(left + right))
    assert first.startswith("the left")
    assert second.startswith("The right")


def test_a_table_is_cut_at_the_gaps_that_all_rows_share() -> None:
    lines = [
        row((100, "Item"), (600, "Price"), top=0),
        row((100, "Steel bracket, zinc plated"), (620, "4.50"), top=40),
        row((100, "Cable <b>"), (620, "18.20"), top=80),
    ]
    (table,) = structure(lines)
    assert table == Table(
        (("Item", "Price"), ("Steel bracket, zinc plated", "4.50"), ("Cable <b>", "18.20"))
    )
    assert blocks([table]) == (
        (
            "<table>\n<tr><td>Item</td><td>Price</td></tr>\n"
            "<tr><td>Steel bracket, zinc plated</td><td>4.50</td></tr>\n"
            "<tr><td>Cable &lt;b&gt;</td><td>18.20</td></tr>\n</table>"
        ),
    )


def test_tables_apart_are_two_tables() -> None:
    upper = [row((100, "a"), (400, "b"), top=40 * n) for n in range(2)]
    lower = [row((100, "a b c d e f g"), (500, "b"), top=200 + 40 * n) for n in range(2)]
    first, second = structure(upper + lower)
    assert isinstance(first, Table)
    assert isinstance(second, Table)


def test_a_table_of_one_column_is_text() -> None:
    lines = [row((100, "only one column"), top=40 * n) for n in range(3)]
    assert all(isinstance(part, Paragraph) for part in structure(lines))


def test_text_around_a_table_stays_text() -> None:
    table = [row((100, "a"), (400, "b"), top=100 + 40 * n) for n in range(2)]
    parts = structure([*page("above"), *table, *page("below", top=300)])
    assert [type(part) for part in parts] == [Paragraph, Table, Paragraph]


def test_words_broken_at_the_end_of_a_line_are_joined() -> None:
    assert join(["a func-", "tion"]) == "a function"
    assert join(["state-of-", "the-art"]) == "state-of-the-art"
    assert join(["in 1980-", "1990"]) == "in 1980- 1990"
    assert join(["Smith-", "Jones"]) == "Smith- Jones"


def test_text_that_looks_like_html_is_escaped() -> None:
    (block,) = blocks(structure(page("see <script>alert(1)</script> here")))
    assert block == "see &lt;script&gt;alert(1)&lt;/script&gt; here"
    assert blocks(structure(page("1 < 2 and 3 > 2")))[0] == "1 < 2 and 3 > 2"
