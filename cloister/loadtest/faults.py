"""What makes an answer worthless, however well it looks: pure."""

from cloister.ocr import judging
from cloister.sse import Answer

_OK = 200


def fault(status: int, answer: Answer, *, blank: bool, length_wanted: bool) -> str | None:
    """Return what is wrong with an answer, None for a good page.

    `blank` says that the page has nothing to read, `length_wanted` that all tokens were asked for.
    """
    if answer.broken is not None:
        return answer.broken
    if status != _OK:
        return f"HTTP {status}"
    if not answer.done or answer.finish_reason is None:
        return "cut short"
    return _of_text(answer, blank=blank, length_wanted=length_wanted)


def _of_text(answer: Answer, *, blank: bool, length_wanted: bool) -> str | None:
    text, reason = answer.page.text, answer.finish_reason
    if reason == "length" and not length_wanted:
        return "truncated"
    if reason not in {"stop", "length"}:
        return f"ended by {reason}"[:60]
    if not text.strip() and not blank:
        return "empty"
    return "repeats itself" if not length_wanted and judging.repeated(text) else None
