"""A tuning's charts as SVG."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cloister.loadtest.result import Estimate
from cloister.report import tuning_content as content
from cloister.report.drawing import BLUE, GOLD, GREEN, INK, RED, STYLE, WIDE, svg
from cloister.report.formats import number, plain, plus_minus
from cloister.report.tuning_sections import finalist_name
from cloister.tuning.result import Finalist, Tuning
from cloister.tuning.trial import Rung, Trial

_COLOURS = (BLUE, RED, GREEN, GOLD, "#AA4A8E", "#6B4E2E", "#3D9BD1")
_MARKS = ("o", "s", "^", "D", "v")
_PALE, _SOFT = "#A9CBE0", "#4A5058"
_LEAST, _MOST = 1e-6, 1e9  # what an axis can show
_ABOVE = 2.0  # times the SLO: what is slower is not worth the room
_LABEL, _LINES = 40, 3  # signs and lines of a bar's name
_Point = tuple[Rung, float]


def frontier(tuning: Tuning) -> str:
    """Return E2E against pages a second, a line a trial; "" when no page was read."""
    lines = [_points(trial) for trial in tuning.trials]
    points = [point for line in lines for point in line]
    if not points:
        return ""
    slo, chosen = tuning.slo.e2e_p95_s, content.chosen(tuning)
    with mpl.rc_context(STYLE):
        rows = 1 + sum(bool(line) for line in lines)
        figure = Figure(figsize=(WIDE, 4.5 + 0.18 * rows))
        axes = figure.subplots()
        top, hidden = _top([e2e for _, e2e in points], slo)
        edge = _frontier([point for point in points if point[1] <= top])
        axes.plot(*_xy(edge), color="#D5DBE2", linewidth=9, zorder=1, label="frontier")
        for place, line in enumerate(lines):
            if line:
                _line(axes, tuning, place, line, strong=place == chosen)
        _slo(axes, slo, top)
        if chosen is not None:
            _mark(axes, tuning.trials[chosen], lines[chosen])
        if hidden:
            text = f"{hidden} slower {'loads are' if hidden > 1 else 'load is'} above"
            axes.text(
                0.995, 0.99, text, transform=axes.transAxes, ha="right", va="top", color=_SOFT
            )
        axes.set(xlabel="pages a second", ylabel="E2E p95, seconds", ylim=(0, top))
        axes.set_xlim(0, _edge([rung.pages_per_s.value for rung, _ in points]) * 1.2)
        figure.legend(loc="outside lower left", handlelength=3.2)
        about = (
            f"E2E p95 against pages a second of {len(points)} loads on {len(tuning.trials)} "
            "starts; the tables of loads have the numbers."
        )
        return svg(figure, "frontier", "Throughput and latency of each start", about)


def surface(tuning: Tuning) -> str:
    """Return the best rate of each trial, one bar a start; "" when nothing was started."""
    if not tuning.trials:
        return ""
    first, chosen = content.first(tuning), content.chosen(tuning)
    shown = [
        _wrapped(f"{place}  {content.moved(trial.configuration, first, short=True)}")
        for place, trial in enumerate(tuning.trials, 1)
    ]
    rates = [trial.best.pages_per_s for trial in tuning.trials if trial.best]
    with mpl.rc_context(STYLE):
        height = sum(0.22 + 0.16 * (text.count("\n") + 1) for text in shown)
        figure = Figure(figsize=(WIDE, 0.7 + height))
        axes = figure.subplots()
        edge = _edge([_reach(rate) for rate in rates])
        for place, trial in enumerate(tuning.trials):
            _bar(axes, place, trial, edge, strong=place == chosen)
        axes.set_yticks(range(len(shown)), shown)
        if chosen is not None:
            axes.get_yticklabels()[chosen].set_fontweight("bold")
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, edge * 1.45)  # room for the words at the bars' ends
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("most pages a second within the SLO, with 95 % intervals")
        return svg(
            figure,
            "surface",
            "What each start served",
            f"The most pages a second within the SLO on each of {len(shown)} starts, and what "
            "limited it; the table below has the numbers.",
        )


def turns(tuning: Tuning) -> str:
    """Return the finalists' turns: what they served, and how late; "" for no finalist."""
    drawn = [(place, one) for place, one in enumerate(tuning.finalists) if one.turns]
    if not drawn:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 2.6 + 0.35 * len(drawn)))
        left, right = figure.subplots(1, 2)
        for row, (place, one) in enumerate(drawn):
            _served(left, place, row, one)
            _late(right, place, row, one)
        names = [finalist_name(place) for place, _ in drawn]
        left.set_yticks(range(len(drawn)), names)
        left.set_ylim(len(drawn) - 0.5, -0.5)
        left.grid(visible=False, axis="y")
        left.set_xlabel("pages a second; the bar is what was served within the SLO, 95 %")
        every = [turn for _, one in drawn for turn in one.turns]
        late = [one.e2e_p95_s for one in every if _shown(one.e2e_p95_s)]
        top, _ = _top([value for value in late if value is not None], tuning.slo.e2e_p95_s)
        _slo(right, tuning.slo.e2e_p95_s, top)
        right.set(xlabel="share of capacity, %", ylabel="E2E p95, seconds", ylim=(0, top))
        right.legend(loc="lower right", ncols=4, handlelength=1)
        return svg(
            figure,
            "turns",
            "The finalists' turns",
            f"Pages a second and E2E p95 of {len(every)} turns of {len(drawn)} finalists; the "
            "table below has the numbers.",
        )


def _points(trial: Trial) -> list[_Point]:
    """Return the rungs that can be drawn, in order of clients, each with its E2E."""
    return [
        (rung, rung.e2e_p95_s)
        for rung in sorted(trial.rungs, key=lambda rung: rung.clients)
        if rung.e2e_p95_s is not None and _shown(rung.e2e_p95_s) and _shown(rung.pages_per_s.value)
    ]


def _frontier(points: Sequence[_Point]) -> list[_Point]:
    """Return the points that no other is both faster and sooner than."""
    edge = list[_Point]()
    for rung, e2e in sorted(points, key=lambda one: (one[1], -one[0].pages_per_s.value)):
        if not edge or rung.pages_per_s.value > edge[-1][0].pages_per_s.value:
            edge.append((rung, e2e))
    return edge


def _line(axes: Axes, tuning: Tuning, place: int, line: Sequence[_Point], *, strong: bool) -> None:
    colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
    words = content.moved(tuning.trials[place].configuration, content.first(tuning), short=True)
    axes.plot(
        *_xy(line),
        color=colour,
        linewidth=2.2 if strong else 1.1,
        zorder=4 if strong else 3,
        marker=mark,
        markersize=5,
        label=plain(f"{place + 1}  {words}", 110),
    )
    missed = [point for point in line if not point[0].met]
    axes.plot(*_xy(missed), mark, color=colour, markersize=5, markerfacecolor="white", zorder=5)


def _mark(axes: Axes, trial: Trial, line: Sequence[_Point]) -> None:
    """Ring the rung that is recommended, and name it."""
    at = next(((rung, e2e) for rung, e2e in line if rung is trial.best), None)
    if at is None:
        return
    x, y = at[0].pages_per_s.value, at[1]
    axes.plot([x], [y], "o", markersize=14, markerfacecolor="none", color=INK, zorder=6)
    axes.annotate(
        f"chosen: {content.clients(at[0])}",
        (x, y),
        (10, -14),  # where no other can be: right and below is better
        textcoords="offset points",
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        zorder=6,
    )


def _slo(axes: Axes, slo: float, top: float) -> None:
    if _shown(slo) and slo < top:
        axes.axhline(slo, color=INK, linewidth=1, linestyle="--", zorder=2)
        at = ("axes fraction", "data")
        axes.annotate("SLO, p95", (0.005, slo), (0, 4), xycoords=at, textcoords="offset points")
    else:
        text = f"the SLO's {slo:g} s are above"
        axes.text(0.005, 0.99, text, transform=axes.transAxes, va="top", color=_SOFT)


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(text, _LABEL, break_on_hyphens=False)
    return "\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "…"])


def _bar(axes: Axes, place: int, trial: Trial, edge: float, *, strong: bool) -> None:
    """Draw what a trial served and what limited it, or how it failed."""
    best = trial.best
    if best is None or not _shown(best.pages_per_s.value):
        words = trial.failure or "no load met the SLO"
        axes.annotate(
            words, (edge * 0.012, place), va="center", color=RED if trial.failure else INK
        )
        return
    rate = best.pages_per_s
    axes.barh(place, rate.value, 0.55, color=BLUE if strong else _PALE)
    axes.errorbar(rate.value, place, xerr=_errors(rate), color=INK, capsize=3, elinewidth=1)
    axes.annotate(
        f"{_told(rate)}  {content.limit(trial)}",
        (_reach(rate), place),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold" if strong else "normal",
    )


def _served(axes: Axes, place: int, row: int, finalist: Finalist) -> None:
    """Draw a finalist's turns on its row, and the interval of what counts."""
    colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
    for turn in finalist.turns:
        if _shown(turn.pages_per_s.value):
            face = colour if turn.met else "white"
            at = (turn.pages_per_s.value, row + 0.14)
            axes.plot(*at, mark, color=colour, markersize=5, markerfacecolor=face)
    rate = finalist.pages_per_s
    if _shown(rate.value):
        at = (rate.value, row - 0.16)
        axes.errorbar(*at, xerr=_errors(rate), color=INK, capsize=5, elinewidth=2.4)
        axes.plot(*at, "|", color=INK, markersize=11)
        axes.annotate(_told(rate), at, (0, 9), textcoords="offset points", ha="center")


def _late(axes: Axes, place: int, row: int, finalist: Finalist) -> None:
    """Draw how late a finalist's pages were at each share, a little beside the others'."""
    colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
    points = [
        (turn.share * 100 + 0.5 * row, turn.e2e_p95_s, turn.met)
        for turn in finalist.turns
        if turn.e2e_p95_s is not None and _shown(turn.share) and _shown(turn.e2e_p95_s)
    ]
    for x, y, met in points:
        face = colour if met else "white"
        axes.plot([x], [y], mark, color=colour, markersize=5, markerfacecolor=face)
    axes.plot([], [], mark, color=colour, label=finalist_name(place))


def _xy(points: Sequence[_Point]) -> tuple[list[float], list[float]]:
    return [rung.pages_per_s.value for rung, _ in points], [e2e for _, e2e in points]


def _top(values: Sequence[float], slo: float) -> tuple[float, int]:
    """Return where the axis of times ends, and how many values are above.

    The SLO is on it unless all is far sooner, and what is far later is not.
    """
    top = _edge(values) * 1.12
    if _shown(slo) and slo < _ABOVE * top and any(value <= _ABOVE * slo for value in values):
        top = max(min(top, _ABOVE * slo), 1.1 * slo, _LEAST)
    return top, sum(value > top for value in values)


def _edge(values: Sequence[float]) -> float:
    return max([_LEAST, *values])


def _shown(value: float | None) -> bool:
    return value is not None and (value == 0 or _LEAST <= value < _MOST)  # NaN is neither


def _errors(rate: Estimate) -> list[list[float]]:
    low = rate.low if _shown(rate.low) else rate.value
    return [[max(0.0, rate.value - low)], [_reach(rate) - rate.value]]


def _told(rate: Estimate) -> str:
    """Return a rate in words that have room in a chart."""
    return plus_minus(rate) if _shown(rate.low) and _shown(rate.high) else number(rate.value)


def _reach(rate: Estimate) -> float:
    """Return where a rate's interval ends."""
    if not _shown(rate.value):
        return 0.0
    return max(rate.value, rate.high) if _shown(rate.high) else rate.value
