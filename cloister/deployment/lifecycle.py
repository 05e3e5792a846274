"""Bringing a deployment up, down and round again; every step can be killed and run again."""

from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister import chat, modelstore, ports, shell, sockets, spool
from cloister.config import Settings
from cloister.deployment import access, reading, record, seating
from cloister.deployment.converge import Convergence
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Plan, of, with_names
from cloister.deployment.reading import Progress
from cloister.deployment.record import Record
from cloister.endpoint import UnixSocket
from cloister.engines import ENGINES, choose
from cloister.errors import DeploymentError
from cloister.events import Journal
from cloister.hardware import cores
from cloister.layout import Layout
from cloister.runtimes import BESIDE, GATEWAY, RUNTIMES, SOCKET, WATCHDOG, Runtime, socket_folder
from cloister.statefolder import locked, require_own

_POLL_S = 0.25
_LOCAL_HINT = "set `state_dir` to a folder of a local file system, such as ext4, XFS or tmpfs"


@dataclass(frozen=True)
class Up:
    """What `up` did: the programs it started or replaced, and the page that proved it."""

    plan: Plan
    started: tuple[str, ...]
    reading: chat.Reading


def resolve(settings: Settings) -> Settings:
    """Return the settings with the engine that `auto` stands for on this machine."""
    gpu = shell.find("nvidia-smi") is not None
    model = gpu and modelstore.folder(settings) is not None
    engine = choose(settings.engine, gpu=gpu, model=model)
    return settings.model_copy(update={"engine": engine})


def runtime(settings: Settings) -> Runtime:
    """Return the runtime of a deployment."""
    return RUNTIMES[settings.runtime].make(settings)


def target(settings: Settings, command: str) -> Record:
    """Return the record of a deployment that a command is to bring about.

    Raises DeploymentError when its replicas do not fit on the cards.
    """
    settings = resolve(settings)
    return Record(
        settings=settings, cores=cores(), seats=seating.seats(settings), under_way=command
    )


def up(settings: Settings, progress: Progress) -> Up:
    """Make the deployment run as configured, and wait until every replica has read a page.

    Running it again changes only what differs, a replica at a time. Raises DeploymentError,
    ToolError, EngineError, ModelStoreError or GatewayError; nothing is changed before all checks
    have passed.
    """
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        progress("checking the configuration and the ports")
        wanted = target(settings, "up")
        before = record.read(settings)
        check(wanted, before, ends_orphans=True)
        journal = Journal(layout, "up")
        door = Doorkeeper(settings, journal)
        change = Convergence(before, wanted, door, journal, progress)
        started = change.run()
        change.running.lost_ports(renew=True)
        _wait_for_the_sick(wanted, progress)
        page = reading.through_gateway(change.planned, change.running, progress)
        finish(door)
    return Up(change.planned, started, page)


def check(wanted: Record, before: Record | None, *, ends_orphans: bool = False) -> None:
    """Raise a CloisterError for whatever is in the way of a deployment.

    It changes nothing, but `ends_orphans` ends what a supervisor left that was killed: pages of
    that are cut, so only a command that is to replace it does so.
    """
    _require_one_runtime(wanted.settings, before)
    running = runtime(wanted.settings)
    running.check()
    _check_file_system(wanted.settings.state_dir)
    access.read(wanted.settings)
    if ends_orphans:
        running.end_orphans()
    else:
        require_supervised(running)
    _check_ports(of(wanted), before, running)


def require_supervised(running: Runtime) -> None:
    """Raise DeploymentError where programs run that their supervisor left."""
    if left := ", ".join(state.name for state in running.orphans()):
        raise DeploymentError(
            f"the supervisor does not answer, and left {left}, which only `up` and `down` may end",
            hint="invoke up",
        )


def finish(door: Doorkeeper) -> None:
    """Say that nothing is under way any more."""
    door.edit(
        lambda now: now.model_copy(update={"under_way": None, "previous": None, "shares": {}})
    )


def down(settings: Settings) -> bool:
    """Stop everything after the pages in flight; return False when nothing ran."""
    layout = Layout(settings.state_dir)
    require_own(layout.state)
    if not layout.state.exists():
        return False
    with locked(layout.lock):
        try:
            recorded = record.read(settings)
        except DeploymentError:
            recorded = None  # damaged or of another version: this is the way out of it
        ran = runtime(recorded.settings if recorded else settings).stop(first=(WATCHDOG, GATEWAY))
        record.erase(settings)
    return ran


def restart(settings: Settings, names: tuple[str, ...], progress: Progress) -> tuple[str, ...]:
    """Restart programs one after the other, all of them unless named; return their names."""
    layout = Layout(settings.state_dir)
    with locked(layout.lock):
        recorded = record.required(settings)
        planned, running = of(recorded), runtime(recorded.settings)
        require_supervised(running)
        known = tuple(state.name for state in running.states())
        if not known:
            raise DeploymentError("no program runs", hint="invoke up")
        for name in names:
            if name not in known:
                raise DeploymentError(f"no program `{name}`; there are {', '.join(known)}")
        journal = Journal(layout, "restart")
        door = Doorkeeper(settings, journal)
        change = Convergence(recorded, recorded, door, journal, progress)
        for name in names or known:
            progress(f"restarting {name}")
            if name in BESIDE:
                change.report_stop((name,))
                _restart_shared(name, running, door)
            else:
                change.restart(name)
        if GATEWAY in (names or known):
            reading.through_gateway(planned, running, progress)
    return names or known


def _restart_shared(name: str, running: Runtime, door: Doorkeeper) -> None:
    """Restart a program that is there once, and count that, or it would be a crash."""
    running.halt(name)
    running.start(name)
    door.edit(lambda now: now.with_taken((name,)))


def reload(settings: Settings) -> bool:
    """Let the gateway that is up take new keys and certificates; return False when none is up.

    Raises AccessError or GatewayError, and then the gateway goes on as before, and DeploymentError
    where one runs that its supervisor left: it cannot be told.
    """
    recorded = record.read(settings)
    if recorded is None:
        return False
    running = runtime(recorded.settings)
    if not running.states():
        require_supervised(running)
        return False
    Doorkeeper(settings, Journal(Layout(settings.state_dir), "reload")).refresh()
    return True


def health(settings: Settings) -> chat.Reading:
    """Return a fresh page as the service reads it; raises OcrError when it does not."""
    recorded = record.required(settings)
    with chat.session(access.of_this_machine(recorded.settings)) as session:
        planned = of(recorded)
        return reading.read_page(planned, session, planned.url)


def show_logs(settings: Settings, name: str | None, *, lines: int, follow: bool) -> None:
    """Print the ends of the logs; raises DeploymentError if there is none of that name."""
    recorded = record.read(settings)
    chosen = recorded.settings if recorded else resolve(settings)
    runtime(chosen).show_logs(name, lines=lines, follow=follow)


def _wait_for_the_sick(wanted: Record, progress: Progress) -> None:
    """Wait until the watchdog has brought back what it had taken out."""

    def sick() -> list[str]:
        standings = record.required(wanted.settings).standings
        return [name for name, standing in standings.items() if standing == "sick"]

    if not sick():
        return
    ready_s = ENGINES[wanted.settings.engine].ready_s
    progress(f"waiting for the watchdog to bring {', '.join(sick())} back, at most {ready_s:g} s")
    left = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(ready_s),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else [],
    )(sick)
    if left:
        raise DeploymentError(
            f"{', '.join(left)} did not come back within {ready_s:g} s", hint="invoke events"
        )


def _require_one_runtime(settings: Settings, before: Record | None) -> None:
    """Require that nothing of the other runtime is up: both would want the gateway's port."""
    if before is None or before.settings.runtime == settings.runtime:
        return
    if runtime(before.settings).states():
        raise DeploymentError(
            f"the service is up with `runtime: {before.settings.runtime}`, "
            f"and `{settings.runtime}` is wanted",
            hint="invoke down, then invoke up",
        )


def _check_file_system(state: Path) -> None:
    """Require what the state folder is for, of it or of what is there of its path.

    Unix sockets lie in it, and the access log's spool, whose lines are freed as they are counted.
    """
    there = next(folder for folder in (state, *state.parents) if folder.is_dir())
    try:
        sockets.try_folder(there)
    except OSError as error:
        raise DeploymentError(
            f"`{there}` takes no Unix sockets: {error.strerror}", hint=_LOCAL_HINT
        ) from error
    try:
        spool.try_folder(there)
    except OSError as error:
        raise DeploymentError(
            f"`{there}` cannot free a part of a file: {error.strerror}", hint=_LOCAL_HINT
        ) from error


def _check_ports(planned: Plan, before: Record | None, running: Runtime) -> None:
    """Require that every port is free, but for those that our own programs hold already."""
    names = [state.name for state in running.states()]
    held = set(with_names(before, names).site.published.values()) if before and names else set()
    for address in planned.site.published.values():
        if address not in held:
            ports.require_free(address.host, address.port, key="gateway.port")
    # Replicas of all engines have the same sockets: that of another engine may serve here as yet.
    folder = Layout(planned.settings.state_dir).sockets
    ours = {folder / socket_folder(name) / SOCKET for name in names}
    site = planned.site
    for listener in (*site.replicas, site.exporter, site.status):
        if isinstance(listener.here, UnixSocket) and listener.here.path not in ours:
            _require_unserved(listener.here.path)


def _require_unserved(path: Path) -> None:
    try:
        is_served = sockets.is_served(path)
    except OSError as error:
        raise DeploymentError(
            f"`{path}` cannot be connected to: {error.strerror}", hint=f"rm {path}"
        ) from error
    if is_served:
        raise DeploymentError(
            f"another program listens at `{path}`",
            hint="end it (`ss -xlp` shows which), or set another `state_dir`",
        )
