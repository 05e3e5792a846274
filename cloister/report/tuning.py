"""A tuning for people: its page beside tuning.json, and its Markdown for a terminal."""

from collections.abc import Iterator
from pathlib import Path

from cloister.cleaning import printable
from cloister.files import write_atomically
from cloister.report import tuning_content as content
from cloister.report.content import Table
from cloister.report.markdown import escaped, section_lines, table_lines
from cloister.report.tuning_sections import sections
from cloister.tuning.result import NAME, Tuning


def write_tuning(folder: Path, tuning: Tuning) -> None:
    """Write tuning.json, tuning.html and tuning.md; raises DeploymentError when that fails."""
    from cloister.report import tuning_html  # noqa: PLC0415  # matplotlib is the load test's alone

    write_atomically(folder / NAME, tuning.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "tuning.md", printable(tuning_markdown(tuning)))
    write_atomically(folder / "tuning.html", printable(tuning_html.render(tuning)))


def tuning_markdown(tuning: Tuning) -> str:
    """Return a tuning as Markdown; what others wrote, such as a log, is never taken for markup."""
    return "\n".join(_lines(tuning)) + "\n"


def _lines(tuning: Tuning) -> Iterator[str]:
    yield f"# {escaped(content.headline(tuning))}"
    yield ""
    if lead := content.lead(tuning):
        yield escaped(lead)
        yield ""
    yield escaped(content.subject(tuning))
    yield ""
    if figures := content.key_figures(tuning):
        rows = tuple((one.label, f"{one.value} {one.unit}".strip(), one.beside) for one in figures)
        yield from table_lines(Table(("key figure", "value", ""), rows))
    yield escaped(content.recommendation(tuning))
    yield ""
    if settings := content.settings(tuning):
        yield from (f"    {line}" for line in settings.splitlines())
        yield ""
    if warnings := content.warnings(tuning):
        yield from (f"- **Warning:** {escaped(warning)}" for warning in warnings)
        yield ""
    for section in sections(tuning):
        yield from section_lines(section)
