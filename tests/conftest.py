"""For every suite: how long a test may take and what ends one that takes longer, and Ctrl-C.

A test that is out of time gets an exception in its main thread. Its `with` blocks then end the
programs that it started, and the run goes on with the next test. Mark a test that takes
longer on purpose: `@pytest.mark.timeout(900)`. Setup and teardown have limits of their own, because
the first test of a module pays for the fixtures of all.
"""

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from repetitions import REPETITIONS

_AGAIN_S = 10.0
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Limits:
    """The longest setup, test and teardown of a suite on a machine that is busy, in seconds."""

    setup_s: float
    test_s: float
    teardown_s: float


LIMITS = {
    "unit": Limits(120, 240, 120),
    "stack": Limits(900, 600, 300),
    "clients": Limits(900, 600, 300),
    "docker": Limits(3600, 2700, 900),  # the first setup builds all images
}


def _limits(item: pytest.Item) -> Limits:
    return LIMITS[item.path.relative_to(_HERE).parts[0]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout(seconds): how long the test may take, at most")


@pytest.fixture(scope="session", autouse=True)
def _hear_signals() -> None:
    """Let children hear SIGINT, which a background shell ignores, and SIGHUP, which nohup does.

    What is ignored stays so in a new program; what has a handler becomes the default there.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    with _ended(item, "setup", _limits(item).setup_s):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    marker = item.get_closest_marker("timeout")
    with _ended(item, "test", marker.args[0] if marker else _limits(item).test_s):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    with _ended(item, "teardown", _limits(item).teardown_s):
        return (yield)


@contextmanager
def _ended(item: pytest.Item, what: str, most_s: float) -> Iterator[None]:
    """Fail what takes longer, and fail it again if it goes on.

    Each fixture may be the one that hangs, and a `with` block that waits for a thread goes on
    waiting when the first exception passes through it.
    """

    def strike(*_: object) -> NoReturn:
        pytest.fail(f"the {what} of {item.nodeid} took longer than {seconds:g} s")

    seconds = most_s * REPETITIONS.patience
    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds, min(seconds, _AGAIN_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
