"""What is tested: a service at a URL, the one that is up here, or one made for the occasion."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import requests

from cloister import chat, config, deployment, ports
from cloister.chat import Pass
from cloister.cleaning import on_one_line
from cloister.config import API_KEY_VARIABLE, Settings
from cloister.endpoint import Route
from cloister.errors import LoadTestError
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.loadtest import sampling
from cloister.runtimes import GATEWAY


@dataclass(frozen=True)
class Target:
    """A service: how to enter it, and what is known of it.

    `direct` are the places of its replicas, none where they cannot be reached. `certificate` is the
    PEM file whose certificate is the only one taken, None for the well-known authorities.
    """

    enter: Pass
    settings: Settings
    engine: str
    direct: tuple[str, ...] = ()
    access_log: Path | None = None
    certificate: Path | None = None
    gateway: Callable[[], list[psutil.Process]] = list


def at(url: str, key: str | None, settings: Settings) -> Target:
    """Return a service at a URL; raises LoadTestError when none answers there."""
    enter = chat.by_url(url, key)
    return Target(enter, settings, _engine(enter), certificate=enter.authorities)


def up_here(settings: Settings) -> Target | None:
    """Return the service that is up on this machine, None when none is."""
    recorded = deployment.recorded(settings)
    if recorded is None or not deployment.runtime(recorded.settings).states():
        return None
    return _of(recorded.settings)


@contextmanager
def for_the_occasion(settings: Settings, progress: Callable[[str], None]) -> Iterator[Target]:
    """Bring up a service of one replica with a state folder and ports of its own, then end it."""
    folder = Path(tempfile.mkdtemp(prefix="cloister-loadtest-"))
    try:
        own = config.changed(settings, [f"state_dir={folder}", f"gateway.port={ports.free(1)}"])
        try:
            deployment.up(own, progress)
            yield _of(own)
        finally:
            deployment.down(own)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of(settings: Settings) -> Target:
    enter = deployment.of_this_machine(settings)
    planned = deployment.of(deployment.required(settings))
    running = deployment.runtime(settings)

    def gateway() -> list[psutil.Process]:
        pid = next((state.pid for state in running.states() if state.name == GATEWAY), None)
        try:
            master = psutil.Process(pid) if pid else None
            return [master, *master.children(recursive=True)] if master else []
        except psutil.Error:
            return []  # it is being replaced: a gap in the samples

    layout = Layout(settings.state_dir)
    log = Place(layout.gateway, layout.logs).access_log
    return Target(
        enter=replace(enter, key=os.environ.get(API_KEY_VARIABLE) or enter.key),
        settings=settings,
        engine=planned.engine,
        direct=past_gateway(planned),
        access_log=log if log.exists() else None,
        certificate=settings.gateway.certificate,
        gateway=gateway,
    )


def past_gateway(planned: deployment.Plan) -> tuple[str, ...]:
    """Return where this machine finds the replicas themselves, if it does; pure.

    To engines on a network of containers its only way is through the gateway.
    """
    places = [replica.listener.here for replica in planned.replicas]
    return tuple(place.url for place in places if not isinstance(place, Route))


def _engine(enter: Pass) -> str:
    """Return what a service calls its engine; raises LoadTestError when it does not answer."""
    with chat.session(enter) as session:
        try:
            answer = session.get(f"{enter.url}/v1/models", timeout=10)
            answer.raise_for_status()
            owner = chat.values(answer)["data"][0].get("owned_by")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LoadTestError(f"`{enter.url}/v1/models` is not the OpenAI API's") from error
        except requests.HTTPError as error:
            raise LoadTestError(
                f"`{enter.url}` answers with HTTP {error.response.status_code}",
                hint="name its API key by --key-file or CLOISTER_API_KEY",
            ) from error
        except requests.RequestException as error:
            raise LoadTestError(
                f"no service answers at `{enter.url}`: {chat.reason(error)}",
                hint="--url http://127.0.0.1:8001",
            ) from error
    return on_one_line(str(owner or "unknown"))


def require_metrics(target: Target) -> str | None:
    """Return a warning when the engine's numbers cannot be read."""
    with chat.session(target.enter) as session:
        if sampling.engine(session, target.enter.url):
            return None
    return (
        f"{target.enter.url}/metrics tells nothing of an engine: caches, queues and memory are "
        "not in this report"
    )
