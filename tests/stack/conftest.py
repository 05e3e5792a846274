"""Real stacks: nginx, engines and their supervisor as processes, driven by the real commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployments import Stack, deployed
from page_stubs import PageStub, page_stub

_LONGEST = {"test_lifecycle.py", "test_scale.py", "test_tune.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: where several run at once, none is left at the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One stack that is up, for all tests that leave it as it is."""
    with deployed(gateway_client_body_timeout_s=2, gateway_max_body_mib=50) as shared:
        shared.invoke("up")
        yield shared


@pytest.fixture
def fresh() -> Iterator[Stack]:
    """One stack that is not up yet, for a test that breaks it.

    No test page of the watchdog comes between the pages that are counted or held up.
    """
    with deployed(healing_canary_s=3600) as own:
        yield own


@pytest.fixture
def stub() -> Iterator[PageStub]:
    """A model that reads pages, and misbehaves where a page is marked to."""
    with page_stub() as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> Stack:
    """Somebody who has no service here, and is given the address of another one."""
    (tmp_path / "cloister.yaml").touch()
    return Stack(tmp_path, 9)
