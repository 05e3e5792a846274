"""The fleet: how many replicas, of which kind, how they fare, what happened to them."""

import time
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from tasks.command import JSON, SET, command, settings

if TYPE_CHECKING:
    from cloister.deployment import Proposal


@command(
    replicas="number of replicas that are to be",
    gpus="cards that they may use, by nvidia-smi's numbers, such as 0,1 (default: as before)",
    per_gpu="most replicas on one card, which share its memory (default: as before)",
    plan="only print what would be done, and the arithmetic of what is impossible",
    json_=JSON,
    set_=SET,
)
def scale(
    _: Context,
    replicas: str,
    gpus: str | None = None,
    per_gpu: int = 0,
    plan: bool = False,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Bring the service to another number of replicas; no page is lost on the way."""
    from cloister import console, deployment

    chosen = settings(set_ or [])
    wish = deployment.wish(replicas, gpus, per_gpu or None)
    proposed = deployment.propose_scale(chosen, wish)
    if plan:
        _show(proposed, as_json=json_)
        return
    _warn(proposed)
    with console.steps() as report:
        done = deployment.scale(chosen, wish, report)
    if json_:
        _show(done, as_json=True)
    else:
        console.show(f"replicas that read pages at {done.plan.url}/v1: {wish.replicas}")
    overruled = settings(set_ or []).replicas
    if overruled != wish.replicas:
        console.say(
            f"`replicas` is {overruled} in the environment or by --set, so `invoke up` will go back"
        )


@command(
    canary="percent of the pages that one new replica gets; the others stay as they are",
    back="undo a rollout that is under way",
    plan="only print what would be done",
    json_=JSON,
    set_=SET,
)
def rollout(
    _: Context,
    canary: int = 0,
    back: bool = False,
    plan: bool = False,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Bring changed settings, images or a model to the replicas, one at a time, or not at all."""
    from cloister import console, deployment

    chosen = settings(set_ or [])
    if not back:
        proposed = deployment.propose_rollout(chosen)
        if plan:
            _show(proposed, as_json=json_)
            return
        _warn(proposed)
    with console.steps() as report:
        if back:
            names = deployment.back(chosen, report)
        else:
            names = deployment.rollout(chosen, report, canary or None).replaced
    if json_:
        console.dump({"replaced": names, "canary_percent": canary or None})
    elif canary:
        console.show(f"{', '.join(names)} is new and gets {canary} % of the pages")
        console.say("next: invoke rollout to go on | invoke rollout --back")
    else:
        console.show(f"replaced {', '.join(names)}" if names else "nothing differed")


@command(json_=JSON, watch="show it again every two seconds, until Ctrl-C", set_=SET)
def status(
    _: Context, json_: bool = False, watch: bool = False, set_: list[str] | None = None
) -> None:
    """Show what runs: state, pages, memory and health of every program."""
    from cloister import console, deployment
    from cloister.deployment import present

    chosen = settings(set_ or [])
    if watch and not json_:
        with console.live() as show:
            while True:
                show(present.table(deployment.status(chosen)))
                time.sleep(present.EVERY_S)
    with console.waiting("the programs to say how they are"):
        found = deployment.status(chosen)
    if json_:
        console.dump(found)
    elif not found.programs:
        console.say(f"nothing is up in `{chosen.state_dir}`; next: invoke up")
    else:
        console.draw(present.table(found))
        for line in present.complaints(found):
            console.say(line)
        console.show(f"{'healthy' if found.healthy else 'NOT healthy'}: {found.url}")
        if found.under_way:
            console.say(f"`invoke {found.under_way}` is at work, or was interrupted")
    if not found.up or not found.healthy:
        raise Exit(code=1)


@command(
    lines="events from the end",
    replica="only those of one replica, such as vllm-nanonets-ocr-2",
    follow="go on as new ones come, until Ctrl-C",
    json_="print each event as one line of JSON",
    set_=SET,
)
def events(
    _: Context,
    lines: int = 20,
    replica: str | None = None,
    follow: bool = False,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Tell what happened to the replicas, and why."""
    from cloister import events as journal
    from cloister.layout import Layout

    layout = Layout(settings(set_ or []).state_dir)
    journal.show(layout, replica, lines=lines, follow=follow, as_json=json_)


@command(
    min_="fewest replicas (default: autoscale.min)",
    max_="most replicas (default: autoscale.max)",
    dry_run="only tell what would be done",
    set_=SET,
)
def autoscale(
    _: Context,
    min_: str | None = None,
    max_: str | None = None,
    dry_run: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Change the number of replicas as pages come and go, until Ctrl-C."""
    from cloister import autoscaler, console

    chosen = settings(set_ or [], **{"autoscale.min": min_, "autoscale.max": max_})
    with console.steps() as report:
        autoscaler.run(chosen, report, console.show, dry_run=dry_run)


def _warn(proposed: "Proposal") -> None:
    from cloister import console

    if proposed.pause_s != 0:
        known = f"about {proposed.pause_s:.0f} s" if proposed.pause_s else "a start's time"
        console.say(f"there is no other replica meanwhile, so no page is read for {known}")


def _show(proposed: "Proposal", *, as_json: bool) -> None:
    from cloister import console
    from cloister.deployment import present

    if as_json:
        console.dump(present.plain(proposed))
    else:
        console.show(present.proposal(proposed))
