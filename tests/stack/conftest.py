"""Real stacks: nginx, engines and their supervisor as processes, driven by the real commands."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from deployments import Stack, free_ports


@pytest.fixture(scope="session", autouse=True)
def _hear_ctrl_c() -> None:
    """Let children hear SIGINT: a shell that starts the tests in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_stack() -> Iterator[Callable[..., Stack]]:
    """Make stacks that are taken down, and their folders removed, at the end."""
    with ExitStack() as cleanup:

        def make(**settings: object) -> Stack:
            # Not pytest's own folder: a Unix socket's path has room for 107 bytes.
            state = Path(tempfile.mkdtemp(prefix="cloister-"))
            state.chmod(0o755)
            cleanup.callback(shutil.rmtree, state)
            (state / "cloister.yaml").touch()
            text = {f"CLOISTER_{key.upper()}": str(value) for key, value in settings.items()}
            stack = Stack(state, free_ports(20), text)
            cleanup.callback(stack.invoke, "down")
            return stack

        yield make


@pytest.fixture(scope="session")
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """One stack that is up, for all tests that leave it as it is."""
    shared = make_stack(gateway_client_body_timeout_s=2, gateway_max_body_mib=50)
    shared.invoke("up")
    return shared


@pytest.fixture
def fresh(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """One stack that is not up yet, for a test that breaks it."""
    own = make_stack()
    yield own
    own.invoke("down")
