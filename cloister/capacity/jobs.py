"""What is to be read: pages, from when and until when, in how many hours of a day."""

import datetime as dt
from dataclasses import dataclass

from cloister.capacity.words import moment
from cloister.errors import TuningError

MOST_HOURS = 24
_MOST_SPARE = 90


@dataclass(frozen=True)
class Job:
    """Pages to be read from `start` on, `by` a moment if there is one.

    The cards work `hours_a_day`, and `spare` percent of what they can do is kept free.
    """

    pages: int
    start: dt.datetime
    by: dt.datetime | None = None
    hours_a_day: int = MOST_HOURS
    spare: int = 20

    @property
    def hours(self) -> float | None:
        """The working hours until `by`."""
        if self.by is None:
            return None
        return (self.by - self.start).total_seconds() / 3600 * self.hours_a_day / MOST_HOURS

    @property
    def share(self) -> float:
        """What is used of the cards' capacity."""
        return 1 - self.spare / 100

    def end(self, hours: float) -> dt.datetime | None:
        """Return when so many working hours are over, None where no calendar goes."""
        try:
            return self.start + dt.timedelta(hours=hours * MOST_HOURS / self.hours_a_day)
        except OverflowError:
            return None


def job(
    pages: int,
    *,
    start: str | None = None,
    by: str | None = None,
    hours_a_day: int = MOST_HOURS,
    spare: int = 20,
) -> Job:
    """Return a job by what was typed; raises TuningError for what cannot be one.

    A date alone is the beginning of its day; times without a zone are this machine's.
    """
    _require(pages >= 1, f"{pages} pages need no card", "--pages 1000000")
    fits = 1 <= hours_a_day <= MOST_HOURS
    _require(fits, f"a day has 1 to {MOST_HOURS} hours, not {hours_a_day}", "--hours-a-day 12")
    fits = 0 <= spare <= _MOST_SPARE
    _require(fits, f"`--spare` is 0 to {_MOST_SPARE} percent, not {spare}", "--spare 20")
    begin = (
        _moment(start, "--from") if start else dt.datetime.now().astimezone().replace(microsecond=0)
    )
    end = _moment(by, "--by") if by else None
    if end is not None and end <= begin:
        raise TuningError(
            f"{moment(end)} is not after the beginning, {moment(begin)}",
            hint="a later `--by`, or an earlier `--from`",
        )
    return Job(pages, begin, end, hours_a_day, spare)


def _moment(text: str, flag: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise TuningError(
            f"`{text}` is no date", hint=f"`{flag} 2027-06-30`, or `{flag} 2027-06-30T18:00`"
        ) from None


def _require(holds: bool, message: str, hint: str) -> None:  # noqa: FBT001  # it is the subject
    if not holds:
        raise TuningError(message, hint=f"such as `{hint}`")
