"""How many replicas a load needs: an autoscaler's rules, pure.

The only signals are the engines' gauges vllm:num_requests_running and vllm:num_requests_waiting
(https://docs.vllm.ai/en/stable/usage/metrics/), so that Kubernetes can scale by the same ones.

A constant load comes to rest. Let it keep L slots busy: a fall leaves m replicas with
L <= 80 % of their slots, where nothing waits and so nothing rises again. There are thus only
rises, which `most` ends, then falls, which `least` ends. Sampled whole numbers keep that true: the
peak p of the samples is above L - 1, and m replicas have at least p + 1 slots.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cloister.errors import ConfigError

# Busier than this, chance alone makes pages wait, and a fall would soon be undone.
_FULL_PERCENT = 80
# Only the replicas there are tell how much waits; a leap further would trust a guess.
_MOST_FACTOR = 2


@dataclass(frozen=True)
class Policy:
    """The bounds of a fleet, and when it changes.

    `target_waiting` is how many pages may wait for each replica. `cool_down_s` has to be longer
    than a replica takes to start: what waits meanwhile is no reason for still more of them.
    """

    least: int
    most: int
    target_waiting: float
    cool_down_s: float

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ConfigError(
                f"a fleet of {self.least} to {self.most} replicas cannot be",
                hint="at least 1, as nobody tells what waits for none, and no more than the most",
            )
        if not (self.target_waiting > 0 and self.cool_down_s >= 0):
            raise ConfigError(
                f"{self.target_waiting} waiting pages or {self.cool_down_s} s of cool-down are "
                "no policy",
                hint="more than 0 pages, and no negative time",
            )


@dataclass(frozen=True)
class Sample:
    """The fleet at one time, in seconds of any clock.

    `replicas` are those that were ordered, starting ones included; `running` and `waiting` are
    sums over them; `slots` are the pages that one of them reads at once.
    """

    at_s: float
    replicas: int
    running: int
    waiting: int
    slots: int


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be, and why, for a person."""

    replicas: int
    why: str


def decide(policy: Policy, history: Sequence[Sample], changed_at_s: float | None) -> Decision:
    """Return what to do now; `history` is oldest first, and its last sample is now.

    `changed_at_s` is when the last change was ordered or done, None for never; one that shows in
    the history counts too. A sample is of all replicas that are ready: whoever could not ask one
    of them starts the history anew, as its silence would look like idleness.
    """
    window = needed(policy, history)
    now = window[-1]
    bounded = min(max(now.replicas, policy.least), policy.most)
    if bounded != now.replicas:
        span = f"{policy.least} to {policy.most}"
        return Decision(bounded, f"{now.replicas} replicas are not within {span}")
    changes_s = [later.at_s for one, later in pairwise(window) if one.replicas != later.replicas]
    since_s = now.at_s - max([*changes_s, -math.inf if changed_at_s is None else changed_at_s])
    if since_s < policy.cool_down_s:
        why = f"changed {since_s:.0f} s ago, the cool-down is {policy.cool_down_s:.0f} s"
        return Decision(now.replicas, why)
    return _rise(policy, window) or _fall(policy, window)


def needed(policy: Policy, history: Sequence[Sample]) -> Sequence[Sample]:
    """Return the end of a history that `decide` looks at: one cool-down, and at least two."""
    first_s = history[-1].at_s - policy.cool_down_s
    start = bisect_right(history, first_s, key=lambda sample: sample.at_s) - 1
    return history[max(0, min(start, len(history) - 2)) :]


def _rise(policy: Policy, window: Sequence[Sample]) -> Decision | None:
    """Return the rise or why there is none, None when no more pages wait than may.

    ceil(replicas * waiting per replica / target), as in
    https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
    """
    now = window[-1]
    over = [math.ceil(sample.waiting / policy.target_waiting) for sample in window[-2:]]
    if over[-1] <= now.replicas:
        return None
    what = f"{now.waiting} pages wait for {now.replicas} x {policy.target_waiting:g}"
    if len(over) == 1 or over[0] <= window[-2].replicas:
        return Decision(now.replicas, f"{what}, but did not yet in the sample before")
    if now.replicas == policy.most:
        return Decision(now.replicas, f"{what}, but {policy.most} replicas are the most")
    wanted = min(over[-1], _MOST_FACTOR * now.replicas, policy.most)
    return Decision(wanted, f"{what}, the second sample in a row")


def _fall(policy: Policy, window: Sequence[Sample]) -> Decision:
    now = window[-1]
    seen_s = now.at_s - window[0].at_s
    waiting, peak = (max(getattr(s, name) for s in window) for name in ("waiting", "running"))
    if seen_s < policy.cool_down_s:
        why = f"seen for {seen_s:.0f} s, the cool-down is {policy.cool_down_s:.0f} s"
        return Decision(now.replicas, why)
    what = f"in {seen_s:.0f} s at most {peak} pages were read at once and {waiting} waited"
    enough = math.ceil(100 * peak / (_FULL_PERCENT * now.slots))
    if waiting or enough >= now.replicas:
        return Decision(now.replicas, f"{what}, which {now.replicas} replicas are right for")
    fewer = max(enough, policy.least)
    if fewer == now.replicas:
        return Decision(fewer, f"{what}, but {policy.least} replicas are the least")
    return Decision(fewer, f"{what}, so {_FULL_PERCENT} % of {fewer} x {now.slots} slots do")
