import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.output import PageText, Style, body
from cloister.output.tables import join
from cloister.scoring import table_cell_recall

HEAD = "<thead><tr><th>Item</th><th>Sum</th></tr></thead>"
TH = "<tr><th>Item</th><th>Sum</th></tr>"


def row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(*rows: str) -> str:
    return "<table>" + "".join(rows) + "</table>"


def joined(*texts: str) -> list[str]:
    pages = [PageText(number, text) for number, text in enumerate(texts, 1)]
    found = join(pages, [frozenset[int]() for _ in pages])
    return [re.sub(r"<!-- page \d+: its first rows .*? -->", "@", text or "") for text in found]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            [table(TH, row("a", "1")), table(row("b", "2"))],
            [table(TH, row("a", "1"), row("b", "2")), "@"],
        ),
        (  # the header comes back: as one, or as a row like the others
            ["x\n\n" + table(TH, row("a", "1")), table(TH, row("b", "2")) + "\n\ny"],
            ["x\n\n" + table(TH, row("a", "1"), row("b", "2")), "@\n\ny"],
        ),
        (
            [table(HEAD, "<tbody>", row("a", "1"), "</tbody>"), table(HEAD, row("b", "2"))],
            [table(HEAD, "<tbody>", row("a", "1"), row("b", "2"), "</tbody>"), "@"],
        ),
        (
            [table(HEAD, row("a", "1")), table(row("Item", "Sum"), row("b", "2"))],
            [table(HEAD, row("a", "1"), row("b", "2")), "@"],
        ),
        (
            [table(row("Item", "Sum"), row("a", "1")), table(row("Item", "Sum"), row("b", "2"))],
            [table(row("Item", "Sum"), row("a", "1"), row("b", "2")), "@"],
        ),
        (  # data that comes back stays
            [table(row("a", "1")), table(row("a", "1"))],
            [table(row("a", "1"), row("a", "1")), "@"],
        ),
        (  # over three pages, and the next table of the last one over two
            [
                table(TH, row("a", "1")),
                table(row("b", "2")) + "\n\n<page_number>2</page_number>",
                table(row("c", "3")) + "\n\ntext\n\n" + table(row("d")),
                table(row("e")),
            ],
            [
                table(TH, row("a", "1"), row("b", "2"), row("c", "3")),
                "@\n\n<page_number>2</page_number>",
                "@\n\ntext\n\n" + table(row("d"), row("e")),
                "@",
            ],
        ),
        (  # colspan counts
            [table("<tr><td colspan=2>Items</td></tr>", row("a", "1")), table(row("b", "2"))],
            [table("<tr><td colspan=2>Items</td></tr>", row("a", "1"), row("b", "2")), "@"],
        ),
        (  # one row a line stays one row a line
            ["<table>\n" + row("a") + "\n</table>", "<table>\n" + row("b") + "\n</table>"],
            ["<table>\n" + row("a") + "\n" + row("b") + "\n</table>", "@"],
        ),
        (
            ["|Item|Sum|\n|---|---|\n|a|1|", "|Item|Sum|\n|---|---|\n|b|2|\n\nx"],
            ["|Item|Sum|\n|---|---|\n|a|1|\n|b|2|", "@\n\nx"],
        ),
        (
            ["x\n\n|Item|Sum|\n|---|---|\n|a|1|", "|b\\|c|2|"],
            ["x\n\n|Item|Sum|\n|---|---|\n|a|1|\n|b\\|c|2|", "@"],
        ),
    ],
)
def test_tables_that_go_on_are_joined(texts: list[str], expected: list[str]) -> None:
    assert joined(*texts) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (table(row("a", "1")), table(row("b"))),  # another number of columns
        (table(TH, row("a", "1")), table(TH.replace("Sum", "Date"), row("b", "2"))),
        (table(row("a")) + "\n\ntext", table(row("b"))),
        (table(row("a")), "text\n\n" + table(row("b"))),
        (table(row("a")), "<table><caption>2</caption>" + row("b") + "</table>"),
        (table(row("a"), "<tfoot>" + row("sum") + "</tfoot>"), table(row("b"))),
        (table(row(table(row("a")))), table(row("b"))),
        (table(row("a")), "<table>" + row("b")),  # cut off
        ("<table>" + row("a"), table(row("b"))),
        (table(row("a")), "<table><tr><td>b</table>"),
        (table(row("a")), "|b|\n|---|\n|c|"),
        (table(), table()),
        ("|a|", "|b|"),  # not a table without its rule
        ("", ""),
    ],
)
def test_other_tables_are_left_alone(first: str, second: str) -> None:
    assert joined(first, second) == [first, second]


@pytest.mark.parametrize(
    "pages",
    [
        [PageText(1, table(row("a"))), PageText(2, None, "x"), PageText(3, table(row("b")))],
        [PageText(1, table(row("a"))), PageText(3, table(row("b")))],
        [PageText(1, table(row("a")), "cut off"), PageText(2, table(row("b")))],
    ],
)
def test_nothing_is_joined_over_a_gap(pages: list[PageText]) -> None:
    assert join(pages, [frozenset()] * len(pages)) == [page.text for page in pages]


def test_a_page_that_was_cut_off_ends_the_table() -> None:
    pages = [PageText(n, table(row(f"a{n}")), "cut off" if n == 2 else None) for n in (1, 2, 3)]
    texts = join(pages, [frozenset()] * 3)
    assert texts[0] == table(row("a1"), row("a2"))
    assert texts[2] == table(row("a3"))


def test_running_lines_may_stand_between() -> None:
    pages = [
        PageText(n, f"ACME Ltd.\n\n{table(TH, row(name, '1'))}\n\nPage {n} of 4")
        for n, name in enumerate("abcd", 1)
    ]
    whole = table(TH, *(row(name, "1") for name in "abcd"))
    text = body(pages, Style(tables="join"))
    assert text.startswith(f"ACME Ltd.\n\n{whole}\n\nPage 1 of 4\n\nACME Ltd.\n\n<!-- page 2:")
    assert body(pages, Style(tables="join", headers="remove")).startswith(f"{whole}\n\n<!-- page 2")


ROWS = st.lists(st.lists(st.sampled_from(["a", "b", "7"]), min_size=2, max_size=3), min_size=1)


@given(st.lists(st.tuples(st.booleans(), ROWS), min_size=1, max_size=5))
def test_no_cell_is_lost_and_none_comes_up(pages: list[tuple[bool, list[list[str]]]]) -> None:
    texts = [table(TH * header, *(row(*cells) for cells in rows)) for header, rows in pages]
    apart, together = "".join(texts), "".join(joined(*texts))
    # Headers go, and a first row without figures that is the same on both pages.
    data = re.sub(r"<tr>(?:<t[dh]>[^7<]*</t[dh]>)+</tr>", "", apart)
    assert table_cell_recall(data, together) == table_cell_recall(together, apart) == 1.0
