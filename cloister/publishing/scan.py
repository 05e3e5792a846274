"""The gate for known vulnerabilities, where a scanner is installed: grype or trivy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister import shell
from cloister.errors import PublishError
from cloister.publishing import tools

SEVERITIES = ("none", "low", "medium", "high", "critical")
_COMMANDS = {
    "grype": ("--quiet", "--output=json", "sbom:{}"),
    "trivy": ("sbom", "--quiet", "--format=json", "{}"),
}
_NAMED = 5


@dataclass(frozen=True, order=True)
class Finding:
    """One vulnerability in one package; `fix` is the version that has none, if there is one."""

    severity: str
    id: str
    package: str
    fix: str | None


def check(cyclonedx: Path, fail_on: str) -> str:
    """Return a line about what a scanner finds in an image's list, or that there is no scanner.

    Raises PublishError for what is at least as severe as `fail_on` and has a fix: what nobody has
    mended yet would keep back every release.
    """
    program = next((name for name in _COMMANDS if shell.find(name)), None)
    if program is None:
        return "not scanned: there is no grype and no trivy on PATH"
    arguments = [word.format(cyclonedx) for word in _COMMANDS[program]]
    result = tools.require(f"{program} did not scan", program, arguments)
    what = f"the report of {program}"
    report = tools.parsed(what, result.stdout)
    with tools.expecting(what):
        found = tuple(sorted(set(findings(program, report))))
    return judged(program, found, fail_on)


def findings(program: str, report: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what a report tells; pure."""
    if program == "grype":
        for match in report["matches"]:
            known, package = match["vulnerability"], match["artifact"]
            fixes = known.get("fix", {}).get("versions") or [None]
            name = f"{package['name']} {package['version']}"
            yield Finding(known.get("severity", "").lower(), known["id"], name, fixes[0])
        return
    for target in report.get("Results") or ():
        for known in target.get("Vulnerabilities") or ():
            name = f"{known['PkgName']} {known['InstalledVersion']}"
            fix = known.get("FixedVersion") or None
            yield Finding(known["Severity"].lower(), known["VulnerabilityID"], name, fix)


def judged(program: str, found: tuple[Finding, ...], fail_on: str) -> str:
    """Return a line about findings, or raise PublishError for those that keep it back; pure."""
    refused = SEVERITIES[SEVERITIES.index(fail_on) :] if fail_on != "none" else ()
    bad = [each for each in found if each.severity in refused and each.fix]
    if bad:
        named = "; ".join(f"{b.id} in {b.package}, mended in {b.fix}" for b in bad[:_NAMED])
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise PublishError(
            f"{program} found {len(bad)} of severity {fail_on} or more that have a fix: "
            f"{named}{more}",
            hint="invoke images.lock --update and build anew, or --fail-on with a higher severity",
        )
    return f"{program} found {len(found)}, none of severity {fail_on} or more with a fix"
