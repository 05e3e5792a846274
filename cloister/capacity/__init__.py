"""How many cards read so many pages by a date, with the uncertainty of what is known; pure."""

from cloister.capacity.job import MOST_HOURS, Job, job
from cloister.capacity.plan import MOST_CARDS, Fleet, Plan, plan
from cloister.capacity.range import Range
from cloister.capacity.speed import Speed, speed

__all__ = [
    "MOST_CARDS",
    "MOST_HOURS",
    "Fleet",
    "Job",
    "Plan",
    "Range",
    "Speed",
    "job",
    "plan",
    "speed",
]
