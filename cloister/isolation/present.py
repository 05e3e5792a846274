"""A report as a table or as JSON, and the error that it ends with when the seal is not proven."""

from collections import Counter
from collections.abc import Sequence

from cloister import console
from cloister.errors import IsolationError
from cloister.isolation.finding import ORDER, Finding
from cloister.isolation.verify import Report

_MOMENT = "a later change needs another proof"
# By the verdicts of attempts that failed. Their names are in the JSON and docs/isolation.md.
_SHUT = {
    "sealed": "each works where nothing is sealed",
    "absent": "nothing to reach from this machine",
}


def show(report: Report, *, as_json: bool) -> None:
    """Print a report; raises IsolationError when a way out is open, unproven or unknown."""
    if as_json:
        console.dump(report)
    else:
        findings = _sort(report.findings)
        console.table(("verdict", "where", "what", "seen"), _rows(findings))
        _say_what_to_do(findings)
    require_sealed(report)
    proven = sum(finding.verdict == "sealed" for finding in report.findings)
    accepted = sum(finding.verdict == "accepted" for finding in report.findings)
    risks = f", {accepted} accepted risks" if accepted else ""
    version = report.engine_version
    console.say(f"sealed: {proven} checks{risks}; Docker engine {version}; {_MOMENT}")


def require_sealed(report: Report) -> None:
    """Raise IsolationError with all that is open, unproven or unknown."""
    failed = [finding for finding in report.findings if finding.failed]
    if failed:
        named = ", ".join(f"{f.subject}: {f.check} ({f.verdict})" for f in failed)
        raise IsolationError(f"{report.verdict}: {named}")


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str, str]]:
    """Return a row for each finding, but one for all attempts of a place that failed."""
    shut = Counter((one.verdict, one.subject) for one in findings if _is_shut(one))

    def row(one: Finding) -> tuple[str, str, str, str]:
        if not _is_shut(one):
            return one.verdict, one.subject, one.check, one.evidence
        count = shut[one.verdict, one.subject]
        return one.verdict, one.subject, f"{count} ways out shut", _SHUT[one.verdict]

    return list(dict.fromkeys(map(row, findings)))


def _is_shut(finding: Finding) -> bool:
    return finding.tried and finding.verdict in _SHUT


def _sort(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (-ORDER.index(one.verdict), one.subject))


def _say_what_to_do(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.failed and finding.fix:
            console.say(f"{finding.subject}: {finding.check}: {finding.fix}")
    differences = [f.difference for f in findings if f.failed and f.difference]
    if differences:
        console.say("if a difference is intended, add its line to `docker.allowed_differences`:")
        for difference in differences:
            console.say(f"  - {difference!r}")
