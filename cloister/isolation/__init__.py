"""The proof of the seal: attempts to get out, made from inside, each with one that must succeed."""

from cloister.isolation.attempts import pause, place
from cloister.isolation.finding import Finding, Verdict
from cloister.isolation.verify import Report, verify

__all__ = ["Finding", "Report", "Verdict", "pause", "place", "verify"]
