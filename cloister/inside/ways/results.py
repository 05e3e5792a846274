"""What one attempt returns, and the words for what stopped it."""

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Result = dict[str, Any]

_REFUSALS = frozenset({errno.EPERM, errno.EACCES})
# Ports, buffers, files or memory are used up, which whoever is in the same network may bring about.
_SHORTAGES = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
# A process chooses its name: nothing in it moves the cursor of whoever reads it, or is markup.
_STRANGE = re.compile(r"[^A-Za-z0-9 ./_:,@+()#-]")
PATIENCE_S = 2.5  # how long a function waits for others


def report_reached(detail: str, **facts: object) -> Result:
    """Return the result of an attempt that got through."""
    return {"reached": True, "detail": detail, **facts}


def report_stopped(detail: str, **facts: object) -> Result:
    """Return the result of an attempt that did not get through."""
    return {"reached": False, "detail": detail, **facts}


def report_missing(detail: str) -> Result:
    """Return the result of an attempt at what this machine does not have at all."""
    return report_stopped(detail, missing=True)


def report_error(error: OSError) -> Result:
    """Return the result of an attempt that an error stopped.

    It is `missing` when this machine does not have what was tried, and `late` when there was no
    room to try it, which tells nothing of what keeps it from getting through.
    """
    if error.errno == errno.ENOSYS:
        return report_missing(describe(error))
    if is_shortage(error, is_inet4=True):
        return report_stopped(describe(error), late=True)
    return report_stopped(describe(error))


def is_shortage(error: OSError, *, is_inet4: bool) -> bool:
    """Tell whether an error says that something is used up.

    EADDRNOTAVAIL means used-up ports over IPv4 alone: over IPv6 it is the answer, too, where there
    is no address to send from.
    """
    return error.errno in _SHORTAGES or (is_inet4 and error.errno == errno.EADDRNOTAVAIL)


def report_each(successes: Sequence[str], failures: Mapping[str, str]) -> Result:
    """Return one result for several tries: reached when one of them succeeded."""
    if successes:
        return report_reached(", ".join(successes))
    return report_stopped(group(failures) or "nothing to try")


def report_code(code: int, refusals: frozenset[int] = frozenset()) -> Result:
    """Return the result of a call that failed: whatever is no refusal, the kernel looked into.

    `refusals` are error numbers that refuse this call, besides the usual ones.
    """
    if code == errno.ENOSYS:
        return report_missing(describe_code(code))
    if code in _REFUSALS | refusals:
        return report_stopped(describe_code(code))
    return report_reached(f"let through: {describe_code(code)}")


def describe_code(code: int) -> str:
    """Return the text and the name of an error number."""
    return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"


def describe(error: OSError) -> str:
    """Return what an error says; with its name where it has an error number."""
    # A resolver's error has a number of another list.
    if error.errno is not None and error.errno in errno.errorcode:
        return describe_code(error.errno)
    return error.strerror or str(error) or type(error).__name__


def group(failures: Mapping[str, str]) -> str:
    """Return failures as text, with the labels that share a reason named together."""
    reasons: dict[str, list[str]] = {}
    for label, reason in failures.items():
        reasons.setdefault(reason, []).append(label)
    return "; ".join(f"{_join(labels)}{reason}" for reason, labels in reasons.items())


def _join(labels: Iterable[str]) -> str:
    text = ", ".join(filter(None, labels))
    return f"{text}: " if text else ""


def show(text: str) -> str:
    """Return a text of somebody else's so that it can be printed."""
    return _STRANGE.sub("?", text)
