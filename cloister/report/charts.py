"""A load test's charts as SVG."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cloister.loadtest import statistics
from cloister.loadtest.result import Sample, Spread, Stage
from cloister.report.drawing import BLUE, GOLD, GREEN, GREY, HALF, INK, RED, STYLE, WIDE, svg
from cloister.report.formats import number, plain

_MOST_POINTS = 500
_FAULTS = 12
_Of = Callable[[Sample], float | None]
# The panels of the time line: unit, lines (name, value, colour, dashes).
_PANELS: tuple[tuple[str, float, tuple[tuple[str, _Of, str, str], ...]], ...] = (
    (
        "pages",
        1,
        (
            ("running", lambda sample: sample.running, BLUE, "-"),
            ("waiting", lambda sample: sample.waiting, RED, "--"),
            ("in flight", lambda sample: sample.in_flight, GREY, ":"),
        ),
    ),
    ("KV cache, %", 100, (("used", lambda sample: sample.kv_use, GREEN, "-"),)),
    (
        "GPU, %",
        100,
        (
            ("busy", lambda sample: sample.gpu_busy, BLUE, "-"),
            ("memory", lambda sample: sample.gpu_memory, GOLD, "--"),
        ),
    ),
    (
        "CPU, %",
        100,
        (
            ("host", lambda sample: sample.host_cpu, BLUE, "-"),
            ("client, of a core", lambda sample: sample.client_cpu, RED, "--"),
            ("gateway, of a core", lambda sample: sample.gateway_cpu, GREEN, "-."),
        ),
    ),
)


def curve(stages: Sequence[Stage], best: int | None, slo_s: float) -> str:
    """Return E2E against good pages a second, one point a load; "" when no page was good."""
    measured = [(stage, stage.e2e_s) for stage in stages if stage.e2e_s is not None]
    if not measured:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 4.8))
        axes = figure.subplots()
        _quantile(axes, [(stage, e2e.p50) for stage, e2e in measured], "E2E p50", BLUE, "o-")
        _quantile(axes, [(stage, e2e.p95) for stage, e2e in measured], "E2E p95", RED, "s--")
        top = max(e2e.p95 for _, e2e in measured) * 1.16
        if slo_s < top:
            axes.axhline(slo_s, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                "SLO, p95", (0.005, slo_s), xycoords=("axes fraction", "data"), va="bottom"
            )
        else:
            text = f"the SLO's {slo_s:g} s are above"
            axes.annotate(text, (0.005, 0.99), xycoords="axes fraction", va="top", color="#4A5058")
        for stage, e2e in measured:
            _name(axes, stage, e2e, best=best is not None and stage is stages[best])
        axes.set(xlabel="good pages a second", ylabel="E2E, seconds", ylim=(0, top))
        axes.set_xlim(0, max(stage.pages_per_s.high for stage, _ in measured) * 1.05)
        axes.legend(loc="upper center", ncols=2, handlelength=3.2)
        return svg(
            figure,
            "curve",
            "Throughput and latency",
            f"E2E p50 and p95 against good pages a second at {len(measured)} loads, with 95 % "
            "intervals; the table of loads has the numbers.",
        )


def distribution(values: Sequence[float], name: str, slo_s: float) -> str:
    """Return the share of pages that took at most so many seconds; "" for no values."""
    if not values:
        return ""
    ordered = sorted(values)
    n = len(ordered)
    step = max(1, n // _MOST_POINTS)
    ranks = [*range(0, n - 1, step), n - 1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(HALF, 3.3))
        axes = figure.subplots()
        seconds = [ordered[rank] for rank in ranks]
        shares = [100 * (rank + 1) / n for rank in ranks]
        axes.plot([seconds[0], *seconds], [0, *shares], color=BLUE, drawstyle="steps-post")
        for share, colour in ((50, BLUE), (95, RED)):
            at = statistics.percentile(ordered, share / 100)
            axes.plot([at, at], [0, share], color=colour, linewidth=1, linestyle="--")
            axes.plot([at], [share], "o", color=colour, markersize=4)
            text = f"p{share} {number(at)} s"
            axes.annotate(text, (at, share), (6, -11), textcoords="offset points", color=colour)
        right = ordered[-1] * 1.06
        if slo_s < right:
            axes.axvline(slo_s, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate("SLO", (slo_s, 2), (4, 0), textcoords="offset points")
        axes.set(xlabel=f"{name}, seconds", ylabel="pages, %", ylim=(0, 102), xlim=(0, right))
        return svg(
            figure,
            f"distribution-{name}",
            f"Distribution of {name}",
            f"Share of {n} pages whose {name} is at most so many seconds; the table below has the "
            "percentiles.",
        )


def time_line(samples: Sequence[Sample], stages: Sequence[Stage]) -> str:
    """Return the machine and the engines over time, loads shaded; "" when nothing was sampled."""
    panels = [
        (unit, factor, lines)
        for unit, factor, all_ in _PANELS
        if (lines := [line for line in all_ if any(line[1](one) is not None for one in samples)])
    ]
    if not panels:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 0.6 + 1.45 * len(panels)))
        rows = figure.subplots(len(panels), sharex=True, squeeze=False)
        for (axes,), (unit, factor, lines) in zip(rows, panels, strict=True):
            _panel(axes, samples, factor, lines)
            _shade(axes, stages)
            axes.set_ylabel(unit)
            axes.set_ylim(bottom=0)
        for place, stage in enumerate(stages, 1):
            middle = (stage.begin_s - stage.warmup_s + stage.end_s) / 2
            at = (middle, 1.02)
            rows[0][0].annotate(
                str(place), at, xycoords=("data", "axes fraction"), ha="center", va="bottom"
            )
        rows[-1][0].set_xlabel("seconds since the test began")
        rows[-1][0].set_xlim(0, max(one.at_s for one in samples))
        figure.align_ylabels()
        units = ", ".join(unit for unit, _, _ in panels)
        return svg(
            figure,
            "line",
            "Time line",
            f"{units} over time, with {len(stages)} loads shaded and their warm-up hatched; the "
            "table below has the means.",
        )


def faults(counts: Mapping[str, int]) -> str:
    """Return how often each fault occurred, "" for none; many kinds are cut to the frequent."""
    if not counts:
        return ""
    shown = [(plain(kind, 40), count) for kind, count in counts.items()][:_FAULTS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 0.75 + 0.3 * len(shown)))
        axes = figure.subplots()
        bars = axes.barh(range(len(shown)), [count for _, count in shown], 0.5, color=RED)
        axes.bar_label(bars, padding=4)
        axes.set_yticks(range(len(shown)), [kind for kind, _ in shown])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="pages", xlim=(0, max(count for _, count in shown) * 1.08))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        text = ", ".join(f"{kind}: {count}" for kind, count in shown)
        return svg(figure, "faults", "Faults by kind", text)


def _quantile(
    axes: Axes, points: Sequence[tuple[Stage, float]], label: str, colour: str, form: str
) -> None:
    """Draw a percentile of E2E: a ladder's rungs joined, loads past the gateway hollow."""
    marker, dashes = form[0], form[1:]
    rungs = [(stage, y) for stage, y in points if stage.kind == "closed" and not stage.direct]
    x = [stage.pages_per_s.value for stage, _ in rungs]
    axes.plot(x, [y for _, y in rungs], color=colour, linestyle=dashes, linewidth=1.4)
    for stage, y in points:
        rate = stage.pages_per_s
        axes.errorbar(
            rate.value,
            y,
            xerr=[[rate.value - rate.low], [rate.high - rate.value]],
            color=colour,
            marker=marker,
            markerfacecolor="white" if stage.direct else colour,
            capsize=2.5,
            elinewidth=1,
        )
    axes.plot([], [], color=colour, marker=marker, linestyle=dashes, label=label)


def _name(axes: Axes, stage: Stage, e2e: Spread, *, best: bool) -> None:
    """Write a load's name beside its p95, and mark the best one."""
    x = stage.pages_per_s.value
    if best:
        for y in (e2e.p50, e2e.p95):
            axes.plot([x], [y], "o", markersize=14, markerfacecolor="none", color=INK)
    axes.annotate(
        f"best: {plain(stage.name, 40)}" if best else plain(stage.name, 40),
        (x, e2e.p95),
        (-11, 5) if best else (-7, 5),
        textcoords="offset points",
        ha="right",
        fontweight="bold" if best else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
    )


def _panel(
    axes: Axes, samples: Sequence[Sample], factor: float, lines: Sequence[tuple[str, _Of, str, str]]
) -> None:
    at = [sample.at_s for sample in samples]
    for name, of, colour, dashes in lines:
        values = [of(sample) for sample in samples]
        shown = [float("nan") if value is None else value * factor for value in values]
        axes.plot(at, shown, color=colour, linestyle=dashes, linewidth=1.3, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.8)
    axes.grid(visible=False, axis="x")


def _shade(axes: Axes, stages: Sequence[Stage]) -> None:
    for place, stage in enumerate(stages):
        begun_s = stage.begin_s - stage.warmup_s
        if place % 2 == 0:
            axes.axvspan(begun_s, stage.end_s, color="#F1F3F6", zorder=0, linewidth=0)
        axes.axvspan(begun_s, stage.begin_s, fill=False, hatch="////", linewidth=0, zorder=0.5)
