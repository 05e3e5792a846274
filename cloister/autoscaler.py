"""`invoke autoscale`: asks what waits at the replicas, decides, and scales, until it is ended."""

import time
from collections import deque
from collections.abc import Callable

from cloister import autoscale, deployment
from cloister.autoscale import Decision, Policy, Sample
from cloister.config import Settings
from cloister.deployment import gauges
from cloister.errors import CloisterError
from cloister.events import Journal
from cloister.layout import Layout

EVERY_S = 5.0


def policy(settings: Settings) -> Policy:
    """Return the configured policy; pure."""
    wanted = settings.autoscale
    return Policy(wanted.min, wanted.max, wanted.target_waiting, wanted.cool_down_s)


def sample(settings: Settings) -> Sample | None:
    """Return the fleet as it is now, None when one of its replicas does not answer."""
    now = deployment.required(settings)
    planned = deployment.of(now)
    running = waiting = 0
    with deployment.runtime(now.settings).session() as session:
        for replica in planned.replicas:
            told = gauges.of(session, replica.url)
            if gauges.RUNNING not in told:
                return None
            running += int(told[gauges.RUNNING])
            waiting += int(told.get(gauges.WAITING, 0))
    count = len(planned.replicas)
    return Sample(time.monotonic(), count, running, waiting, planned.slots // count)


class Autoscaler:
    """Keeps what was seen of one deployment, and changes it by the policy."""

    def __init__(self, settings: Settings, *, dry_run: bool) -> None:
        self._settings = settings
        self._policy = policy(settings)
        self._dry_run = dry_run
        self._history: deque[Sample] = deque()
        self._changed_s: float | None = None
        self._journal = Journal(Layout(settings.state_dir), "autoscale")

    def round(self, progress: Callable[[str], None]) -> Decision | None:
        """Look once and act; return what was decided, None when a replica did not answer.

        Raises a CloisterError when the fleet could not be changed; the next round tries again.
        """
        seen = sample(self._settings)
        if seen is None:
            self._history.clear()  # its silence would look like idleness
            return None
        self._history.append(seen)
        self._history = deque(autoscale.needed(self._policy, tuple(self._history)))
        decision = autoscale.decide(self._policy, tuple(self._history), self._changed_s)
        if decision.replicas != seen.replicas and not self._dry_run:
            self._journal.note("decided", why=f"{decision.replicas} replicas: {decision.why}")
            deployment.scale(self._settings, deployment.Wish(decision.replicas), progress)
            self._changed_s = time.monotonic()
        return decision


def run(
    settings: Settings,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
    *,
    dry_run: bool,
) -> None:
    """Go on until it is interrupted; tell every change, and why one did not come about."""
    scaler, last = Autoscaler(settings, dry_run=dry_run), ""
    while True:
        begun_s = time.monotonic()
        try:
            decision = scaler.round(progress)
        except CloisterError as error:
            said = f"not changed: {error.message.splitlines()[0]}"
        else:
            said = _words(settings, decision, dry_run=dry_run)
        progress(said)
        if said.partition(":")[0] != last:
            tell(said)
            last = said.partition(":")[0]
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - begun_s)))


def _words(settings: Settings, decision: Decision | None, *, dry_run: bool) -> str:
    if decision is None:
        return "waiting for replicas that do not answer"
    is_, would = len(deployment.of(deployment.required(settings)).replicas), decision.replicas
    verb = f"would go to {would} replicas" if dry_run and would != is_ else f"{is_} replicas"
    return f"{verb}: {decision.why}"
