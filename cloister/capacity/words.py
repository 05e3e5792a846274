"""Rates, times and moments as a person reads them."""

import datetime as dt

_MANY = 100  # from here on without a fraction
_FEW = 10
_MOST_WEEKS = 104


def rate(value: float) -> str:
    """Return pages a second as text."""
    return f"{value:,.0f}" if value >= _MANY else f"{value:.3g}"


def duration(hours: float) -> str:
    """Return hours as text in a unit that is easily read."""
    for most, unit_h, unit in ((2, 1 / 60, "minutes"), (48, 1, "hours"), (21 * 24, 24, "days")):
        if hours < most:
            return f"{_short(hours / unit_h)} {unit}"
    weeks = hours / 24 / 7
    return (
        f"{_short(weeks)} weeks" if weeks < _MOST_WEEKS else f"{_short(weeks * 7 / 365.25)} years"
    )


def number(value: float) -> str:
    """Return a number with the digits that matter."""
    return _short(value)


def moment(value: dt.datetime) -> str:
    """Return a moment to the minute."""
    return f"{value:%Y-%m-%d %H:%M}"


def cards(count: str, card: str) -> str:
    """Return how many there are of a card, or of a class of cards."""
    return f"{count} {card}" if count == "1" else f"{count} {card.replace('GPU of', 'GPUs of')}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < _FEW else f"{value:,.0f}"
