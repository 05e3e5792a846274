"""Several services that are up, measured by turns in one run: how many times the first one's pages.

Each level is a service, a number of clients in closed loop, seconds and a workload; a turn is all.
Lengths of answers are drawn, for weights that are noise.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from cloister import config, console
from cloister.errors import CloisterError
from cloister.files import write_atomically
from cloister.loadtest import documents, record, running, target, workload
from cloister.loadtest.client import Crew
from cloister.loadtest.ladder import Ladder
from cloister.loadtest.result import Report, Spread
from cloister.loadtest.running import Test

_SEED = 1


@dataclass(frozen=True)
class Level:
    """One service under one load."""

    name: str
    url: str
    clients: int
    seconds: float
    workload: str

    @classmethod
    def of(cls, text: str) -> "Level":
        """Read NAME=URL,CLIENTS,SECONDS,WORKLOAD."""
        name, _, rest = text.partition("=")
        url, clients, seconds, mix = rest.rsplit(",", 3)
        return cls(name, url, int(clients), float(seconds), mix)


def main() -> None:
    """Measure, and print a line a level as it comes, then the medians."""
    parser = argparse.ArgumentParser(prog="nox -s bench-services --", description=__doc__)
    parser.add_argument("--level", action="append", required=True, metavar="NAME=URL,N,S,WORKLOAD")
    parser.add_argument("--turns", type=int, default=2, help="turns (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the reports")
    flags = parser.parse_args()
    levels = [Level.of(text) for text in flags.level]
    found: dict[Level, list[Report]] = {level: [] for level in levels}
    try:
        for mix in {level.workload for level in levels}:
            documents.draw(workload.load(mix), _SEED, _pages(flags.out, mix))
        for turn in range(flags.turns):
            for number, level in enumerate(levels):
                folder = flags.out / f"{turn + 1}-{number + 1}-{level.name}"
                found[level].append(_measured(level, flags, folder))
                console.show(json.dumps({"turn": turn + 1, **_row(level, found[level][-1:])}))
    except CloisterError as error:
        raise SystemExit(f"error: {error}") from error
    finally:
        shutil.rmtree(flags.out / "pages", ignore_errors=True)
    _table(found)


def _measured(level: Level, flags: argparse.Namespace, folder: Path) -> Report:
    folder.mkdir(parents=True)
    mix, settings = workload.load(level.workload), config.load().settings
    service = target.at(level.url, None, settings)
    question = documents.question(settings, mix.output_tokens, synthetic=True)
    made, records = running.run(
        Test(
            target=service,
            workload=level.workload,
            seed=_SEED,
            documents=mix.documents,
            pages=_pages(flags.out, level.workload),
            question=question,
            slo=mix.slo,
            shape="ladder",
            loads=(),
            ladder=Ladder(level.clients, level.clients, level.seconds),
            direct=False,
            crew=Crew(),
            checked=False,
            folder=folder,
            command="nox -s bench-services",
        ),
        lambda _: None,
    )
    write_atomically(folder / "records.jsonl", record.lines(records))
    write_atomically(folder / "report.json", made.model_dump_json(indent=2) + "\n")
    return made


def _pages(out: Path, mix: str) -> Path:
    return out / "pages" / Path(mix).stem


def _row(level: Level, reports: list[Report]) -> dict[str, object]:
    stages = [one.stages[0] for one in reports]
    busy = [value for one in reports for value in _busy(one)]
    return {
        "service": level.name,
        "clients": level.clients,
        "workload": Path(level.workload).stem,
        "pages/s": round(median(stage.pages_per_s.value for stage in stages), 2),
        "of each turn": [round(stage.pages_per_s.value, 2) for stage in stages],
        "tokens/s": round(median(stage.output_tokens_per_s for stage in stages)),
        "TTFT p50, p95": _middles([stage.ttft_s for stage in stages]),
        "E2E p50, p95": _middles([stage.e2e_s for stage in stages]),
        "faults": sum(stage.sent - stage.good for stage in stages),
        "GPU busy": round(fmean(busy), 2) if busy else None,
    }


def _middles(spreads: list[Spread | None]) -> list[float]:
    there = [one for one in spreads if one is not None]
    return [round(median(values), 2) for values in ([s.p50 for s in there], [s.p95 for s in there])]


def _busy(made: Report) -> Iterator[float]:
    stage = made.stages[0]
    for sample in made.samples:
        if stage.begin_s <= sample.at_s <= stage.end_s and sample.gpu_busy is not None:
            yield sample.gpu_busy


def _table(found: dict[Level, list[Report]]) -> None:
    rows = [_row(level, reports) for level, reports in found.items()]
    first = float(str(rows[0]["pages/s"])) or 1.0
    table = [[*row.values(), f"{float(str(row['pages/s'])) / first:.2f}"] for row in rows]
    console.table((*rows[0], "times the first"), table)


if __name__ == "__main__":
    main()
