"""A tuning as one HTML page that needs nothing but itself."""

from markupsafe import Markup

from cloister.report import tuning_charts as charts
from cloister.report import tuning_content as content
from cloister.report.html import environment
from cloister.report.tuning_sections import sections
from cloister.tuning.result import Tuning


def render(tuning: Tuning) -> str:
    """Return the page; its charts are matplotlib's, which escapes their texts."""
    drawn = {
        "frontier": charts.frontier(tuning),
        "surface": charts.surface(tuning),
        "finalists": charts.turns(tuning),
    }
    return (
        environment()
        .get_template("tuning.html.j2")
        .render(
            version=tuning.version,
            headline=content.headline(tuning),
            lead=content.lead(tuning),
            subject=content.subject(tuning),
            figures=content.key_figures(tuning),
            recommendation=content.recommendation(tuning),
            settings=content.settings(tuning),
            warnings=content.warnings(tuning),
            sections=sections(tuning),
            charts={
                name: [Markup(chart)]  # noqa: S704  # ours, see above
                for name, chart in drawn.items()
                if chart
            },
        )
    )
