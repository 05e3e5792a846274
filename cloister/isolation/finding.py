"""What one check of the seal found, and how it is judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

# From the best to the worst. sealed: shut, and where it was tried the same attempt got through from
# where it may. absent: there is nothing to reach from this machine. accepted: open, and listed in
# `docker.allowed_differences`. unknown: a key of Docker's that this version does not know, at the
# value that switches it off. unproven: the attempt that had to get through did not, so that the
# other one proves nothing. open: it got through, or is not as planned.
Verdict = Literal["sealed", "absent", "accepted", "unknown", "unproven", "open"]
ORDER: tuple[Verdict, ...] = get_args(Verdict)
_AGAIN = "invoke verify again; if it stays so, look for what uses up time, ports or memory"
FAILING: frozenset[Verdict] = frozenset({"unknown", "unproven", "open"})


@dataclass(frozen=True)
class Finding:
    """One check: of whom, what, the verdict, what was seen, and what to do about it.

    `difference` is the line of `docker.allowed_differences` that would accept it, None where
    nothing can. `tried` tells an attempt from a comparison. One that is `passing` may be of a
    process that Docker is about to confine, and counts when it is seen each time that is looked.
    """

    subject: str
    check: str
    verdict: Verdict
    evidence: str
    fix: str | None = None
    difference: str | None = None
    tried: bool = False
    passing: bool = False

    @property
    def failed(self) -> bool:
        """Whether the seal cannot be called proven because of this."""
        return self.verdict in FAILING


@dataclass(frozen=True)
class Try:
    """One attempt: whether it got through; `expected` is whether there is what it tries to reach.

    One that `is_late` was cut off before it could get anywhere, or had no room to: a port, for
    example. `by` is from where it was made that is not sealed.
    """

    reached: bool
    detail: str
    expected: bool = True
    is_late: bool = False
    by: str = "a container that is not sealed"


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict of all findings together; `unproven` of none."""
    return max((f.verdict for f in findings), key=ORDER.index, default="unproven")


def paired(subject: str, check: str, attempt: Try, control: Try, *, fix: str) -> Finding:
    """Judge an attempt by its control: a container that cannot ping is no proof; pure."""
    if attempt.reached:
        return Finding(subject, check, "open", f"reached: {attempt.detail}", fix, tried=True)
    if attempt.is_late:
        seen = f"not tried to its end: {attempt.detail}"
        return Finding(subject, check, "unproven", seen, _AGAIN, tried=True)
    if control.reached:
        seen = f"{attempt.detail}; {control.by}: {control.detail}"
        return Finding(subject, check, "sealed", seen, tried=True)
    if control.expected:
        seen = f"it failed from {control.by}, too: {control.detail}"
        return Finding(
            subject,
            check,
            "unproven",
            seen,
            "find what stops it there",
            tried=True,
        )
    return Finding(
        subject, check, "absent", f"nothing to reach from here: {control.detail}", tried=True
    )
