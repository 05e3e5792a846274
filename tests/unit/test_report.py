"""Reports as people see them; nothing that another wrote may become a part of the page."""

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_samples
from hypothesis import given
from hypothesis import strategies as st

from cloister import report
from cloister.errors import LoadTestError
from cloister.loadtest.record import Record
from cloister.loadtest.result import Estimate, Report, Verdict
from cloister.report import charts, content, formats, html
from cloister.report.reading import inside
from cloister.report.sections import sections

ROOT = Path(__file__).parents[2]
VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADED = {"src", "href", "xlink:href", "data", "action", "poster", "srcset"}


class Page(HTMLParser):
    """Reads a page and refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in LOADED]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open and self._open[-1] == "td":
            self.cells.append(data)


@pytest.fixture(scope="module")
def made() -> tuple[Report, list[Record]]:
    return report_samples.make()


@pytest.fixture(scope="module")
def page(made: tuple[Report, list[Record]]) -> str:
    return html.render(*made)


def test_markdown(made: tuple[Report, list[Record]], golden: Callable[[str, str], None]) -> None:
    golden("report.md", report.markdown(made[0]))


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    read = Page(page)
    assert read.tags.count("svg") == 5
    assert len(read.ids) == len(set(read.ids))
    assert {"script", "iframe", "object", "embed", "link", "base"}.isdisjoint(read.tags)
    assert all(link.startswith("#") for link in read.links)
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_every_table_of_the_report_is_on_the_page(
    page: str, made: tuple[Report, list[Record]]
) -> None:
    cells = set(Page(page).cells)
    for section in sections(made[0]):
        for table in section.tables:
            assert {cell for row in table.rows for cell in row if cell} <= cells, section.title


def test_the_same_report_gives_the_same_page(page: str, made: tuple[Report, list[Record]]) -> None:
    assert html.render(*made) == page


def test_hostile_names_are_only_shown() -> None:
    made, records = report_samples.make(hostile=True)
    text = html.render(made, records)
    read = Page(text)
    shown = formats.plain(report_samples.HOSTILE)
    assert "script" not in read.tags
    assert "<script" not in text
    assert "\u202e" not in text
    assert any(shown in piece for piece in read.texts)
    assert any(shown[:39] in piece and "…" in piece for piece in read.texts)  # a chart cuts it
    assert all(link.startswith("#") for link in read.links)


def test_markdown_shows_hostile_names_to_the_letter() -> None:
    made, _ = report_samples.make(hostile=True)
    text = report.markdown(made)
    assert "\\<script" in text
    assert not re.search(r"(?<!\\)<script", text)
    assert "\u202e" not in text
    tables = [line for line in text.splitlines() if line.startswith("| HTTP") or "$x^2$" in line]
    assert all("$x^2$\\|" in line for line in tables if "$x^2$" in line)


@given(st.text())
def test_plain_text_is_one_line(text: str) -> None:
    shown = formats.plain(text, 20)
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]", shown)
    assert len(shown) <= 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (None, "-"),
        (float("inf"), "-"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert formats.number(value) == text


def test_an_interval_has_the_digits_of_its_value() -> None:
    assert formats.plus_minus(Estimate(value=2.4, low=2.35, high=2.5, n=9)) == "2.40 ± 0.10"
    assert formats.plus_minus(Estimate(value=0, low=0, high=0, n=9)) == "0 ± 0"
    assert formats.between(Estimate(value=0.99, low=0.97, high=1.01, n=9), 1) == (
        "99.0 % (97.0 % to 100 %)"
    )


def test_the_windows_pages_are_those_that_were_counted(made: tuple[Report, list[Record]]) -> None:
    found, records = made
    for number, stage in enumerate(found.stages):
        assert len(inside(found, number, records)) == stage.good


def changed(made: Report, limit: str = "decode", **changes: object) -> Report:
    verdict = Verdict.model_validate({"limit": limit, "evidence": ("seen",)})
    return made.model_copy(update={"verdict": verdict, **changes})


@pytest.mark.parametrize(
    ("limit", "ending"),
    [
        ("client", "limited by the client"),
        ("KV memory", "limited by KV memory"),
        ("nothing", "and nothing limited it"),
        ("unknown", "what limits it is not known"),
    ],
)
def test_the_headline_says_what_limits(
    made: tuple[Report, list[Record]], limit: str, ending: str
) -> None:
    assert content.headline(changed(made[0], limit)).endswith(ending)


def test_doubts_are_among_the_warnings(made: tuple[Report, list[Record]]) -> None:
    found = made[0]
    assert found.best is not None
    doubtful = changed(found, "client", warnings=("first",), self_check=None, knee=None)
    doubtful = report_samples.with_stage(
        doubtful, found.best, verdict="undecided", faults={"truncated": 3}
    )
    told = content.warnings(doubtful)
    assert told[0] == "first"
    for words in ("client-limited", "not checked", "too few", "3 of", "the highest load"):
        assert any(words in warning for warning in told), words


def test_marks_weaken_a_load(made: tuple[Report, list[Record]]) -> None:
    stage = (
        made[0]
        .stages[0]
        .model_copy(
            update={
                "steady": False,
                "faults": {"truncated": 2},
                "lateness_s": made[0].stages[0].e2e_s,
            }
        )
    )
    assert content.marks(stage)[:2] == ["not steady", "2 truncated"]
    assert content.marks(stage)[2].startswith("client late by")


def test_the_slo_is_told_at_the_best_load_and_where_it_is_met(
    made: tuple[Report, list[Record]],
) -> None:
    found = made[0]
    assert found.best is not None
    assert "It is met at 16 clients" in content.lead(found)
    met = report_samples.with_stage(found, found.best, verdict="pass")
    assert content.lead(met) == "The SLO is met there."


def test_a_test_without_a_good_page_has_a_report(made: tuple[Report, list[Record]]) -> None:
    nothing = changed(
        made[0], "unknown", stages=(), samples=(), best=None, capacity=None, knee=None, gateway=None
    )
    read = Page(html.render(nothing, ()))
    assert "No good page was read." in read.texts
    assert "svg" not in read.tags
    assert report.markdown(nothing).startswith("# No good page was read\n")


def test_without_records_there_are_no_distributions(made: tuple[Report, list[Record]]) -> None:
    assert Page(html.render(made[0], ())).tags.count("svg") == 3


def test_what_was_not_measured_has_no_panel(made: tuple[Report, list[Record]]) -> None:
    no_card = [
        sample.model_copy(update={"gpu_busy": None, "gpu_memory": None})
        for sample in made[0].samples
    ]
    drawn = charts.time_line(no_card, made[0].stages)
    assert "CPU, %" in drawn
    assert "GPU, %" not in drawn
    assert charts.time_line((), made[0].stages) == ""
    assert charts.faults({}) == ""


def test_many_values_are_thinned_but_the_ends_stay() -> None:
    drawn = charts.distribution([float(value) for value in range(100_000)], "E2E", 1.0)
    assert len(drawn) < 60_000
    assert "p95 94,999 s" in drawn


def test_a_report_is_written_and_read_back(
    tmp_path: Path, made: tuple[Report, list[Record]]
) -> None:
    report.write(tmp_path, *made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert report.load(tmp_path) == report.load(tmp_path / "report.json") == made[0]
    assert report.records(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no report"),
        ("not JSON", "is not JSON"),
        ("[]", "schema version None"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1}', "`made_at`: Field required"),
        ("best", "`best` is 99"),
    ],
)
def test_what_is_no_report_is_refused_in_two_lines(
    tmp_path: Path, made: tuple[Report, list[Record]], text: str | None, words: str
) -> None:
    file = tmp_path / "report.json"
    if text == "best":
        text = json.dumps({**json.loads(made[0].model_dump_json()), "best": 99})
    if text is not None:
        file.write_text(text)
    with pytest.raises(LoadTestError) as caught:
        report.load(tmp_path if text else file)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"stage": 1}\n')
    with pytest.raises(LoadTestError, match="holds no records"):
        report.records(tmp_path)
    assert report.records(tmp_path / "renamed.json") == ()


def test_only_charts_import_matplotlib() -> None:
    script = "import sys, cloister.report; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
