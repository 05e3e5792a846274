"""How many cards read so many pages by a date, and how sure that is; pure but for the clock."""

from cloister.capacity.jobs import MOST_HOURS, Job, job
from cloister.capacity.plans import MOST_CARDS, Fleet, Plan, fleet, plan
from cloister.capacity.ranges import Range
from cloister.capacity.speeds import Speed, speed

__all__ = [
    "MOST_CARDS",
    "MOST_HOURS",
    "Fleet",
    "Job",
    "Plan",
    "Range",
    "Speed",
    "fleet",
    "job",
    "plan",
    "speed",
]
