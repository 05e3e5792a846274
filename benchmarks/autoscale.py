"""The autoscaling policy under simulated loads, against fleets that stay at its bounds.

Nothing is measured: time is simulated, and the same seed gives the same table. One replica reads
one page a second, five at once, and takes 90 s to start. `PYTHONPATH=tests` finds the simulation.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from fleet_simulation import HOUR_S, LOADS, Outcome, Point, poisson, simulate

from cloister import console
from cloister.autoscale import Policy

_DRAWN = "daily wave"
_WIDTH, _PANEL = 800, 120  # pixels


def outcomes(policy: Policy, seed: int) -> Iterator[tuple[str, str, Outcome]]:
    """Yield load, fleet and what came of it."""
    fleets = {
        f"{policy.least} to {policy.most}": policy,
        **{
            f"always {count}": Policy(count, count, policy.target_waiting, policy.cool_down_s)
            for count in (policy.least, policy.most)
        },
    }
    for name, load in LOADS.items():
        arrivals = poisson(load, seed)
        for fleet, rules in fleets.items():
            yield name, fleet, simulate(rules, arrivals, load.duration_s, seed=seed)


def row(load: str, fleet: str, outcome: Outcome) -> str:
    """Return one line of the table."""
    hours = f"{outcome.replica_s / HOUR_S:.1f}"
    cells = (load, fleet, f"{outcome.p95_wait_s:.1f}", hours, len(outcome.changes), outcome.unread)
    return f"| {' | '.join(map(str, cells))} |"


def picture(series: tuple[Point, ...]) -> str:
    """Return arrivals, waiting and replicas over time as SVG, one below the other."""
    panels: dict[str, Callable[[Point], float]] = {
        "pages arriving between two looks": lambda point: point.arrivals,
        "pages waiting": lambda point: point.waiting,
        "replicas": lambda point: point.replicas,
    }
    parts, drawn = [], series[:: max(1, len(series) // _WIDTH)]
    for number, (title, value) in enumerate(panels.items()):
        most = max(map(value, series)) or 1
        foot = (number + 1) * (_PANEL + 30)
        points = " ".join(
            f"{_WIDTH * point.at_s / series[-1].at_s:.1f},{foot - _PANEL * value(point) / most:.1f}"
            for point in drawn
        )
        parts += [
            f'<text x="0" y="{foot - _PANEL - 6}">{title}, at most {most:g}</text>',
            f'<polyline points="{points}" fill="none" stroke="black"/>',
        ]
    size = f'width="{_WIDTH}" height="{len(panels) * (_PANEL + 30) + 10}"'
    style = 'font-family="sans-serif" font-size="13"'
    paper = '<rect width="100%" height="100%" fill="white"/>'  # pages that show it may be dark
    body = "\n".join([paper, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


def main() -> None:
    """Print a table in Markdown, and draw the daily wave."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscale", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cool-down-s", type=float, default=120.0)
    parser.add_argument("--target-waiting", type=float, default=5.0, help="pages a replica")
    parser.add_argument("--svg", type=Path, metavar="FILE", help=f"draw the {_DRAWN}")
    options = parser.parse_args()
    policy = Policy(1, 8, options.target_waiting, options.cool_down_s)
    console.show("| load | replicas | p95 wait, s | replica-hours | changes | never begun |")
    console.show("| --- | --- | --- | --- | --- | --- |")
    drawn = None
    for load, fleet, outcome in outcomes(policy, options.seed):
        console.show(row(load, fleet, outcome))
        if load == _DRAWN and drawn is None:
            drawn = outcome
    if options.svg and drawn:
        options.svg.write_text(picture(drawn.series), encoding="utf-8")


if __name__ == "__main__":
    main()
