"""`invoke rollout`: other settings, images or a model, a replica at a time, or back if it fails."""

from dataclasses import dataclass
from math import gcd

from cloister import config
from cloister.config import Settings
from cloister.deployment import lifecycle, reading, record
from cloister.deployment.converge import Convergence
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.reading import Progress
from cloister.deployment.record import Record
from cloister.deployment.scaling import Proposal, proposal
from cloister.errors import CloisterError, DeploymentError
from cloister.events import Journal
from cloister.layout import Layout
from cloister.runtimes import GATEWAY
from cloister.statefolder import locked

# What a replica at a time cannot have another value.
_TOGETHER = (
    *("runtime", "engine", "model.name", "gateway.address", "gateway.port"),
    *("docker.project", "docker.subnet"),
)
_PERCENT = 100


@dataclass(frozen=True)
class Rolled:
    """What a rollout did: the replicas that are new, and the share that a canary gets, if any."""

    replaced: tuple[str, ...]
    canary_percent: int | None


def propose(settings: Settings) -> Proposal:
    """Return what `rollout` would do; raises DeploymentError or ConfigError for what cannot be."""
    before = record.required(settings)
    wanted = _wanted(settings, before)
    lifecycle.check(wanted, before)
    quiet = Journal(Layout(settings.state_dir), "rollout")
    return proposal(Convergence(before, wanted, Doorkeeper(settings, quiet), quiet, lambda _: None))


def rollout(settings: Settings, progress: Progress, canary_percent: int | None = None) -> Rolled:
    """Bring the replicas one by one to the settings, each proven by a page before the next.

    With `canary_percent` only the first one, which then gets that share of the pages; the next
    call goes on from there. Raises DeploymentError when a new replica does not read; all are then
    back at what they were.
    """
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        progress("planning")
        before = record.required(settings)
        wanted = _wanted(settings, before)
        lifecycle.check(wanted, before)
        journal = Journal(layout, "rollout")
        door = Doorkeeper(settings, journal)
        change = Convergence(before, wanted, door, journal, progress)
        _require_the_gateway_as_it_is(change)
        only = None
        if canary_percent is not None:
            first = _canary(change, canary_percent)
            wanted = wanted.model_copy(update={"shares": _shares(change, first, canary_percent)})
            change = Convergence(before, wanted, door, journal, progress)
            only = frozenset({first})
        journal.note("rolling out", why=", ".join(map(str, change.steps)) or "nothing differs")
        try:
            done = change.run(only)
            reading.through_gateway(change.planned, change.running, progress)
        except CloisterError as error:
            journal.note("rollout failed", why=error.message)
            progress("going back to what was")
            _return(settings, before.previous or before.settings, door, journal, progress)
            raise DeploymentError(
                f"the new replica failed; all are back at the old settings: {error.message}",
                hint="invoke events; invoke logs",
            ) from error
        if only is None:
            lifecycle.finish(door)
        journal.note("rolled out", why=", ".join(done) or "nothing differed")
    return Rolled(tuple(name for name in done if name in change.planned.names), canary_percent)


def back(settings: Settings, progress: Progress) -> tuple[str, ...]:
    """Undo a rollout that is under way: a canary, or one that was killed."""
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        now = record.required(settings)
        if now.previous is None:
            raise DeploymentError("no rollout is under way, so there is nothing to go back to")
        lifecycle.require_supervised(lifecycle.runtime(now.settings))
        journal = Journal(layout, "rollout")
        door = Doorkeeper(settings, journal)
        return _return(settings, now.previous, door, journal, progress)


def _return(
    settings: Settings, previous: Settings, door: Doorkeeper, journal: Journal, progress: Progress
) -> tuple[str, ...]:
    old = lifecycle.target(previous, "rollout --back")
    old = old.model_copy(update={"previous": previous})  # should this be killed or fail, too
    change = Convergence(record.required(settings), old, door, journal, progress)
    done = change.run()
    reading.through_gateway(change.planned, change.running, progress)
    lifecycle.finish(door)
    journal.note("rolled back", why=", ".join(done) or "nothing had been replaced")
    return done


def _wanted(settings: Settings, before: Record) -> Record:
    """Return the record to roll out: the settings, for the fleet as it is."""
    size = before.settings
    wanted = config.changed(
        settings,
        [
            f"replicas={size.replicas}",
            f"engines.per_gpu={size.engines.per_gpu}",
            f"engines.gpus={list(size.engines.gpus)}",
            f"engines.weights={list(size.engines.weights)}",
        ],
    )
    made = lifecycle.target(wanted, "rollout")
    for key in _TOGETHER:
        if _value(made.settings, key) != _value(before.settings, key):
            raise DeploymentError(
                f"`{key}` is not what is up has, and cannot change a replica at a time",
                hint="invoke up changes it, with a pause",
            )
    return made.model_copy(update={"previous": before.previous or before.settings})


def _require_the_gateway_as_it_is(change: Convergence) -> None:
    if GATEWAY in change.changes.changed:
        raise DeploymentError(
            "the gateway itself would be replaced, and there is no other one",
            hint="invoke up does it, with a pause",
        )


def _canary(change: Convergence, percent: int) -> str:
    if not 1 <= percent < _PERCENT:
        raise DeploymentError(f"--canary takes a percentage from 1 to 99, not {percent}")
    changed = [name for name in change.planned.names if name in change.changes.changed]
    if not changed:
        raise DeploymentError("nothing differs from what is up, so there is nothing to try")
    if len(change.planned.names) == 1:
        raise DeploymentError(
            "a canary needs another replica beside it, and there is one in all",
            hint="invoke scale 2, or invoke rollout without --canary",
        )
    return changed[0]


def _shares(change: Convergence, canary: str, percent: int) -> dict[str, int]:
    """Return the weights by which the canary gets its percentage of the pages.

    With the others at w each: canary / (canary + (n - 1) w) = percent / 100.
    """
    others = len(change.planned.names) - 1
    mine, theirs = percent * others, _PERCENT - percent
    common = gcd(mine, theirs)
    return {name: (mine if name == canary else theirs) // common for name in change.planned.names}


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, name)
