"""`nox -s tune -- ...`: the flags, and what is printed."""

import argparse
import os
import re
import signal
import stat
import sys
from datetime import datetime
from pathlib import Path

from cloister import config, console, deployment, hardware, report
from cloister.config import Setting, Settings
from cloister.errors import CloisterError, TuningError
from cloister.loadtest import workload
from cloister.tuning import beginning, knobs, ledger, profile, server, tuner
from cloister.tuning.beginning import Wish
from cloister.tuning.ledger import Begun, Ledger
from cloister.tuning.result import Tuning
from cloister.tuning.tuner import Tuner
from loadtests import command
from loadtests.__main__ import INTERRUPTED, count, positive

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_REPORTS = Path("reports")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration such as 30m")
    return float(found[1]) * _UNITS[found[2]]


def _whole(text: str) -> int:
    return 0 if text == "0" else count(text)


def parser() -> argparse.ArgumentParser:
    """Return the flags."""
    made = argparse.ArgumentParser(
        prog="nox -s tune --",
        description="Find the settings that serve the most pages on this machine's card: start one "
        "server after the other, measure each through the gateway, and keep the best in tuned/, "
        "where `invoke up` takes it from. A service that is up is stopped meanwhile.",
    )
    time = made.add_argument_group("how long")
    time.add_argument("--budget", type=_duration, default=3600.0, help="such as 30m (1h)")
    time.add_argument("--starts", type=count, default=6, help="servers at most (%(default)s)")
    time.add_argument(
        "--turns", type=_whole, default=2, help="starts of each finalist; 0: none (%(default)s)"
    )
    time.add_argument("--seconds", type=positive, default=30.0, help="of a rung (%(default)g)")
    pages = made.add_argument_group("which pages, and what is expected")
    pages.add_argument("--workload", default="mixed", help="a name or a YAML file (%(default)s)")
    pages.add_argument("--seed", type=int, default=1, help="the same seed, the same pages")
    pages.add_argument(
        "--slo", action="append", default=[], metavar="KEY=VALUE", help="such as e2e_p95_s=30"
    )
    what = made.add_argument_group("what is tried")
    what.add_argument("--knobs", type=Path, help="another table than loadtests/knobs.yaml")
    what.add_argument(
        "--also", action="append", default=[], metavar="KEY", help="a knob that costs something"
    )
    what.add_argument(
        "--begin", action="append", default=[], metavar="KEY=VALUE", help="where to begin"
    )
    what.add_argument(
        "--trial",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="exactly this configuration, instead of a search (repeatable)",
    )
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    load = made.add_argument_group("which load")
    load.add_argument("--first", type=count, help="clients of the first rung (a 16th of the last)")
    load.add_argument("--last", type=count, help="of the last (as many as the engine reads)")
    load.add_argument("--processes", type=count, default=1, help="processes that send")
    made.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=_REPORTS,
        metavar="FOLDER",
        help="go on with a tuning that was ended (the last one)",
    )
    made.add_argument("--out", type=Path, help="folder of the result (reports/tune-<time>)")
    made.add_argument("--profiles", type=Path, help="folder of the profile (tuned/)")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


def run(flags: argparse.Namespace) -> None:
    """Do what the flags say; raises CloisterError and KeyboardInterrupt."""
    os.umask(_umask() | _OTHERS_WRITE)  # what others can change is not resumed
    book, begun = _resumed(flags) if flags.resume else _begun(flags)
    with console.steps() as progress:
        session = Tuner(book, begun, progress, console.bar)
        try:
            found = session.run()
        except KeyboardInterrupt:
            console.say(f"ended; go on with: nox -s tune -- --resume {book.folder}")
            raise
        progress("drawing the pages of the report")
        report.write_tuning(book.folder, found)
        book.end(begun)
        for part in sorted(book.folder.glob("*/*/report.json")):
            report.write(part.parent, report.load(part), report.records(part))
    tuner.require_choice(found)
    _keep(flags, begun.base, found, book)


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present


def _begun(flags: argparse.Namespace) -> tuple[Ledger, Begun]:
    loaded = config.load(flags=flags.set, hardware=hardware.of)
    base = deployment.resolve(loaded.settings)
    mix = workload.load(flags.workload)
    wish = Wish(
        flags.knobs, tuple(flags.also), tuple(flags.begin), tuple(flags.trial), flags.starts
    )
    there = beginning.machine(base)
    pruned = beginning.space(base, wish, there, beginning.need(base), hardware.cores())
    deployment.runtime(base).check()
    begun = Begun(
        command=command.typed("tune"),
        base=base,
        previous=server.up_before(base),
        hardware=there,
        space=pruned.space,
        pruned=pruned.lines,
        given=beginning.trials(wish, pruned.space),
        workload=flags.workload,
        seed=flags.seed,
        slo=beginning.slo(mix, flags.slo),
        seconds=flags.seconds,
        first=flags.first,
        last=flags.last,
        processes=flags.processes,
        starts=flags.starts,
        turns=flags.turns,
        budget_s=flags.budget,
    )
    for configuration in begun.given or (pruned.space.first,):
        server.Bench(base, pruned.space).settings(configuration)  # refused before anything stops
    book = Ledger(_folder(flags.out))
    return book, book.begin(begun)


def _resumed(flags: argparse.Namespace) -> tuple[Ledger, Begun]:
    folder: Path = flags.resume
    book = ledger.last_unfinished(folder) if folder == _REPORTS else Ledger(folder)
    if book.finished:
        raise TuningError(f"`{folder}` is finished", hint=f"invoke tune.show {folder}")
    return book, book.resume(config.load(flags=flags.set).settings.state_dir)


def _keep(flags: argparse.Namespace, base: Settings, found: Tuning, book: Ledger) -> None:
    """Write the profile, and say what of it is overruled."""
    if found.choice is None:
        return
    settings = knobs.as_settings(found.choice.configuration, base.vllm.flags)
    path = profile.write(profile.of(found, settings), flags.profiles or profile.folder())
    if flags.json:
        console.show(found.model_dump_json(indent=2))
    else:
        console.show(report.tuning_markdown(found).rstrip("\n"))
    console.say(f"report: {book.folder / 'tuning.html'}")
    console.say(f"profile: {path}, which the next `invoke up` takes")
    for setting in _overruled(flags.set, settings):
        console.say(f"`{setting.key}` in {setting.origin} overrules it: remove it there")


def _overruled(flags: list[str], settings: dict[str, object]) -> list[Setting]:
    """Return the tuned keys that a source of the user's sets."""
    weak = ("default", "profiles/", "tuned/")
    origins = config.load(flags=flags).origins
    return [one for one in origins if one.key in settings and not one.origin.startswith(weak)]


def _folder(out: Path | None) -> Path:
    folder = out or _REPORTS / datetime.now().astimezone().strftime("tune-%Y-%m-%d-%H%M%S")
    if folder.exists() and any(folder.iterdir()):
        raise TuningError(
            f"`{folder}` is not empty",
            hint=f"another --out, or --resume {folder} where a tuning was begun in it",
        )
    return folder


def main() -> None:
    """Run it; a user's error is one or two lines and an exit code."""
    flags = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, signal.default_int_handler)
    try:
        run(flags)
    except CloisterError as error:
        console.say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
