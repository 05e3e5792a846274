"""The sections of a tuning's page, each with its words and tables; pure."""

import re
from collections.abc import Iterable

from cloister.report import tuning_content as content
from cloister.report.content import Section, Table, slo
from cloister.report.formats import NONE, milliseconds, number, percent, plain, plus_minus
from cloister.tuning.result import Tuning
from cloister.tuning.trial import Rung, Trial

_MOST_PRUNED = 200
_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def sections(tuning: Tuning) -> tuple[Section, ...]:
    """Return the whole page below its recommendation and warnings."""
    return (
        _frontier(tuning),
        _surface(tuning),
        _loads(tuning),
        _finalists(tuning),
        _pruned(tuning),
        _roofline(tuning),
        _repeat(tuning),
    )


def finalist_name(place: int) -> str:
    """Return the letter of a finalist, its number when letters have run out."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)  # noqa: PLR2004


def _frontier(tuning: Tuning) -> Section:
    words = (
        "Each line is one start, each point a number of clients, hollow where it missed the SLO. "
        "No other point has both more pages a second and a shorter E2E than one of the frontier."
    )
    return Section("frontier", "The frontier", (words, slo(tuning.slo)))


def _surface(tuning: Tuning) -> Section:
    if not tuning.trials:
        return Section("surface", "What was tried", ("Nothing was started.",))
    begun = ", ".join(f"{name}={value}" for name, value in content.first(tuning).items())
    columns = (
        *("#", "moved", "start, s", "clients", "pages/s", "TTFT p95, s", "E2E p95, s"),
        *("KV pages", "limit or failure"),
    )
    rows = tuple(_trial(tuning, place) for place in range(len(tuning.trials)))
    words = (
        f"The first start had {plain(begun, 600)}. The others are told by what they moved. Rates "
        "are of the most pages a second within the SLO."
    )
    trials = Table(columns, rows, marked=content.chosen(tuning))
    return Section("surface", "What was tried", (words,), (trials, *_knobs(tuning)))


def _trial(tuning: Tuning, place: int) -> tuple[str, ...]:
    trial = tuning.trials[place]
    best = trial.best
    return (
        str(place + 1),
        content.moved(trial.configuration, content.first(tuning)),
        number(trial.start_s or None),
        str(best.clients) if best else NONE,
        plus_minus(best.pages_per_s if best else None),
        number(best.ttft_p95_s if best else None),
        number(best.e2e_p95_s if best else None),
        number(trial.kv_pages or None),
        _limited(trial),
    )


def _limited(trial: Trial) -> str:
    """Return what limited a trial and what says so, or how it failed and what its log said."""
    if trial.failure:
        return f"{trial.failure}: {plain(trial.said)}" if trial.said else trial.failure
    missed = "" if trial.best else "no load met the SLO; "
    return f"{missed}{_because(content.limit(trial), content.evidence(trial))}"


def _because(limit: str, evidence: Iterable[str]) -> str:
    said = ", ".join(plain(reason) for reason in evidence)
    return f"{limit}: {said}" if said else limit


def _knobs(tuning: Tuning) -> tuple[Table, ...]:
    """Return what could be turned, and which of it was."""
    rows = []
    for knob in tuning.space.knobs:
        tried = {trial.configuration.get(knob.setting) for trial in tuning.trials}
        rows.append(
            (
                plain(knob.setting, 60),
                plain(", ".join(str(value) for value in knob.values)),
                plain(", ".join(str(value) for value in knob.values if value in tried)) or NONE,
                ", ".join(sorted(knob.moves)) or NONE,
                plain(knob.costs or NONE),
            )
        )
    columns = ("setting", "values", "tried", "moves", "costs")
    return (Table(columns, tuple(rows), "What could be turned", folded=True),) if rows else ()


def _loads(tuning: Tuning) -> Section:
    columns = (
        *("clients", "pages/s", "SLO", "within it", "TTFT p95, s", "E2E p95, s"),
        *("prompt tokens", "output tokens", "limited by", "report"),
    )
    tables = tuple(
        Table(
            columns,
            tuple(_load(rung) for rung in trial.rungs),
            f"{place}: {content.moved(trial.configuration, content.first(tuning))}",
            next((n for n, rung in enumerate(trial.rungs) if rung is trial.best), None),
            tuple(_link(rung.report) for rung in trial.rungs),
            folded=True,
        )
        for place, trial in enumerate(tuning.trials, 1)
        if trial.rungs
    )
    words = "Every load of every start." if tables else "No load was measured."
    return Section("loads", "Loads of each start", (words,), tables)


def _load(rung: Rung) -> tuple[str, ...]:
    return (
        str(rung.clients),
        plus_minus(rung.pages_per_s),
        "met" if rung.met else "not met",
        percent(rung.attainment),
        number(rung.ttft_p95_s),
        number(rung.e2e_p95_s),
        number(rung.prompt_tokens or None),
        number(rung.output_tokens or None),
        rung.verdict.limit if rung.verdict else NONE,
        plain(rung.report, 60) or NONE,
    )


def _link(folder: str) -> str:
    """Return where a load's own report lies; "" for what is no folder within the tuning's."""
    return f"{folder}/report.html" if _FOLDER.fullmatch(folder) else ""


def _finalists(tuning: Tuning) -> Section:
    if not tuning.finalists:
        words = "None was started again: the recommendation rests on the starts above."
        return Section("finalists", "Finalists", (words,))
    begun = content.first(tuning)
    names = tuple(
        (
            finalist_name(place),
            content.moved(one.configuration, begun),
            plus_minus(one.pages_per_s),
            str(len({turn.start for turn in one.turns})),
            f"{sum(turn.met for turn in one.turns)} of {len(one.turns)}",
        )
        for place, one in enumerate(tuning.finalists)
    )
    columns = ("", "moved", "pages/s within the SLO", "starts", "turns that met it")
    chosen = content.final(tuning)
    marked = next((n for n, one in enumerate(tuning.finalists) if one is chosen), None)
    words = (
        "The best were started again by turns, as they would serve, and asked for pages in open "
        "loop at shares of their capacity. What counts is the most within the SLO, with its "
        "interval over the starts."
    )
    tables = (Table(columns, names, marked=marked), _turns(tuning))
    return Section("finalists", "Finalists", (words,), tables)


def _turns(tuning: Tuning) -> Table:
    columns = (
        *("finalist", "start", "of capacity", "asked/s", "pages/s"),
        *("E2E p95, s", "within the SLO", "SLO", "report"),
    )
    turns = [
        (finalist_name(place), turn)
        for place, one in enumerate(tuning.finalists)
        for turn in one.turns
    ]
    rows = tuple(
        (
            name,
            str(turn.start),
            percent(turn.share),
            number(turn.rate),
            plus_minus(turn.pages_per_s),
            number(turn.e2e_p95_s),
            percent(turn.attainment),
            "met" if turn.met else "not met",
            plain(turn.report, 60) or NONE,
        )
        for name, turn in turns
    )
    links = tuple(_link(turn.report) for _, turn in turns)
    return Table(columns, rows, f"All {len(turns)} turns", links=links, folded=True)


def _pruned(tuning: Tuning) -> Section:
    title, lines = "What was not tried, and why", tuning.pruned
    if not lines:
        return Section("pruned", title, ("Nothing was ruled out by arithmetic.",))
    points = [plain(line, 600) for line in lines[:_MOST_PRUNED]]
    if len(lines) > _MOST_PRUNED:
        points.append(f"and {len(lines) - _MOST_PRUNED} more, which are in tuning.json")
    return Section("pruned", title, points=tuple(points))


def _roofline(tuning: Tuning) -> Section:
    title, ceiling = "What the roofline says", tuning.ceiling
    if ceiling is None:
        words = "Nothing: the card's figures or the model's shapes are not known."
        return Section("roofline", title, (words,))
    parts = (
        ("vision", ceiling.vision_s),
        ("prefill", ceiling.prefill_s),
        ("its part of decoding", ceiling.decode_s),
    )
    whole = sum(seconds for _, seconds in parts)
    rows = tuple(
        (name, milliseconds(seconds), percent(seconds / whole if whole > 0 else None))
        for name, seconds in parts
    )
    at_most = f"At most {number(ceiling.pages_per_s)} pages a second"
    part = content.share(tuning)
    reached = "." if part is None else f", of which the recommended settings reach {percent(part)}."
    words = (
        "It counts the arithmetic and the memory that a page costs at the card's best, one after "
        "the other; it is a bound and no forecast."
    )
    table = Table(("a page costs", "ms", "of all"), rows)
    return Section("roofline", title, (f"{at_most}{reached}", words), (table,))


def _repeat(tuning: Tuning) -> Section:
    engine = f"{tuning.engine} {tuning.engine_version or 'of an unknown version'}"
    rows = (
        ("card", f"{plain(tuning.card)}, {tuning.memory_mib} MiB"),
        ("machine", plain(tuning.machine)),
        ("service", plain(f"{engine}, {tuning.model}, runtime {tuning.runtime}")),
        ("workload", f"{plain(tuning.workload)}, seed {tuning.seed}"),
        ("budget", f"{number(tuning.budget_s / 60)} minutes"),
        ("made", f"{plain(tuning.made_at)} by Cloister {plain(tuning.version)}"),
        ("schema", f"tuning.json, version {tuning.schema_version}"),
    )
    command = plain(tuning.command, 1000)
    return Section("repeat", "How to repeat it", tables=(Table(("", ""), rows),), command=command)
