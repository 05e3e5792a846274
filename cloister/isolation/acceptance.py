"""Which differences are intended: those that `docker.allowed_differences` lists; pure."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace

from cloister.isolation.finding import Finding

_SETTING = "docker.allowed_differences"


def accept(findings: Iterable[Finding], listed: AbstractSet[str]) -> Iterator[Finding]:
    """Yield the findings, those that are listed as accepted risks."""
    for finding in findings:
        if finding.failed and finding.difference in listed:
            yield replace(finding, verdict="accepted", fix=None)
        else:
            yield finding


def list_unmatched(findings: Iterable[Finding], listed: AbstractSet[str]) -> Iterator[Finding]:
    """Yield each listed line that no finding has: it would accept a later change in silence."""
    matched = {finding.difference for finding in findings if finding.verdict == "accepted"}
    for line in sorted(listed - matched):
        yield Finding(_SETTING, line, "accepted", "it matches nothing; remove this line")
