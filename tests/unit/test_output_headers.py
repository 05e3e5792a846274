import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister import corpus
from cloister.output import PageText, Style, body
from cloister.output.headers import running, without

REMOVE = Style(headers="remove")
CITIES = ("Bath", "Cork", "Derby", "Ely", "Fife", "Goole", "Hull", "Inverness", "Jarrow", "Kent")


def pages(*texts: str, first: int = 1) -> list[PageText]:
    return [PageText(number, text) for number, text in enumerate(texts, first)]


def removed(*texts: str, first: int = 1) -> list[str]:
    given_pages = pages(*texts, first=first)
    return [without(text, lines) for text, lines in zip(texts, running(given_pages), strict=True)]


@pytest.mark.parametrize(
    "line",
    [
        "ACME Ltd. - annual report",
        "Page {n} of 12",
        "- {n} -",
        "{n}",
        "**ACME**",
    ],
)
@pytest.mark.parametrize("first", [1, 17])
def test_running_lines_go(line: str, first: int) -> None:
    cities = CITIES[:5]
    texts = [line.format(n=n) + f"\n\nOn {city}." for n, city in enumerate(cities, first)]
    assert removed(*texts, first=first) == [f"On {city}." for city in cities]
    texts = [f"On {city}.\n\n" + line.format(n=n) for n, city in enumerate(cities, first)]
    assert removed(*texts, first=first) == [f"On {city}." for city in cities]


@pytest.mark.parametrize("line", ["Chapter 2 - {n}", "Printed 12/03/2024, {n}/10", "Report {n}"])
def test_a_count_with_words_goes_from_long_pages(line: str) -> None:
    bodies = ["\n\n".join(f"In {city} on {day}." for day in range(6)) for city in CITIES]
    texts = [line.format(n=n) + f"\n\n{text}" for n, text in enumerate(bodies, 1)]
    assert removed(*texts) == bodies


@pytest.mark.parametrize(
    "texts",
    [
        # A stack of invoices, and an examination.
        [f"# INVOICE\n\nOn {city}." for city in CITIES],
        [
            f"# Question {n}\n\nWhat is the {what} of the harbour?\n\nAnswer {n}"
            for n, what in enumerate(("depth", "length", "age", "owner"), 1)
        ],
        [f"# Title\n\nOn {city}." for city in CITIES[:2]],  # two pages
        ["# Notes\n\nOn a.", "# Notes\n\nOn another.", "Something else."],  # only twice
        [f"## Question {n}\n\nOn {city}." for n, city in enumerate(CITIES)],
        [f"**Step {n}**\n\nOn {city}." for n, city in enumerate(CITIES)],
        [f"On {city}.\n\nTotal: {n * n * 7}.50" for n, city in enumerate(CITIES)],
        [f"On {city}.\n\n| Sum | Name |\n|---|---|\n| 1 | ACME |" for city in CITIES],
        [f"On {city}.\n\n<table>\n<tr><td>ACME</td></tr>\n</table>" for city in CITIES],
        [f"On {city}.\n\n```\nACME\n```" for city in CITIES],
        [f"On {city}.\n\n<img>a\nlogo of ACME</img>" for city in CITIES],
        ["ACME Ltd."] * 10,  # all that there is on the page
        ["ACME Ltd.\n\n<page_number>1</page_number>"] * 10,
        ["ACME Ltd.\n\n" * (n < 3) + f"On {city}." for n, city in enumerate(CITIES)],  # 30 %
        [f"On {city}.\n\n" + "a long line, " * 20 for city in CITIES],
        [
            "\n".join([*(f"{n} {city}" for n in "abc"), "ACME", *(f"{n} {city}" for n in "def")])
            for city in CITIES
        ],
    ],
)
def test_other_lines_stay(texts: list[str]) -> None:
    assert removed(*texts) == texts


def test_left_and_right_pages_have_headers_of_their_own() -> None:
    texts = [
        ("The Book\n\n" if n % 2 else "A Chapter\n\n" * (n < 7)) + f"On {city}."
        for n, city in enumerate(CITIES)
    ]
    assert removed(*texts, first=0) == [f"On {city}." for city in CITIES]


def test_misread_letters_do_not_save_a_header() -> None:
    lines = ["The annual report", "The annua1 report", "Tne annual report", "The annual rep0rt"]
    texts = [f"{line}\n\nOn {city}." for line, city in zip(lines, CITIES[:4], strict=True)]
    assert removed(*texts) == [f"On {city}." for city in CITIES[:4]]


def test_page_numbers_and_watermarks_are_looked_past_and_left() -> None:
    tags = "<watermark>COPY</watermark>\n\n<page_number>3</page_number>\n\n"
    texts = [f"{tags}ACME Ltd.\n\nOn {city}." for city in CITIES]
    assert removed(*texts) == [f"{tags}On {city}." for city in CITIES]


def test_a_paragraph_keeps_its_blank_lines() -> None:
    texts = [
        f"ACME\n\nOn {city}.\n\n\n{city}\nMore.\n\na {city}\nb {city}\n\nEnd\n\n" for city in CITIES
    ]
    assert removed(*texts)[0] == "On Bath.\n\n\nBath\nMore.\n\na Bath\nb Bath"


def test_pages_that_were_not_read_do_not_count() -> None:
    read = [PageText(n, f"ACME\n\nOn {city}.") for n, city in enumerate(CITIES[:3], 1)]
    unread = [PageText(n, None, "HTTP 503") for n in range(4, 20)]
    assert body([*read, *unread], REMOVE).startswith("On Bath.\n\nOn Cork.\n\nOn Derby.\n\n>")


def test_a_generated_article_loses_its_page_numbers_only() -> None:
    texts = corpus.generate("article", 3, pages=3).pages
    assert [text.split("\n")[-1] for text in texts] == ["Page 1", "Page 2", "Page 3"]
    assert removed(*texts) == [text.rsplit("\n\n", 1)[0] for text in texts]


@given(st.lists(st.text(), max_size=2))
def test_a_document_of_fewer_than_three_pages_stays(texts: list[str]) -> None:
    assert removed(*texts) == texts


@given(st.lists(st.lists(st.sampled_from(["ACME", "7", "a", "b", "|c|", ""])), min_size=3))
def test_no_page_loses_all_of_its_lines(lines: list[list[str]]) -> None:
    texts = ["\n".join(page) for page in lines]
    for text, rest in zip(texts, removed(*texts), strict=True):
        assert bool(text.strip()) == bool(rest.strip())


def test_three_thousand_pages_take_seconds() -> None:
    words = [f"{city} {n}" for n in range(2500) for city in CITIES]
    texts = [f"ACME Ltd. {n}\n\n" + "\n\n".join(words[n * 8 : n * 8 + 8]) for n in range(3000)]
    started = time.process_time()
    assert sum(map(len, running(pages(*texts)))) >= 3000
    assert time.process_time() - started < 8
