"""Bringing a deployment up, down and round again; every step can be killed and run again."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister import canary, chat, nginx, ports
from cloister.config import Settings, project_root
from cloister.deployment import record
from cloister.deployment.plan import EXPORTER, GATEWAY, Layout, Plan, nginx_text, plan, programs
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, OcrError
from cloister.files import exclusive, write_atomically
from cloister.gateway import Place
from cloister.runtimes import RUNTIMES, Runtime

Progress = Callable[[str], None]
_READY_S = 120.0
_CANARY_S = 60.0
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


def runtime(settings: Settings) -> Runtime:
    """Return the runtime of a deployment."""
    layout = Layout(settings.state_dir)
    return RUNTIMES[settings.runtime](layout.run, layout.logs, project_root())


def up(settings: Settings, progress: Progress) -> Up:
    """Make the deployment run as configured, and wait until every replica has read a page.

    Running it again changes only what differs. Raises DeploymentError, ToolError, EngineError or
    GatewayError; nothing is changed before all checks have passed.
    """
    planned = plan(settings, cores())
    layout = Layout(settings.state_dir)
    with exclusive(layout.lock):
        progress("checking the configuration and the ports")
        ENGINES[planned.engine].check(settings)
        program = nginx.find(settings.gateway.nginx)
        nginx.check(program, partial(nginx_text, planned))
        running = runtime(settings)
        if not running.states():
            running.stop()  # what a killed supervisor left would hold the ports
        _check_ports(planned, running)
        record.write(settings)
        progress("starting")
        reload = _write_gateway(planned, layout)
        started = running.apply(programs(planned, layout, program, cores()))
        if reload and GATEWAY not in started:
            running.signal(GATEWAY, "HUP")
        reading = wait_ready(planned, running, progress)
    return Up(planned, started, reading)


def down(settings: Settings) -> bool:
    """Stop everything after the pages in flight; return False when nothing ran."""
    layout = Layout(settings.state_dir)
    if not layout.state.exists():
        return False
    with exclusive(layout.lock):
        ran = runtime(settings).stop(first=(GATEWAY,))
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
        for name in names or known:
            progress(f"restarting {name}")
            running.restart((name,))
            wait_ready(planned, running, progress)
    return names or known


def health(settings: Settings) -> chat.Reading:
    """Return a fresh page as the service reads it; raises OcrError when it does not."""
    recorded = record.required(settings)
    return canary.check(
        plan(recorded, cores()).url,
        model=recorded.model.name,
        prompt=recorded.ocr.prompt,
        timeout_s=recorded.gateway.timeout_s,
    )


def log_files(settings: Settings, name: str | None) -> tuple[Path, ...]:
    """Return the log of one program, or all of them; raises DeploymentError if there is none."""
    logs = Layout(settings.state_dir).logs
    files = {path.stem: path for path in sorted(logs.glob("*.log"))}
    if name is not None and name not in files:
        raise DeploymentError(
            f"no log `{name}` in `{logs}`; there are {', '.join(files) or 'none'}"
        )
    if not files:
        raise DeploymentError(f"no logs in `{logs}`", hint="invoke up")
    return (files[name],) if name else tuple(files.values())


def wait_ready(planned: Plan, running: Runtime, progress: Progress) -> chat.Reading:
    """Return the page that was read through the gateway, after each replica has read one.

    Raises DeploymentError with the last lines of the log when a program ends instead, or when
    it takes too long.
    """
    for replica in planned.replicas:
        progress(f"waiting for {replica.name} to read a page")
        _read_page(planned, running, replica.url)
    progress("waiting for a page through the gateway")
    return _read_page(planned, running, planned.url)


def _read_page(planned: Plan, running: Runtime, url: str) -> chat.Reading:
    settings = planned.settings
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(OcrError),
            stop=stop_after_delay(_READY_S),
            wait=wait_fixed(_POLL_S),
            before_sleep=lambda _: _require_alive(running, settings),
            reraise=True,
        ):
            with attempt:
                return canary.check(
                    url,
                    model=settings.model.name,
                    prompt=settings.ocr.prompt,
                    timeout_s=_CANARY_S,
                )
    except OcrError as error:
        logs = Layout(settings.state_dir).logs
        raise DeploymentError(
            f"no page was read within {_READY_S:g} s: {error.message}",
            hint=f"invoke logs; the files are in `{logs}`",
        ) from error
    raise AssertionError  # Retrying returns or raises


def _require_alive(running: Runtime, settings: Settings) -> None:
    for program in running.states():
        if program.state in {"backoff", "failed"}:
            log = Layout(settings.state_dir).logs / f"{program.name}.log"
            raise DeploymentError(
                f"{program.name} ended ({program.detail}); its log says:\n{_tail(log)}",
                hint="invoke logs",
            )


def _tail(path: Path) -> str:
    if not path.exists():
        return "  (nothing)"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join(f"  {line[:200]}" for line in lines) or "  (nothing)"


def _check_ports(planned: Plan, running: Runtime) -> None:
    """Require that every port is free, but for those that our own programs hold already."""
    ours = {state.name for state in running.states()}
    recorded = record.read(planned.settings) if ours else None
    held = set(plan(recorded, cores()).ports.values()) if recorded else set()
    for name, (host, port) in planned.ports.items():
        if (host, port) not in held:
            key = "gateway.port" if name == GATEWAY else "engines.first_port"
            ports.require_free(host, port, key=key)


def _write_gateway(planned: Plan, layout: Layout) -> bool:
    """Write nginx' configuration; return True when it differs from the one before."""
    for private in (layout.logs, layout.run):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Place(layout.gateway, layout.logs, nginx.worker_user(layout.state))
    text = nginx_text(planned, place)
    path = layout.nginx_configuration
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before != text:
        write_atomically(path, text)
    return bool(before) and before != text
