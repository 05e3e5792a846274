"""What Docker says of a container, in the words that all runtimes share."""

import datetime as dt
from typing import Any

from docker.models.containers import Container

from cloister.cleaning import on_one_line
from cloister.runtimes.program import ProgramState, State

_NEVER = "0001-01-01"
_STATES: dict[str, State] = {
    "created": "starting",
    "restarting": "backoff",
    "removing": "stopped",
    "paused": "failed",
    "exited": "stopped",
    "dead": "failed",
}
_HEALTH: dict[str, State] = {"starting": "starting", "unhealthy": "failed"}


def of(name: str, container: Container) -> ProgramState:
    """Return one container's state; a health check that fails makes it failed."""
    state: dict[str, Any] = container.attrs["State"]
    health = (state.get("Health") or {}).get("Status", "")
    since = state["StartedAt"] if state["Status"] == "running" else state["FinishedAt"]
    since = container.attrs["Created"] if since.startswith(_NEVER) else since
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(since)
    told: State = "running" if state["Status"] == "running" else _STATES[state["Status"]]
    if told == "stopped" and state["ExitCode"] != 0:
        told = "failed"
    return ProgramState(
        name=name,
        state=_HEALTH.get(health, told) if told == "running" else told,
        pid=state["Pid"] or None,
        since_s=max(0, int(age.total_seconds())),
        detail=_detail(state, health),
        image=container.attrs["Image"],
    )


def _detail(state: dict[str, Any], health: str) -> str:
    if state.get("OOMKilled"):
        return "out of memory: it went over its limit (`docker.engine_memory_mib`)"
    if state["Status"] != "running":
        return state.get("Error") or f"{state['Status']}, exit code {state['ExitCode']}"
    checks = (state.get("Health") or {}).get("Log") or []
    return f"{health}: {on_one_line(checks[-1]['Output'], 200)}" if checks else state["Status"]
