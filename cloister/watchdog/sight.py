"""One look at all replicas at once: their processes, their numbers, their memory."""

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

from cloister.deployment import gauges, memory
from cloister.deployment.plan import Plan
from cloister.engines import Replica
from cloister.runtimes import ProgramState, Runtime
from cloister.watchdog.judgement import Sighting

# Docker's failed health check is a process that runs.
_ALIVE = {"starting", "running", "failed"}


def look(
    planned: Plan,
    running: Runtime,
    states: Mapping[str, ProgramState],
    asked: AbstractSet[str],
    threads: ThreadPoolExecutor,
) -> dict[str, Sighting]:
    """Return what was seen of each replica; none of them can keep the others waiting.

    Only those `asked` are disturbed by a question: a command is at work on the others.
    """
    with running.session() as session:

        def one(replica: Replica) -> Sighting:
            state = states.get(replica.name)
            if state is None or state.pid is None or state.state not in _ALIVE:
                return Sighting(time.monotonic(), "", None)
            told = gauges.of(session, replica.url) if replica.name in asked else None
            return Sighting(
                time.monotonic(),
                f"{state.pid} {memory.born(state.pid)}",
                told or None,
                memory.resident_mib(state.pid),
            )

        return dict(zip(planned.names, threads.map(one, planned.replicas), strict=True))
