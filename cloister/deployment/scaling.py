"""`invoke scale`: another number of replicas, placed anew, with no page lost on the way."""

import json
from dataclasses import dataclass

from cloister import config, events, userfile
from cloister.config import Settings
from cloister.deployment import lifecycle, reading, record
from cloister.deployment.converge import Convergence
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Plan, of
from cloister.deployment.reading import Progress
from cloister.deployment.record import Record
from cloister.deployment.steps import Step, pauses
from cloister.errors import ConfigError, DeploymentError
from cloister.events import Journal
from cloister.layout import Layout
from cloister.statefolder import locked


@dataclass(frozen=True)
class Proposal:
    """What a command would do: the replicas that are to be, and the steps to them.

    `pause_s` is for how long no page is read on the way, as the last start took it, 0 for no
    pause, None when there is one of unknown length.
    """

    before: int
    plan: Plan
    steps: tuple[Step, ...]
    pause_s: float | None


@dataclass(frozen=True)
class Wish:
    """The fleet that is wanted; None leaves a setting as it is."""

    replicas: int
    gpus: tuple[int, ...] | None = None
    per_gpu: int | None = None


def wish(replicas: str, gpus: str | None, per_gpu: int | None) -> Wish:
    """Return the fleet that a command line names; raises ConfigError for what is no number."""
    if not replicas.isdecimal():
        raise ConfigError(f"`{replicas}` is no number of replicas", hint="invoke scale 2")
    if gpus is None:
        return Wish(int(replicas), None, per_gpu)
    named = [text.strip() for text in gpus.split(",")]
    if not all(text.isdecimal() for text in named):
        raise ConfigError(f"--gpus takes nvidia-smi's numbers, such as 0,1, not `{gpus}`")
    return Wish(int(replicas), tuple(map(int, named)), per_gpu)


def scaled(settings: Settings, wish: Wish) -> Settings:
    """Return the settings with another number of replicas, checked as a whole; pure.

    Weights are one a replica, so those of another number are dropped. Raises ConfigError.
    """
    flags = [f"replicas={wish.replicas}"]
    flags += [f"engines.gpus={json.dumps(wish.gpus)}"] if wish.gpus is not None else []
    flags += [f"engines.per_gpu={wish.per_gpu}"] if wish.per_gpu is not None else []
    if wish.replicas != settings.replicas:
        flags.append("engines.weights=[]")
    return config.changed(settings, flags)


def propose(settings: Settings, wish: Wish) -> Proposal:
    """Return what `scale` would do; raises DeploymentError or ConfigError for what cannot be."""
    before, wanted = _records(settings, wish)
    lifecycle.check(wanted, before)
    quiet = Journal(Layout(settings.state_dir), "scale")
    change = Convergence(before, wanted, Doorkeeper(settings, quiet), quiet, lambda _: None)
    return proposal(change)


def proposal(change: Convergence) -> Proposal:
    """Return what a change would do."""
    before = of(change.before) if change.before else None
    pause = pauses(before, change.steps)
    return Proposal(
        before=len(before.names) if before else 0,
        plan=change.planned,
        steps=change.steps,
        pause_s=last_start_s(change.target.settings) if pause else 0.0,
    )


def scale(settings: Settings, wish: Wish, progress: Progress) -> Proposal:
    """Bring the deployment to another number of replicas, and keep that in cloister.yaml.

    Killed at any step, the next call goes on from there. Raises DeploymentError, ConfigError and
    whatever `up` raises; nothing is changed before all checks have passed.
    """
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        progress("planning")
        before, wanted = _records(settings, wish)
        lifecycle.check(wanted, before)
        journal = Journal(layout, "scale")
        door = Doorkeeper(settings, journal)
        change = Convergence(before, wanted, door, journal, progress)
        proposed = proposal(change)
        _keep(wanted.settings, before.settings)
        journal.note("scaling", why=f"from {before.settings.replicas} to {wish.replicas} replicas")
        change.run()
        reading.through_gateway(change.planned, change.running, progress)
        lifecycle.finish(door)
        journal.note("scaled", why=f"{wish.replicas} replicas")
    return proposed


def last_start_s(settings: Settings) -> float | None:
    """Return the seconds from the last start of a replica to its first page, None if unknown."""
    begun: dict[str, float] = {}
    took: float | None = None
    for event in events.read(Layout(settings.state_dir)):
        if event.replica and event.event == "started":
            begun[event.replica] = event.at_s
        elif event.replica in begun and event.event == "read a page":
            took = event.at_s - begun.pop(event.replica)
    return took


def _records(settings: Settings, wish: Wish) -> tuple[Record, Record]:
    before = record.required(settings)
    if before.previous is not None:
        raise DeploymentError(
            "a rollout is under way, and some replicas are of the new kind",
            hint="invoke rollout to finish it, or invoke rollout --back",
        )
    wanted = lifecycle.target(scaled(before.settings, wish), "scale")
    return before, wanted


def _keep(settings: Settings, before: Settings) -> None:
    """Write the fleet into cloister.yaml, so that the next `up` does not undo it."""
    userfile.set_keys("", {"replicas": settings.replicas})
    engines = settings.engines
    changed: dict[str, object] = {}
    if engines.gpus != before.engines.gpus:
        changed["gpus"] = list(engines.gpus)
    if engines.per_gpu != before.engines.per_gpu:
        changed["per_gpu"] = engines.per_gpu
    if engines.weights != before.engines.weights:
        changed["weights"] = list(engines.weights)
    if changed:
        userfile.set_keys("engines", changed)
