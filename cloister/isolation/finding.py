"""What one check of the seal found, and how it is judged."""

from dataclasses import dataclass
from typing import Literal

# sealed: shut, and the same attempt got through where it may. open: it got through. unproven: the
# attempt that had to get through did not, so that the other one proves nothing. warning: shut by a
# measure of ours that this old engine needs, or something to know. absent: nothing to reach here.
Verdict = Literal["sealed", "open", "unproven", "warning", "absent"]
FAILING: frozenset[Verdict] = frozenset({"open", "unproven"})


@dataclass(frozen=True)
class Finding:
    """One check: of whom, what, the verdict, what was seen, and what to do about it."""

    subject: str
    check: str
    verdict: Verdict
    evidence: str
    fix: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the seal cannot be called proven because of this."""
        return self.verdict in FAILING


def paired(subject: str, check: str, attempt: "Try", control: "Try", *, fix: str) -> Finding:
    """Judge an attempt by its control: a container that cannot ping is no proof; pure."""
    if attempt.reached:
        return Finding(subject, check, "open", f"reached: {attempt.detail}", fix)
    if control.reached:
        seen = f"{attempt.detail}; an ordinary container: {control.detail}"
        return Finding(subject, check, "sealed", seen)
    if control.expected:
        seen = f"an ordinary container did not get there either: {control.detail}"
        return Finding(subject, check, "unproven", seen, "find out what stops that one")
    return Finding(subject, check, "absent", f"nothing to reach from here: {control.detail}")


@dataclass(frozen=True)
class Try:
    """One attempt: whether it got through; `expected` is whether this machine itself does."""

    reached: bool
    detail: str
    expected: bool = True
