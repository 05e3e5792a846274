"""How many cards a number of pages needs, from the profiles in tuned/."""

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from tasks.command import JSON, command

if TYPE_CHECKING:
    from cloister.capacity import Fleet, Plan


@command(
    pages="how many pages are to be read",
    by="when they have to be read: 2027-01-01, its beginning, or 2027-01-01T18:00 (default: none)",
    from_="when the reading begins, written as --by (default: now)",
    mix="what the pages are: a workload of loadtests/workloads, or a YAML file (default: what the "
    "profile is for)",
    card="a part of the card's name, or a size such as 24gb (default: the first of this machine)",
    profile="the profile's file (default: the card's in tuned/)",
    hours_a_day="hours of a day in which the cards may work",
    spare="percent of the cards' capacity that is kept free",
    json_=JSON,
)
def plan(
    _: Context,
    pages: int = 0,
    by: str | None = None,
    from_: str | None = None,
    mix: str | None = None,
    card: str | None = None,
    profile: str | None = None,
    hours_a_day: int = 24,
    spare: int = 20,
    json_: bool = False,
) -> None:
    """Tell how many cards read so many pages by a date, in how many hours."""
    from cloister import capacity, gpus
    from cloister.tuning import fitting
    from cloister.tuning import mix as mixes
    from cloister.tuning.profile import read

    job = capacity.job(pages, start=from_, by=by, hours_a_day=hours_a_day, spare=spare)
    if profile is None:
        shelf = fitting.shelf()
        profile = fitting.choose(shelf, () if card else gpus.cards(), card)
        chosen = shelf[profile]
    else:
        chosen = read(Path(profile))
    settings = fitting.settings(chosen)
    mixed = mixes.load(mix, settings.vllm.max_pixels) if mix else None
    made = capacity.plan(job, capacity.speed(chosen, settings, mixed))
    _show(profile, made, as_json=json_)


def _show(profile: str, made: "Plan", *, as_json: bool) -> None:
    from dataclasses import asdict

    from cloister import console

    if as_json:
        pages = made.speed.pages.model_dump()
        plain = asdict(made)
        plain["speed"]["pages"] = pages
        console.dump({"answer": str(made), "profile": profile, **plain})
        return
    console.show(f"{made}\n")
    columns = (
        "cards",
        "replicas",
        "pages/s",
        "working hours",
        "takes",
        "done",
        "at the latest",
        "in time",
    )
    part = made.job.hours_a_day / 24
    console.table(columns, [_row(fleet, part) for fleet in made.fleets])
    console.show(f"\n{made.about}\nprofile: {profile}")


def _row(fleet: "Fleet", part: float) -> tuple[object, ...]:
    from cloister.capacity import words

    return (
        fleet.cards,
        fleet.replicas,
        fleet.pages_per_s.written(words.rate),
        fleet.hours.written(words.number),
        words.duration(fleet.hours.value / part),
        fleet.done and words.moment(fleet.done),
        fleet.latest and words.moment(fleet.latest),
        fleet.in_time,
    )
