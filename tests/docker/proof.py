"""Every way out of an engine, tried inside it, with the wire tapped."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import docker
from conftest import TAG, Containers
from deployments import eventually
from outside import ADDRESS, PORT, Outside
from wire import listening

from cloister.containers import sweep
from cloister.isolation.attempts import Check, Targets, checks, merged
from cloister.isolation.control import control
from cloister.isolation.finding import Try
from cloister.isolation.sinks import sink
from cloister.isolation.trying import host_addresses, reach_freely


@contextmanager
def swept(client: docker.DockerClient, project: str) -> Iterator[None]:
    """Remove the containers of a proof at the end, as `invoke verify` does."""
    try:
        yield
    finally:
        sweep(client, project)


def assert_nothing_leaves(made: Containers, service: str, world: Outside) -> None:
    """Try every way out in an engine and in a container that is not sealed; look at the wire."""
    client, project = docker.from_env(), made.project
    image = f"cloister/exporter:{TAG}"
    inner, free_word = f"engine-{secrets.token_hex(6)}", f"free-{secrets.token_hex(6)}"
    last, quoted = f"last-{secrets.token_hex(6)}", f"{free_word}-udp-closed"
    with (
        sink() as heard,
        swept(client, project),
        listening(*(word.encode() for word in (inner, free_word, quoted, last))) as wire,
    ):
        free = control(client, image, project)
        targets = Targets(
            host_addresses(),
            heard.port,
            heard.closed_port,
            heard.abstract,
            (ADDRESS,),
            (ADDRESS, PORT),
            free.listener,
        )
        planned = checks(targets, inner)
        assert_shut(try_inside(made, service, planned))
        # The tap, the listeners and the attempts work: the same from where it is allowed.
        freely = reach_freely(free, targets, free_word)
        for check in planned:
            assert freely[check.name].reached or not freely[check.name].expected, check.name
        assert sum(one.reached for one in freely.values()) >= 30, freely
        silent = [check for check in checks(targets, free_word) if check.is_silent]
        for check in silent:
            assert freely[check.name].reached == any(map(heard.heard, check.nonces)), check.name
        # Whatever passed before the last word was looked at when that one was.
        world.call(last)

        def caught_up() -> None:
            assert wire.seen(last.encode())
            assert world.heard(last)

        eventually(caught_up)
        assert world.heard(free_word)
        assert wire.seen(free_word.encode())
        assert wire.seen(quoted.encode()), "what was sent to a closed port, and its quotation"
        assert not world.heard(inner)
        assert wire.seen(inner.encode()) == []
        assert wire.count_dropped() == 0
        assert not any(heard.heard(word) for check in planned for word in check.nonces)


def try_inside(made: Containers, service: str, planned: tuple[Check, ...]) -> dict[str, Try]:
    """Make all attempts inside a container itself; each check has one at least."""
    assert all(check.attempts for check in planned)
    attempts = [one for check in planned for one in check.attempts]
    command = ("python3", "-m", "cloister.inside.probe", json.dumps(attempts))
    code, output = made.execute(service, *command)
    assert code == 0, output
    results = iter(json.loads(output))
    return {check.name: merged([next(results) for _ in check.attempts]) for check in planned}


def assert_shut(tried: dict[str, Try]) -> None:
    assert {name: one.detail for name, one in tried.items() if one.reached} == {}
    assert not any(one.is_late for one in tried.values())
