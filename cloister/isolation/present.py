"""A report as a table or as JSON, and the error that it ends with when the seal is not proven."""

from collections.abc import Sequence

from cloister import console
from cloister.errors import IsolationError
from cloister.isolation.finding import Finding
from cloister.isolation.static import AS_CONFIGURED, AS_OBSERVED
from cloister.isolation.verify import Report

_UNREMARKABLE = frozenset({AS_CONFIGURED, AS_OBSERVED})


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str, str]]:
    """Return a row a finding, but one for all settings of a place that are as they should be."""
    rows: list[tuple[str, str, str, str]] = []
    settings: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.verdict == "sealed" and finding.evidence in _UNREMARKABLE:
            settings.setdefault((finding.subject, finding.evidence), []).append(finding.check)
        else:
            rows.append((finding.verdict, finding.subject, finding.check, finding.evidence))
    collapsed = [
        ("sealed", subject, f"{len(names)} settings: {', '.join(names)}", evidence)
        for (subject, evidence), names in settings.items()
    ]
    return sorted([*collapsed, *rows], key=lambda row: row[1])


def show(report: Report, *, as_json: bool) -> None:
    """Print a report; raises IsolationError when a way out is open or unproven."""
    if as_json:
        console.dump(report)
    else:
        console.table(("verdict", "where", "what", "seen"), _rows(report.findings))
        for finding in report.findings:
            if finding.fix and finding.verdict != "sealed":
                console.say(f"{finding.subject}: {finding.check}: {finding.fix}")
    failed = [finding for finding in report.findings if finding.failed]
    if failed:
        named = ", ".join(f"{f.subject}: {f.check} ({f.verdict})" for f in failed)
        raise IsolationError(f"not sealed: {named}")
    proven = sum(finding.verdict == "sealed" for finding in report.findings)
    console.say(f"sealed: {proven} checks; Docker engine {report.engine_version}")
