"""The deployment: planned purely, then applied, told and taken down."""

from cloister.deployment.lifecycle import (
    Up,
    cores,
    down,
    health,
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
    "plan",
    "recorded",
    "required",
    "resolve",
    "restart",
    "runtime",
    "show_logs",
    "status",
    "up",
]
