"""Bringing a deployment up, down and round again; every step can be killed and run again."""

import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from cloister import canary, chat, gateway, modelstore, ports, shell
from cloister.config import Settings
from cloister.deployment import access, gauges, record
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Entry, Plan, plan, programs
from cloister.engines import ENGINES, choose
from cloister.errors import DeploymentError, OcrError
from cloister.files import exclusive
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY, RUNTIMES, Runtime

Progress = Callable[[str], None]
_POLL_S = 0.25
_LOG_LINES = 8


@dataclass(frozen=True)
class Up:
    """What `up` did: the programs it started or replaced, and the page that proved it."""

    plan: Plan
    started: tuple[str, ...]
    reading: chat.Reading


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve(settings: Settings) -> Settings:
    """Return the settings with the engine that `auto` stands for on this machine."""
    gpu = shell.find("nvidia-smi") is not None
    model = gpu and modelstore.folder(settings) is not None
    engine = choose(settings.engine, gpu=gpu, model=model)
    return settings.model_copy(update={"engine": engine})


def runtime(settings: Settings) -> Runtime:
    """Return the runtime of a deployment."""
    return RUNTIMES[settings.runtime].make(settings)


def up(settings: Settings, progress: Progress) -> Up:
    """Make the deployment run as configured, and wait until every replica has read a page.

    Running it again changes only what differs. Raises DeploymentError, ToolError, EngineError,
    ModelStoreError or GatewayError; nothing is changed before all checks have passed.
    """
    settings = resolve(settings)
    planned = plan(settings, cores())
    layout = Layout(settings.state_dir)
    with exclusive(layout.lock):
        progress("checking the configuration and the ports")
        _require_one_runtime(settings)
        running = runtime(settings)
        running.check()
        _check_ports(planned, running)
        admitted = access.read(settings)
        unproven = _names(planned) - _proven(planned, running)
        door = Doorkeeper(planned, running, admitted)
        changed = door.write(Entry(unproven))
        record.write(settings)
        progress("starting")
        started = running.apply(programs(planned, cores(), running.model()))
        if GATEWAY not in started:
            door.take_up(changed=changed)
        reading = _admit(door, unproven | (_names(planned) & set(started)), progress)
    return Up(planned, started, reading)


def down(settings: Settings) -> bool:
    """Stop everything after the pages in flight; return False when nothing ran."""
    layout = Layout(settings.state_dir)
    if not layout.state.exists():
        return False
    with exclusive(layout.lock):
        recorded = record.read(settings) or settings
        ran = runtime(recorded).stop(first=(GATEWAY,))
        record.erase(settings)
    return ran


def restart(settings: Settings, names: tuple[str, ...], progress: Progress) -> tuple[str, ...]:
    """Restart programs one after the other, all of them unless named; return their names."""
    recorded = record.required(settings)
    planned = plan(recorded, cores())
    known = (*(replica.name for replica in planned.replicas), EXPORTER, GATEWAY)
    for name in names:
        if name not in known:
            raise DeploymentError(f"no program `{name}`; there are {', '.join(known)}")
    running = runtime(recorded)
    with exclusive(Layout(recorded.state_dir).lock):
        door = Doorkeeper(planned, running, access.read(recorded))
        for name in names or known:
            progress(f"restarting {name}")
            replicas = _names(planned) & {name}
            door.swap(Entry(replicas))
            running.restart((name,))
            _admit(door, replicas, progress)
    return names or known


def reload(settings: Settings) -> bool:
    """Let the gateway that is up take new keys and certificates; return False when none is up.

    Raises AccessError or GatewayError, and then the gateway goes on as before.
    """
    recorded = record.read(settings)
    if recorded is None:
        return False
    planned, running = plan(recorded, cores()), runtime(recorded)
    if not running.states():
        return False
    unproven = _names(planned) - _proven(planned, running)
    Doorkeeper(planned, running, access.read(recorded)).swap(Entry(unproven))
    return True


def health(settings: Settings) -> chat.Reading:
    """Return a fresh page as the service reads it; raises OcrError when it does not."""
    recorded = record.required(settings)
    with chat.session(access.of_this_machine(recorded)) as session:
        return _canary(recorded, session, plan(recorded, cores()).url)


def show_logs(settings: Settings, name: str | None, *, lines: int, follow: bool) -> None:
    """Print the ends of the logs; raises DeploymentError if there is none of that name."""
    recorded = record.read(settings) or resolve(settings)
    runtime(recorded).show_logs(name, lines=lines, follow=follow)


def _admit(door: Doorkeeper, unproven: frozenset[str], progress: Progress) -> chat.Reading:
    """Give the gateway each replica once it has read a page; return one that came through it.

    Raises DeploymentError with the last lines of the log when a program ends instead, when it
    takes too long, and when a replica answers other text than the page's.
    """
    planned, running = door.planned, door.running
    door.swap(Entry(unproven))
    with running.session() as session:
        for replica in planned.replicas:
            progress(f"waiting for {replica.name} to read a page")
            _read_page(planned, running, session, replica.url)
        warm = [replica for replica in planned.replicas if replica.name not in unproven]
        if unproven and gauges.total(session, warm, gauges.RUNNING):
            door.swap(Entry(cold=unproven))
            _warm_up(planned, session, unproven, progress)
    door.swap(Entry())
    progress("waiting for a page through the gateway")
    with chat.session(access.of_this_machine(planned.settings)) as session:
        return _read_page(planned, running, session, planned.url)


def _warm_up(
    planned: Plan, session: requests.Session, cold: AbstractSet[str], progress: Progress
) -> None:
    """Wait until the new replicas have read as many pages as they read at once, or for a while."""
    progress(f"letting {', '.join(sorted(cold))} warm up")
    replicas = [replica for replica in planned.replicas if replica.name in cold]
    already = gauges.total(session, replicas, gauges.READ)
    wanted = already + planned.slots // len(planned.replicas) * len(replicas)
    Retrying(
        retry=retry_if_result(lambda read: read < wanted),
        stop=stop_after_delay(planned.settings.gateway.slow_start_s),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda _: None,  # long enough: they have had time to warm up
    )(gauges.total, session, replicas, gauges.READ)


def _proven(planned: Plan, running: Runtime) -> frozenset[str]:
    """Return the replicas that run and that the gateway was given already."""
    path = Layout(planned.settings.state_dir).nginx_configuration
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    alive = {state.name for state in running.states() if state.state in {"running", "starting"}}
    given = {r.name for r in planned.replicas if gateway.gives_pages_to(text, r)}
    return frozenset(alive & given)


def _names(planned: Plan) -> frozenset[str]:
    return frozenset(replica.name for replica in planned.replicas)


def _read_page(
    planned: Plan, running: Runtime, session: requests.Session, url: str
) -> chat.Reading:
    settings = planned.settings
    ready_s = ENGINES[planned.engine].ready_s
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(chat.RefusedError),
            stop=stop_after_delay(ready_s),
            wait=wait_fixed(_POLL_S),
            before_sleep=lambda _: _require_alive(running),
            reraise=True,
        ):
            with attempt:
                return _canary(settings, session, url)
    except canary.MisreadError as error:
        raise DeploymentError(
            f"it answers but cannot read, so it gets no pages: {error.message}",
            hint="invoke models.verify; if the weights are noise, `model.synthetic: true`",
        ) from error
    except OcrError as error:
        raise DeploymentError(
            f"no page was read within {ready_s:g} s: {error.message}", hint="invoke logs"
        ) from error
    raise AssertionError  # Retrying returns or raises


def _canary(settings: Settings, session: requests.Session, url: str) -> chat.Reading:
    return canary.check(
        session,
        url,
        model=settings.model.name,
        prompt=settings.ocr.prompt,
        timeout_s=settings.gateway.timeout_s,
        synthetic=settings.model.synthetic and ENGINES[settings.engine].serves_model,
    )


def _require_alive(running: Runtime) -> None:
    for program in running.states():
        if program.state in {"backoff", "failed"}:
            tail = running.tail(program.name, _LOG_LINES).strip().splitlines()
            log = "\n".join(f"  {line[:200]}" for line in tail) or "  (nothing)"
            raise DeploymentError(
                f"{program.name} ended ({program.detail}); its log says:\n{log}",
                hint="invoke logs",
            )


def _require_one_runtime(settings: Settings) -> None:
    """Require that nothing of the other runtime is up: both would want the gateway's port."""
    recorded = record.read(settings)
    if recorded and recorded.runtime != settings.runtime and runtime(recorded).states():
        raise DeploymentError(
            f"the service is up with `runtime: {recorded.runtime}`, "
            f"and `{settings.runtime}` is wanted",
            hint="invoke down, then invoke up",
        )


def _check_ports(planned: Plan, running: Runtime) -> None:
    """Require that every port is free, but for those that our own programs hold already."""
    ours = {state.name for state in running.states()}
    recorded = record.read(planned.settings) if ours else None
    held = set(plan(recorded, cores()).site.published.values()) if recorded else set()
    for name, (host, port) in planned.site.published.items():
        if (host, port) not in held:
            key = "gateway.port" if name == GATEWAY else "engines.first_port"
            ports.require_free(host, port, key=key)
