"""The deployment: planned purely, then applied, told and taken down."""

from cloister.deployment.access import of_this_machine
from cloister.deployment.lifecycle import (
    Up,
    cores,
    down,
    health,
    reload,
    resolve,
    restart,
    runtime,
    show_logs,
    up,
)
from cloister.deployment.plan import Plan, plan
from cloister.deployment.record import read as recorded
from cloister.deployment.record import required
from cloister.deployment.status import ProgramStatus, Status, status

__all__ = [
    "Plan",
    "ProgramStatus",
    "Status",
    "Up",
    "cores",
    "down",
    "health",
    "of_this_machine",
    "plan",
    "recorded",
    "reload",
    "required",
    "resolve",
    "restart",
    "runtime",
    "show_logs",
    "status",
    "up",
]
