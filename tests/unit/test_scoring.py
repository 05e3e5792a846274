import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.scoring import cer, field_recall, normalise, raw_cer, table_cell_recall

WORDS = st.text(alphabet="abc XYZ 019 .,", max_size=60)
TABLE = (
    "<table><tr><th>Item</th><th>Sum</th></tr><tr><td>Nuts &amp; bolts</td><td>7</td></tr></table>"
)


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        ("# Title\n\n## Part\ntext", "Title Part text"),
        ("- one\n- two\n* three\n\u2022 four", "one two three four"),
        ("> said", "said"),
        ("**bold**, *slanted*, __bold__ and _slanted_", "bold, slanted, bold and slanted"),
        ("snake_case_name 2 * 3 * 4", "snake_case_name 2 * 3 * 4"),
        ("#5 - not a heading, -3 not an item", "#5 - not a heading, -3 not an item"),
        (TABLE, "Item Sum Nuts & bolts 7"),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", "a b 1 2"),
        ("either|or", "either|or"),
        ("<page_number>3</page_number><!-- note\nmore -->", "3"),
        ("5 &lt; 6 &lt;b&gt; 3 < 4 > 2", "5 < 6 <b> 3 < 4 > 2"),
        ("\u201cquoted\u201d \u2018so\u2019 \u2013 \u2014", "\"quoted\" 'so' - -"),
        ("\ufb01ne soft\u00adware \u00a0 wide", "fine software wide"),
        ("1. numbered", "1. numbered"),
        ("\u2611 yes \u2610 no", "\u2611 yes \u2610 no"),
    ],
)
def test_normalise(markdown: str, plain: str) -> None:
    assert normalise(markdown) == plain


@given(WORDS)
def test_a_perfect_reading_has_no_errors(text: str) -> None:
    assert cer(text, text) == raw_cer(text, text) == 0.0


@given(WORDS.filter(str.strip), WORDS)
def test_the_error_rate_is_bounded_by_the_longer_text(truth: str, text: str) -> None:
    longest = max(len(normalise(truth)), len(normalise(text)))
    assert 0.0 <= cer(truth, text) <= longest / max(1, len(normalise(truth)))


def test_the_error_rate_counts_edits_per_character_of_truth() -> None:
    assert cer("abcd", "abxd") == 0.25
    assert cer("abcd", "") == 1.0
    assert cer("ab", "abcdef") == 2.0


def test_an_empty_truth_is_all_or_nothing() -> None:
    assert cer("", " \n") == 0.0
    assert cer("", "runaway text, however long") == 1.0


def test_the_raw_error_rate_sees_markup_but_not_layout() -> None:
    assert cer("# Title", "Title") == 0.0
    assert raw_cer("# Title", "Title") == pytest.approx(2 / 7)
    assert raw_cer("a\n\nb", "a b") == 0.0


def test_fields_are_found_as_whole_words() -> None:
    fields = {"total": "$12.50", "name": "Ann O'Neill", "count": "12"}
    assert field_recall(fields, "Ann\nO\u2019Neill owes **$12.50** for 12 eggs") == 1.0
    assert field_recall(fields, "Ann O'Neill owes $12.50") == pytest.approx(1.0)
    assert field_recall({"count": "12"}, "120 and 312") == 0.0
    assert field_recall({}, "") == 1.0


def test_table_cells_are_compared_as_a_multiset() -> None:
    assert table_cell_recall(TABLE, TABLE) == 1.0
    assert table_cell_recall(TABLE, TABLE.replace("th>", "td>")) == 1.0
    assert table_cell_recall(TABLE, "Item Sum Nuts & bolts 7") == 0.0
    assert table_cell_recall(TABLE, "<table><tr><td>Item<td> <b>Nuts</b> &amp; bolts") == 0.5
    assert table_cell_recall("<table><tr><td>1<td>1</table>", "<table><tr><td>1</table>") == 0.5
    assert table_cell_recall("no table", "") == 1.0
