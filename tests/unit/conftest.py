"""Unit tests reach no network, not even this machine's; golden files are compared here."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import pytest_socket
from repetitions import REPETITIONS

GOLDEN = Path(__file__).parent / "golden"
# How long an example takes says how busy the machine is. CI's own profile stays below.
hypothesis.settings.register_profile(
    "untimed",
    hypothesis.settings.default,
    deadline=None,
    max_examples=REPETITIONS.examples,
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _no_network() -> None:
    # Unix sockets stay: an event loop wakes itself through a pair of them.
    pytest_socket.disable_socket(allow_unix_socket=True)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a file; CLOISTER_REGENERATE=1 rewrites the file, and still fails."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("CLOISTER_REGENERATE") == "1":
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"rewrote {path}; look at the difference and run without the variable")
        assert text == path.read_text(encoding="utf-8")

    return compare
