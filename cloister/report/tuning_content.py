"""What a tuning says first: its result, what is recommended, and what to doubt; pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from cloister.loadtest.result import Estimate, Verdict
from cloister.report.content import Figure, limited
from cloister.report.formats import number, percent, plain, plus_minus
from cloister.tuning import knobs
from cloister.tuning.knobs import FLAG, Configuration
from cloister.tuning.result import Choice, Finalist, Tuning, Turn
from cloister.tuning.trial import Rung, Trial


@dataclass(frozen=True)
class Result:
    """What the recommended settings serve: by the finals, else by the ladder of their trial."""

    pages_per_s: Estimate
    e2e_p95_s: float | None
    measured: str


def moved(configuration: Configuration, first: Configuration, *, short: bool = False) -> str:
    """Return in what a configuration differs from the first; `short` leaves the sections out."""
    shown = [
        f"{_short(name) if short else name}={value}"
        for name, value in configuration.items()
        if first.get(name) != value
    ]
    return plain(", ".join(shown)) if shown else "as the first"


def first(tuning: Tuning) -> Configuration:
    """Return the configuration that the others are told by: that of the first start."""
    return tuning.trials[0].configuration if tuning.trials else tuning.space.first


def chosen(tuning: Tuning) -> int | None:
    """Return the number of the trial that is recommended, None when none is.

    It may have been started for more sequences than are recommended: its ladder saw all smaller.
    """
    if tuning.choice is None:
        return None
    knob = tuning.space.of("sequences")
    free = {knob.setting: None} if knob else {}
    wanted = {**tuning.choice.configuration, **free}
    alike = [
        place
        for place, trial in enumerate(tuning.trials)
        if {**trial.configuration, **free} == wanted
    ]
    return max(alike, key=lambda place: tuning.trials[place].score, default=None)


def kept(finalist: Finalist) -> tuple[Turn, ...]:
    """Return of each start the turn with the highest rate that met the SLO."""
    best = dict[int, Turn]()
    for turn in finalist.turns:
        if turn.met and (turn.start not in best or turn.rate > best[turn.start].rate):
            best[turn.start] = turn
    return tuple(best.values())


def final(tuning: Tuning) -> Finalist | None:
    """Return the finalist that is recommended."""
    wanted = tuning.choice.configuration if tuning.choice else None
    return next((one for one in tuning.finalists if one.configuration == wanted), None)


def result(tuning: Tuning) -> Result | None:
    """Return what the recommended settings serve, None when nobody knows."""
    finalist, rung = final(tuning), _rung(tuning)
    turns = kept(finalist) if finalist else ()
    if finalist and turns:
        slow = max((turn.e2e_p95_s for turn in turns if turn.e2e_p95_s is not None), default=None)
        starts = len({turn.start for turn in finalist.turns})
        return Result(finalist.pages_per_s, slow, "1 start" if starts == 1 else f"{starts} starts")
    if rung is None:
        return None
    return Result(rung.pages_per_s, rung.e2e_p95_s, f"1 start, {clients(rung)}")


def clients(rung: Rung) -> str:
    """Return the load of a rung."""
    return f"{rung.clients} {'client' if rung.clients == 1 else 'clients'}"


def limit(trial: Trial) -> str:
    """Return what limited a trial: at its best rung, else at the last that knows."""
    found = _verdict(trial)
    return found.limit if found else trial.limit or "unknown"


def evidence(trial: Trial) -> tuple[str, ...]:
    """Return what says so."""
    found = _verdict(trial)
    return found.evidence if found else ()


def share(tuning: Tuning) -> float | None:
    """Return what part of the roofline the recommended settings reach."""
    found, ceiling = result(tuning), tuning.ceiling
    if found is None or ceiling is None or not ceiling.pages_per_s > 0:
        return None
    return found.pages_per_s.value / ceiling.pages_per_s


def headline(tuning: Tuning) -> str:
    """Return the result in one sentence."""
    card, found, place = plain(tuning.card, 60), result(tuning), chosen(tuning)
    if found is None and tuning.choice:
        return f"What is recommended for {card} was not measured"
    if found is None:
        tried = "Nothing" if tuning.trials else "Nothing was tried: nothing"
        return f"{tried} served a page within the SLO on {card}"
    pages = f"{number(found.pages_per_s.value)} pages a second within the SLO on {card}"
    return f"{pages}{limited(limit(tuning.trials[place]))}" if place is not None else pages


def lead(tuning: Tuning) -> str:
    """Return what stands behind the headline, in two sentences; "" when nothing does."""
    found, part = result(tuning), share(tuning)
    if found is None:
        return ""
    pages = f"{plus_minus(found.pages_per_s)} pages a second, {found.measured}"
    at = f"; 95 of 100 pages take at most {number(found.e2e_p95_s)} s there"
    allowed = f", where the SLO allows {tuning.slo.e2e_p95_s:g} s"
    said = f"{pages}{at}{allowed}." if found.e2e_p95_s is not None else f"{pages}."
    return said if part is None else f"{said} That is {percent(part)} of the roofline."


def subject(tuning: Tuning) -> str:
    """Return what was tuned, when and where, on one line."""
    engine = f"{tuning.engine} {tuning.engine_version or 'of an unknown version'}"
    parts = (tuning.model, engine, tuning.card, tuning.machine, tuning.workload, tuning.made_at)
    return " · ".join(plain(part) for part in parts)


def recommendation(tuning: Tuning) -> str:
    """Return why the settings are recommended."""
    if tuning.choice is None:
        return "Nothing is recommended: no start served a page within the SLO."
    return plain(tuning.choice.why, 600)


def settings(tuning: Tuning) -> str:
    """Return what is recommended as a part of cloister.yaml; "" for nothing."""
    if tuning.choice is None:
        return ""
    sections: dict[str, Any] = {}
    for name, value in knobs.as_settings(tuning.choice.configuration).items():
        section, _, key = name.partition(".")
        if key and isinstance(sections.setdefault(section, {}), dict):
            sections[section][key] = value
        else:
            sections[name] = value
    # What is not ASCII is written as its number, so nothing turns the direction of writing.
    return yaml.safe_dump(sections, sort_keys=False, width=math.inf).strip() if sections else ""


def warnings(tuning: Tuning) -> list[str]:
    """Return what a reader must know before any number."""
    return list(_doubts(tuning))


def key_figures(tuning: Tuning) -> list[Figure]:
    """Return the few numbers that most readers come for."""
    found, rung = result(tuning), _rung(tuning)
    if found is None:
        return []
    rate, slo = found.pages_per_s, tuning.slo
    beside = f"{number(rate.low)} to {number(rate.high)}, n = {rate.n}, {found.measured}"
    allowed = f"the SLO allows {slo.e2e_p95_s:g} s"
    figures = [
        Figure("Pages within the SLO", number(rate.value), "a second", beside),
        Figure("Whole page, p95", number(found.e2e_p95_s), "s", allowed),
    ]
    if rung and rung.ttft_p95_s is not None:
        beside = f"the SLO allows {slo.ttft_p95_s:g} s; {clients(rung)}"
        figures.append(Figure("First text, p95", number(rung.ttft_p95_s), "s", beside))
    if (part := share(tuning)) is not None and tuning.ceiling:
        beside = f"which is {number(tuning.ceiling.pages_per_s)} pages a second"
        figures.append(Figure("Of the roofline", percent(part), "", beside))
    failed = sum(trial.failure is not None for trial in tuning.trials)
    minutes = number(sum(trial.seconds for trial in tuning.trials) / 60)
    beside = f"{failed} failed; {minutes} minutes in all"
    figures.append(Figure("Starts tried", str(len(tuning.trials)), "", beside))
    return figures


def _doubts(tuning: Tuning) -> Iterator[str]:
    """Yield what the tuning itself says against its result."""
    if not tuning.complete:
        yield "the tuning ended before its search was through: what was not tried may be better"
    if tuning.synthetic:
        yield "the weights are noise: lengths of answers were drawn, and nothing is said of quality"
    if tuning.choice is None:
        yield "no start served a page within the SLO, so nothing is recommended"
        return
    yield from _unsure(tuning, tuning.choice)
    place, rung, part = chosen(tuning), _rung(tuning), share(tuning)
    if place is None:
        yield "what is recommended is none of what was tried"
    elif rung is not None:
        trial = tuning.trials[place]
        if rung.clients == max(one.clients for one in trial.rungs):
            yield f"{clients(rung)} was the highest load of its ladder: a higher one may bring more"
        if limit(trial) == "client":
            yield "client-limited: the service may read more pages than this client could ask for"
    if part is not None and part > 1:
        yield "more was measured than the roofline allows: its figures do not fit this card"


def _unsure(tuning: Tuning, choice: Choice) -> Iterator[str]:
    """Yield how the finals leave open what is best."""
    finalist = final(tuning)
    if finalist is None:
        yield "what is recommended was not started a second time: its numbers are one start's"
    elif not kept(finalist):
        yield "what is recommended missed the SLO in each turn: its numbers are of the first start"
    elif not choice.winner:
        yield "no finalist was surely better than the others: the safer one is kept"


def _rung(tuning: Tuning) -> Rung | None:
    place = chosen(tuning)
    return None if place is None else tuning.trials[place].best


def _verdict(trial: Trial) -> Verdict | None:
    rungs = (trial.best, *reversed(trial.rungs))
    return next((rung.verdict for rung in rungs if rung and rung.verdict), None)


def _short(name: str) -> str:
    return name if name.startswith(FLAG) else name.rpartition(".")[2]
