"""The deployment: planned purely, then applied, told and taken down."""

from cloister.deployment.access import of_this_machine
from cloister.deployment.lifecycle import (
    Up,
    down,
    health,
    reload,
    resolve,
    restart,
    runtime,
    show_logs,
    up,
)
from cloister.deployment.plan import Plan, of, plan
from cloister.deployment.record import Record, required
from cloister.deployment.record import read as recorded
from cloister.deployment.rollout import Rolled, back, rollout
from cloister.deployment.rollout import propose as propose_rollout
from cloister.deployment.scaling import Proposal, Wish, scale, wish
from cloister.deployment.scaling import propose as propose_scale
from cloister.deployment.status import ProgramStatus, Status, status

__all__ = [
    "Plan",
    "ProgramStatus",
    "Proposal",
    "Record",
    "Rolled",
    "Status",
    "Up",
    "Wish",
    "back",
    "down",
    "health",
    "of",
    "of_this_machine",
    "plan",
    "propose_rollout",
    "propose_scale",
    "recorded",
    "reload",
    "required",
    "resolve",
    "restart",
    "rollout",
    "runtime",
    "scale",
    "show_logs",
    "status",
    "up",
    "wish",
]
