"""The deployment: planned purely, then applied, told and taken down."""

from cloister.deployment.lifecycle import Up, cores, down, health, log_files, restart, runtime, up
from cloister.deployment.plan import Layout, Plan, plan
from cloister.deployment.record import required
from cloister.deployment.status import ProgramStatus, Status, status

__all__ = [
    "Layout",
    "Plan",
    "ProgramStatus",
    "Status",
    "Up",
    "cores",
    "down",
    "health",
    "log_files",
    "plan",
    "required",
    "restart",
    "runtime",
    "status",
    "up",
]
